import asyncio

import pytest
from bootstrap_fakes import Chain, FakeBackend

from dspex_actors import Example, JSONAdapter, Module, Predict, Prediction, Signature
from dspex_actors.errors import InvalidRequest, RateLimited
from dspex_actors.foundation.codec import unpack
from dspex_actors.lm.backend import set_process_backend
from dspex_actors.lm.lm import LM
from dspex_actors.runs.snapshot import pack_settings
from dspex_actors.runs.spec import Job, dump_code, load_code
from dspex_actors.signatures.fields import InputField, OutputField
from dspex_actors.teleprompt.bootstrap_runner import BootstrapRunner, Rollout

QA = "question -> answer"


@pytest.fixture
def backend():
    fake = FakeBackend(answer=lambda messages, params: 7)
    set_process_backend(fake)
    yield fake
    set_process_backend(None)


def passes(example, prediction, trace=None):
    return True


def fails(example, prediction, trace=None):
    return False


def raises(example, prediction, trace=None):
    raise ValueError("no such label")


def runner(teacher, metric=passes, *, lm="embedded/nearest", rounds=1, threshold=None, max_errors=10, settings=None):
    options = {
        "max_rounds": rounds,
        "metric_threshold": threshold,
        "rule": {"successes": 4, "max_errors": max_errors},
        "teacher_settings": pack_settings(settings or {}),
    }
    lm = None if lm is None else LM(lm).to_dict()
    return BootstrapRunner(Job("run", "bootstrap", dump_code(teacher), dump_code(metric), lm, options))


def question(text="why?", **labels):
    return Example(question=text, **labels).with_inputs("question")


def attempt(made, example=None):
    outcome = asyncio.run(made.attempt(example or question()))
    return outcome, unpack(outcome.prediction, objects="load")


def test_a_success_hands_back_every_predictors_calls_in_order(backend):
    outcome, fields = attempt(runner(Chain()), question("123456"))
    assert (outcome.success, outcome.score, outcome.error) == (True, 1.0, None)
    assert fields["success"] is True
    assert fields["steps"] == [
        ("first", {"question": "123456 0"}, {"hint": "7"}),
        ("first", {"question": "123456 1"}, {"hint": "7"}),
        ("second", {"question": "123456", "hint": "7"}, {"answer": "7"}),
    ]


def test_a_failure_hands_back_no_calls(backend):
    outcome, fields = attempt(runner(Chain(), fails))
    assert (outcome.success, outcome.score, outcome.error) == (False, 0.0, None)
    assert fields == {"success": False, "steps": [], "errors": []}


def test_an_exception_of_the_metric_is_an_error_of_the_example(backend):
    outcome, fields = attempt(runner(Predict(QA), raises))
    assert (outcome.success, outcome.score) == (False, None)
    assert (outcome.error["type"], outcome.error["message"]) == ("ValueError", "no such label")
    assert fields["errors"] == [outcome.error]


@pytest.mark.parametrize(
    ("value", "threshold", "success"),
    [
        (0.5, 0.5, True), (0.4, 0.5, False), (0.1, 0, True), (-1, 0, True), (-1, None, True),
        (0, None, False), (0, 0, False),
        (0.0, -0.5, True), (None, None, False), (True, 1.0, True),
        (Prediction(score=False), None, False), (Prediction(score=0.5), 0.6, False), ({"score": 1}, 0.6, True),
    ],
)  # fmt: skip
def test_thresholds_of_none_and_zero_let_pass_what_is_true_and_others_what_reaches_them(
    backend, value, threshold, success
):
    def metric(example, prediction, trace=None):
        return value

    assert attempt(runner(Predict(QA), metric, threshold=threshold))[0].success is success


def test_a_value_that_cannot_be_compared_with_the_threshold_is_an_error(backend):
    def metric(example, prediction, trace=None):
        return None

    assert attempt(runner(Predict(QA), metric, threshold=0.5))[0].error["type"] == "ConfigError"


