"""The run path is the call path: what a program and a metric say in a run is what they say when they are called."""

import asyncio
import dataclasses
import datetime as dt
import inspect
import threading
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal

import pytest
from same_kit import LABELS, METRICS, PROGRAMS, Answering, Exhausted, Person, Place, Sync, Team, Typed

import dspex_actors as dspex
from dspex_actors.data.fields import pack_example
from dspex_actors.errors import AuthError, Overloaded, RateLimited
from dspex_actors.foundation import threads
from dspex_actors.foundation.codec import gathering_classes, unpack
from dspex_actors.lm.backend import set_process_backend
from dspex_actors.metrics import check_score
from dspex_actors.runs.snapshot import pack_surroundings
from dspex_actors.runs.spec import Job, dump_code
from dspex_actors.settings import settings
from dspex_actors.workers import calling
from dspex_actors.workers.calling import fields_of
from dspex_actors.workers.runner import open_runner, run_example

LM = dspex.LM("openai/m")


@pytest.fixture
def backend():
    made = Answering()
    set_process_backend(made)
    yield made
    set_process_backend(None)


@pytest.fixture(autouse=True)
def as_in_a_worker(monkeypatch):
    """Have the threads of programs see their run's settings; as before at the end."""
    monkeypatch.setattr(threading.Thread, "start", threading.Thread.start)
    monkeypatch.setattr(ThreadPoolExecutor, "submit", ThreadPoolExecutor.submit)
    threads.inherit_context()
    before = settings.snapshot()
    yield
    settings.assign(**{"lm": None, "adapter": None, "warn_on_type_mismatch": True, **before})


def example(**fields):
    return dspex.Example(ticket="hello", **{**LABELS, **fields}).with_inputs("ticket", *fields)


def direct(program, metric, one):
    """Return (fields, score, error) of plain calls."""
    try:
        made = program(**one.inputs())
        made = asyncio.run(made) if inspect.iscoroutine(made) else made
        score = metric(one, made)
        return fields_of(made), check_score(asyncio.run(score) if inspect.iscoroutine(score) else score), None
    except Exception as error:
        return None, None, error


def evaluated(program, metric, *examples, lm=LM):
    """Return the results of a run with the settings that hold here; in the worker there are none."""
    with gathering_classes() as classes:
        payloads = [pack_example(each) for each in examples]
    around = pack_surroundings(lm, classes)
    plain = lm.to_dict() if isinstance(lm, dspex.LM) else None
    job = Job(
        "run",
        "evaluate",
        dump_code(program),
        dump_code(metric),
        plain,
        around | {"failures": "retry", "max_attempts": 3},
    )
    before = settings.snapshot()
    settings.assign(lm=None, adapter=None, warn_on_type_mismatch=True)

    async def run():
        runner = await open_runner(job)
        return await asyncio.gather(*(run_example(runner, payload) for payload in payloads))

    try:
        return asyncio.run(run())
    finally:
        settings.assign(**before)


def check_same(program, metric, one, lm=LM):
    fields, score, error = direct(program, metric, one)
    (result,) = evaluated(program, metric, one, lm=lm)
    if error is not None:
        assert result.error["type"] == type(error).__name__
        assert str(error) in result.error["message"]
        return result
    assert (result.error, result.score) == (None, score)
    found = unpack(result.prediction, objects="load")
    assert found == fields
    assert {name: type(value) for name, value in found.items()} == {name: type(value) for name, value in fields.items()}
    return result


def true(*_):
    return True


@pytest.mark.parametrize("adapter", [None, dspex.JSONAdapter()], ids=["chat", "json"])
@pytest.mark.parametrize("name", PROGRAMS)
def test_programs(backend, name, adapter):
    settings.assign(lm=LM, adapter=adapter)
    result = check_same(PROGRAMS[name](), true, example())
    if result.prediction is not None and name in ("predict", "sync module", "thread"):
        assert backend.asked[0] == backend.asked[1], "the same prompt"
        assert isinstance(unpack(result.prediction, objects="load")["person"], Person)


