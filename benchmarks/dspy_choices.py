"""Record what five of DSPy's optimisers choose with scripted answers: tests compare ours with it.

It needs a Python with DSPy 3.4.1 and Optuna 5.0 in it, which the project's own has not:

    PYTHONPATH=tests:tests/data/dspy DSPY-PYTHON benchmarks/dspy_choices.py > tests/data/dspy/choices.json
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sys
from types import SimpleNamespace
from typing import Any

import dspy  # type: ignore[import-not-found,unused-ignore]
from cases import COPRO, GEPA, MIPRO, RANDOM, SIMBA  # type: ignore[import-not-found,unused-ignore]
from scripted_answers import feedback, text  # type: ignore[import-not-found,unused-ignore]


class Scripted(dspy.BaseLM):  # type: ignore[misc,no-any-unimported,unused-ignore]
    """Answers as the script says."""

    def __init__(self, model: str = "scripted", **kwargs: Any) -> None:
        """Keep parameters: copies have `rollout_id` among them."""
        super().__init__(model, cache=False, **kwargs)

    def forward(self, prompt: Any = None, messages: Any = None, **kwargs: Any) -> Any:
        """Answer."""
        params = {**self.kwargs, **kwargs}
        rollout = params.get("rollout_id") or 0
        choices = [
            SimpleNamespace(
                index=place,
                finish_reason="stop",
                message=SimpleNamespace(content=text(messages, rollout + place), role="assistant"),
            )
            for place in range(params.get("n") or 1)
        ]
        usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
        return SimpleNamespace(choices=choices, usage=usage, model="scripted")


class Two(dspy.Module):  # type: ignore[misc,no-any-unimported,unused-ignore]
    """Two predictors, one after the other."""

    def __init__(self) -> None:
        """Make them."""
        super().__init__()
        self.look = dspy.Predict(dspy.Signature("question -> hint", "Give a hint."))
        self.say = dspy.Predict(dspy.Signature("question, hint -> answer", "Answer with it."))

    def forward(self, question: str) -> Any:
        """Look, then say."""
        return self.say(question=question, hint=self.look(question=question).hint)


class One(dspy.Module):  # type: ignore[misc,no-any-unimported,unused-ignore]
    """One predictor."""

    def __init__(self) -> None:
        """Make it."""
        super().__init__()
        self.say = dspy.Predict(dspy.Signature("question -> answer", "Answer it."))

    def forward(self, question: str) -> Any:
        """Say."""
        return self.say(question=question)


def is_yes(example: Any, prediction: Any, trace: Any = None) -> bool:
    """Score."""
    return bool(prediction.answer == example.answer)


def questions(first: int, last: int) -> list[Any]:
    """Return examples."""
    return [dspy.Example(question=f"q{place}", answer="yes").with_inputs("question") for place in range(first, last)]


def chosen(program: Any) -> list[Any]:
    """Return instructions and the questions of demos of each predictor."""
    return [
        [one.signature.instructions, [[demo["question"], "augmented" in demo.keys()] for demo in one.demos]]  # noqa: SIM118
        for one in program.predictors()
    ]


def random_search(case: dict[str, Any]) -> dict[str, Any]:
    """Record what BootstrapFewShotWithRandomSearch does."""
    optimizer = dspy.BootstrapFewShotWithRandomSearch(metric=is_yes, num_threads=1, **case["settings"])
    best = optimizer.compile(
        {"One": One, "Two": Two}[case["program"]](),
        trainset=questions(*case["train"]),
        valset=questions(*case["val"]) if case["val"] else None,
        **case["compile"],
    )
    candidates = [[one["score"], one["seed"], chosen(one["program"])] for one in best.candidate_programs]
    return {"chosen": chosen(best), "candidates": candidates}


def copro(case: dict[str, Any]) -> dict[str, Any]:
    """Record what COPRO does."""
    optimizer = dspy.COPRO(metric=is_yes, **case["settings"])
    best = optimizer.compile(
        {"One": One, "Two": Two}[case["program"]](), trainset=questions(*case["train"]), eval_kwargs={"num_threads": 1}
    )
    names = ("score", "instruction", "prefix", "depth")
    candidates = [[*(one[name] for name in names), chosen(one["program"])] for one in best.candidate_programs]
    stats = [list(getattr(best, name, {}).values()) for name in ("results_best", "results_latest")]
    return {"chosen": chosen(best), "candidates": candidates, "total_calls": best.total_calls, "stats": stats}


def mipro(case: dict[str, Any]) -> dict[str, Any]:
    """Record what MIPROv2 does."""
    optimizer = dspy.MIPROv2(metric=is_yes, num_threads=1, **case["settings"])
    best = optimizer.compile(
        {"One": One, "Two": Two}[case["program"]](),
        trainset=questions(*case["train"]),
        valset=questions(*case["val"]) if case["val"] else None,
        **case["compile"],
    )
    plain = (int, float)
    logs = {
        number: {
            name: value
            for name, value in log.items()
            if isinstance(value, plain) and (name.startswith(tuple("0123456789")) or name.endswith("score"))
        }
        for number, log in best.trial_logs.items()
    }
    return {"chosen": chosen(best), "score": best.score, "logs": logs}


def simba(case: dict[str, Any]) -> dict[str, Any]:
    """Record what SIMBA does."""
    optimizer = dspy.SIMBA(metric=is_yes, num_threads=1, **case["settings"])
    best = optimizer.compile(
        {"One": One, "Two": Two}[case["program"]](), trainset=questions(*case["train"]), **case["compile"]
    )
    candidates = [[one["score"], chosen(one["program"])] for one in best.candidate_programs]
    return {"chosen": chosen(best), "candidates": candidates}


def gepa(case: dict[str, Any]) -> dict[str, Any]:
    """Record what GEPA does."""

    def metric(gold: Any, pred: Any, trace: Any = None, pred_name: Any = None, pred_trace: Any = None) -> Any:
        score = float(is_yes(gold, pred))
        if pred_name is None:
            return score
        return dspy.Prediction(score=score, feedback=feedback(gold, pred, trace, pred_name, pred_trace))

    def examples(first: int, last: int) -> list[Any]:
        made = questions(first, last)
        return [
            one.copy(question=f"u{one.question[1:]}") if case.get("unclear") and place % 3 == 0 else one
            for place, one in enumerate(made)
        ]

    optimizer = dspy.GEPA(metric, reflection_lm=Scripted(), track_stats=True, num_threads=1, **case["settings"])
    best = optimizer.compile(
        {"One": One, "Two": Two}[case["program"]](),
        trainset=examples(*case["train"]),
        valset=examples(*case["val"]) if case["val"] else None,
    )
    found = best.detailed_results.to_dict()
    told = ("candidates", "parents", "val_aggregate_scores", "discovery_eval_counts", "total_metric_calls", "best_idx")
    return {"chosen": chosen(best), **{name: found[name] for name in told}}


def main() -> None:
    """Record all cases."""
    logging.disable(logging.CRITICAL)
    dspy.configure(lm=Scripted())
    dspy.configure_cache(enable_disk_cache=False, enable_memory_cache=False)
    with open(os.devnull, "w") as nothing, contextlib.redirect_stdout(nothing):
        found = {
            "random": {name: random_search(case) for name, case in RANDOM.items()},
            "copro": {name: copro(case) for name, case in COPRO.items()},
            "mipro": {name: mipro(case) for name, case in MIPRO.items()},
            "simba": {name: simba(case) for name, case in SIMBA.items()},
            "gepa": {name: gepa(case) for name, case in GEPA.items()},
        }
    json.dump(found, sys.stdout, indent=1, sort_keys=True)
    print()


if __name__ == "__main__":
    main()
