"""Operations: who is open where, what they keep, and how they are misused."""

import asyncio
import contextvars
import gc
import pickle
import threading

import msgpack
import pytest

from dspex_actors.errors import ConfigError
from dspex_actors.foundation import operation as module
from dspex_actors.foundation.bridge import in_background_loop, in_thread
from dspex_actors.foundation.operation import (
    KEPT,
    PATH_KEPT,
    Operation,
    Remote,
    breadcrumb,
    correlation_id,
    current_operation,
    observe,
    opened,
    operation,
)
from supervisors import carried
from supervisors.terms.carried import MAX_CARRIED


@pytest.fixture(autouse=True)
def nothing_is_open():
    """Begin and end without an operation."""
    assert carried.get() is None
    yield
    carried.set(None)


def test_it_is_open_inside_and_not_outside():
    assert correlation_id() is None
    with operation("answer", customer=7) as op:
        assert current_operation() is op
        assert correlation_id() == op.correlation_id
        assert op.parent_id is None
        assert op.metadata == {"customer": 7}
    assert current_operation() is None
    assert op.duration > 0


def test_those_inside_belong_to_it():
    with operation("answer") as outer, operation("search") as inner:
        assert inner.parent_id == outer.id
        assert inner.correlation_id == outer.correlation_id
        assert inner.path == ["answer", "search"]
    assert outer.id != inner.id


def test_async_is_the_same():
    async def main():
        async with operation("answer") as op:
            assert current_operation() is op
            async with op.child("part") as part:
                await asyncio.sleep(0)
                assert part.parent is op
                assert current_operation() is part
        assert current_operation() is None

    asyncio.run(main())


def test_a_correlation_id_of_ones_own_holds_for_all_inside():
    with operation("answer", correlation_id="order-7"), operation("search") as inner:
        assert inner.correlation_id == "order-7"
        with operation("other", correlation_id="other") as other:
            assert other.correlation_id == "other"
            assert other.parent_id == inner.id


@pytest.mark.parametrize("bad", [7, "", "a\nb", "a\x00", "x" * 129, b"a", ["a"], 1.5], ids=repr)
def test_a_correlation_id_that_is_none_is_refused(bad):
    with pytest.raises(ConfigError, match=r"^correlation_id is invalid: got .*, expected a text of 1 to 128"):
        operation("answer", correlation_id=bad)


@pytest.mark.parametrize("bad", [None, "", 5, b"x"], ids=repr)
def test_a_name_that_is_none_is_refused(bad):
    with pytest.raises(ConfigError, match="the name of an operation is invalid"):
        operation(bad)
    with pytest.raises(ConfigError, match="the name of an operation is invalid"):
        operation("a").child(bad)


def test_metadata_may_have_any_name():
    op = operation("a", name="n", parent="p", kind="k", self="s")
    assert op.metadata == {"name": "n", "parent": "p", "kind": "k", "self": "s"}
    op.breadcrumb("b", text="t", self="s")
    assert op.breadcrumbs[0]["data"] == {"text": "t", "self": "s"}


def test_it_is_entered_once():
    op = operation("answer")
    with op, pytest.raises(ConfigError, match=r"'answer' was entered before: open a new one"), op:
        pytest.fail("it must not be entered")
    with pytest.raises(RuntimeError, match="was entered before"):
        op.__enter__()
    assert current_operation() is None


# --- left in other places -------------------------------------------------------------------------------------------


def test_one_that_is_left_in_another_context_masks_nothing():
    op = operation("answer")
    contextvars.copy_context().run(op.__enter__)
    with operation("mine") as mine:
        error = ValueError("the cause")
        op.__exit__(type(error), error, None)
        assert error.context["operation"] == "answer"
        assert current_operation() is mine


def test_one_that_is_left_by_another_task():
    async def main():
        op = operation("answer")
        await asyncio.create_task(_enter(op))
        assert current_operation() is None
        op.__exit__(None, None, None)
        assert current_operation() is None

    async def _enter(op):
        op.__enter__()

    asyncio.run(main())


def numbers():
    with operation("generator"):
        yield 1
        yield 2


def test_a_generator_that_is_not_finished_leaves_what_is_open_around_it():
    with operation("outer") as outer:
        made = numbers()
        next(made)
        made.close()
        assert current_operation() is outer


def test_a_generator_that_is_closed_too_late():
    made = numbers()
    next(made)
    with operation("later") as later:
        made.close()  # its operation is not the innermost one
        assert current_operation() is later
    assert current_operation() is None


def test_an_async_generator_that_is_dropped():
    async def items():
        async with operation("generator"):
            yield 1
            yield 2

    async def main():
        async for _ in items():
            break
        gc.collect()
        await asyncio.sleep(0)
        with operation("later") as later:
            assert current_operation() is later

    asyncio.run(main())


def test_a_task_that_is_left_behind_still_belongs_to_it():
    async def main():
        begin = asyncio.Event()

        async def behind():
            await begin.wait()
            return correlation_id()

        with operation("answer") as op:
            task = asyncio.create_task(behind())
        begin.set()
        assert await task == op.correlation_id

    asyncio.run(main())


