"""GenServers on a real node: calls, casts, replies, crashes, timers, monitors, names."""

import asyncio
import threading

import pytest
from node_helpers import Async, Counter, Init, Stubborn, alive, kill, ready_again, until

from supervisors import ChildSpec, Down, ExitReason, errors


@pytest.fixture
def counter(node, supervise):
    supervise([ChildSpec("c", Counter, args=(5,), name="counter")])
    return node.whereis("counter")


# rows: G7, G15
def test_call_and_cast_by_name_and_by_ref(node, counter):
    assert node.call("counter", ("add", 1)) == 6
    node.cast(counter, ("add", 10))
    node.cast("counter", ("add", 100))
    assert node.call(counter, ("add", 0)) == 116
    assert node.call("counter", "name") == ("counter", counter)
    assert node.pid("counter") == counter.pid


# rows: G10, G15
def test_casts_to_nobody_are_fine_and_calls_to_nobody_fail_at_once(node, counter):
    node.cast("nobody", 1)
    with pytest.raises(errors.NoProcess):
        node.call("nobody", 1, timeout=None)
    node.stop(counter)
    with pytest.raises(errors.NoProcess):
        node.call(counter, "pid", timeout=None)
    assert node.whereis("nobody") is None
    assert node.pid("nobody") is None


# rows: G7
@pytest.mark.parametrize(
    "value",
    [None, True, 1.5, 2**100, -(2**70), b"\0\xff", "aö漢🎉\0", "\ud800 alone", (1, (2, [3])), {1: {"a": (1,)}}, {1, 2},
     frozenset({"x"}), [float("inf")], ExitReason("shutdown", 1), ValueError("v")],
    ids=str,
)  # fmt: skip
def test_values_come_back_as_they_were(node, counter, value):
    back = node.call(counter, ("echo", value))
    assert type(back) is type(value)
    assert repr(back) == repr(value)


def test_twenty_megabytes(node, counter):
    data = b"x" * 20_000_000
    assert node.call(counter, ("echo", data), timeout=30.0) == data


def test_what_is_too_large_or_cannot_be_sent_is_refused_on_either_side(node, counter):
    with pytest.raises(errors.CallFailed, match="cannot be sent"):
        node.call(counter, threading.Lock())
    with pytest.raises(errors.CallFailed, match=r"request has .* bytes"):
        node.call(counter, ("echo", bytes(70_000_000)))
    with pytest.raises(errors.CallFailed, match="reply cannot be sent"):
        node.call(counter, "lock")
    assert node.call(counter, ("add", 0)) == 5


def test_a_class_of_this_module_travels_by_value(node, counter):
    class Local:
        def __init__(self, x):
            self.x = x

    assert node.call(counter, ("echo", Local(3))).x == 3


# rows: G8, G9
def test_a_timeout_is_the_callers_alone_and_the_late_reply_is_dropped(node, counter):
    with pytest.raises(errors.CallTimeout):
        node.call(counter, "later", timeout=0.1)
    assert node.call(counter, "answer") == 1
    assert node.call(counter, ("add", 0)) == 5


# rows: G13
def test_no_reply_is_answered_later_and_once(node, counter):
    answers = []
    waiting = threading.Thread(target=lambda: answers.append(node.call(counter, "later")))
    waiting.start()
    until(lambda: node.call(counter, "answer"))
    waiting.join(20)
    assert answers == ["first"]


# rows: G14
def test_stop_with_a_reply(node, supervise):
    supervise([ChildSpec("c", Counter, restart="temporary", name="once")])
    monitor = node.monitor("once")
    assert node.call("once", "stop") == "bye"
    assert monitor.wait(20.0) == Down(monitor.ref, ExitReason("normal"))
    assert node.whereis("once") is None


# rows: G11
@pytest.mark.parametrize(
    ("how", "kind", "type_name"),
    [("boom", "error", "ValueError"), ("exit", "error", "SystemExit"), (("stop", "odd"), "error", "str"),
     (("stop", ("shutdown", {"a": 1})), "shutdown", None)],
    ids=str,
)  # fmt: skip
def test_the_caller_learns_at_once_how_the_server_ended(node, supervise, how, kind, type_name):
    supervise([ChildSpec("c", Counter, restart="temporary", name="ending")])
    monitor = node.monitor("ending")
    with pytest.raises(errors.ServerExited) as caught:
        node.call("ending", how, timeout=None)
    reason = caught.value.reason
    assert reason.kind == kind
    if type_name:
        assert reason.detail["type"] == type_name
    if how == "boom":
        assert reason.detail["message"] == "boöm"
        assert "handle_call" in reason.detail["traceback"]
    assert monitor.wait(20.0).reason == reason


def test_a_reason_that_is_no_plain_data_becomes_text(node, supervise):
    top = supervise([ChildSpec("c", Counter, restart="temporary", name="odd")])
    with pytest.raises(errors.ServerExited) as caught:
        node.call("odd", ("stop", ("shutdown", threading.Thread)))
    assert caught.value.reason == ExitReason("shutdown", "<class 'threading.Thread'>")
    assert node.which_children(top) == []


# rows: G11, X3
def test_a_kill_during_a_call_is_seen_at_once(node, counter):
    timer = threading.Timer(0.1, kill, (counter.pid,))
    timer.start()
    with pytest.raises(errors.ServerExited) as caught:
        node.call(counter, "later", timeout=None)
    assert caught.value.reason.kind == "killed"


