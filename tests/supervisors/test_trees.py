"""Supervision trees of real processes: order, restarts, escalation, limits, calls, names, reports."""

import signal
import threading
import time
from functools import partial

import pytest
from node_helpers import Counter, Init, Recorder, Stubborn, alive, family, kill, ready_again, until

from supervisors import ChildSpec, SupervisorSpec, errors


@pytest.fixture
def told(tmp_path):
    """A file that Recorders write to, and what is in it."""
    path = tmp_path / "told"
    path.touch()

    def children(labels, **fields):
        return [ChildSpec(each, Recorder, args=(str(path), each), name=each, **fields) for each in labels]

    children.lines = lambda: path.read_text().split("\n")[:-1]
    return children


# rows: 1, 2, 32, 51
def test_start_and_stop_order_through_nested_supervisors(node, supervise, told):
    inner = SupervisorSpec(told("XY"))
    top = supervise([*told("B"), ChildSpec("inner", inner), *told("A")])
    assert told.lines() == ["+B", "+X", "+Y", "+A"]
    node.stop(top)
    assert told.lines()[4:] == ["-A shutdown", "-Y shutdown", "-X shutdown", "-B shutdown"]


# rows: 59
def test_the_monitor_of_a_supervisor_sees_the_reason_given(node, supervise):
    top = supervise([ChildSpec("c", Counter)])
    monitor = node.monitor(top)
    pid = node.which_children(top)[0].pid
    node.stop(top, ("shutdown", "enough"))
    assert monitor.wait(20.0).reason.detail == "enough"
    assert not alive(pid)


# rows: 25, 26, 27
@pytest.mark.parametrize(("strategy", "again"), [("one_for_one", "B"), ("one_for_all", "ABC"), ("rest_for_one", "BC")])
def test_strategies(node, supervise, told, strategy, again):
    supervise(told("ABC"), strategy=strategy)
    before = {each: node.pid(each) for each in "ABC"}
    kill(before["B"])
    ready_again(node, again[-1], before[again[-1]])
    assert {each for each in "ABC" if node.pid(each) != before[each]} == set(again)


# rows: 72, 74, 75
def test_which_children_count_children_and_get_childspec(node, supervise):
    inner = SupervisorSpec([ChildSpec("x", Counter, name="x")])
    top = supervise([ChildSpec("a", Counter, args=(1,), kwargs={"k": 2}), ChildSpec("s", inner)])
    rows = node.which_children(top)
    shown = [(row.id, row.state, row.type) for row in rows]
    assert shown == [("s", "running", "supervisor"), ("a", "running", "worker")]
    assert all(alive(row.pid) and row.pid == row.ref.pid for row in rows)
    assert node.count_children(top) == type(node.count_children(top))(2, 2, 1, 1)
    spec = node.get_childspec(top, "a")
    assert (spec.args, spec.kwargs, spec.shutdown, spec.start.__name__) == ((1,), {"k": 2}, 5.0, "Counter")
    assert node.get_childspec(top, "s").shutdown == "infinity"
    assert [row.id for row in node.which_children(rows[0].ref)] == ["x"]


# rows: 62, 63, 65, 66, 67, 69, 71
def test_administration(node, supervise):
    top = supervise([ChildSpec("a", Counter, name="a")])
    ref = node.start_child(top, ChildSpec("b", Counter))
    with pytest.raises(errors.AlreadyStarted) as caught:
        node.start_child(top, ChildSpec("b", Counter))
    assert caught.value.ref == ref
    with pytest.raises(errors.ChildRunning):
        node.delete_child(top, "b")
    node.terminate_child(top, "b")
    assert not alive(ref.pid)
    node.terminate_child(top, "b")
    assert node.restart_child(top, "b").pid != ref.pid
    node.terminate_child(top, "b")
    node.delete_child(top, "b")
    for call in (node.terminate_child, node.restart_child, node.delete_child, node.get_childspec):
        with pytest.raises(errors.ChildNotFound):
            call(top, "b")
    with pytest.raises(errors.StartError, match="no start"):
        node.start_child(top, ChildSpec("i", Init, args=("raise",)))
    with pytest.raises(errors.SpecError):
        node.start_child(top, (1,))
    assert node.count_children(top).specs == 1


