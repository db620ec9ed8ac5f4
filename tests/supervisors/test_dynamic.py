"""DynamicSupervisor: its state machine without processes, and real ones. Rows D1 to D15 of OTP.md."""

import json
import time
from pathlib import Path

import pytest
from core_world import BOOM, Server, World
from node_helpers import Counter, Init, Recorder, Stubborn, alive, kill, until

from supervisors import Backoff, ChildSpec, DynamicSupervisorSpec, ExitReason, SupervisorSpec, errors
from supervisors.host.log import LOG_FILE
from supervisors.supervisor.kinds import core_for
from supervisors.terms.reason import KILLED, NORMAL, SHUTDOWN
from supervisors.terms.ref import Ref

STRANGER = Ref("h", 9, 9, 9, "stranger")


def world(script=None, **fields):
    spec = DynamicSupervisorSpec(**fields)
    made = World(spec, script)
    made.core = core_for(spec)
    return made.start()


def spec(child_id="a", **fields):
    return ChildSpec(child_id, Server, **fields)


# rows: D1, D14
def test_children_need_no_ids_of_their_own_and_go_by_ref():
    w = world()
    first, second = w.call("start_child", spec()), w.call("start_child", spec())
    assert first != second
    rows = w.call("which_children")
    assert [row.id for row in rows] == [None, None]
    assert {row.ref for row in rows} == {first, second}
    assert isinstance(w.call("terminate_child", "a"), errors.NotAllowed)
    for name in ("restart_child", "delete_child"):
        assert isinstance(w.call(name, first), errors.NotAllowed)


# rows: D1
def test_only_the_child_that_ended_is_restarted():
    w = world()
    for each in "abc":
        w.call("start_child", spec(each))
    w.take()
    w.end("b")
    assert w.take() == "xb +b"


# rows: D2
def test_max_children_counts_those_that_are_being_restarted():
    w = world(max_children=1)
    w.call("start_child", spec(backoff=Backoff(first=10.0)))
    assert isinstance(w.call("start_child", spec("b")), errors.MaxChildren)
    w.end("a")
    assert w.states() == {None: "restarting"}
    assert isinstance(w.call("start_child", spec("b")), errors.MaxChildren)


# rows: D2
def test_a_child_that_ended_for_good_frees_its_place():
    w = world(max_children=1)
    w.call("start_child", spec(restart="temporary"))
    w.end("a", NORMAL)
    assert isinstance(w.call("start_child", spec("b")), Ref)


# rows: D3
def test_extra_arguments_come_first_at_start_and_restart():
    w = world(extra_arguments=(1, 2))
    w.call("start_child", spec(args=(3,)))
    assert [each.args for _, each in w.live.values()] == [(1, 2, 3)]
    w.end("a")
    assert [each.args for _, each in w.live.values()] == [(1, 2, 3)]


# rows: D4, D13
def test_what_is_not_legal_is_refused_where_it_is_written():
    with pytest.raises(errors.SpecError, match="auto_shutdown is invalid: got 'any_significant'"):
        DynamicSupervisorSpec(auto_shutdown="any_significant")
    with pytest.raises(errors.SpecError, match="strategy is invalid: got 'one_for_all'"):
        DynamicSupervisorSpec(strategy="one_for_all")
    with pytest.raises(errors.SpecError, match="children is invalid: got"):
        DynamicSupervisorSpec(children=[spec()])
    for wrong in (-1, True, "2", 1.0):
        with pytest.raises(errors.SpecError, match="max_children is invalid: got"):
            DynamicSupervisorSpec(max_children=wrong)
    with pytest.raises(errors.SpecError, match="extra_arguments is invalid: got 3"):
        DynamicSupervisorSpec(extra_arguments=3)
    assert isinstance(world().call("start_child", spec(restart="temporary", significant=True)), errors.SpecError)
    assert isinstance(world().call("start_child", (1, 2)), errors.SpecError)


# rows: D5
def test_start_outcomes():
    w = world({"ignore": ["ignore"], "bad": ["fail"], "dead": ["die"]})
    assert w.call("start_child", spec("ignore")) is None
    assert isinstance(w.call("start_child", spec("bad")), errors.StartError)
    assert isinstance(w.call("start_child", spec("dead")), errors.StartError)
    assert w.counts() == (0, 0, 0, 0)


# rows: D6
def test_restart_outcomes():
    w = world({"a": ["ok", "ignore"], "b": ["ok", "fail", "die", "ok"]}, intensity=10)
    w.call("start_child", spec("a"))
    w.end("a")
    assert w.counts() == (0, 0, 0, 0)
    first = w.call("start_child", spec("b"))
    w.take()
    w.end("b")
    assert w.take() == "xb !b !b +b"
    assert w.call("which_children")[0].ref != first