def test_the_metric_may_be_async_and_sees_example_prediction_and_trace(backend):
    async def metric(example, prediction, trace=None):
        (step,) = trace
        return example.label == "L" and prediction.answer == "7" and step[1] == {"question": "why?"}

    assert attempt(runner(Predict(QA), metric), question(label="L"))[0].success


def test_later_rounds_ask_at_temperature_one_with_a_seed_of_their_own(backend):
    attempt(runner(Predict(QA), fails, rounds=3))
    assert [params for _, _, params in backend.asked] == [
        {},
        {"temperature": 1.0, "seed": 1},
        {"temperature": 1.0, "seed": 2},
    ]
    # One LM, with one budget and one set of connections.
    assert {lm for lm, _, _ in backend.asked} == {LM("embedded/nearest")}


@pytest.mark.parametrize(
    ("lm", "expected"),
    [
        (LM("openai/m"), {"temperature": 1.0, "seed": 2}),
        (LM("gemini/m", temperature=0.1), {"temperature": 1.0, "seed": 2}),
        (LM("cohere/m", seed=40), {"temperature": 1.0, "seed": 42}),
        (LM("anthropic/m", max_tokens=9), {"temperature": 1.0, "max_tokens": 9}),
        (LM("openai/m", fallbacks=["anthropic/m"]), {"temperature": 1.0}),
        (LM("openai/m", fallbacks=[LM("gemini/m")]), {"temperature": 1.0, "seed": 2}),
    ],
)
def test_a_rollout_gives_a_seed_only_where_all_of_its_providers_take_one(backend, lm, expected):
    Rollout(lm, 2)("hello")
    assert backend.asked[0][2] == expected


def test_a_predictors_own_parameters_win_over_a_rollouts(backend):
    attempt(runner(Predict(QA, temperature=0.3), fails, rounds=2))
    assert backend.asked[1][2] == {"temperature": 0.3, "seed": 1}


def test_a_rollout_is_otherwise_like_its_lm():
    rollout = Rollout(LM("openai/m", rpm=9), 1)
    assert (rollout.model, rollout.rpm) == ("openai/m", 9)
    with pytest.raises(AttributeError):
        getattr(rollout, "nothing_like_that")  # noqa: B009


def test_an_error_of_an_early_round_is_kept_when_a_later_one_passes(backend):
    backend.answer = lambda messages, params: params["seed"]  # KeyError in round 0
    outcome, fields = attempt(runner(Predict(QA), rounds=3))
    assert (outcome.success, outcome.error) == (True, None)
    assert [error["type"] for error in fields["errors"]] == ["KeyError"]
    assert len(backend.asked) == 2


def test_no_round_follows_on_the_error_that_ends_the_bootstrap(backend):
    _, fields = attempt(runner(Predict(QA), raises, rounds=5, max_errors=2))
    assert (len(fields["errors"]), len(backend.asked)) == (2, 2)


def test_a_429_is_raised_so_that_the_example_is_tried_again_as_if_nothing_had_been(backend):
    def limited(messages, params):
        raise RateLimited("slow down", provider="embedded")

    backend.answer = limited
    with pytest.raises(RateLimited):
        attempt(runner(Predict(QA), rounds=3))
    assert len(backend.asked) == 1


def test_another_error_of_the_lm_is_an_error_of_the_example(backend):
    def refused(messages, params):
        raise InvalidRequest("no", provider="embedded")

    backend.answer = refused
    assert attempt(runner(Predict(QA)))[0].error["type"] == "InvalidRequest"