# rows: 76
def test_calls_to_a_supervisor_that_is_gone_or_asked_nonsense(node, supervise):
    top = supervise([ChildSpec("a", Counter, name="a")])
    for request in ("ping", 7, {"a": 1}, ("start_child", object()), ("sing", 1)):
        with pytest.raises((errors.CallFailed, errors.NotAllowed)):
            node.call(top, request)
    assert node.call("a", ("add", 0)) == 0
    node.stop(top)
    with pytest.raises(errors.NoProcess):
        node.which_children(top)
    with pytest.raises(errors.NoProcess):
        node.start_child("no such supervisor", ChildSpec("b", Counter))


# rows: 80, 82, 83
def test_simple_one_for_one(node, supervise):
    top = supervise([ChildSpec("t", Counter, args=(10,))], strategy="simple_one_for_one")
    refs = [node.start_child(top, ()) for _ in range(3)]
    assert node.call(refs[0], ("add", 1)) == 11
    assert node.count_children(top).workers == 3
    node.terminate_child(top, refs[1])
    node.terminate_child(top, refs[1])
    with pytest.raises(errors.NotAllowed):
        node.restart_child(top, "t")
    kill(refs[0].pid)
    until(lambda: node.count_children(top).active == 2 and refs[0] not in [row.ref for row in node.which_children(top)])


# rows: 34, 40, 41
def test_escalation_reaches_the_parent_and_is_reported_once(node, supervise):
    inner = SupervisorSpec([ChildSpec("x", Counter, name="x")], intensity=1, period=10.0)
    supervise([ChildSpec("inner", inner, name="inner")])
    old = node.pid("inner")
    for _ in range(2):
        pid = node.pid("x")
        kill(pid)
        ready_again(node, "x", pid)
    assert node.pid("inner") != old
    found = [each for each in node.reports() if each.kind.startswith("reached_max") and each.supervisor == "inner"]
    assert [(each.id, each.reason.kind, each.extra["count"]) for each in found] == [("x", "killed", 2)]


# rows: 35, 40, 41
def test_a_temporary_supervisor_that_gives_up_is_gone(node, supervise):
    top = supervise([ChildSpec("x", Counter, name="x")], intensity=0)
    monitor = node.monitor(top)
    kill(node.pid("x"))
    assert monitor.wait(20.0).reason.kind == "shutdown"
    assert node.whereis("x") is None


# rows: 39, 40
def test_a_child_that_fails_at_its_restart_too(node, supervise, tmp_path):
    flag = tmp_path / "fail"

    class Fickle(Counter):
        def init(self, path):
            if __import__("os").path.exists(path):
                raise ValueError("not now")
            super().init()

    top = supervise([ChildSpec("f", Fickle, args=(str(flag),), name="f")], intensity=3)
    monitor = node.monitor(top)
    flag.touch()
    kill(node.pid("f"))
    assert monitor.wait(20.0).reason.kind == "shutdown"
    mine = [each for each in node.reports() if each.id == "f"]
    assert [each.kind for each in mine][-5:] == [
        "child_terminated", *["start_error"] * 3, "reached_max_restart_intensity"]  # fmt: skip
    assert mine[-1].reason.detail["message"] == "not now"


# rows: 52, 56
@pytest.mark.parametrize("how", ["frozen", "busy", "stubborn", "frozen supervisor"])
def test_what_does_not_end_is_killed_within_its_limit(node, supervise, how):
    if how == "frozen supervisor":
        start = SupervisorSpec([ChildSpec("n", Counter, name="stuck")])
    else:
        start = Stubborn if how == "stubborn" else Counter
    top = supervise([ChildSpec("s", start, name="outer" if "super" in how else "stuck", shutdown=0.3)])
    pids = [row.pid for row in node.which_children(top)] + [node.pid("stuck")]
    if how.startswith("frozen"):
        kill(pids[0], signal.SIGSTOP)
    elif how == "busy":
        with pytest.raises(errors.CallTimeout):
            node.call("stuck", "block", timeout=0.05)
    before = time.monotonic()
    node.terminate_child(top, "s")
    assert 0.25 < time.monotonic() - before < 20.0  # what it does hangs for minutes
    until(lambda: not any(alive(pid) for pid in pids), 20.0)
    assert node.reports()[-1].kind == "shutdown_error"


# rows: 54
def test_brutal_kill(node, supervise, told):
    top = supervise(told("K", shutdown="brutal_kill"))
    node.terminate_child(top, "K")
    assert told.lines() == ["+K"]