@pytest.mark.parametrize("name", METRICS)
def test_metrics(backend, name):
    settings.assign(lm=LM)
    result = check_same(dspex.Predict(Typed), METRICS[name](), example())
    assert result.prediction is not None
    if name in ("built-in", "numeric", "sync", "async", "judge"):
        assert result.score == 1.0


@pytest.mark.parametrize(
    "value",
    [
        Person(name="Ada"),
        [Person(name="Ada"), {"a": Place("Ulm", 1)}],
        Place("Ulm", 1),
        Team.BUGS,
        Decimal("12.5"),
        dt.datetime(2024, 5, 1, 10, tzinfo=dt.UTC),
        dt.timedelta(seconds=3),
        {1, 2},
        (1, "x"),
        {"a": (1,)},
        b"\x00",
        None,
        dspex.Example(a=Person(name="x")).with_inputs("a"),
    ],
    ids=repr,
)
def test_inputs_and_labels_arrive_as_what_they_were(backend, value):
    def program(ticket, given):
        return dspex.Prediction(kind=type(given).__name__, again=given, pair=(given, given))

    def metric(example, prediction, trace=None):
        return example.given == prediction.again == example.label and type(example.label) is type(prediction.again)

    one = dspex.Example(ticket="x", given=value, label=value).with_inputs("ticket", "given")
    result = check_same(program, metric, one)
    assert result.score == 1.0


class Own(Answering):
    """An LM of the user's own: not one of ours."""


@pytest.mark.parametrize("how", ["configure", "context", "own", "own in context"])
def test_lms(backend, how):
    lm = Own() if how.startswith("own") else LM
    if "context" in how:
        with dspex.context(lm=lm):
            check_same(Sync(), true, example(), lm=lm)
    else:
        settings.assign(lm=lm)
        check_same(Sync(), true, example(), lm=lm)


def test_settings_travel(backend):
    def program(ticket):
        return {
            "adapter": type(settings.adapter).__name__,
            "warn": settings.warn_on_type_mismatch,
            "trace": settings.trace,
        }

    settings.assign(lm=LM, adapter=dspex.JSONAdapter())
    with dspex.context(warn_on_type_mismatch=False, trace=[]):
        check_same(program, true, example())


def test_an_example_has_a_trace_of_its_own(backend):
    def program(ticket):
        dspex.Predict(Typed)(ticket=ticket)
        return len(settings.trace)

    assert [unpack(one.prediction)["output"] for one in evaluated(program, true, *[example()] * 5)] == [1] * 5


def test_a_run_cannot_change_the_settings_of_others(backend, monkeypatch):
    def program(ticket):
        dspex.configure(adapter=dspex.JSONAdapter())

    monkeypatch.setattr(settings._owner, "closed", True)
    (result,) = evaluated(program, true, example())
    assert result.error["type"] == "ConfigRuntimeError"
    assert "with context(...)" in result.error["message"]


def test_sync_code_waits_beside_everything_else(backend):
    """Each of 64 metrics, and of 64 programs, waits until all 64 are there."""
    together = threading.Barrier(64)

    def metric(example, prediction, trace=None):
        return together.wait(30) >= 0

    def program(ticket):
        together.wait(30)
        return ticket

    # Given after the opening: a barrier that travels would be another one.
    runner = asyncio.run(open_runner(Job("run", "evaluate", dump_code(len), dump_code(len), None, {})))
    runner._metric, runner._program = calling.Metric(metric), calling.Program(program)

    async def run():
        payload = pack_example(example())
        return await asyncio.gather(*(run_example(runner, payload) for _ in range(64)))

    assert [one.score for one in asyncio.run(run())] == [1.0] * 64


def test_our_own_metrics_need_no_thread(backend, monkeypatch):
    settings.assign(lm=LM)
    monkeypatch.setattr(calling, "in_thread", None)
    program, one = dspex.Predict(Typed), pack_example(example())
    runner = asyncio.run(
        open_runner(Job("run", "evaluate", dump_code(program), dump_code(METRICS["built-in"]()), LM.to_dict(), {}))
    )
    assert asyncio.run(run_example(runner, one)).score == 1.0


