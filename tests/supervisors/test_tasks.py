"""TaskSupervisor and async_stream: the pure stream, and tasks from outside and inside. Rows T1 to T18 of OTP.md."""

import asyncio
import os
import pickle
import threading
import time
from contextlib import aclosing

import pytest
from hypothesis import given
from hypothesis import strategies as st
from node_helpers import alive, kill, until

from supervisors import (
    AsyncTaskSupervisor,
    ChildSpec,
    Down,
    GenServer,
    Stop,
    TaskSupervisor,
    TaskSupervisorSpec,
    callers,
    errors,
)
from supervisors.tasks.stream_core import StreamCore, StreamOptions
from supervisors.terms.ref import Ref


def options(**fields):
    fields.setdefault("max_concurrency", 2)
    return StreamOptions(**fields)


# --- the stream without processes ---------------------------------------------------------------------------------


# rows: T9
@pytest.mark.parametrize(
    "wrong",
    [
        {"max_concurrency": 0}, {"max_concurrency": "2"}, {"max_concurrency": True}, {"timeout": -1}, {"timeout": "5"},
        {"on_timeout": "kill"}, {"ordered": 1}, {"zip_input_on_exit": None}, {"reuse": "yes"},
    ],
)  # fmt: skip
def test_options_that_are_not_legal_are_refused(wrong):
    with pytest.raises(errors.SpecError, match=next(iter(wrong))):
        options(**wrong)


# rows: T9
def test_defaults_are_elixirs():
    core = options()
    assert (core.ordered, core.timeout, core.on_timeout, core.zip_input_on_exit) == (True, 5.0, "exit", False)


# rows: T10, T11
def test_ordered_results_wait_for_the_slowest_and_a_slot_is_free_when_a_task_ends():
    core = StreamCore(options())
    assert [core.begin(each) for each in "ab"] == [0, 1]
    assert not core.has_slot
    core.ended(1, ("ok", "B"), 1.0)
    assert core.has_slot
    assert core.take() is None
    core.ended(0, ("ok", "A"), 2.0)
    assert [core.take(), core.take(), core.take()] == [("ok", "A"), ("ok", "B"), None]
    assert core.idle


# rows: T10
def test_unordered_results_come_as_they_are_done():
    core = StreamCore(options(ordered=False))
    core.begin("a"), core.begin("b")
    core.ended(1, ("ok", "B"), 1.0)
    assert core.take() == ("ok", "B")
    core.ended(0, ("ok", "A"), 2.0)
    assert core.take() == ("ok", "A")


# rows: T12
def test_the_time_of_each_task_begins_when_it_runs_and_too_late_is_too_late_whenever_it_is_seen():
    core = StreamCore(options(timeout=5.0, on_timeout="kill_task", zip_input_on_exit=True))
    core.begin("a"), core.begin("b")
    assert core.next_due() is None
    core.started(0, 10.0), core.started(1, 12.0)
    assert core.next_due() == 15.0
    assert core.expired(14.9) == []
    assert not core.ended(0, ("ok", "late"), 15.1)
    assert core.ended(1, ("ok", "B"), 15.1)
    assert core.expired(16.0) == [0]
    kind, (item, reason) = core.take()
    assert (kind, item, reason.detail["type"]) == ("exit", "a", "timeout")
    assert core.take() == ("ok", "B")
    assert not core.ended(0, ("ok", "much too late"), 17.0)


# rows: T10, T11, T12
@given(st.data(), st.booleans(), st.integers(1, 4), st.integers(0, 12))
def test_whatever_ends_when_every_item_comes_out_once(data, ordered, most, count):
    core = StreamCore(options(max_concurrency=most, ordered=ordered, timeout=10.0, on_timeout="kill_task"))
    now, begun, out, under_way = 0.0, 0, [], set()
    while len(out) < count:
        now += data.draw(st.floats(0.0, 6.0))
        while begun < count and core.has_slot:
            under_way.add(core.begin(begun))
            core.started(begun, now)
            begun += 1
        assert core.running <= most
        if under_way:
            chosen = data.draw(st.sampled_from(sorted(under_way)))
            if core.ended(chosen, ("ok", chosen), now):
                under_way.discard(chosen)
        for late in core.expired(now):
            under_way.discard(late)
        while (outcome := core.take()) is not None:
            out.append(outcome)
    assert core.idle
    values = [value for kind, value in out if kind == "ok"]
    assert len(set(values)) == len(values)
    if ordered:
        assert all(kind == "exit" or value == at for at, (kind, value) in enumerate(out))


