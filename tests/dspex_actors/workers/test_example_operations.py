"""An example of a run is an operation: its correlation id is seen wherever its code runs, and its errors tell of it."""

import asyncio
import json
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

import dspex_actors as dspex
from dspex_actors.data.fields import pack_example
from dspex_actors.errors import Overloaded
from dspex_actors.foundation import threads
from dspex_actors.foundation.operation import breadcrumb, current_operation, observe
from dspex_actors.lm.attempts import Ledger
from dspex_actors.runs.sample import recorded
from dspex_actors.runs.snapshot import Surroundings
from dspex_actors.runs.spec import Job
from dspex_actors.workers import calling
from dspex_actors.workers.evaluate_runner import EvaluateRunner
from dspex_actors.workers.runner import run_example

PAYLOAD = pack_example({"ticket": "x"}, ["ticket"])


def runner(program, metric=lambda *_: True):
    one = EvaluateRunner.__new__(EvaluateRunner)
    one._program, one._metric = calling.Program(program), calling.Metric(metric)
    one._surroundings = Surroundings(Job("run", "evaluate", b"", b""))
    return one


def done(program, metric=lambda *_: True, index=3, is_recorded=False, seconds=None):
    return asyncio.run(
        run_example(runner(program, metric), PAYLOAD, Ledger(index, seconds=seconds), "run-1", is_recorded)
    )


@pytest.fixture
def inheriting(monkeypatch):
    """Have threads begin with their starter's context, as in a worker."""
    monkeypatch.setattr(threading.Thread, "start", threading.Thread.start)
    monkeypatch.setattr(ThreadPoolExecutor, "submit", ThreadPoolExecutor.submit)
    threads.inherit_context()


def test_its_correlation_id_is_seen_in_program_metric_tasks_and_threads(inheriting):
    seen = []

    def see():
        seen.append(dspex.correlation_id())

    class Program(dspex.Module):
        def forward(self, ticket):
            see()
            thread = threading.Thread(target=see)
            thread.start()
            thread.join()
            with ThreadPoolExecutor() as pool:
                pool.submit(see).result()
            return dspex.Prediction(out=1)

    async def program(ticket):
        see()
        await asyncio.create_task(asyncio.to_thread(see))
        return await Program().acall(ticket=ticket)

    async def metric(example, prediction, trace=None):
        see()
        return True

    def sync_metric(example, prediction, trace=None):
        see()
        return True

    assert done(program, metric).success
    assert done(program, sync_metric).success
    assert seen == ["run-1/3"] * 12


def test_nothing_is_open_after_it_and_it_is_a_first_one_whatever_is_around_it():
    async def main():
        async def program(ticket):
            return current_operation().path, dspex.correlation_id()

        with dspex.operation("somebody else's") as other:
            result = await run_example(runner(program), PAYLOAD, Ledger(0), "run-1")
            assert current_operation() is other
        return result

    assert asyncio.run(main()).success


@pytest.mark.parametrize("is_recorded", [False, True])
def test_it_is_recorded_when_asked(is_recorded):
    heard = []
    end = observe(lambda op, error, has_ended: heard.append((op.name, has_ended)))

    class Program(dspex.Module):
        async def aforward(self, ticket):
            return dspex.Prediction(out=1)

    try:
        done(Program(), is_recorded=is_recorded)
    finally:
        end()
    rows = [("example", False), ("Program", False), ("Program", True), ("example", True)]
    assert heard == (rows if is_recorded else [])


def test_an_error_with_notes_keeps_them_in_its_row():
    class Program(dspex.Module):
        async def aforward(self, ticket):
            breadcrumb("found", hits=3)
            raise ValueError("broken")

    error = done(Program()).error
    json.dumps(error)
    assert error["context"]["path"] == ["example", "Program"]
    assert error["context"]["correlation_id"] == "run-1/3"
    assert [row["text"] for row in error["context"]["breadcrumbs"]] == ["found"]


def test_an_error_of_a_metric_and_of_a_plain_function_have_theirs():
    def metric(example, prediction, trace=None):
        breadcrumb("judging")
        raise KeyError("team")

    async def program(ticket):
        breadcrumb("asking")
        raise Overloaded("down")

    async def fine(ticket):
        return 1

    assert done(fine, metric).error["context"]["breadcrumbs"][0]["text"] == "judging"
    assert done(program).error["context"]["breadcrumbs"][0]["text"] == "asking"


def test_an_example_out_of_time_tells_what_it_has_noted():
    async def program(ticket):
        breadcrumb("waits")
        await asyncio.Event().wait()

    error = done(program, seconds=0.01).error
    assert error["type"] == "DeadlineExceeded"
    assert error["context"]["breadcrumbs"][0]["text"] == "waits"


def test_a_row_says_nothing_that_is_obvious():
    class Program(dspex.Module):
        async def aforward(self, ticket):
            raise ValueError("broken")

    assert "context" not in done(Program()).error


def test_a_row_names_the_part_of_a_larger_program():
    class Inner(dspex.Module):
        async def aforward(self):
            with dspex.operation("step"):
                raise ValueError("broken")

    class Outer(dspex.Module):
        async def aforward(self, ticket):
            await Inner().acall()

    assert done(Outer()).error["context"]["operation"] == "example/Outer/Inner/step"


@pytest.mark.parametrize(
    ("options", "share"),
    [({}, 0.0), ({"trace": True}, 1.0), ({"sample": 0.1}, 0.1), ({"sample": 0.0}, 0.0), ({"sample": 1.0}, 1.0),
     ({"sample": None}, 0.0), ({"trace": True, "sample": 0.1}, 1.0), ({"trace": False, "sample": 0.5}, 0.5)],
)  # fmt: skip
def test_a_share_of_the_examples_is_recorded_the_same_at_every_try(options, share):
    first, again, other = recorded("a", options), recorded("a", options), recorded("b", options)
    hits = [first(index) for index in range(4000)]
    assert hits == [again(index) for index in range(4000)]
    assert sum(hits) / 4000 == pytest.approx(share, abs=0.02)
    if 0 < share < 1:
        assert hits != [other(index) for index in range(4000)]