def test_threads_of_ours_are_in_it():
    async def main():
        with operation("answer") as op:
            assert await in_thread(current_operation) is op
            assert await in_thread(current_operation, brief=True) is op
            assert await asyncio.to_thread(current_operation) is op

    asyncio.run(main())

    async def inside():
        await asyncio.sleep(0)
        return current_operation()

    with operation("answer") as op:
        assert in_background_loop(inside, "x") is op


def test_a_thread_of_a_programs_own_opens_a_child():
    seen = []

    def work(op):
        with op.child("part") as part:
            seen.append((current_operation() is part, part.correlation_id))
        seen.append(current_operation())

    with operation("answer") as op:
        thread = threading.Thread(target=work, args=(op,))
        thread.start()
        thread.join()
    assert seen == [(True, op.correlation_id), None]


# --- notes ----------------------------------------------------------------------------------------------------------


def test_notes_are_kept_with_where_and_when():
    with operation("answer") as op:
        op.breadcrumb("looked it up", hits=3)
        op.add_trace_step("retrieve", {"query": "q"})
        breadcrumb("from inside")
    assert [(row["text"], row["data"], row["operation"]) for row in op.breadcrumbs] == [
        ("looked it up", {"hits": 3}, "answer"),
        ("from inside", {}, "answer"),
    ]
    (step,) = op.trace
    assert (step["step"], step["data"], step["operation"]) == ("retrieve", {"query": "q"}, "answer")
    assert step["at"] > 1e9


def test_a_breadcrumb_outside_of_all_is_nothing():
    breadcrumb("nobody hears")


def test_the_last_notes_of_very_many_are_kept():
    op = operation("answer")
    for number in range(1000):
        op.breadcrumb("n", number=number)
        op.add_trace_step("s", number)
    assert [row["data"]["number"] for row in op.breadcrumbs] == list(range(1000 - KEPT, 1000))
    assert [row["data"] for row in op.trace] == list(range(1000 - KEPT, 1000))


def test_what_is_noted_is_as_it_was_then():
    op, data = operation("answer"), [1]
    op.add_trace_step("s", data)
    data.append(2)
    assert op.trace[0]["data"] == [1]


# --- to other processes ---------------------------------------------------------------------------------------------


def test_it_goes_to_other_processes():
    with operation("answer", correlation_id="c") as op:
        data = op.to_bytes()
    token = carried.set(data)
    there = current_operation()
    assert isinstance(there, Remote)
    assert (there.correlation_id, there.id, there.path, there.is_recorded) == ("c", op.id, ["answer"], True)
    assert current_operation() is there  # it is opened once
    assert there.to_bytes() == data
    with operation("part") as part:
        assert part.path == ["answer", "part"]
        assert part.parent_id == op.id
    carried.reset(token)


@pytest.mark.parametrize(
    "names", [["x" * 10_000] * 3, ["日" * 500] * 100, ["\ud800" * 100] * 50, [f"n{i}" for i in range(300)]]
)
def test_it_is_small_whatever_its_names_are(names):
    op = None
    for name in names:
        op = Operation(name, parent=op)
    data = op.to_bytes()
    assert len(data) <= MAX_CARRIED
    path = Remote(data).path
    assert len(path) <= PATH_KEPT
    assert path[0] == names[0].encode("utf-8", "backslashreplace").decode()[: len(path[0])]


@pytest.mark.parametrize(
    "garbage",
    [
        b"",
        b"\xc1",
        b"\x00" * 100,
        msgpack.packb({}),
        msgpack.packb(["a", "b", [], True]),
        msgpack.packb(["a", "b", ["c"], 5]),
        msgpack.packb([1, "b", ["c"], True]),
        msgpack.packb(["a", "b", ["c"], True]) + b"more",
        b"\x91" * 4000,
    ],
    ids=lambda data: repr(data)[:20],
)
def test_garbage_that_came_with_a_message_is_no_operation(garbage):
    assert opened(garbage) is None
    token = carried.set(garbage)
    assert current_operation() is None
    assert correlation_id() is None
    carried.reset(token)


def test_what_another_library_carries_is_no_operation():
    token = carried.set(object())
    assert current_operation() is None
    with operation("mine") as mine:
        assert mine.parent is None
    carried.reset(token)


def test_one_in_a_closure_arrives_as_one_of_elsewhere():
    with operation("answer") as op:
        there = pickle.loads(pickle.dumps(op))
    assert (there.correlation_id, there.path) == (op.correlation_id, ["answer"])
    assert pickle.loads(pickle.dumps(there)).id == op.id


# --- who looks on ---------------------------------------------------------------------------------------------------


def test_observers_hear_of_what_is_recorded_and_break_nothing():
    heard, before = [], list(module._observers)
    end = observe(lambda op, error, has_ended: heard.append((op.name, type(error), has_ended)))
    end_bad = observe(lambda op, error, has_ended: 1 / 0)
    try:
        with operation("a"), Operation("silent", is_recorded=False) as silent, silent.child("below"):
            pass
        with pytest.raises(KeyError), operation("b"):
            raise KeyError
    finally:
        end()
        end_bad()
    none = type(None)
    assert heard == [("a", none, False), ("a", none, True), ("b", none, False), ("b", KeyError, True)]
    with operation("c"):
        assert len(heard) == 4
    assert module._observers == before
