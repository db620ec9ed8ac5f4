"""Programs, examples and a scripted LM for tests of optimisers, and what DSPy's own chose with the same answers."""

import asyncio
import json
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parent / "data" / "dspy"))

from cases import COPRO, GEPA, MIPRO, RANDOM, SIMBA
from scripted_answers import feedback, text

import dspex_actors as dspex
from dspex_actors.teleprompt.gepa import ScoreWithFeedback

__all__ = ["COPRO", "GEPA", "MIPRO", "RANDOM", "SIMBA"]

#: Written by benchmarks/dspy_choices.py.
CHOICES = json.loads((Path(__file__).parent / "data" / "dspy" / "choices.json").read_text())


class Scripted(dspex.BaseLM):
    """Counts what it is asked."""

    def __init__(self, answer=text):
        super().__init__("scripted")
        self.asked, self._answer = 0, answer

    def forward(self, messages, **params):
        self.asked += 1
        return self._answer(messages, params.get("rollout_id") or 0)


class Booked(dspex.BaseLM):
    """Writes a line into a file for each request."""

    def __init__(self, book, seconds=0.0):
        super().__init__("booked")
        self.book, self.seconds = book, seconds

    async def aforward(self, messages, **params):
        with open(self.book, "a") as book:  # noqa: ASYNC230 - a line
            book.write(".\n")
        await asyncio.sleep(self.seconds)
        return text(messages, params.get("rollout_id") or 0)


class One(dspex.Module):
    def __init__(self):
        self.say = dspex.Predict(dspex.Signature("question -> answer", "Answer it."))

    def forward(self, question):
        return self.say(question=question)


class Two(dspex.Module):
    def __init__(self):
        self.look = dspex.Predict(dspex.Signature("question -> hint", "Give a hint."))
        self.say = dspex.Predict(dspex.Signature("question, hint -> answer", "Answer with it."))

    def forward(self, question):
        return self.say(question=question, hint=self.look(question=question).hint)


PROGRAMS = {"One": One, "Two": Two}


def is_yes(example, prediction, trace=None):
    return prediction.answer == example.answer


def questions(first, last):
    return [dspex.Example(question=f"q{place}", answer="yes").with_inputs("question") for place in range(first, last)]


def chosen(program):
    """Return instructions and the questions of demos of each predictor."""
    return [
        [one.signature.instructions, [[demo["question"], "augmented" in demo] for demo in one.demos]]
        for one in program.predictors()
    ]


def random_search(name, **options):
    """Make what DSPy's random search was recorded with, and return a call of its `compile`."""
    case = RANDOM[name]
    optimizer = dspex.BootstrapFewShotWithRandomSearch(metric=is_yes, **case["settings"])
    given = {
        "trainset": questions(*case["train"]),
        "valset": questions(*case["val"]) if case["val"] else None,
        **case["compile"],
        **options,
    }
    return optimizer, lambda: optimizer.compile(PROGRAMS[case["program"]](), **given)


def copro(name, **options):
    """Make what DSPy's COPRO was recorded with, and return a call of its `compile`."""
    case = COPRO[name]
    optimizer = dspex.COPRO(metric=is_yes, **case["settings"])
    given = {"trainset": questions(*case["train"]), **options}
    return optimizer, lambda: optimizer.compile(PROGRAMS[case["program"]](), **given)


def mipro(name, settings=None, **options):
    """Make what DSPy's MIPROv2 was recorded with, and return a call of its `compile`."""
    case = MIPRO[name]
    optimizer = dspex.MIPROv2(metric=is_yes, **case["settings"], **(settings or {}))
    given = {
        "trainset": questions(*case["train"]),
        "valset": questions(*case["val"]) if case["val"] else None,
        **case["compile"],
        **options,
    }
    return optimizer, lambda: optimizer.compile(PROGRAMS[case["program"]](), **given)


def simba(name, settings=None, **options):
    """Make what DSPy's SIMBA was recorded with, and return a call of its `compile`."""
    case = SIMBA[name]
    optimizer = dspex.SIMBA(metric=is_yes, **case["settings"], **(settings or {}))
    given = {"trainset": questions(*case["train"]), **case["compile"], **options}
    return optimizer, lambda: optimizer.compile(PROGRAMS[case["program"]](), **given)


def given(what, case):
    """Return what DSPy's was recorded with: optimiser, program, and arguments of its `compile`."""
    told = {"mipro": MIPRO, "simba": SIMBA, "gepa": GEPA}[what][case]
    make = {"mipro": dspex.MIPROv2, "simba": dspex.SIMBA, "gepa": dspex.GEPA}[what]
    metric = with_feedback if what == "gepa" else is_yes
    data = {"trainset": questions(*told["train"])}
    if told.get("val"):
        data["valset"] = questions(*told["val"])
    return make(metric=metric, **told["settings"]), PROGRAMS[told["program"]](), data | told.get("compile", {})


def with_feedback(gold, pred, trace=None, pred_name=None, pred_trace=None):
    """Score as `is_yes` does; asked about a predictor, say what follows from all that is given."""
    score = float(is_yes(gold, pred))
    if pred_name is None:
        return score
    return ScoreWithFeedback(score=score, feedback=feedback(gold, pred, trace, pred_name, pred_trace))


def gepa(case, metric=with_feedback, settings=None, **options):
    """Make what DSPy's GEPA was recorded with, and return a call of its `compile`.

    Args:
        case: one of `GEPA`.
        metric: another one.
        settings: of GEPA, beside those of the case.
        **options: of `compile`.
    """

    def examples(first, last):
        made = questions(first, last)
        return [
            one.copy(question=f"u{one.question[1:]}") if case.get("unclear") and place % 3 == 0 else one
            for place, one in enumerate(made)
        ]

    optimizer = dspex.GEPA(metric, **{"track_stats": True, **case["settings"], **(settings or {})})
    given = {
        "trainset": examples(*case["train"]),
        "valset": examples(*case["val"]) if case["val"] else None,
        **options,
    }
    return optimizer, lambda: optimizer.compile(PROGRAMS[case["program"]](), **given)