# --- from outside -------------------------------------------------------------------------------------------------


@pytest.fixture
def tasks(node):
    """A task supervisor of the test's own; no task of it is left."""
    started = []

    def start(**fields):
        started.append(node.start_supervisor(TaskSupervisorSpec(**fields)))
        return TaskSupervisor(node, started[-1])

    yield start
    for ref in started:
        try:
            node.stop(ref, timeout=20.0)
        except errors.NoProcess:
            continue


def double(n):
    return 2 * n


async def double_later(n):
    await asyncio.sleep(0.01)
    return 2 * n


def fail(message):
    raise ValueError(message)


def stop_with(reason):
    raise Stop(reason)


def leave():
    raise SystemExit(3)


def sleep(seconds, value=None):
    time.sleep(seconds)
    return value


def double_when_let(n, folder):
    until((folder / str(n)).exists)
    return 2 * n


def note(path, item):
    with open(path, "a") as file:
        file.write(f"{item} {os.getpid()}\n")
    return item


def note_behind(gate, path, item):
    while not os.path.exists(gate):
        time.sleep(0.01)
    note(path, item)


def fail_behind(gate):
    while not os.path.exists(gate):
        time.sleep(0.01)
    raise ValueError("nobody listens")


def notes(path):
    return [line.split() for line in path.read_text().splitlines()] if path.exists() else []


# rows: T1, T18
def test_async_runs_a_function_in_a_child_of_its_own_that_ends_normally(node, tasks):
    found = tasks()
    task = found.async_(sleep, 0.2, "done")
    assert found.children() == [task.ref]
    monitor = node.monitor(task.ref)
    assert task.await_() == "done"
    assert monitor.wait(20.0).reason.kind == "normal"
    until(lambda: found.children() == [])
    assert found.async_(double_later, 4).await_() == 8
    assert found.async_(double, n=5).await_() == 10
    assert found.async_(lambda: os.getpid()).await_() != os.getpid()


# rows: T2, T5
def test_a_crash_is_raised_where_the_task_is_awaited(tasks):
    found = tasks()
    for start in (found.async_, found.async_nolink):
        with pytest.raises(errors.ServerExited, match=r"await of task fail .*ValueError: no") as caught:
            start(fail, "no").await_()
        assert "in fail" in caught.value.reason.detail["traceback"]
    with pytest.raises(errors.ServerExited) as caught:
        found.async_(stop_with, ("shutdown", "enough")).await_()
    assert (caught.value.reason.kind, caught.value.reason.detail) == ("shutdown", "enough")
    with pytest.raises(errors.ServerExited, match="SystemExit"):
        found.async_(leave).await_()
    with pytest.raises(errors.ServerExited, match=r"CallFailed.*cannot be sent"):
        found.async_(threading.Lock).await_()
    killed = found.async_(sleep, 60)
    assert killed.yield_(0.3) is None  # killed before its claim has come, it is noproc
    kill(killed.ref.pid)
    with pytest.raises(errors.ServerExited) as caught:
        killed.await_()
    assert caught.value.reason.kind == "killed"


# rows: T3
def test_start_child_is_fire_and_forget_and_a_permanent_one_runs_the_same_function_again(node, tasks, tmp_path):
    found, path = tasks(intensity=2, period=60.0), tmp_path / "notes"
    ref = found.start_child(note, str(path), "once")
    monitor = node.monitor(ref)
    monitor.wait(20.0)
    until(lambda: found.children() == [])
    assert [item for item, _ in notes(path)] == ["once"]
    found.start_child(note, str(path), "again", restart="permanent")
    until(lambda: len(notes(path)) == 4)  # the third restart is one too many
    assert len({pid for _, pid in notes(path)}) == 4


