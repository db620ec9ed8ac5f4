"""What each optimiser makes of one program: scores before and after on tickets that it has not seen, and what it asked.

The program sorts the tickets of examples/data to teams; the embedded LM answers. That LM learns from demonstrations and
heeds instructions little, so what only words (COPRO, GEPA) gains less by it than by a large LM. `--data FILE` takes
another set of the same form: rows with `ticket` and `team`.

    python -m benchmarks.scores [--train N] [--held-out N] [--data FILE] [--only NAME] [--quick]
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import dspex_actors as dspex
from benchmarks.common import console, home, parser, run, table
from dspex_actors.cli.lm_list import deployments
from dspex_actors.data.opening import open_dataset
from dspex_actors.errors import DspexError
from dspex_actors.signatures.signature import make_signature

TICKETS = Path(__file__).parents[1] / "examples" / "data" / "tickets.jsonl"


def is_right(example: Any, prediction: Any, trace: Any = None) -> bool:
    """Whether the team is the right one."""
    return bool(example.team == prediction.team)


def told(gold: Any, pred: Any, trace: Any = None, pred_name: Any = None, pred_trace: Any = None) -> dict[str, Any]:
    """Score with feedback."""
    right = gold.team == pred.team
    return {"score": float(right), "feedback": "Right." if right else f"It belongs to {gold.team}."}


def optimisers(lm: dspex.LM, train: list[dspex.Example]) -> dict[str, Callable[[], dspex.Optimizer]]:
    """Return each optimiser by name."""
    return {
        "LabeledFewShot(16)": lambda: dspex.LabeledFewShot(16),
        "BootstrapFewShot": lambda: dspex.BootstrapFewShot(
            metric=is_right, max_bootstrapped_demos=16, max_labeled_demos=16
        ),
        "BootstrapFewShotWithRandomSearch": lambda: dspex.BootstrapFewShotWithRandomSearch(
            metric=is_right, max_bootstrapped_demos=8, max_labeled_demos=16, num_candidate_programs=16
        ),
        "KNNFewShot(8)": lambda: dspex.KNNFewShot(
            8, train, dspex.Embedder("embedded/nearest"), metric=is_right, max_bootstrapped_demos=8
        ),
        "DistributedBootstrap": lambda: dspex.DistributedBootstrap(metric=is_right),
        "AdaptiveOptimizer": lambda: dspex.AdaptiveOptimizer(metric=is_right),
        "COPRO": lambda: dspex.COPRO(prompt_model=lm, metric=is_right),
        'MIPROv2("light")': lambda: dspex.MIPROv2(metric=is_right, auto="light", prompt_model=lm),
        "SIMBA": lambda: dspex.SIMBA(metric=is_right),
        'GEPA("light")': lambda: dspex.GEPA(metric=told, auto="light", reflection_lm=lm),
    }


def main() -> None:
    """Measure and print."""
    options = parser(__doc__, train=200, held_out=249, data=str(TICKETS), only="").parse_args()
    if options.quick:
        options.train, options.held_out = 60, 60
    rows = [dict(row) for row in open_dataset(Path(options.data))]
    teams = Literal[tuple(sorted({row["team"] for row in rows}))]  # type: ignore[valid-type]
    fields = {
        "ticket": (str, dspex.InputField()),
        "team": (teams, dspex.OutputField(desc="the team that handles it")),
    }
    triage = dspex.Predict(make_signature(fields, "Decide which team handles a support ticket."))
    examples = [dspex.Example(**row).with_inputs("ticket") for row in rows]
    train, held_out = examples[: options.train], examples[options.train : options.train + options.held_out]
    found = []
    with home(), dspex.connect(lm="embedded/nearest", workers=2) as system:
        lm = dspex.LM("embedded/nearest")

        def score(program: Any) -> float:
            return dspex.evaluate(program, held_out, is_right, display_progress=False).score

        before = score(triage)
        for name, make in optimisers(lm, train).items():
            if options.only.lower() not in name.lower():
                continue
            asked, began = _asked(system), time.monotonic()
            try:
                found_by = make()
                better = found_by.compile(
                    triage, **({} if isinstance(found_by, dspex.KNNFewShot) else {"trainset": train})
                )
            except DspexError as error:
                console.print(f"{name}: {error}")
                continue
            seconds, asked = time.monotonic() - began, _asked(system) - asked
            after = score(better)
            console.print(f"{name}: {before} -> {after}, {asked} asked, {seconds:.1f} s")
            found.append([name, f"{before:.1f}", f"{after:.1f}", f"{asked:,}", f"{seconds:.1f}"])
    table(
        f"{len(train)} tickets to learn from, {len(held_out)} others to be scored on",
        ["optimiser", "before", "after", "calls", "seconds"],
        found,
    )


def _asked(system: dspex.System) -> int:
    return int(sum(row.get("answered", 0) for row in deployments(system.node)))


if __name__ == "__main__":
    run(main)
