"""What a program carries goes with its calls, casts, messages, timers and tasks; nothing carried is nothing sent."""

import asyncio
import logging

import msgpack
import pytest

from supervisors import NO_REPLY, ChildSpec, GenServer, TaskSupervisor, TaskSupervisorSpec, carried, errors
from supervisors.tasks.inside import AsyncTaskSupervisor
from supervisors.terms.carried import MAX_CARRIED
from supervisors.wire import envelope
from supervisors.wire.envelope import bare, open_sent, pack_sent
from supervisors.wire.values import pack_value, unpack
from tests.supervisors.node_helpers import until


class Load:
    """Something to carry."""

    def __init__(self, data):
        self.data = data

    def to_bytes(self):
        if isinstance(self.data, Exception):
            raise self.data
        return self.data


@pytest.fixture
def carry():
    """Carry something until the end of the test."""
    tokens = []
    yield lambda data: tokens.append(carried.set(Load(data)))
    for token in reversed(tokens):
        carried.reset(token)


# --- the envelope ---------------------------------------------------------------------------------------------------


VALUES = [None, 7, "text", (1, "a"), {"a": [1]}, b"\xc9\x00\x00\x00\x01\x09", ("x" * 70_000,), object, b""]


@pytest.mark.parametrize("value", VALUES, ids=lambda value: repr(value)[:20])
def test_a_value_without_anything_carried_is_sent_as_it_was_before(value):
    data = pack_sent(value, "request")
    assert data == pack_value(value, "request")
    assert open_sent(data, "request") == (value, None)
    assert bare(data) == data


@pytest.mark.parametrize("value", VALUES, ids=lambda value: repr(value)[:20])
@pytest.mark.parametrize("load", [b"a", b"\x00" * MAX_CARRIED])
def test_what_is_carried_comes_out_beside_the_value(carry, value, load):
    carry(load)
    data = pack_sent(value, "request")
    assert open_sent(data, "request") == (value, load)
    assert bare(data) == pack_value(value, "request")


def test_what_has_arrived_goes_on_as_it_came():
    token = carried.set(b"from elsewhere")
    try:
        assert open_sent(pack_sent(1, "request"), "request") == (1, b"from elsewhere")
    finally:
        carried.reset(token)


@pytest.mark.parametrize(
    "load",
    [b"x" * (MAX_CARRIED + 1), ValueError("no"), RuntimeError(), "text", None, 5],
    ids=["large", "raises", "raises something else", "a text", "None", "a number"],
)
def test_what_cannot_be_carried_is_left_out_with_one_line(carry, caplog, load, monkeypatch):
    monkeypatch.setattr(envelope, "_told", set())
    carry(load)
    with caplog.at_level(logging.WARNING, "supervisors.carried"):
        for _ in range(5):
            assert pack_sent((1, 2), "request") == pack_value((1, 2), "request")
    assert len(caplog.records) == 1
    assert "Load" in caplog.text


def test_nothing_to_carry_after_all_is_no_envelope(carry):
    carry(b"")
    assert pack_sent(1, "request") == pack_value(1, "request")


def test_an_object_without_to_bytes_is_left_out(monkeypatch):
    monkeypatch.setattr(envelope, "_told", set())
    token = carried.set(object())
    try:
        assert pack_sent(1, "request") == pack_value(1, "request")
    finally:
        carried.reset(token)


def damaged_ones():
    """Return envelopes that no sender of ours makes."""
    whole = envelope._HEAD.pack(0xC9, 2 + 3 + 1, 9, 3) + b"abc\x07"
    yield from (whole[:end] for end in range(1, len(whole)))
    yield whole + b"\x07"
    yield envelope._HEAD.pack(0xC9, 2, 9, 60_000)
    yield envelope._HEAD.pack(0xC9, 2, 9, 0)
    yield msgpack.packb(msgpack.ExtType(9, b"x" * 100_000))
    yield b""


DAMAGED = list(damaged_ones())


@pytest.mark.parametrize("data", DAMAGED, ids=repr)
def test_a_damaged_envelope_is_a_message_that_cannot_be_opened(data):
    with pytest.raises(errors.CallFailed):
        open_sent(data, "request")


def test_more_than_may_be_carried_is_not_taken_in():
    load = b"x" * (MAX_CARRIED + 1)
    data = envelope._HEAD.pack(0xC9, 2 + len(load) + 1, 9, len(load)) + load + b"\x07"
    assert open_sent(data, "request") == (7, None)


def test_an_envelope_is_refused_where_user_values_are_not_opened(carry):
    carry(b"a")
    with pytest.raises(ValueError, match="kind 9"):
        unpack(pack_sent(1, "request"), trusted=True)


# --- between processes ----------------------------------------------------------------------------------------------


