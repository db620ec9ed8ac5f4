"""BestOfN and Refine: which attempt wins, what is asked, what is in the books. Expected values are DSPy 3.4's."""

import asyncio
import json

import pytest

import dspex_actors as dspex
from dspex_actors.errors import ConfigError
from dspex_actors.settings import record_calls
from tests.dspex_actors.program_fakes import chat

WAYS = ("sync", "async")


class Scripted(dspex.BaseLM):
    """Says one thing after the other, whatever copy of it is asked; an exception is raised."""

    def __init__(self, *answers):
        super().__init__("scripted")
        self.answers, self.asked = list(answers), []

    def __call__(self, messages, **params):
        self.asked.append((messages, {**self.kwargs, **params}))
        return super().__call__(messages, **params)

    async def acall(self, messages, **params):
        self.asked.append((messages, {**self.kwargs, **params}))
        return await super().acall(messages, **params)

    def forward(self, messages, **params):
        answer = self.answers[min(len(self.asked), len(self.answers)) - 1]
        if isinstance(answer, Exception):
            raise answer
        return answer


def called(way, program, **inputs):
    return program(**inputs) if way == "sync" else asyncio.run(program.acall(**inputs))


def short(inputs, prediction):
    assert inputs == {"question": "Q"}
    return {1: 1.0, 2: 0.5}.get(len(prediction.answer.split()), 0.0)


def run(way, kind, *answers, module=None, calls=1, reward=short, most=3, threshold=1.0, **how):
    """Return (answer, or the error), the trace, the LM."""
    lm = Scripted(*answers)
    program = kind(module or dspex.Predict("question -> answer"), N=most, reward_fn=reward, threshold=threshold, **how)
    before = dict(vars(program))
    adapter = dspex.ChatAdapter(use_json_adapter_fallback=False)
    for _ in range(calls):
        with dspex.context(lm=lm, adapter=adapter, trace=[]), record_calls() as booked:
            try:
                found = called(way, program, question="Q").answer
            except Exception as error:
                found = error
            trace = list(dspex.settings.trace)
    assert vars(program) == before, "it has changed itself"
    lm.booked = list(booked)
    return found, trace, lm


def says(text):
    return chat(answer=text)


def advises(**advice):
    return chat(discussion="d", advice=json.dumps(advice))


FAILS = RuntimeError("no route")


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("answers", "best", "asked"),
    [
        (["one"], "one", 1),
        (["a b c", "a b", "one"], "one", 3),
        (["a b c", "a b", "a b c d"], "a b", 3),
        (["a b", "c d", "a b c d"], "a b", 3),  # of equal ones the first
        ([FAILS, "a b", "one"], "one", 3),
    ],
)
def test_the_best_attempt_is_returned_and_its_trace(way, answers, best, asked):
    module = dspex.Predict("question -> answer")
    texts = [each if isinstance(each, Exception) else says(each) for each in answers]
    found, trace, lm = run(way, dspex.BestOfN, *texts, module=module)
    assert found == best
    assert [(step[0], step[1], step[2].answer) for step in trace] == [(module, {"question": "Q"}, best)]
    assert [(params["rollout_id"], params["temperature"]) for _, params in lm.asked] == [
        (number, 1.0) for number in range(asked)
    ]
    assert len(lm.booked) == asked - (FAILS in answers)
    assert module.lm is None


@pytest.mark.parametrize("kind", [dspex.BestOfN, dspex.Refine])
def test_when_too_many_attempts_fail_the_error_is_raised_each_time_anew(kind):
    found, trace, lm = run("sync", kind, FAILS, calls=2)
    assert (found, trace, len(lm.asked)) == (FAILS, [], 6)
    found, _, lm = run("sync", kind, FAILS, FAILS, says("one"), fail_count=1)
    assert (found, len(lm.asked)) == (FAILS, 2)
    found, _, lm = run("sync", kind, says("a b c"), *([advises()] if kind is dspex.Refine else []), FAILS, fail_count=2)
    assert found == "a b c"
    found, _, lm = run("sync", kind, FAILS, says("one"), fail_count=0)
    assert (found, len(lm.asked)) == (FAILS, 1)


class TwoSteps(dspex.Module):
    def __init__(self):
        self.plan = dspex.Predict("question -> query")
        self.answer = dspex.Predict("question, query -> answer")

    def forward(self, question):
        return self.answer(question=question, query=self.plan(question=question).query)


@pytest.mark.parametrize("way", WAYS)
def test_a_program_of_several_predictors_has_its_own_in_the_trace(way):
    module = TwoSteps()
    texts = [chat(query="q"), says("a b"), chat(query="q2"), says("one")]
    found, trace, lm = run(way, dspex.BestOfN, *texts, module=module)
    assert found == "one"
    assert [step[0] for step in trace] == [module.plan, module.answer]
    assert [params["rollout_id"] for _, params in lm.asked] == [0, 0, 1, 1]
    program = dspex.BestOfN(module, N=3, reward_fn=short, threshold=1.0)
    assert [name for name, _ in program.named_predictors()] == ["module.plan", "module.answer"]