# rows: T4
def test_a_result_is_taken_once_by_its_starter_and_a_late_one_never_shows_up(tasks):
    found = tasks()
    task = found.async_(double, 1)
    assert task.await_() == 2
    with pytest.raises(errors.NotAllowed, match="taken once"):
        task.await_()
    with pytest.raises(TypeError, match="only its starter"):
        pickle.dumps(found.async_(double, 1))
    linked, free = found.async_(sleep, 60), found.async_nolink(sleep, 60)
    for task in (linked, free):
        with pytest.raises(errors.CallTimeout, match=r"no result within 0\.05 s"):
            task.await_(0.05)
        with pytest.raises(errors.NotAllowed):
            task.await_()
    until(lambda: not alive(linked.ref.pid))
    assert alive(free.ref.pid)


# rows: T6
def test_yield_asks_and_shutdown_ends(tasks):
    found = tasks()
    task = found.async_(sleep, 0.3, "x")
    assert task.yield_(0.01) is None
    assert task.yield_(5.0) == ("ok", "x")
    kind, reason = found.async_(fail, "y").yield_(5.0)
    assert (kind, reason.detail["message"]) == ("exit", "y")
    slow = found.async_nolink(sleep, 60)
    assert slow.shutdown() is None
    assert not alive(slow.ref.pid)
    brutal = found.async_(sleep, 60)
    assert brutal.shutdown("brutal_kill") is None
    assert not alive(brutal.ref.pid)
    done = found.async_(double, 4)
    until(lambda: done._future.done())
    assert done.shutdown() == ("ok", 8)


# rows: T6
def test_an_ignored_task_goes_on_and_what_it_has_given_already_is_returned(node, tasks, tmp_path):
    found, path, gate = tasks(), tmp_path / "notes", tmp_path / "gate"
    ignored = found.async_(note_behind, str(gate), str(path), "done")
    monitor = node.monitor(ignored.ref)
    assert ignored.yield_(0.01) is None
    assert ignored.ignore() is None
    for ask in (ignored.yield_, ignored.await_, ignored.shutdown, ignored.ignore):
        with pytest.raises(errors.NotAllowed, match="taken once"):
            ask()
    assert not path.exists()
    gate.touch()
    assert monitor.wait(20.0).reason.kind == "normal"
    assert notes(path) == [["done", str(ignored.ref.pid)]]
    done, failed = found.async_(double, 4), found.async_(fail, "y")
    until(lambda: done._future.done() and failed._future.done())
    assert done.ignore() == ("ok", 8)
    kind, reason = failed.ignore()
    assert (kind, reason.detail["message"]) == ("exit", "y")


# rows: T7
def test_one_task_too_many_is_refused_and_ends_a_stream_cleanly(tasks):
    found = tasks(max_children=1)
    blocker = found.async_(sleep, 60)
    with pytest.raises(errors.MaxChildren):
        found.async_(double, 1)
    blocker.shutdown("brutal_kill")
    with pytest.raises(errors.MaxChildren):
        list(found.async_stream([30, 30, 30], sleep, max_concurrency=3))
    until(lambda: found.children() == [])


# rows: T7, T11
@pytest.mark.parametrize("reuse", [False, True])
def test_a_stream_as_wide_as_its_supervisor_runs_to_its_end(tasks, reuse):
    found = tasks(max_children=2)
    results = list(found.async_stream(range(12), double, max_concurrency=2, reuse=reuse))
    assert results == [("ok", 2 * n) for n in range(12)]


# rows: T8
def test_a_task_has_the_supervisors_shutdown_or_its_own(node, tasks):
    found = tasks(shutdown=0.25, name="limits")
    assert node.get_childspec("limits", found.start_child(sleep, 60)).shutdown == 0.25
    assert node.get_childspec("limits", found.async_(sleep, 60, shutdown="brutal_kill").ref).shutdown == "brutal_kill"
    with pytest.raises(errors.SpecError, match="shutdown is invalid: got 'soon'"):
        found.async_(sleep, 60, shutdown="soon")
    with pytest.raises(errors.SpecError, match="shutdown is invalid: got None"):
        TaskSupervisorSpec(shutdown=None)
    with pytest.raises(errors.SpecError, match="extra_arguments"):
        TaskSupervisorSpec(extra_arguments=(1,))