def test_an_iterator_that_ends_in_a_program_is_an_error_and_no_hang(backend):
    (result,) = evaluated(Exhausted(), true, example())
    assert (result.error["type"], result.error["message"]) == ("RuntimeError", "the function raised StopIteration")


class Failing:
    """A metric whose LM fails so many times first."""

    def __init__(self, *errors):
        self.errors = list(errors)

    def __call__(self, example, prediction, trace=None):
        if self.errors:
            raise self.errors.pop(0)
        return 1


@pytest.mark.parametrize(
    ("errors", "score", "kind"),
    [
        ([Overloaded("down"), RateLimited("slow")], 1.0, None),
        ([Overloaded("down")] * 3, None, "Overloaded"),
        ([AuthError("no")], None, "AuthError"),
        ([ZeroDivisionError()], None, "ZeroDivisionError"),
        ([SystemExit(3)], None, "SystemExit"),
        ([KeyboardInterrupt()], None, "KeyboardInterrupt"),
    ],
)
def test_a_judge_that_fails_for_the_moment_is_asked_again_and_the_program_is_not(
    backend, monkeypatch, errors, score, kind
):
    monkeypatch.setattr(calling, "AGAIN_SECONDS", 0.0)
    settings.assign(lm=LM)
    (result,) = evaluated(dspex.Predict(Typed), Failing(*errors), example())
    assert (len(backend.asked), result.score) == (1, score)
    assert unpack(result.prediction, objects="load")["person"] == Person(name="Ada")
    if kind is not None:
        assert (result.error["type"], result.again) == (kind, "no")
        assert result.error["message"].startswith("the metric failed, the prediction is kept: ")


@pytest.mark.parametrize(("error", "why"), [(AssertionError(), "AssertionError"), (ValueError("no team"), "no team")])
def test_a_metric_that_fails_without_a_text_is_told_by_the_kind_of_its_error(backend, error, why):
    settings.assign(lm=LM)
    (result,) = evaluated(dspex.Predict(Typed), Failing(error), example())
    assert result.error["message"] == f"the metric failed, the prediction is kept: {why}"


# --- the end of an answer -------------------------------------------------------------------------------------------


def test_a_result_says_why_its_answer_ended(backend):
    settings.assign(lm=LM)
    assert evaluated(dspex.Predict(Typed), METRICS["judge"](), example())[0].finish_reason == "stop"
    backend.finish_reason = "length"
    (result,) = evaluated(dspex.Predict(Typed), true, example())
    assert (result.finish_reason, result.error) == ("length", None)


@pytest.mark.parametrize(
    ("lm", "words"),
    [
        (dspex.LM("openai/m", max_tokens=16), "the answer was cut at max_tokens=16 (raise max_tokens): "),
        (dspex.LM("openai/m"), "the answer was cut at the max_tokens of the server (raise max_tokens): "),
    ],
)
def test_an_answer_that_is_cut_and_cannot_be_read_is_not_asked_again(backend, lm, words):
    backend.answers["person"] = "{"
    backend.finish_reason = "length"
    (result,) = evaluated(dspex.Predict(Typed), true, example(), lm=lm)
    assert len(backend.asked) == 1
    assert (result.error["type"], result.finish_reason, result.again) == ("AdapterParseError", "length", "no")
    assert result.error["message"].startswith(words)
    backend.finish_reason = "stop"
    (result,) = evaluated(dspex.Predict(Typed), true, example(), lm=lm)
    assert (len(backend.asked), "cut" in result.error["message"]) == (3, False)


def test_a_prediction_is_small_whatever_its_classes_are(backend):
    """Code is sent once per run, and stands in no result."""
    settings.assign(lm=LM)
    (result,) = evaluated(dspex.Predict(Typed), true, example())
    assert len(result.prediction) < 2500
    assert dataclasses.is_dataclass(unpack(result.prediction, objects="load")["place"])
