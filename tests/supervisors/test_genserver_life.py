"""How GenServers start, fail to start, crash and end."""

import threading
import time

import pytest
from genserver_helpers import Picky, Probe, log_lines
from node_helpers import Stubborn, alive, kill, until

from supervisors import ChildSpec, ExitReason, SupervisorSpec, errors


@pytest.fixture
def probe(node, supervise):
    supervise([ChildSpec("p", Probe, name="probe", restart="temporary")])
    return node.whereis("probe")


# rows: G1, G2
def test_init_may_start_ignore_stop_raise_or_return_junk(node, supervise, tmp_path):
    top = supervise([])
    no = str(tmp_path / "no")

    def start(how):
        return node.start_child(top, ChildSpec(how, Picky, args=(how, no), name=how))

    assert node.call(start("start"), "pid") == node.pid("start")
    assert start("ignore") is None
    with pytest.raises(errors.StartError) as caught:
        start("stop")
    assert caught.value.reason == ExitReason("shutdown", "no")
    with pytest.raises(errors.StartError, match="ValueError: no"):
        start("raise")
    with pytest.raises(errors.StartError, match=r"bad return value: Picky.init returned 42; expected None"):
        start("junk")
    assert log_lines(node, "init failed", "raise")
    assert "Traceback" in log_lines(node, "init failed", "raise")[0]["exception"]
    assert not log_lines(node, "init failed", "stop")  # declined in order: no crash report


# rows: G3, G4
@pytest.mark.parametrize("how", ["raise", "stop", "ignore", "junk", "hang", "die"])
def test_a_failed_start_has_released_everything_when_it_returns(node, supervise, tmp_path, how):
    top = supervise([])
    allow = tmp_path / "allow"
    limit = 0.1 if how == "hang" else 60.0
    spec = ChildSpec("x", Picky, args=(how, str(allow)), name="released", start_timeout=limit, restart="temporary")
    for _ in range(5):
        if how == "ignore":
            assert node.start_child(top, spec) is None
        else:
            with pytest.raises(errors.StartError):
                node.start_child(top, spec)
        assert node.whereis("released") is None
        assert node.which_children(top) == []
    allow.touch()
    ref = node.start_child(top, ChildSpec("x", Picky, args=(how, str(allow)), name="released"))
    assert node.whereis("released") == ref


# rows: G5
def test_a_taken_name_is_refused_with_its_holder(node, supervise, probe):
    with pytest.raises(errors.AlreadyStarted) as caught:
        node.start_child(supervise([]), ChildSpec("q", Probe, name="probe"))
    assert caught.value.ref == probe


# rows: G6
@pytest.mark.parametrize("name", [3, "", b"x", ("a", "b")])
def test_a_name_that_is_none_is_refused_in_one_line_with_what_is_legal(node, name):
    with pytest.raises(errors.SpecError, match=r"name.*expected") as caught:
        node.start_supervisor(SupervisorSpec([ChildSpec("q", Probe, name=name)]))
    assert "\n" not in str(caught.value)


# rows: G21
@pytest.mark.parametrize(
    ("end", "kinds"),
    [
        (lambda node: node.stop("probe"), ["normal"]),
        (lambda node: node.stop("probe", ("shutdown", 1)), ["shutdown"]),
        (lambda node: node.call("probe", ("quit", "normal", "bye")), ["normal"]),
        (lambda node: node.cast("probe", ("answer",)), ["error"]),
        (lambda node: node.exit("probe", "kill"), []),
        (lambda node: node.exit("probe", "odd"), []),
    ],
    ids=["stop", "stop shutdown", "Stop raised", "exception", "kill", "exit signal"],
)
def test_terminate_is_called_unless_it_is_killed(node, probe, tmp_path, end, kinds):
    path = tmp_path / "terminated"
    node.call(probe, ("note", str(path)))
    monitor = node.monitor(probe)
    end(node)
    assert monitor.wait(20.0)
    assert (path.read_text().split() if path.exists() else []) == kinds


# rows: G21
def test_terminate_is_called_when_the_supervisor_stops_and_not_when_it_is_killed(node, supervise, tmp_path):
    for number, end in enumerate([node.stop, lambda top: kill(top.pid)]):
        top = supervise([ChildSpec("p", Probe, name="below")])
        path = tmp_path / f"terminated-{number}"
        ref = node.whereis("below")
        node.call("below", ("note", str(path)))
        end(top)
        until(lambda ref=ref: not alive(ref.pid))
        assert path.exists() is (number == 0)


# rows: G14, G21
def test_stop_with_a_reply_runs_terminate_then_replies_then_exits(node, probe, tmp_path):
    path = tmp_path / "terminated"
    node.call(probe, ("note", str(path)))
    monitor = node.monitor(probe)
    assert node.call(probe, ("quit", "normal", "bye")) == "bye"
    assert path.read_text() == "normal\n"
    assert monitor.wait(20.0).reason.kind == "normal"