# rows: T9
def test_a_stream_refuses_what_is_not_legal_before_anything_starts(tasks):
    found = tasks()
    for wrong in ({"max_concurrency": 0}, {"on_timeout": "x"}, {"shutdown": -1}):
        with pytest.raises(errors.SpecError):
            found.async_stream([1], double, **wrong)
    with pytest.raises(errors.SpecError, match="max_workers is invalid: got 2"):
        found.async_stream_nolink([1], double, max_workers=2)
    with pytest.raises(errors.SpecError, match="expected a function"):
        found.async_stream([1], 3)
    with pytest.raises(errors.SpecError, match="items is invalid: got <function double"):
        found.async_stream(double, [1])


# rows: T10
def test_results_are_in_order_with_the_slowest_first_or_as_they_are_done(tasks):
    found = tasks()
    assert list(found.async_stream([0.4, 0.0, 0.0], sleep, "x", max_concurrency=3)) == [("ok", "x")] * 3

    def wait(n):
        time.sleep(n / 10)
        return n

    assert list(found.async_stream([5, 0, 1], wait, max_concurrency=3)) == [("ok", 5), ("ok", 0), ("ok", 1)]
    assert next(found.async_stream([5, 0], wait, max_concurrency=2, ordered=False)) == ("ok", 0)
    assert list(found.async_stream([], double)) == []


# rows: T11
def test_input_is_pulled_only_as_slots_are_free_and_never_more_run(tasks, tmp_path):
    found, pulled, seen = tasks(), [], []

    def items():
        for each in range(6):
            pulled.append(each)
            yield each

    stream = found.async_stream(items(), double_when_let, tmp_path, max_concurrency=2)
    assert pulled == []
    for let in range(6):
        (tmp_path / str(let)).touch()
        seen.append(next(stream)[1])
        assert len(pulled) <= let + 1 + 2  # nothing else has ended: a result that waits for its turn frees a slot, too
        until(lambda: len(found.children()) <= 2)  # one that has told its result ends a moment later
    assert next(stream, None) is None
    assert seen == [0, 2, 4, 6, 8, 10]


# rows: T12
@pytest.mark.parametrize("zipped", [False, True])
def test_a_timeout_kills_that_task_and_the_others_go_on(tasks, zipped):
    found = tasks()
    stream = found.async_stream(
        [0.0, 60.0, 0.0], sleep, "x", max_concurrency=2, timeout=0.4, on_timeout="kill_task", zip_input_on_exit=zipped
    )
    first, (kind, what), last = stream
    assert first == last == ("ok", "x")
    reason = what[1] if zipped else what
    assert (kind, reason.detail["type"]) == ("exit", "timeout")
    assert not zipped or what[0] == 60.0
    until(lambda: found.children() == [])


# rows: T12
def test_a_timeout_ends_the_stream_by_default(tasks):
    found = tasks()
    with pytest.raises(errors.CallTimeout, match=r"item 1 took over 0\.3 s"):
        list(found.async_stream([0.0, 60.0, 60.0], sleep, max_concurrency=3, timeout=0.3))
    until(lambda: found.children() == [])


def odd(n):
    if n % 2:
        raise ValueError(f"odd {n}")
    return n


# rows: T13
def test_a_crash_ends_a_linked_stream_and_is_an_exit_of_another(tasks):
    found = tasks()
    with pytest.raises(errors.ServerExited, match="odd 1"):
        list(found.async_stream([0, 1, 2], odd, max_concurrency=2))
    until(lambda: found.children() == [])
    results = list(found.async_stream_nolink([0, 1, 2, 3], odd, max_concurrency=2, zip_input_on_exit=True))
    assert [results[0], results[2]] == [("ok", 0), ("ok", 2)]
    assert [(results[n][1][0], results[n][1][1].detail["message"]) for n in (1, 3)] == [(1, "odd 1"), (3, "odd 3")]


# rows: T14
def test_leaving_early_kills_the_running_rest(node, tasks):
    found = tasks()
    for _, value in found.async_stream([0.5, 60.0, 60.0], sleep, "first", max_concurrency=3):
        assert value == "first"
        pids = [ref.pid for ref in found.children()]
        break
    until(lambda: found.children() == [])
    assert len(pids) >= 2
    assert not [pid for pid in pids if alive(pid)]
    until(lambda: not node._client._waiting)