# rows: D7
def test_three_restarts_in_five_seconds_are_allowed_and_the_fourth_ends_it():
    w = world()
    w.call("start_child", spec())
    w.call("start_child", spec("b"))
    for _ in range(3):
        w.end("a")
    w.take()
    w.end("a")
    assert w.take() == "xa -b"
    assert w.finished.reason == SHUTDOWN


# rows: D8
@pytest.mark.parametrize(
    ("restart", "reason", "again"),
    [
        ("temporary", BOOM, False), ("transient", NORMAL, False), ("transient", ExitReason("shutdown", 1), False),
        ("transient", BOOM, True), ("transient", KILLED, True), ("permanent", NORMAL, True),
    ],
)  # fmt: skip
def test_restart_types(restart, reason, again):
    w = world()
    w.call("start_child", spec(restart=restart))
    w.end("a", reason)
    assert len(w.core.children) == again


# rows: D9
def test_all_are_stopped_at_once_each_with_its_own_limit():
    w = world()
    limits = {"soft": 5.0, "short": 1.0, "brutal": "brutal_kill", "ever": "infinity"}
    for each, limit in limits.items():
        w.call("start_child", spec(each, shutdown=limit))
    w.deaf = {"soft", "short", "ever"}
    w.take()
    w.shutdown()
    assert w.take() == "-brutal"
    w.tick(1.0)
    assert w.take() == "-short"
    w.tick(4.0)
    assert w.take() == "-soft"
    assert w.finished is None
    w.end("ever", SHUTDOWN)
    assert w.finished is not None


# rows: D10
@pytest.mark.parametrize(
    ("restart", "reason", "told"),
    [("transient", ExitReason("shutdown", "x"), False), ("temporary", NORMAL, False), ("permanent", NORMAL, True),
     ("temporary", BOOM, True)],
)  # fmt: skip
def test_how_a_stopped_child_may_end(restart, reason, told):
    w = world()
    w.call("start_child", spec(restart=restart))
    w.deaf = {"a"}
    w.shutdown()
    w.end("a", reason)
    assert ("shutdown_error" in [each.kind for each in w.told]) == told


# rows: D11
def test_terminate_child_is_ok_once_and_works_on_a_restarting_child():
    w = world()
    ref = w.call("start_child", spec())
    assert w.call("terminate_child", ref) is None
    assert isinstance(w.call("terminate_child", ref), errors.ChildNotFound)
    assert isinstance(w.call("terminate_child", STRANGER), errors.ChildNotFound)
    ref = w.call("start_child", spec(backoff=Backoff(first=10.0)))
    w.end("a")
    assert w.states() == {None: "restarting"}
    assert w.call("terminate_child", ref) is None
    w.take()
    w.tick(60.0)
    assert w.take() == ""
    assert w.counts() == (0, 0, 0, 0)


# rows: D12
def test_every_child_is_a_spec_and_one_that_is_restarting_is_not_active():
    w = world()
    w.call("start_child", spec("a", backoff=Backoff()))
    w.call("start_child", spec("b"))
    w.call("start_child", ChildSpec("s", SupervisorSpec()))
    w.end("a")
    assert w.counts() == (3, 2, 1, 2)


# rows: D15
def test_a_call_that_it_does_not_know_is_refused():
    assert isinstance(world().call("dance"), errors.CallFailed)


# rows: D10, D15
@pytest.mark.parametrize(
    ("restart", "reason", "told"),
    [
        ("permanent", NORMAL, True), ("permanent", BOOM, True), ("transient", BOOM, True), ("temporary", BOOM, True),
        ("temporary", KILLED, True), ("transient", NORMAL, False), ("temporary", SHUTDOWN, False),
        ("transient", ExitReason("shutdown", "x"), False),
    ],
)  # fmt: skip
def test_which_ends_of_its_children_are_reported(restart, reason, told):
    w = world()
    w.call("start_child", spec(restart=restart))
    w.end("a", reason)
    assert [each.kind for each in w.told if each.kind != "progress"] == ["child_terminated"] * told


# --- real processes -----------------------------------------------------------------------------------------------


@pytest.fixture
def dynamic(node):
    started = []

    def start(**fields):
        started.append(node.start_supervisor(DynamicSupervisorSpec(**fields)))
        return started[-1]

    yield start
    for ref in started:
        try:
            node.stop(ref, timeout=20.0)
        except errors.NoProcess:
            continue