def test_a_reward_may_be_async_a_program_or_a_prediction_with_a_score_and_is_not_in_the_trace():
    judge = dspex.Predict("answer -> verdict")

    async def judged(inputs, prediction):
        return float((await judge.acall(answer=prediction.answer)).verdict)

    texts = [says("a"), chat(verdict="0.2"), says("b"), chat(verdict="0.9")]
    for way in WAYS:
        found, trace, lm = run(way, dspex.BestOfN, *texts, reward=judged, most=2, threshold=1.0)
        assert (found, len(trace), len(lm.booked)) == ("b", 1, 4)

    class Scores(dspex.Module):
        def forward(self, inputs, prediction):
            return dspex.Prediction(score=1.0 if prediction.answer == "one" else 0.0)

    found, _, lm = run("sync", dspex.BestOfN, says("two"), says("one"), says("x"), reward=Scores())
    assert (found, len(lm.asked)) == ("one", 2)
    assert [*dspex.BestOfN(judge, 1, Scores(), 1.0).named_sub_modules()][1][0] == "self.module"


def test_the_rollout_of_an_lm_goes_on_from_its_own():
    lm = Scripted(says("a b c")).copy(rollout_id=7)
    with dspex.context(lm=lm):
        dspex.BestOfN(dspex.Predict("question -> answer"), 2, short, 1.0)(question="Q")
    assert [params["rollout_id"] for _, params in lm.asked] == [7, 8]
    with dspex.context(lm=dspex.LM("openai/gpt-4o-mini", temperature=0.0)):
        lms = dspex.BestOfN(dspex.Predict("a -> b"), 3, short, 1.0).rollouts()
    keys = {lm.request([{"role": "user", "content": "Q"}], {}).cache_key for lm in lms}
    assert len(keys) == 3, "a cache tells them apart"
    assert len({lm._parts.deployment for lm in lms}) == 1, "limits and connections are shared"


@pytest.mark.parametrize("way", WAYS)
def test_refine_gives_each_predictor_advice_from_the_attempt_before(way):
    module = TwoSteps()
    texts = [chat(query="q"), says("a b"), advises(plan="ask better"), chat(query="q2"), says("one")]
    found, trace, lm = run(way, dspex.Refine, *texts, module=module)
    assert found == "one"
    assert [params.get("rollout_id") for _, params in lm.asked] == [0, 0, None, 1, 1]
    last = [messages[-1]["content"] for messages, _ in lm.asked]
    assert "[[ ## hint_ ## ]]" not in last[0] + last[1]
    assert "[[ ## question ## ]]\nQ\n\n[[ ## hint_ ## ]]\nask better\n\n" in last[3]
    assert "[[ ## query ## ]]\nq2\n\n[[ ## hint_ ## ]]\nN/A\n\n" in last[4]
    asked = last[2]
    for shown in (
        "class TwoSteps(dspex.Module):", "Module plan", "question (str)", '"query": "q"', '"answer": "a b"',
        "def short(inputs, prediction):", "[[ ## target_threshold ## ]]\n1.0", "[[ ## reward_value ## ]]\n0.5",
    ):  # fmt: skip
        assert shown in asked
    assert [sorted(step[1]) for step in trace[1:]] == [["question"], ["query", "question"]], "the hint is not there"
    assert [step[0] for step in trace[1:]] == [module.plan, module.answer]
    assert module.plan.signature.signature == "question -> query"


def test_refine_goes_on_without_advice_where_there_is_none():
    found, _, lm = run("sync", dspex.Refine, says("a b c"), advises(), says("a b"), advises(), says("a b c"))
    assert (found, len(lm.asked)) == ("a b", 5)
    found, _, lm = run("sync", dspex.Refine, says("a b c"), "garbage", says("a b"), advises(), says("a b c"))
    assert (found, len(lm.asked)) == ("a b", 5)
    found, _, lm = run(
        "sync", dspex.Refine, says("one"), advises(), says("one"), advises(), says("x y"), threshold=None
    )
    assert (found, len(lm.asked)) == ("one", 5)


def test_a_program_of_ours_is_shown_by_what_it_is_made_of():
    program = dspex.Refine(dspex.Predict("question -> answer"), 2, short, 1.0)
    assert program.module_code == repr(program.module)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"module": print}, "module is invalid: got <built-in function print>, expected a program"),
        ({"N": 0}, "N: expected a whole number of at least 1, got 0"),
        ({"N": 2.0}, "N: expected a whole number"),
        ({"reward_fn": 1}, "reward_fn is invalid: got 1, expected reward_fn"),
        ({"threshold": "high"}, "threshold is invalid: got 'high', expected a number"),
        ({"threshold": float("nan")}, "threshold is invalid: got nan"),
        ({"fail_count": -1}, "fail_count: expected a whole number of at least 0, got -1"),
    ],
)
@pytest.mark.parametrize("kind", [dspex.BestOfN, dspex.Refine])
def test_bad_settings_are_refused_when_it_is_made(kind, wrong, words):
    good = {"module": dspex.Predict("question -> answer"), "N": 3, "reward_fn": short, "threshold": 1.0}
    with pytest.raises(ConfigError, match=words) as caught:
        kind(**{**good, **wrong})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("reward", [None, "high", float("nan"), [1]])
def test_a_reward_that_is_no_number_says_so(reward):
    found, _, _ = run("sync", dspex.BestOfN, says("one"), reward=lambda inputs, prediction: reward)
    assert isinstance(found, ConfigError)
    assert "reward_fn is invalid: it returned" in str(found)


def test_the_worst_reward_there_is_is_better_than_no_answer():
    found, _, _ = run("sync", dspex.BestOfN, says("one"), reward=lambda inputs, prediction: float("-inf"))
    assert found == "one"


def test_without_an_lm_nothing_is_tried():
    with pytest.raises(ConfigError, match="No LM is loaded"):
        dspex.BestOfN(dspex.Predict("question -> answer"), 2, short, 1.0)(question="Q")
    with pytest.raises(ConfigError, match="threshold is invalid: got None"):
        dspex.BestOfN(dspex.Predict("question -> answer"), 2, short, None)
