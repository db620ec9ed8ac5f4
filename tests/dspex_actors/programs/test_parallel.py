"""Parallel and Module.batch: results in order, errors, and what travels into their threads."""

import asyncio
import threading
from contextvars import ContextVar

import pytest

import dspex_actors as dspex
from dspex_actors.errors import ConfigError, RunFailed
from dspex_actors.foundation.operation import current_operation
from dspex_actors.settings import record_calls
from tests.dspex_actors.program_fakes import FakeLM, chat

WAYS = ("sync", "async")


def double(x):
    if x < 0:
        raise ValueError(f"negative: {x}")
    return x * 2


PAIRS = [(double, (1,)), (double, (-1,)), (double, {"x": 3}), (double, dspex.Example(x=4, y=5).with_inputs("x"))]


def run(way, parallel, pairs, **how):
    return parallel(pairs, **how) if way == "sync" else asyncio.run(parallel.acall(pairs, **how))


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("threads", [None, 1, 2])
def test_results_come_in_order_and_none_stands_for_what_failed(way, threads):
    parallel = dspex.Parallel(num_threads=threads)
    assert run(way, parallel, PAIRS) == [2, None, 6, 8]
    assert [str(error) for error in parallel.exceptions] == ["negative: -1"]
    assert run(way, parallel, []) == []
    results, failed, errors = run(way, dspex.Parallel(threads, return_failed_examples=True), PAIRS)
    assert (results, failed, [str(error) for error in errors]) == ([2, None, 6, 8], [(-1,)], ["negative: -1"])


@pytest.mark.parametrize("way", WAYS)
def test_with_too_many_errors_it_gives_up_and_begins_nothing_more(way):
    begun = []

    def notes(x):
        begun.append(x)
        return double(x)

    pairs = [(notes, (number,)) for number in (1, -1, -2, 3, 4)]
    with pytest.raises(
        RunFailed, match="2 of 5 pairs failed, which is max_errors=2; the last: ValueError: neg"
    ) as found:
        run(way, dspex.Parallel(num_threads=1, max_errors=2), pairs)
    assert (begun, str(found.value.__cause__)) == ([1, -1, -2], "negative: -2")
    with dspex.context(max_errors=1), pytest.raises(RunFailed):
        run(way, dspex.Parallel(num_threads=1), pairs)


HERE = ContextVar("here", default="nowhere")


@pytest.mark.parametrize("way", WAYS)
def test_settings_operation_trace_and_records_are_in_its_threads(way):
    predict = dspex.Predict("question -> answer")
    both = threading.Barrier(2, timeout=60)

    class Slow(FakeLM):
        def __call__(self, messages, **params):
            if way == "sync":
                both.wait()  # two threads at least
            assert (HERE.get(), dspex.settings.user, current_operation().correlation_id) == ("here", "ada", "all-1")
            return super().__call__(messages, **params)

    HERE.set("here")
    examples = [dspex.Example(question=str(number)).with_inputs("question") for number in range(4)]
    with (
        dspex.context(lm=Slow(chat(answer="A")), trace=[], user="ada"),
        dspex.operation("all", correlation_id="all-1"),
        record_calls() as calls,
    ):
        pairs = [(predict, example) for example in examples]
        results = run(way, dspex.Parallel(num_threads=2), pairs)
        trace = list(dspex.settings.trace)
    assert [result.answer for result in results] == ["A"] * 4
    assert [step[1]["question"] for step in trace] == ["0", "1", "2", "3"]
    assert {id(step[0]) for step in trace} == {id(predict)}
    assert len(calls) == 4


def test_a_batch_runs_a_program_on_examples_and_a_parallel_may_run_parallels():
    predict = dspex.Predict("question -> answer")
    examples = [dspex.Example(question=str(number)).with_inputs("question") for number in range(3)]
    with dspex.context(lm=FakeLM(chat(answer="A"))):
        assert [each.answer for each in predict.batch(examples, num_threads=2)] == ["A"] * 3
        found, failed, errors = predict.batch(examples, return_failed_examples=True)
    assert (len(found), failed, errors) == (3, [], [])
    inner = dspex.Parallel(num_threads=2)
    assert dspex.Parallel(num_threads=2)([(inner, PAIRS)] * 3) == [[2, None, 6, 8]] * 3
    whole = dspex.Parallel(access_examples=False)
    assert whole([(lambda example: example.y, PAIRS[3][1])]) == [5]


def test_inputs_of_an_unknown_kind_fail_as_dspys():
    parallel = dspex.Parallel(return_failed_examples=True)
    results, failed, [first, second] = parallel([(double, [1]), (double, 1)])
    assert (results, failed) == ([None, None], [[1], 1])
    assert isinstance(first, ValueError)
    assert "the inputs of a pair are invalid: got 1 (int), expected an Example" in str(second)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: dspex.Parallel(num_threads=0), "num_threads: expected a whole number of at least 1, got 0"),
        (lambda: dspex.Parallel(max_errors=True), "max_errors: expected a whole number"),
        (lambda: dspex.Parallel()([(double, (1,)), (double,)]), r"exec_pairs\[1\] is invalid: got \(<function double"),
        (lambda: dspex.Parallel()([("double", (1,))]), r"exec_pairs\[0\] is invalid"),
        (lambda: dspex.Parallel()(None), "exec_pairs is invalid: got None, expected a list"),
        (lambda: dspex.Predict("q -> a").batch(None), "examples is invalid: got None, expected a list of Examples"),
        (lambda: dspex.Predict("q -> a").batch(["x"]), r"examples\[0\] is invalid: got 'x', expected an Example"),
        (lambda: dspex.configure(num_threads=0), "num_threads is invalid: got 0, expected a whole number"),
    ],
)
def test_bad_settings_are_refused(make, words):
    with pytest.raises(ConfigError, match=words):
        make()


def test_an_interrupt_in_a_thread_is_not_kept():
    def leaves():
        raise KeyboardInterrupt

    for way in WAYS:
        with pytest.raises(KeyboardInterrupt):
            run(way, dspex.Parallel(num_threads=2), [(leaves, ()), (leaves, ())])


def test_what_was_paid_before_an_interrupt_is_in_the_books():
    paid = threading.Event()

    def asks():
        dspex.Predict("q -> a")(q="x", lm=FakeLM(chat(a="y")))
        paid.set()

    def leaves():
        assert paid.wait(60)
        raise KeyboardInterrupt

    with record_calls() as calls, pytest.raises(KeyboardInterrupt):
        dspex.Parallel(num_threads=2)([(leaves, ()), (asks, ())])
    assert len(calls) == 1
