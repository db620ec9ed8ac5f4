"""What GenServers do with messages: replies that come later, idle timeouts, continue, requests, inspection."""

import asyncio
import threading
import time

import psutil
import pytest
from genserver_helpers import Probe, log_lines
from node_helpers import alive, kill, until

from supervisors import ChildSpec, GenServer, RequestIds, errors


@pytest.fixture
def probe(node, supervise):
    supervise([ChildSpec("p", Probe, name="probe", restart="temporary")])
    return node.whereis("probe")


@pytest.fixture
def other(node, supervise):
    supervise([ChildSpec("o", Probe, name="other", restart="temporary")])
    return node.whereis("other")


def infos(node, target, kind="info"):
    return [value for what, value in node.call(target, ("look",)) if what == kind]


# rows: G7
def test_messages_of_one_sender_arrive_in_order(node, probe):
    for number in range(300):
        node.cast(probe, number)
    assert infos(node, probe, "cast") == list(range(300))


# rows: G7
def test_a_call_waits_five_seconds_unless_told(node, probe):
    import inspect

    for call in (node.call, node.acall, GenServer.call):
        assert inspect.signature(call).parameters["timeout"].default == 5.0
    with pytest.raises(errors.SpecError, match="expected seconds"):
        node.call(probe, ("pid",), timeout=-1)


# rows: G8, G9, G13
def test_a_caller_whose_time_is_over_leaves_nothing_behind(node, probe):
    for _ in range(20):
        with pytest.raises(errors.CallTimeout):
            node.call(probe, ("later",), timeout=0.01)
    until(lambda: node.get_status(probe)["callers"] == 1)  # the question itself
    node.call(probe, ("answer", "late"))
    assert node.call(probe, ("pid",)) == probe.pid
    assert node.get_state(probe)["seen"] == []


def test_a_server_hears_that_a_caller_waits_no_more_but_not_after_its_answer(node, probe):
    with pytest.raises(errors.CallTimeout):
        node.call(probe, ("watched", "late"), timeout=0.05)
    until(lambda: infos(node, probe, "given up") == ["late"])
    request = node.send_request(probe, ("watched", "answered"))
    waiting = until(lambda: (there := node.get_state(probe)["waiting"])[1:] and there)
    node.cast(probe, ("answer", waiting[-1], "here"))
    assert request.receive_response(20.0) == "here"
    assert infos(node, probe, "given up") == ["late"]


# rows: G13
def test_a_caller_that_is_cancelled_leaves_nothing_behind(node, probe):
    async def main():
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(node.acall(probe, ("later",), timeout=None), 0.05)

    asyncio.run(main())
    until(lambda: node.get_status(probe)["callers"] == 1)


# rows: G13
def test_callers_that_died_waiting_are_forgotten(node, probe, other, supervise):
    class Asker(GenServer):
        def init(self, target, count):
            for _ in range(count):
                self.spawn(self.call(target, ("later",), timeout=None))

        def handle_call(self, request, caller):
            return "up"

    supervise([ChildSpec("asker", Asker, args=(probe, 200), name="asker", restart="temporary")])
    until(lambda: node.get_status(probe)["callers"] == 201)
    kill(node.pid("asker"))
    until(lambda: node.whereis("asker") is None)
    supervise([ChildSpec("asker", Asker, args=(probe, 200), name="asker", restart="temporary")])
    until(lambda: 201 <= node.get_status(probe)["callers"] < 300)  # the dead ones were swept when there were 256


# rows: G13
def test_another_process_may_reply_and_only_once(node, probe, other):
    assert node.call(probe, ("forward", other)) == "from another"
    until(lambda: node.get_status(probe)["callers"] == 1)


# rows: G15, G16
def test_any_other_message_goes_to_handle_info(node, probe, other):
    node.send(probe, {"from": "outside"})
    node.call(other, ("say", "probe", "by name"))
    node.call(other, ("say", "nobody", "by name"))
    node.send("nobody", 1)
    until(lambda: infos(node, probe) == [{"from": "outside"}, "by name"])


# rows: G18
def test_an_idle_timeout_comes_when_nothing_else_does(node, probe):
    node.call(probe, ("idle", 0.02))
    time_is_over = until(lambda: node.get_state(probe)["seen"], pause=0.1)
    assert time_is_over == [("info", "timeout")]


# rows: G18
def test_any_message_cancels_an_idle_timeout_and_none_is_off(node, probe):
    node.call(probe, ("idle", 0.05))
    node.call(probe, ("pid",))
    node.call(probe, ("idle", 0.05))
    node.call(probe, ("idle", None))
    node.call(probe, ("pause", 0.1))
    assert node.call(probe, ("look",)) == []
    with pytest.raises(errors.ServerExited, match="expected seconds"):
        node.call(probe, ("idle", -1))