# rows: T15
def test_an_exception_of_the_input_or_the_consumer_ends_all_tasks_first(tasks):
    found = tasks()

    def items():
        yield 60
        raise RuntimeError("input")

    with pytest.raises(RuntimeError, match="input"):
        next(found.async_stream(items(), sleep, max_concurrency=2))
    until(lambda: found.children() == [])
    begun = time.monotonic()
    for reuse in (False, True):
        with pytest.raises(errors.SupervisorsError, match="cannot be sent"):
            list(found.async_stream([threading.Lock()], double, reuse=reuse))
    assert time.monotonic() - begun < 50.0  # not the minute that the other one sleeps
    stream = found.async_stream([0, 60], sleep, max_concurrency=2)
    next(stream)
    with pytest.raises(RuntimeError, match="consumer"):
        stream.throw(RuntimeError("consumer"))
    until(lambda: found.children() == [])


# rows: T17
def test_a_stream_can_be_consumed_by_another_thread(tasks):
    stream, got = tasks().async_stream(range(3), double, max_concurrency=2), []
    thread = threading.Thread(target=lambda: got.extend(stream))
    thread.start()
    thread.join(20)
    assert got == [("ok", 0), ("ok", 2), ("ok", 4)]


def pid_of(_):
    return os.getpid()


def pid_or_exit(n):
    if n == 2:
        os._exit(9)
    return os.getpid()


# rows: T9, T14
def test_reuse_keeps_processes_over_items_and_replaces_those_that_die(tasks):
    found = tasks()
    pids = {value for _, value in found.async_stream(range(12), pid_of, max_concurrency=2, reuse=True)}
    assert len(pids) == 2
    until(lambda: found.children() == [])
    results = list(found.async_stream_nolink(range(6), pid_or_exit, max_concurrency=1, reuse=True))
    assert [kind for kind, _ in results] == ["ok", "ok", "exit", "ok", "ok", "ok"]
    assert len({value for kind, value in results if kind == "ok"}) == 2
    assert len(set(found.async_stream(range(4), pid_of, max_concurrency=1))) == 4  # without it: a process per item


# rows: T1
def test_a_linked_task_ends_with_the_connection_that_started_it_and_another_one_does_not(node, tasks):
    from supervisors import Node

    tasks(name="shared")
    other = Node.attach(node.data_dir)
    linked = TaskSupervisor(other, "shared").async_(sleep, 60)
    free = TaskSupervisor(other, "shared").async_nolink(sleep, 60)
    other.close()
    until(lambda: not alive(linked.ref.pid))
    assert alive(free.ref.pid)


# --- from inside --------------------------------------------------------------------------------------------------


def chain():
    return callers()


async def chain_of_two(name):
    from supervisors.tasks.server import current

    task = await AsyncTaskSupervisor(current(), name).async_(chain)
    return current().ref, await task.await_()


class User(GenServer):
    """Starts tasks as it is told."""

    def init(self, name, trap=False):
        self.trap_exit, self.found, self.seen = trap, AsyncTaskSupervisor(self, name), []

    async def handle_call(self, request, caller):
        match request:
            case ("async", function, *args):
                return await (await self.found.async_(function, *args)).await_()
            case ("nolink", function, *args):
                return await (await self.found.async_nolink(function, *args)).yield_()
            case ("late", seconds):
                task = await self.found.async_(sleep, seconds)
                try:
                    await task.await_(0.05)
                except errors.CallTimeout:
                    return task.ref
            case ("shutdown", seconds):
                task = await self.found.async_(sleep, seconds)
                return await task.shutdown("brutal_kill"), task.ref
            case ("ignore", function, *args):
                task = await self.found.async_(function, *args)
                return await task.ignore(), task.ref
            case ("stream", items, function, fields):
                return [each async for each in self.found.async_stream(items, function, **fields)]
            case ("nolink stream", items, function, fields):
                return [each async for each in self.found.async_stream_nolink(items, function, **fields)]
            case ("first", items, function):
                async with aclosing(self.found.async_stream(items, function, max_concurrency=3)) as stream:
                    async for each in stream:
                        return each
            case ("start", function, *args):
                return (await self.found.async_(function, *args)).ref
            case ("narrow", name):
                stream = AsyncTaskSupervisor(self, name).async_stream(range(8), double, max_concurrency=2)
                return [value async for _, value in stream]
            case "children":
                return await self.found.children()
            case "seen":
                return self.seen
        return self.ref

    def handle_info(self, message):
        self.seen.append(message)