# rows: G17
@pytest.mark.parametrize("what", ["spawn", "spawn exit", "no clause"])
def test_a_crash_beside_or_before_a_handler_is_the_servers(node, counter, what):
    monitor = node.monitor(counter)
    if what == "no clause":
        node.cast(counter, "boom")
    else:
        node.call(counter, what)
    assert monitor.wait(20.0).reason.kind == "error"


# rows: G16, X1
def test_timers_and_monitors_inside_a_server(node, supervise, counter):
    supervise([ChildSpec("o", Counter, restart="temporary", name="other")])
    other = node.whereis("other")
    node.call(counter, ("after", 0.01, "tick"))
    node.call(counter, ("monitor", other))
    node.stop(other)
    node.call(counter, ("monitor", other))
    until(lambda: len(node.call(counter, "seen")) == 3)
    # Each monitor is separate: nothing is said about their order.
    assert set(node.call(counter, "seen")) == {"tick", (other, "normal"), (other, "noproc")}


# rows: G8
def test_async_handlers_ask_other_servers_with_their_own_limits(node, supervise, counter):
    supervise([ChildSpec("a", Async, name="asker", args=(0.01,))])
    assert node.call("asker", ("ask", "counter", ("add", 2), 5.0)) == 7
    node.call("asker", ("cast", "counter", ("add", 3)))
    assert until(lambda: node.call("counter", ("add", 0)) == 10)
    with pytest.raises(errors.ServerExited, match="CallTimeout"):
        node.call("asker", ("ask", "counter", "later", 0.05))


# rows: G12
def test_a_call_to_oneself_is_refused(node, supervise):
    supervise([ChildSpec("a", Async, name="narcissus")])
    with pytest.raises(errors.ServerExited, match="cannot call itself"):
        node.call("narcissus", ("ask self",))


def test_acall_and_many_at_once(node, counter):
    async def main():
        return await asyncio.gather(*(node.acall("counter", ("add", 1)) for _ in range(200)))

    assert sorted(asyncio.run(main())) == list(range(6, 206))


def test_acall_can_be_cancelled(node, counter):
    async def main():
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(node.acall("counter", "later", timeout=None), 0.1)
        return await node.acall("counter", "pid")

    assert asyncio.run(main()) == counter.pid
    assert not node._client._waiting


# rows: X1
def test_monitor_of_the_dead_of_nobody_and_cancelled(node, counter):
    assert node.monitor("nobody").wait(20.0).reason.kind == "noproc"
    watched, cancelled = node.monitor(counter), node.monitor(counter)
    assert watched.wait(0.01) is None
    cancelled.cancel()
    kill(counter.pid)
    assert watched.wait(20.0) == Down(counter, ExitReason("killed"))
    assert cancelled.wait(0.05) is None
    until(lambda: not alive(counter.pid))
    assert node.monitor(counter).wait(20.0) == Down(counter, ExitReason("noproc"))
    assert not node._client._monitors


# rows: G5
def test_a_name_is_unique_and_free_again_at_restart(node, supervise, counter):
    with pytest.raises(errors.StartError, match="taken"):
        supervise([ChildSpec("x", Counter, name="counter")])
    top = supervise([])
    with pytest.raises(errors.AlreadyStarted) as caught:
        node.start_child(top, ChildSpec("x", Counter, name="counter"))
    assert caught.value.ref == counter
    for _ in range(3):
        pid = node.pid("counter")
        kill(pid)
        ready_again(node, "counter", pid)


# rows: G23
def test_stop_waits_and_says_when_it_cannot(node, supervise):
    supervise([ChildSpec("s", Stubborn, name="stubborn", shutdown=0.2, restart="temporary")])
    with pytest.raises(errors.CallTimeout):
        node.stop("stubborn", timeout=0.1)
    with pytest.raises(errors.NoProcess):
        node.stop("nobody")


# rows: G1, G2
@pytest.mark.parametrize(
    ("what", "kind", "message"),
    [("raise", "error", "ValueError: no start"), ("die", "killed", "killed"), ("stop", "shutdown", "not today")],
)
def test_an_init_that_fails(node, supervise, what, kind, message):
    with pytest.raises(errors.StartError, match=message) as caught:
        supervise([ChildSpec("ok", Counter), ChildSpec("i", Init, args=(what,), name="init")])
    assert caught.value.id == "i"
    assert caught.value.reason.kind == kind
    assert node.whereis("init") is None


# rows: G2, G3, 14
def test_an_init_that_takes_too_long_and_one_that_declines(node, supervise):
    with pytest.raises(errors.StartError, match=r"more than 0\.2 s"):
        supervise([ChildSpec("i", Init, args=("hang",), start_timeout=0.2)])
    top = supervise([ChildSpec("i", Init, args=("ignore",))])
    assert node.which_children(top)[0].state == "stopped"
    assert node.start_child(top, ChildSpec("j", Init, args=("ignore",))) is None


def test_sixty_four_threads(node, counter):
    results = []

    def work():
        results.extend(node.call("counter", ("add", 1)) for _ in range(20))

    threads = [threading.Thread(target=work) for _ in range(64)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(results) == list(range(6, 6 + 64 * 20))