# rows: D1, D3, D8
def test_real_children_are_started_with_the_extra_arguments_and_restarted(node, dynamic, tmp_path):
    path = tmp_path / "told"
    top = dynamic(extra_arguments=(str(path),), intensity=100, name="dyn")
    first = node.start_child("dyn", ChildSpec("r", Recorder, args=("one",)))
    second = node.start_child(top, ChildSpec("r", Recorder, args=("two",)))
    kill(first.pid)
    again = until(lambda: [r.ref for r in node.which_children(top) if r.ref and r.ref not in (first, second)])
    assert node.call(again[0], "pid") == again[0].pid
    assert path.read_text().split() == ["+one", "+two", "+one"]


# rows: D2, D5, D11, D12
def test_real_limits_and_outcomes(node, dynamic):
    top = dynamic(max_children=1)
    assert node.start_child(top, ChildSpec("i", Init, args=("ignore",))) is None
    with pytest.raises(errors.StartError):
        node.start_child(top, ChildSpec("i", Init, args=("raise",)))
    ref = node.start_child(top, ChildSpec("c", Counter))
    with pytest.raises(errors.MaxChildren, match="max_children=1"):
        node.start_child(top, ChildSpec("c", Counter))
    counts = node.count_children(top)
    assert (counts.specs, counts.active, counts.workers) == (1, 1, 1)
    node.terminate_child(top, ref)
    assert not alive(ref.pid)
    with pytest.raises(errors.ChildNotFound):
        node.terminate_child(top, ref)


# rows: D4
def test_a_bad_spec_never_reaches_a_supervisor_that_is_not_there(node):
    with pytest.raises(errors.SpecError, match="restart is invalid: got 'often'"):
        node.start_child("nobody", ChildSpec("c", Counter, restart="often"))
    with pytest.raises(errors.NoProcess):
        node.start_child("nobody", ChildSpec("c", Counter))


# rows: D9
def test_real_mixed_limits_are_kept_side_by_side(node, dynamic):
    top = dynamic()
    pids = [
        node.start_child(top, ChildSpec("s", Stubborn, shutdown=limit)).pid for limit in (*[0.8] * 20, "brutal_kill")
    ]
    begun = time.monotonic()
    node.stop(top)
    assert time.monotonic() - begun < 12.0  # 16 s one after the other
    assert not [pid for pid in pids if alive(pid)]


# rows: D15
def test_a_message_that_is_for_no_supervisor_is_logged_and_ignored(node, dynamic):
    top = dynamic(name="unimpressed")
    ref = node.start_child(top, ChildSpec("c", Counter))

    def warnings():
        lines = [json.loads(line) for line in (Path(node.data_dir) / "logs" / LOG_FILE).read_text().splitlines()]
        return [line for line in lines if line.get("actor") == "unimpressed" and line["level"] == "warning"]

    node.cast(top, "dance")
    node.send(top, ("dance", 2))
    with pytest.raises(errors.CallFailed, match="administration calls only"):
        node.call(top, "dance")
    until(lambda: len(warnings()) == 2)
    assert "takes no casts and no other messages" in warnings()[0]["event"]
    assert node.pid("unimpressed") == top.pid
    assert [row.ref for row in node.which_children(top)] == [ref]


# rows: D10, D15
def test_the_end_of_a_real_child_is_in_the_log_with_what_it_was(node, dynamic):
    top = dynamic(name="bereaved")
    ref = node.start_child(top, ChildSpec("c", Counter, restart="temporary", shutdown=2.5))
    kill(ref.pid)
    (told,) = until(
        lambda: [each for each in node.reports() if each.kind == "child_terminated" and each.supervisor == "bereaved"]
    )
    assert (told.id, told.pid, told.reason.kind) == ("c", ref.pid, "killed")
    assert told.extra == {"restart": "temporary", "shutdown": 2.5, "type": "worker"}


# rows: D1
def test_a_dynamic_supervisor_is_a_child_like_any_other(node, supervise):
    inner = DynamicSupervisorSpec(name="inner-dyn", extra_arguments=(7,))
    top = supervise([ChildSpec("inner", inner)])
    assert node.get_childspec(top, "inner").start == inner
    old = node.start_child("inner-dyn", ChildSpec("c", Counter))
    kill(node.pid("inner-dyn"))
    until(lambda: not alive(old.pid))

    def empty():
        try:
            return node.which_children("inner-dyn") == []
        except errors.SupervisorsError:
            return False

    until(empty)