def test_every_demo_equal_to_the_example_is_away_while_it_runs_and_only_then(backend):
    teacher = Chain()
    own, other = question("own", hint="1", answer="1"), question("other", hint="2", answer="2")
    teacher.first.demos = [own, other, own.copy()]
    teacher.second.demos = [other, own]
    made = runner(teacher)

    async def both():
        return await asyncio.gather(*(made.attempt(example) for example in (own, other, question("third")) * 3))

    asyncio.run(both())
    seen = {}
    for _, messages, _ in backend.asked:
        turns = [message["content"] for message in messages if message["role"] == "user"]
        asked = next(word for word in ("own", "other", "third") if f"\n{word}" in turns[-1])
        text = "\n".join(turns[:-1])
        seen.setdefault(asked, set()).add((text.count("\nown"), text.count("\nother")))
    assert seen["own"] == {(0, 1)}
    assert seen["other"] == {(1, 0), (2, 0)}
    assert seen["third"] == {(2, 1), (1, 1)}


class Grid:
    """Refuses to be compared, as arrays do."""

    def __init__(self, cells):
        self.cells = cells

    def __repr__(self):
        return f"Grid({self.cells})"

    def __eq__(self, other):
        raise ValueError("the truth value of a grid is ambiguous")

    __hash__ = None


@pytest.mark.parametrize("value", [float("nan"), Grid([1, 2]), ["x", {"y": (1, 2)}], None, 1])
def test_a_demo_is_found_equal_by_its_content_whatever_kind_of_values_it_has(backend, value):
    teacher = Predict(QA)
    example = question("own", label=value, dspy_uuid="not travelling")
    teacher.demos = [example]
    value = load_code(dump_code(value))  # as it comes over the wire
    arrived = Example(question="own", label=value).with_inputs("question")
    assert runner(teacher)._teacher_for(arrived).demos == []
    assert len(runner(teacher)._teacher_for(question("own", label="another")).demos) == 1


def test_one_and_true_and_one_point_zero_are_equal_as_everywhere_in_python(backend):
    teacher = Predict(QA)
    teacher.demos = [question("own", label=1)]
    assert runner(teacher)._teacher_for(question("own", label=1.0)).demos == []


def test_the_dicts_of_a_loaded_program_are_equal_to_no_example(backend):
    teacher = Predict(QA)
    teacher.demos = [{"question": "own"}]
    assert runner(teacher)._teacher_for(question("own")).demos == [{"question": "own"}]


def test_defaults_of_inputs_are_in_the_demos(backend):
    class Styled(Signature):
        question: str = InputField()
        style: str = InputField(default="plain")
        answer: str = OutputField()

    _, fields = attempt(runner(Predict(Styled)))
    assert fields["steps"] == [("self", {"style": "plain", "question": "why?"}, {"answer": "7"})]


def test_calls_of_a_compiled_sub_program_and_of_the_metric_make_no_demos(backend):
    class Outer(Module):
        def __init__(self):
            self.inner = Chain()
            self.inner._compiled = True
            self.last = Predict(QA)

        async def aforward(self, question):
            hint = (await self.inner.acall(question=question)).answer
            return await self.last.acall(question=hint)

    judge = Predict(QA)

    async def metric(example, prediction, trace=None):
        return (await judge.acall(question=prediction.answer)).answer == "7"

    _, fields = attempt(runner(Outer(), metric))
    assert [name for name, _, _ in fields["steps"]] == ["last"]


def test_the_teachers_settings_hold_for_its_calls(backend):
    outcome, _ = attempt(runner(Predict(QA), settings={"adapter": JSONAdapter()}))
    assert "## completed ##" not in str(backend.asked[0][1])
    assert outcome.error is None  # the fake LM speaks in sections, which each adapter reads


def test_a_predictor_with_an_lm_of_its_own_keeps_it_in_every_round(backend):
    teacher = Predict(QA)
    teacher.set_lm(LM("openai/own", temperature=0.2))
    attempt(runner(teacher, fails, lm=None, rounds=2))
    assert [(lm.model, params) for lm, _, params in backend.asked] == [("openai/own", {"temperature": 0.2})] * 2