# rows: 48
def test_a_stop_while_a_child_starts_and_while_one_is_restarted(node, supervise):
    top = supervise([ChildSpec("a", Counter, name="a")])
    outcome = []

    def start():
        try:
            node.start_child(top, ChildSpec("i", Init, args=("hang",), name="hanging"))
        except errors.SupervisorsError as error:
            outcome.append(error)

    thread = threading.Thread(target=start)
    thread.start()
    until(lambda: node.count_children(top).specs == 2)
    kill(node.pid("a"))
    node.stop(top)  # its init hangs for ten minutes
    thread.join(20)
    assert isinstance(outcome[0], errors.ServerExited)
    assert node.whereis("a") is None
    assert node.whereis("hanging") is None


# rows: 60
def test_killing_a_supervisor_takes_its_tree_and_brings_it_back(node, supervise):
    deep = SupervisorSpec([ChildSpec("leaf", Counter, name="leaf")])
    supervise([ChildSpec("inner", SupervisorSpec([ChildSpec("deep", deep)]), name="inner")])
    old = family(node.pid("inner"))
    leaf = node.pid("leaf")
    kill(node.pid("inner"))
    ready_again(node, "leaf", leaf)
    until(lambda: not [pid for pid in old if alive(pid)], 20.0)


def test_the_registry_killed_names_come_back(node, supervise):
    supervise([ChildSpec("a", Counter, name="a"), ChildSpec("s", SupervisorSpec([]), name="s")], name="top")
    expected = {name: node.pid(name) for name in ("a", "s", "top")}
    registry = next(row["pid"] for row in node.tree()["children"] if row["id"] == "registry")
    for _ in range(3):
        kill(registry)
        assert node.call("a", "pid") == expected["a"]  # who knows the name needs no registry
        until(lambda: {name: ref.pid for name, ref in node.names().items() if name in expected} == expected, 20.0)
        registry = next(row["pid"] for row in node.tree()["children"] if row["id"] == "registry")


def test_a_registry_killed_while_children_start(node, supervise):
    top = supervise([], strategy="one_for_one")
    for round_ in range(5):
        registry = next(row["pid"] for row in node.tree()["children"] if row["id"] == "registry")
        kill(registry)
        assert node.start_child(top, ChildSpec(f"c{round_}", Counter, name=f"c{round_}")) is not None
    assert all(node.whereis(f"c{round_}") for round_ in range(5))


# rows: 20
def test_two_supervisors_of_one_name(node, supervise):
    supervise([], name="only")
    with pytest.raises(errors.AlreadyStarted):
        supervise([], name="only")


def test_sixty_four_threads_while_their_servers_are_killed(node, supervise):
    names = [f"n{number}" for number in range(4)]
    supervise([ChildSpec(name, Counter, name=name) for name in names], intensity=1000)
    stop, wrong, done = threading.Event(), [], []

    def work(number):
        while not stop.is_set():
            try:
                done.append(node.call(names[number % 4], ("echo", number)) == number)
            except (errors.NoProcess, errors.ServerExited):
                continue
            except Exception as error:
                wrong.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(64)]
    for thread in threads:
        thread.start()
    for round_ in range(12):
        name = names[round_ % 4]
        pid = until(partial(node.pid, name))
        kill(pid)
        ready_again(node, name, pid)
    stop.set()
    for thread in threads:
        thread.join(20)
    assert not wrong
    assert all(done)
    assert len(done) > 500


def test_status_and_tree(node, supervise):
    supervise([ChildSpec("a", Counter, name="a")], name="shown")
    status = node.status()
    assert status["state"] == "healthy"
    assert status["pid"] == node.info["pid"]
    assert status["processes"] == len(family(node.info["pid"]))
    shown = next(row for row in node.tree()["children"] if row["name"] == "shown" or row["id"].startswith("shown"))
    assert [row["id"] for row in shown["children"]] == ["a"]


def test_reports_survive_any_text(node, supervise):
    class Bad(Counter):
        def handle_cast(self, message):
            raise ValueError("a\u2028b\nc\ud800 " + "x" * 100_000)

    top = supervise([ChildSpec("bad", Bad, name="bad")])
    old = node.pid("bad")
    node.cast("bad", 1)
    ready_again(node, "bad", old)
    report = next(each for each in reversed(node.reports()) if each.kind == "child_terminated")
    assert report.id == "bad"
    assert report.reason.detail["message"].startswith("a\u2028b\nc\\ud800 x")
    assert len(report.reason.detail["message"]) < 25_000
    assert node.which_children(top)[0].restarts == 1
    assert node.reports(0) == []
    assert len(node.reports(3)) == 3
