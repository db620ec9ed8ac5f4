"""What each optimiser makes of one program: scores before and after on rows that it has not seen, and what it asked.

The program sorts the tickets of examples/data to teams; the embedded LM answers. That LM learns from demonstrations and
heeds instructions little, so what only words (COPRO, GEPA) gains less by it than by a large LM. `--data FILE` takes
another set: rows with `ticket` and `team`, with `text` and `label`, or with the fields that `--text` and `--label`
name. The first rows are learned from, the next ones scored on. `benchmarks.newsgroups` makes a file of a public set.

    python -m benchmarks.scores [--train N] [--held-out N] [--data FILE [--text F --label F]] [--only NAME] [--quick]
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import dspex_actors as dspex
from benchmarks.common import console, home, parser, run, table
from dspex_actors.cli.lm_list import deployments
from dspex_actors.data.opening import open_dataset
from dspex_actors.errors import ConfigError, DspexError
from dspex_actors.signatures.signature import make_signature

TICKETS = Path(__file__).parents[1] / "examples" / "data" / "tickets.jsonl"
TICKET_FIELDS, GENERAL_FIELDS = ("ticket", "team"), ("text", "label")


def is_right(example: Any, prediction: Any, trace: Any = None) -> bool:
    """Whether the label is the right one."""
    return bool(example.label == prediction.label)


def told(gold: Any, pred: Any, trace: Any = None, pred_name: Any = None, pred_trace: Any = None) -> dict[str, Any]:
    """Score with feedback."""
    right = gold.label == pred.label
    return {"score": float(right), "feedback": "Right." if right else f"It belongs to {gold.label}."}


def optimisers(lm: dspex.LM | None, train: list[dspex.Example]) -> dict[str, Callable[[], dspex.Optimizer]]:
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


def read(path: Path, wanted: int, text: str = "", label: str = "") -> list[tuple[str, str]]:
    """Read the first `wanted` rows of a file as texts with their labels.

    Args:
        path: what `dspex.open_dataset` takes.
        wanted: so many rows; fewer are an error.
        text: name of the field with the text; without one, the first row says whether it is `ticket` or `text`.
        label: name of the field with the label, likewise `team` or `label`.

    Raises:
        ConfigError: there are fewer rows, one is without these fields, or all have one label.
    """
    rows = [dict(row) for row in open_dataset(path, limit=wanted)]
    usual = TICKET_FIELDS if set(TICKET_FIELDS) <= set(rows[0]) else GENERAL_FIELDS
    names = (text or usual[0], label or usual[1])
    found = [_pair(path, number, row, names) for number, row in enumerate(rows, 1)]
    if len(found) < wanted:
        raise ConfigError(
            f"{path.name} has {len(found)} of the {wanted} rows asked for; pass a smaller --train, --held-out"
        )
    if len({pair[1] for pair in found}) < 2:
        raise ConfigError(f"{path.name}: expected two labels or more, got only {found[0][1]!r} in {names[1]!r}")
    return found


def _pair(path: Path, number: int, row: dict[str, Any], names: tuple[str, str]) -> tuple[str, str]:
    for name in names:
        if name not in row:
            raise ConfigError(
                f"{path.name} row {number}: no field {name!r}, it has {', '.join(row)}; name yours by --text, --label"
            )
        if not isinstance(row[name], str) or not row[name].strip():
            raise ConfigError(f"{path.name} row {number}: expected a text in {name!r}, got {row[name]!r}")
    return row[names[0]], row[names[1]]


def _options() -> Any:
    options = parser(__doc__, train=200, held_out=249, data=str(TICKETS), text="", label="", only="").parse_args()
    if options.quick:
        options.train, options.held_out = 60, 60
    for name in ("train", "held_out"):
        if getattr(options, name) < 1:
            raise ConfigError(
                f"--{name.replace('_', '-')} is a number of rows, 1 or more; got {getattr(options, name)}"
            )
    names = optimisers(None, [])
    if not any(options.only.lower() in name.lower() for name in names):
        raise ConfigError(f"--only {options.only} is in the name of no optimiser; there are {', '.join(names)}")
    return options


def main() -> None:
    """Measure and print; what is not usable is told in one line, with status 2."""
    try:
        options = _options()
        pairs = read(Path(options.data), options.train + options.held_out, options.text, options.label)
    except ConfigError as error:
        print(error, file=sys.stderr)
        raise SystemExit(2) from None
    measure(options, pairs)


def measure(options: Any, pairs: list[tuple[str, str]]) -> None:
    """Have each optimiser learn from the first `options.train` pairs, score it on the others, and print."""
    labels = Literal[tuple(sorted({label for _, label in pairs}))]  # type: ignore[valid-type]
    fields = {"text": (str, dspex.InputField()), "label": (labels, dspex.OutputField())}
    triage = dspex.Predict(make_signature(fields, "Decide which label a text has."))
    examples = [dspex.Example(text=text, label=label).with_inputs("text") for text, label in pairs]
    train, held_out = examples[: options.train], examples[options.train :]
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
            seconds = time.monotonic() - began
            asked = _asked(system) - asked
            after = score(better)
            console.print(f"{name}: {before} -> {after}, {asked} asked, {seconds:.1f} s")
            found.append([name, f"{before:.1f}", f"{after:.1f}", f"{asked:,}", f"{seconds:.1f}"])
    table(
        f"{len(train)} rows of {Path(options.data).name} to learn from, {len(held_out)} others to be scored on",
        ["optimiser", "before", "after", "calls", "seconds"],
        found,
    )


def _asked(system: dspex.System) -> int:
    """Count the answered calls; they are counted a moment after the answer, so until two looks see the same."""
    seen = -1
    while seen != (now := sum(int(row.get("answered", 0)) for row in deployments(system.node))):
        seen = now
        time.sleep(0.5)
    return seen


if __name__ == "__main__":
    run(main)
