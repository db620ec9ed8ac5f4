"""Optimisers beside DSPy's: the same programs, examples, settings and seed, one server with scripted answers.

What is chosen has to be the same, and is compared. The server answers after `--latency-ms`; what it answers follows
from what is shown, so whoever shows the same is told the same (tests/scripted_answers.py). DSPy is asked in the Python
that `--dspy` names (one with DSPy 3.4.1 and Optuna 5); without it only ours is measured.

    python -m benchmarks.optimisers [--dspy PYTHON] [--latency-ms N] [--threads N] [--only NAME] [--quick]
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.common import Server, end, home, parser, run, table
from benchmarks.optimised import chosen, compiler, is_yes

ROOT = Path(__file__).parents[1]
#: What is compared: DSPy's name of the optimiser, its settings and those of `compile`, and the examples' numbers.
CASES: dict[str, dict[str, Any]] = {
    "random search of 16": {
        "kind": "BootstrapFewShotWithRandomSearch",
        "settings": {"num_candidate_programs": 16},
        "train": 60,
        "val": 100,
        "compile": {},
    },
    "COPRO": {"kind": "COPRO", "settings": {"breadth": 10, "depth": 3}, "train": 100, "val": 0, "compile": {}},
    "MIPROv2 light": {"kind": "MIPROv2", "settings": {"auto": "light"}, "train": 60, "val": 200, "compile": {}},
    "SIMBA": {
        "kind": "SIMBA",
        "settings": {"bsize": 32, "num_candidates": 6, "max_steps": 4},
        "train": 80,
        "val": 0,
        "compile": {},
    },
    "GEPA": {"kind": "GEPA", "settings": {"max_full_evals": 4}, "train": 60, "val": 100, "compile": {}},
}
SMALL: dict[str, dict[str, Any]] = {
    "random search of 16": {"settings": {"num_candidate_programs": 3}, "train": 20, "val": 20},
    "COPRO": {"settings": {"breadth": 4, "depth": 2}, "train": 20},
    "MIPROv2 light": {"train": 20, "val": 52},
    "GEPA": {"settings": {"max_metric_calls": 100}, "train": 12, "val": 20},
    "SIMBA": {"settings": {"bsize": 8, "num_candidates": 3, "max_steps": 2}, "train": 16},
}


@contextlib.contextmanager
def scripted(latency_ms: float) -> Iterator[Server]:
    """Run the server in a process of its own inside the `with`."""
    command = [sys.executable, "-m", "benchmarks.scripted_server", "--latency-ms", str(latency_ms)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    try:
        assert process.stdout is not None
        yield Server(int(process.stdout.readline()), process.pid)
    finally:
        end(process)


def ours(case: dict[str, Any], url: str, **settings: Any) -> dict[str, Any]:
    """Optimise here."""
    import dspex_actors as dspex

    lm = dspex.LM("openai/scripted", base_url=url, temperature=0.0)
    with home(), dspex.connect(lm=lm):
        program = dspex.Predict(dspex.Signature("question -> answer", "Answer it."))
        dspex.evaluate(program, [dspex.Example(question="q0", answer="no").with_inputs("question")], metric=is_yes)
        compile_ = compiler(dspex, case, program, **settings)
        started = time.perf_counter()
        best = compile_(display_progress=False)
        return {"seconds": time.perf_counter() - started, "chosen": chosen(best)}


def main() -> None:
    """Measure and print."""
    options = parser(__doc__, dspy="", latency_ms=200.0, threads=8, only="").parse_args()
    rows: list[list[str]] = []
    with scripted(options.latency_ms) as there:
        for name, full in CASES.items():
            if options.only and options.only not in name:
                continue
            case = {**full, **SMALL[name]} if options.quick else full
            theirs: dict[str, Any] | None = None
            if options.dspy:
                there.stats(reset=True)
                command = [
                    options.dspy,
                    "-m",
                    "benchmarks.optimised",
                    json.dumps(case),
                    there.url,
                    str(options.threads),
                ]
                said = subprocess.run(
                    command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=True, cwd=ROOT
                )
                theirs = json.loads(said.stdout.splitlines()[-1])
                rows.append([f"{name}: DSPy, {options.threads} threads", *_row(theirs, there, None)])
            ways: dict[str, dict[str, Any]] = {"ours": {}}
            if case["kind"] == "MIPROv2":
                ways["ours, 5 trials in flight"] = {"trials_in_flight": 5}
            for what, settings in ways.items():
                there.stats(reset=True)
                found = ours(case, there.url, **settings)
                rows.append([f"{name}: {what}", *_row(found, there, theirs)])
    table(
        f"Optimisers, answers after {options.latency_ms:g} ms",
        ["what", "seconds", "requests", "of DSPy's", "most in flight", "the same chosen", "times faster"],
        rows,
    )


def _row(found: dict[str, Any], there: Server, theirs: dict[str, Any] | None) -> list[str]:
    stats = there.stats()
    found["requests"] = requests = stats["requests"]
    same = more = ""
    if theirs is not None:
        same, more = "yes" if found["chosen"] == theirs["chosen"] else "no", f"{requests / theirs['requests']:.3f}"
    faster = 1.0 if theirs is None else theirs["seconds"] / found["seconds"]
    return [f"{found['seconds']:.2f}", str(requests), more, str(stats["max_in_flight"]), same, f"{faster:.1f}"]


if __name__ == "__main__":
    run(main)