class Witness(GenServer):
    """Tells what is carried where its code runs."""

    def init(self, is_async=False):
        self.seen = [("init", carried.get())]
        if is_async:
            self.handle_call = self.later

    async def later(self, request, caller):
        await asyncio.sleep(0)
        before = carried.get()
        return before, (await asyncio.to_thread(carried.get)), self.handle(request, caller)

    def handle_call(self, request, caller):
        return self.handle(request, caller)

    def handle(self, request, caller):
        match request:
            case "now":
                return carried.get()
            case "seen":
                return self.seen
            case "timer":
                self.send_after(0.0, "timer")
                self.continue_with("continue")
            case "set":
                carried.set(b"left open")
            case "spawn":
                self.spawn(self.answer(caller))
                return NO_REPLY
            case ("cast", target):
                self.cast(target, "cast")
                self.send(target, "info")
            case ("pass on", target):
                self.spawn(self.pass_on(target, caller))
                return NO_REPLY
            case ("task", supervisor):
                self.spawn(self.task(supervisor, caller))
                return NO_REPLY
        return None

    async def answer(self, caller):
        await asyncio.sleep(0)
        self.reply(caller, carried.get())

    async def pass_on(self, target, caller):
        self.reply(caller, await self.call(target, "now"))

    async def task(self, supervisor, caller):
        tasks = AsyncTaskSupervisor(self, supervisor)
        task = await tasks.async_nolink(seen_in_task)
        first = await task.await_()
        rows = [row async for row in tasks.async_stream([1, 2], seen_with, reuse=True)]
        self.reply(caller, (first, rows))

    def handle_cast(self, message):
        self.seen.append((message, carried.get()))

    def handle_info(self, message):
        self.seen.append((message, carried.get()))

    def handle_continue(self, value):
        self.seen.append((value, carried.get()))


def seen_in_task():
    return carried.get()


async def seen_in_async_task():
    return carried.get()


def seen_with(item):
    return item, carried.get()


def seen_of(node, target, *names):
    """Return what was carried with each of some messages, once all have come."""
    return until(lambda: (rows := dict(node.call(target, "seen"))).keys() >= set(names) and [rows[n] for n in names])


@pytest.fixture
def pair(supervise):
    supervise([ChildSpec("a", Witness, name="a"), ChildSpec("b", Witness, (True,), name="b")])


def test_a_call_of_a_program_has_it_and_the_next_one_has_not(node, pair, carry):
    assert node.call("a", "now") is None
    token = carried.set(Load(b"op"))
    assert node.call("a", "now") == b"op"
    assert node.call("b", "now") == (b"op", b"op", b"op")
    assert node.send_request("a", "now").wait_response(5.0) == b"op"
    assert asyncio.run(node.acall("a", "now")) == b"op"
    carried.reset(token)
    assert node.call("a", "now") is None
    assert dict(node.call("a", "seen"))["init"] is None


def test_casts_and_messages_have_it(node, pair, carry):
    carry(b"op")
    node.cast("a", "cast")
    node.send("a", "info")
    assert seen_of(node, "a", "cast", "info") == [b"op", b"op"]


def test_what_a_handler_leaves_behind_is_not_the_next_messages_affair(node, pair):
    node.call("a", "set")
    assert node.call("a", "now") is None


def test_what_a_handler_starts_has_it_timers_continues_tasks_and_calls_to_others(node, pair, carry):
    carry(b"op")
    assert node.call("a", "spawn") == b"op"
    assert node.call("a", ("pass on", "b")) == (b"op", b"op", b"op")
    node.call("a", ("cast", "b"))
    node.call("a", "timer")
    node.cast("a", "last")
    assert until(lambda: (rows := dict(node.call("b", "seen")[-1])).keys() >= {"cast", "info"} and rows) == {
        "init": None,
        "cast": b"op",
        "info": b"op",
    }
    assert seen_of(node, "a", "timer", "continue", "last") == [b"op", b"op", b"op"]


def test_a_supervisor_answers_who_carries_something(node, supervise, carry):
    ref = supervise([ChildSpec("a", Witness)])
    carry(b"op")
    assert [row.id for row in node.which_children(ref)] == ["a"]
    assert node.call(ref, ("count_children", None), timeout=5.0) is not None


def test_tasks_have_what_was_carried_where_they_were_started(node, supervise, carry):
    supervise([ChildSpec("tasks", TaskSupervisorSpec(name="tasks")), ChildSpec("a", Witness, name="a")])
    tasks = TaskSupervisor(node, "tasks")
    assert tasks.async_(seen_in_task).await_() is None
    carry(b"op")
    assert tasks.async_(seen_in_task).await_() == b"op"
    assert tasks.async_nolink(seen_in_async_task).await_() == b"op"
    for reuse in (False, True):
        rows = list(tasks.async_stream([1, 2], seen_with, reuse=reuse))
        assert rows == [("ok", (1, b"op")), ("ok", (2, b"op"))]
    assert node.call("a", ("task", "tasks")) == (b"op", [("ok", (1, b"op")), ("ok", (2, b"op"))])


def test_garbage_in_the_envelope_costs_one_message_and_no_process(node, pair):
    pid = node.pid("a")
    for data in DAMAGED:
        with pytest.raises(errors.SupervisorsError):
            node.request("call", "a", data, 5.0)
        node.submit("cast", "a", data)
    assert node.call("a", "now") is None
    assert node.pid("a") == pid