# rows: G18
def test_an_idle_timeout_that_init_armed_comes_too(node, supervise):
    supervise([ChildSpec("p", Probe, args=(("idle", 0.01),), name="idler")])
    until(lambda: node.get_state("idler")["seen"] == [("info", "timeout")], pause=0.05)


# rows: G19
def test_an_idle_timeout_of_zero_comes_at_once_but_after_what_waits(node, probe):
    node.call(probe, ("idle", 0))
    until(lambda: node.get_state(probe)["seen"] == [("info", "timeout")])
    node.call(probe, ("idle_and_cast", 0))
    # The cast that waited went first, and cancelled it, as any message does.
    until(lambda: node.get_state(probe)["seen"][1:] == [("cast", "queued")])


# rows: G20
def test_continue_runs_straight_after_init_and_before_what_waits(node, supervise):
    class Busy(Probe):
        def init(self):
            super().init()
            self.cast(self.ref, "queued in init")
            self.continue_with(2)

    supervise([ChildSpec("p", Busy, name="busy")])
    until(lambda: len(node.call("busy", ("look",))) == 4)
    assert node.call("busy", ("look",)) == [
        ("continue", 2),
        ("continue", 1),
        ("continue", 0),
        ("cast", "queued in init"),
    ]


# rows: G20
def test_continue_after_a_call_comes_after_its_reply_and_before_what_waits(node, probe):
    assert node.call(probe, ("go_on", 1)) == "replied first"
    until(lambda: len(node.call(probe, ("look",))) == 3)
    assert node.call(probe, ("look",)) == [("continue", 1), ("continue", 0), ("info", "timer")]


# rows: G24
def test_many_requests_at_once_answer_in_the_order_in_which_they_are_done(node, probe, other):
    requests = RequestIds()
    requests.add(node.send_request(probe, ("later",)), label="late")
    requests.add(node.send_request(other, ("pid",)), label="soon")
    requests.add(node.send_request("nobody", 1), label="nobody")
    first = [requests.receive_response(timeout=20.0) for _ in range(2)]
    assert {response.label for response in first} == {"soon", "nobody"}
    by_label = {response.label: response for response in first}
    assert by_label["soon"].result() == other.pid
    assert isinstance(by_label["nobody"].error, errors.NoProcess)
    with pytest.raises(errors.CallTimeout, match="stay in force"):
        requests.wait_response(timeout=0.01)
    assert len(requests) == 1
    node.call(probe, ("answer", "at last"))
    again = requests.wait_response(deadline=time.monotonic() + 5.0, delete=False)
    assert (again.label, again.result(), again.error) == ("late", "at last", None)
    assert requests.receive_response(timeout=0).result() == "at last"
    assert requests.receive_response() is None
    assert list(requests) == []


# rows: G24
def test_a_request_is_abandoned_when_its_time_is_over(node, probe):
    requests = RequestIds()
    for number in range(3):
        requests.add(node.send_request(probe, ("later",)), number)
    with pytest.raises(errors.CallTimeout, match="3 requests"):
        requests.receive_response(deadline=time.monotonic() + 0.05)
    assert len(requests) == 0
    single = node.send_request(probe, ("later",))
    with pytest.raises(errors.CallTimeout, match="stays in force"):
        single.wait_response(0.01)
    assert not single.done()
    with pytest.raises(errors.CallTimeout, match="abandoned"):
        single.receive_response(0.01)
    with pytest.raises(errors.CallFailed, match="abandoned"):
        single.wait_response(0.01)
    until(lambda: node.get_status(probe)["callers"] == 1)
    assert not node._client._waiting


# rows: G24
def test_a_request_to_a_server_that_dies_says_so(node, probe):
    request = node.send_request(probe, ("later",))
    until(lambda: node.get_status(probe)["callers"] == 2)
    kill(probe.pid)
    with pytest.raises(errors.ServerExited):
        request.receive_response(20.0)


# rows: G25
def test_state_can_be_seen_and_replaced_from_outside(node, probe):
    node.call(probe, ("lock",))
    state = node.get_state(probe)
    assert state["secret"] == "hunter2"
    assert "lock" in state["held"]  # cannot be sent: its repr
    assert "_supervisors_engine" not in state
    new = node.replace_state(probe, lambda state: {**state, "seen": ["put here"]})
    assert new["seen"] == ["put here"] == node.call(probe, ("look",))
    for wrong in (lambda state: 1 / 0, lambda state: 3, lambda state: {1: 2}):
        with pytest.raises(errors.CallFailed, match="nothing changed"):
            node.replace_state(probe, wrong)
    assert node.call(probe, ("look",)) == ["put here"]