@pytest.fixture
def user(node, tasks, supervise):
    """A server that has a task supervisor."""

    def start(trap=False):
        tasks(name="inner-tasks")
        supervise([ChildSpec("user", User, args=("inner-tasks", trap), name="user", restart="temporary")])
        return lambda request: node.call("user", request, timeout=20.0)

    return start


# rows: T1, T4, T6, T10, T14, T18
def test_a_server_awaits_tasks_and_streams(user):
    ask = user()
    assert ask(("async", double, 4)) == 8
    assert ask(("nolink", double_later, 4)) == ("ok", 8)
    assert ask(("stream", [1, 2, 3], double, {"max_concurrency": 2})) == [("ok", 2), ("ok", 4), ("ok", 6)]
    reused = ask(("stream", range(6), pid_of, {"max_concurrency": 2, "reuse": True}))
    assert len(set(reused)) == 2
    late = ask(("late", 60))
    assert not alive(late.pid)
    outcome, ref = ask(("shutdown", 60))
    assert outcome is None
    assert not alive(ref.pid)
    assert ask(("first", [0.3, 60, 60], sleep)) == ("ok", None)
    until(lambda: ask("children") == [])


# rows: T6
@pytest.mark.parametrize("trap", [False, True])
def test_the_crash_of_a_task_that_a_server_ignores_is_not_its_own(node, user, tmp_path, trap):
    ask, gate, path = user(trap), tmp_path / "gate", tmp_path / "notes"
    pid = node.pid("user")
    (before, crashing), (_, ending) = (
        ask(("ignore", fail_behind, str(gate))), ask(("ignore", note_behind, str(gate), str(path), "done")),
    )  # fmt: skip
    assert before is None
    monitors = [node.monitor(ref) for ref in (crashing, ending)]
    gate.touch()
    assert [monitor.wait(20.0).reason.kind for monitor in monitors] == ["error", "normal"]
    assert notes(path) == [["done", str(ending.pid)]]
    assert ask("seen") == []
    assert node.pid("user") == pid


# rows: T7, T11
def test_a_servers_stream_as_wide_as_its_supervisor_runs_to_its_end(tasks, user):
    tasks(name="narrow", max_children=2)
    assert user()(("narrow", "narrow")) == [2 * n for n in range(8)]


# rows: T2, T12, T13
def test_without_a_link_a_crash_is_an_exit_and_the_server_goes_on(user):
    ask = user()
    kind, reason = ask(("nolink", fail, "no"))
    assert (kind, reason.detail["message"]) == ("exit", "no")
    results = ask(("nolink stream", [1, 2], odd, {"max_concurrency": 2}))
    assert [kind for kind, _ in results] == ["exit", "ok"]
    limits = {"timeout": 0.3, "on_timeout": "kill_task", "max_concurrency": 2}
    results = ask(("stream", [0, 60], sleep, limits))
    assert [kind for kind, _ in results] == ["ok", "exit"]
    until(lambda: ask("children") == [])


# rows: T1, T5
def test_the_crash_of_a_linked_task_ends_the_server_for_the_same_reason(node, user):
    ask = user()
    monitor = node.monitor("user")
    ask(("start", fail, "linked"))
    down = monitor.wait(20.0)
    assert isinstance(down, Down)
    assert down.reason.detail["message"] == "linked"


# rows: T1, T13
def test_a_server_that_traps_exits_is_told_of_it_instead(user):
    ask = user(trap=True)
    ref = ask(("start", fail, "trapped"))
    until(lambda: ask("seen"))
    what, whose, reason = ask("seen")[0]
    assert (what, whose, reason.detail["message"]) == ("EXIT", ref, "trapped")


# rows: T1, T14
def test_tasks_of_a_server_end_with_it(node, user):
    ask = user()
    ref = ask(("start", sleep, 60))
    kill(node.pid("user"))
    until(lambda: not alive(ref.pid))


# rows: T16
def test_callers_are_recorded_through_nested_tasks(user):
    ask = user()
    server = ask("ref")
    assert isinstance(server, Ref)
    assert ask(("async", chain)) == (server,)
    outer, seen = ask(("async", chain_of_two, "inner-tasks"))
    assert seen == (outer, server)
    assert callers() == ()