# rows: G22
def test_a_crash_report_has_last_message_state_traceback_and_client_without_what_is_hidden(node, probe):
    before = len(log_lines(node, "crashed", "probe"))
    with pytest.raises(errors.ServerExited):
        node.call(probe, ("fail", "boo"))
    report = until(lambda: log_lines(node, "crashed", "probe")[before:])[0]
    assert report["last_message"] == "('fail', 'boo')"
    assert report["state"]["seen"] == "[]"
    assert report["state"]["secret"] == "hidden"
    assert "ValueError: boo" in report["reason"]
    assert "handle_call" in report["exception"]
    assert report["client"].startswith("<")


# rows: G22
def test_only_abnormal_ends_are_reported(node, supervise):
    for name, reason in [("calm", "normal"), ("calmer", "shutdown"), ("calmest", ("shutdown", 1)), ("odd", "odd")]:
        supervise([ChildSpec("p", Probe, name=name, restart="temporary")])
        with pytest.raises(errors.ServerExited):
            node.call(name, ("quit", reason))
    assert len(log_lines(node, "crashed", "odd")) == 1
    assert not [item for name in ("calm", "calmer", "calmest") for item in log_lines(node, "crashed", name)]


class BadHook(Probe):
    def format_status(self, status):
        raise RuntimeError("oops")


# rows: G22
def test_a_hook_that_fails_shows_nothing_at_all(node, supervise):
    supervise([ChildSpec("p", BadHook, name="bad hook", restart="temporary")])
    with pytest.raises(errors.ServerExited):
        node.call("bad hook", ("fail", "boo"))
    report = until(lambda: log_lines(node, "crashed", "bad hook"))[0]
    assert report["state"] == {"hidden": "format_status failed: RuntimeError: oops"}
    assert "boo" not in report["last_message"]


# rows: G17
def test_a_missing_handler_is_a_crash_and_a_missing_terminate_is_fine(node, supervise):
    from supervisors import GenServer

    class Bare(GenServer):
        pass

    top = supervise([ChildSpec("b", Bare, name="bare")])
    with pytest.raises(errors.ServerExited, match="handle_call"):
        node.call("bare", 1)
    monitor = node.monitor(until(lambda: node.whereis("bare")))
    node.cast("bare", 1)
    assert "handle_cast" in str(monitor.wait(20.0).reason)
    node.send(until(lambda: node.whereis("bare")), "logged only")
    node.stop("bare")
    assert until(lambda: log_lines(node, "message not understood", "bare"))
    assert top


# rows: G23
def test_stop_is_synchronous_and_says_what_it_refuses(node, supervise, probe):
    for wrong in (-1, "soon", True, float("nan")):
        with pytest.raises(errors.SpecError, match="expected seconds >= 0"):
            node.stop(probe, timeout=wrong)
    assert node.call(probe, ("pid",)) == probe.pid
    node.stop(probe, timeout=5.0)
    assert not alive(probe.pid)
    with pytest.raises(errors.NoProcess):
        node.stop(probe)
    with pytest.raises(errors.NoProcess):
        node.stop("nobody at all")


# rows: G23, 59
def test_a_stop_that_takes_too_long_fails_and_goes_on(node, supervise):
    class Slow(Probe):
        def terminate(self, reason):
            time.sleep(0.3)

    supervise([ChildSpec("s", Slow, name="slow", restart="temporary")])
    ref = node.whereis("slow")
    with pytest.raises(errors.CallTimeout, match="goes on"):
        node.stop(ref, timeout=0.05)
    until(lambda: not alive(ref.pid))
    assert Stubborn  # its like is ended by force: test_genserver.py


# rows: G12, G23
def test_stopping_and_calling_oneself_is_refused(node, supervise):
    supervise([ChildSpec("a", Probe, name="alone"), ChildSpec("b", Probe, name="other", restart="temporary")])
    with pytest.raises(errors.ServerExited, match="cannot stop itself"):
        node.call("alone", ("finish", "alone"))
    until(lambda: node.whereis("alone"))
    with pytest.raises(errors.ServerExited, match="cannot call itself"):
        node.call("alone", ("ask", "alone", ("pid",)))
    until(lambda: node.whereis("alone"))
    other = node.whereis("other")
    node.call("alone", ("finish", "other"))
    assert not alive(other.pid)


# rows: G11
def test_many_callers_learn_at_once_that_the_server_died(node, probe):
    seen = []

    def ask():
        try:
            node.call(probe, ("later",), timeout=30.0)
        except errors.ServerExited as error:
            seen.append(error.reason.kind)

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    until(lambda: node.get_status(probe)["callers"] == 9)  # the question itself is one
    kill(probe.pid)
    for thread in threads:
        thread.join(20.0)
    assert seen == ["killed"] * 8