# rows: G25
def test_status_is_shown_as_the_server_wants_it(node, probe):
    status = node.get_status("probe")
    assert status["name"] == "probe"
    assert status["ref"] == probe
    assert status["status"] == "running"
    assert status["state"]["secret"] == "hidden"
    with pytest.raises(errors.NoProcess):
        node.get_state("nobody")


# rows: G25
def test_a_suspended_server_leaves_its_messages_where_they_are(node, probe):
    node.call(probe, ("idle", 0.3))
    began = time.monotonic()
    node.suspend(probe)
    node.cast(probe, 1)
    request = node.send_request(probe, ("look",))
    assert until(lambda: (status := node.get_status(probe))["mailbox"] == 2 and status)["status"] == "suspended"
    until(lambda: time.monotonic() - began > 0.4)  # the idle timeout is over, and waits too
    assert node.get_state(probe)["seen"] == []
    node.suspend(probe)  # twice is once
    node.resume(probe)
    assert request.receive_response(20.0) == [("cast", 1)]
    assert node.get_status(probe)["status"] == "running"


# rows: G25, G23
def test_a_suspended_server_can_be_stopped(node, probe):
    node.suspend(probe)
    node.stop(probe, timeout=5.0)
    assert not alive(probe.pid)


# rows: G25
def test_a_supervisor_refuses_questions_of_servers(node, supervise):
    with pytest.raises(errors.CallFailed, match="which_children"):
        node.get_state(supervise([]))


# rows: bad input
@pytest.mark.soak
def test_a_handler_that_blocks_the_loop_is_reported_with_its_stack(node, probe):
    node.call(probe, ("block", 1.3))
    line = until(lambda: log_lines(node, "a handler blocks the event loop", "probe"))[0]
    assert 1.0 <= line["seconds"] < 30.0
    assert "in block" in line["stack"]
    assert "time.sleep(seconds)" in line["stack"]
    node.call(probe, ("pause", 1.2))
    assert len(log_lines(node, "a handler blocks the event loop", "probe")) == 1


# rows: bad input
def test_the_watchdog_adds_no_thread_and_an_idle_server_uses_no_cpu(node, probe):
    process = psutil.Process(probe.pid)
    node.call(probe, ("pid",))
    before = process.cpu_times()
    switches = process.num_ctx_switches().voluntary
    threading.Event().wait(1.5)
    after = process.cpu_times()
    assert process.num_threads() == 1
    assert after.user + after.system - before.user - before.system <= 0.02
    assert process.num_ctx_switches().voluntary - switches < 20


# rows: bad input
def test_a_long_queue_of_short_messages_is_no_blocked_loop(node, supervise):
    class Steady(GenServer):
        def handle_cast(self, message):
            time.sleep(0.002)

        def handle_call(self, request, caller):
            return "done"

    supervise([ChildSpec("s", Steady, name="steady")])
    for _ in range(700):
        node.cast("steady", None)
    assert node.call("steady", None, timeout=30.0) == "done"
    assert not log_lines(node, "a handler blocks the event loop", "steady")


def answers(node, target):
    return [tuple(row[1:]) for row in node.call(target, ("look",)) if row[0] == "answered"]


def test_a_server_that_asks_and_goes_on_is_told_the_answer_or_why_there_is_none(node, probe, other):
    node.call(probe, ("ask_then", "other", ("echo", 7)))
    node.call(probe, ("ask_then", other, ("later",), 0.05))
    node.call(probe, ("ask_then", "nobody", ("echo", 7)))
    node.call(probe, ("ask_then", probe, ("echo", 7)))
    until(lambda: len(answers(node, probe)) == 4)
    assert sorted(answers(node, probe), key=str) == sorted(
        [(7, "NoneType"), (None, "CallTimeout"), (None, "NoProcess"), (None, "CallFailed")], key=str
    )


def test_a_server_that_asks_and_goes_on_hears_of_the_end_of_whom_it_asked(node, probe, other):
    node.call(probe, ("ask_then", other, ("later",)))
    until(lambda: node.call(other, ("count_waiting",)) == 1)
    kill(other.pid)
    until(lambda: answers(node, probe))
    assert answers(node, probe) == [(None, "ServerExited")]


def test_what_is_raised_with_an_answer_ends_the_server_that_asked(node, probe, other):
    watch = node.monitor(probe)
    node.call(probe, ("ask_then", other, ("echo", "crash")))
    assert "in the function of an answer" in str(watch.wait(20).reason)


@pytest.mark.parametrize(("target", "timeout"), [(7, 5.0), ("other", -1), ("other", "soon")])
def test_asking_and_going_on_with_something_wrong_is_refused_at_once(node, probe, target, timeout):
    assert node.call(probe, ("refused", target, timeout)) == "SpecError"
