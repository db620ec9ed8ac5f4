"""What a result holds beside its prediction: scores by name, feedback, and what predictors were given and gave."""

import asyncio

import pytest

import dspex_actors as dspex
from dspex_actors.data.fields import pack_example
from dspex_actors.foundation.codec import unpack
from dspex_actors.runs.spec import Job, dump_code
from dspex_actors.workers.evaluate_runner import EvaluateRunner
from dspex_actors.workers.runner import run_example

PAYLOAD = pack_example({"question": "Why?", "answer": "rain"}, ["question"])


class Answers(dspex.BaseLM):
    """Answers with what is asked for; a signature's name in `unread` gets an answer without a field."""

    def __init__(self, unread=""):
        super().__init__("answers")
        self.unread = unread

    async def aforward(self, messages, **params):
        asks = any(mark in messages[0]["content"] for mark in ("## answer ##", '"answer"'))
        name = "answer" if asks else "hint"
        return "Hm." if name == self.unread else f"[[ ## {name} ## ]]\nrain"


class Two(dspex.Module):
    def __init__(self):
        self.look = dspex.Predict("question -> hint")
        self.say = dspex.Predict("question, hint -> answer")

    async def aforward(self, question):
        hint = (await self.look.acall(question=question)).hint
        copied = self.say.deepcopy() if hint == "copy" else self.say
        return await copied.acall(question=question, hint=hint)


class Copying(Two):
    async def aforward(self, question):
        return await self.say.deepcopy().acall(question=question, hint="none")


def done(program, metric, lm=None, **options):
    with dspex.context(lm=lm or Answers()):
        job = Job("run", "evaluate", dump_code(program), dump_code(metric), None, options)
        runner = EvaluateRunner(job)
        runner._surroundings._values["lm"] = lm or Answers()
        return asyncio.run(run_example(runner, PAYLOAD))


def told(example, prediction, trace=None):
    return {"score": 0.5, "polite": True, "feedback": "Too short."}


def test_scores_and_feedback_are_kept_and_no_trace_where_none_is_asked_for():
    found = done(Two(), told)
    assert (found.score, unpack(found.extra)) == (
        0.5,
        {"scores": {"score": 0.5, "polite": 1.0}, "feedback": "Too short."},
    )
    assert done(Two(), dspex.metrics.exact_match("answer")).extra is None


def test_a_trace_is_kept_by_names_of_predictors():
    found = done(Two(), dspex.metrics.exact_match("answer"), traces=True)
    assert unpack(found.extra) == {
        "trace": [
            ["look", {"question": "Why?"}, {"hint": "rain"}],
            ["say", {"question": "Why?", "hint": "rain"}, {"answer": "rain"}],
        ]
    }


def test_a_copy_of_a_predictor_counts_as_it():
    found = done(Copying(), dspex.metrics.exact_match("answer"), traces=True)
    assert unpack(found.extra)["trace"] == [["say", {"question": "Why?", "hint": "none"}, {"answer": "rain"}]]


@pytest.mark.parametrize(("unread", "trace"), [("hint", []), ("answer", ["look"])])
def test_an_answer_that_cannot_be_read_is_kept_with_the_calls_before_it(unread, trace):
    found = done(Two(), told, Answers(unread), traces=True)
    extra = unpack(found.extra)
    assert found.error["type"] == "AdapterParseError"
    assert [row[0] for row in extra["trace"]] == trace
    assert extra["unread"] == ["look" if unread == "hint" else "say", {"question": "Why?"}, "Hm."]


def test_what_else_a_program_raises_has_no_such_answer():
    class Broken(dspex.Module):
        def forward(self, question):
            raise RuntimeError("so")

    found = done(Broken(), told, traces=True)
    assert (found.error["type"], unpack(found.extra)) == ("RuntimeError", {"trace": []})


def test_a_metric_that_returns_none_fails_its_example_and_says_so():
    found = done(Two(), lambda *_: None)
    assert "metric returned None (NoneType); expected bool or number: is there a path" in found.error["message"]
