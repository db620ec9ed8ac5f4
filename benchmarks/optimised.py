"""What `benchmarks.optimisers` does alike with ours and with DSPy, and its part that runs where DSPy is installed.

DSPY-PYTHON -m benchmarks.optimised CASE-AS-JSON URL THREADS
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any


def chosen(program: Any) -> list[Any]:
    """Return instructions and the questions of the demos of each predictor; alike for ours and DSPy's."""
    return [[one.signature.instructions, [demo["question"] for demo in one.demos]] for one in program.predictors()]


def is_yes(example: Any, prediction: Any, trace: Any = None) -> bool:
    """Score."""
    return bool(prediction.answer == example.answer)


def compiler(library: Any, case: dict[str, Any], program: Any, **settings: Any) -> Callable[..., Any]:
    """Return a call of `compile`, for ours and for DSPy alike."""

    def questions(first: int, last: int) -> list[Any]:
        return [
            library.Example(question=f"q{place}", answer="yes").with_inputs("question") for place in range(first, last)
        ]

    def with_feedback(gold: Any, pred: Any, trace: Any = None, pred_name: Any = None, pred_trace: Any = None) -> Any:
        right = is_yes(gold, pred)
        return library.Prediction(score=float(right), feedback="Right." if right else "Wrong.")

    if case["kind"] == "GEPA":
        settings = {"reflection_lm": library.settings.lm, **settings}
    metric = with_feedback if case["kind"] == "GEPA" else is_yes
    optimizer = getattr(library, case["kind"])(metric=metric, **case["settings"], **settings)
    data = {"trainset": questions(0, case["train"])}
    if case["val"]:
        data["valset"] = questions(1000, 1000 + case["val"])
    return lambda **options: optimizer.compile(program, **data, **case["compile"], **options)


def dspys(case: dict[str, Any], url: str, threads: int) -> dict[str, Any]:
    """Have DSPy optimise, in this process; return seconds and what was chosen."""
    import logging

    import dspy  # type: ignore[import-not-found,unused-ignore]

    logging.disable(logging.CRITICAL)
    dspy.configure_cache(enable_disk_cache=False, enable_memory_cache=True)
    dspy.configure(lm=dspy.LM("openai/scripted", api_base=url, api_key="none", temperature=0.0), num_threads=threads)
    program = dspy.Predict(dspy.Signature("question -> answer", "Answer it."))
    compile_ = compiler(dspy, case, program, num_threads=threads)
    started = time.perf_counter()
    with open(os.devnull, "w") as nothing, contextlib.redirect_stdout(nothing):
        best = compile_()
    return {"seconds": time.perf_counter() - started, "chosen": chosen(best)}


if __name__ == "__main__":
    print(json.dumps(dspys(json.loads(sys.argv[1]), sys.argv[2], int(sys.argv[3]))))
