"""supervisors.testing: what its users get."""

import subprocess
import sys

import pytest
from node_helpers import Counter

from supervisors import ChildSpec, Node, SupervisorSpec, errors
from supervisors.supervisor import events
from supervisors.testing import (
    LOST_NOTICES,
    CoreStepper,
    Faulty,
    assert_down,
    assert_gone,
    faulty,
    processes_of,
    wait_until,
    wait_until_restarted,
)


def two(strategy="one_for_all", **fields):
    return SupervisorSpec([ChildSpec("a", Counter), ChildSpec("b", Counter)], strategy=strategy, **fields)


# rows: 1, 26
def test_a_core_is_stepped_child_by_child():
    step = CoreStepper(two())
    assert (step.starting, step.running, step.ready) == (["a"], [], False)
    step.started("a").started("b")
    assert step.ready
    step.exit("a")
    assert step.stopping == ["b"]
    step.exit("b", "shutdown")
    assert step.starting == ["a"]
    step.started("a").started("b")
    assert step.running == ["a", "b"]
    assert {row.id: row.state for row in step.view} == {"a": "running", "b": "running"}
    assert step.counts.active == 2


# rows: 33, 34, 40
def test_a_stepped_core_has_a_clock_of_its_own():
    step = CoreStepper(two("one_for_one", intensity=1, period=5.0)).started("a").started("b")
    for _ in range(3):
        step.exit("a").started("a").wait(5.1)
    step.exit("a").started("a").wait(4.9).exit("a")
    assert step.stopping == ["b"]
    step.exit("b", "shutdown")
    assert step.finished.reason.kind == "shutdown"
    assert "reached_max_restart_intensity" in [tell.kind for tell in step.told]


# rows: 11, 14
def test_a_stepped_start_fails_or_is_ignored():
    assert CoreStepper(two()).started("a").fail("b").exit("a", "shutdown").finished.error.id == "b"
    step = CoreStepper(two()).ignore("a").started("b")
    assert step.ready
    assert [row.state for row in step.view] == ["running", "stopped"]


# rows: 52
def test_a_stepped_child_that_does_not_end_is_killed_when_its_time_is_over():
    step = CoreStepper(two()).started("a").started("b")
    number = step.call("terminate_child", "a")
    assert number not in step.answers
    step.take()
    step.wait(4.9)
    assert step.take() == []
    step.wait(0.2)
    assert [type(effect) for effect in step.take()] == [events.Kill]
    step.exit("a", "killed")
    assert step.answers[number] is None


def test_a_step_that_cannot_be_says_what_can():
    with pytest.raises(LookupError, match=r"no child 'b' being started: starting \['a'\], running \[\]"):
        CoreStepper(two()).started("b")


def test_a_faulty_server_is_killed_after_so_many_messages(node, supervise):
    supervise([ChildSpec("c", faulty(Counter, kill_after=2), name="flaky")])
    old = node.whereis("flaky")
    monitor = node.monitor(old)
    assert [node.call("flaky", ("add", 1)) for _ in range(2)] == [1, 2]
    with pytest.raises(errors.ServerExited):
        node.call(old, ("add", 1))
    assert_down(monitor, "killed")
    wait_until_restarted(node, "flaky", old)
    assert node.call("flaky", ("add", 1)) == 1


# rows: 39
def test_a_faulty_server_fails_in_init_so_many_times_and_starts_then(node, supervise):
    top = supervise([])
    spec = ChildSpec("c", faulty(Counter, crash_init=2), name="late")
    for _ in range(2):
        with pytest.raises(errors.StartError, match="init fails 2 times"):
            node.start_child(top, spec)
    assert node.start_child(top, spec) == node.whereis("late")


def test_a_server_class_is_made_faulty_by_a_mixin(node, supervise):
    class Slow(Faulty, Counter):
        slow_init = 30.0

    top = supervise([])
    with pytest.raises(errors.StartError, match=r"more than 0.2 s"):
        node.start_child(top, ChildSpec("s", Slow, start_timeout=0.2))


def test_waiting_says_what_was_waited_for(node, supervise):
    top = supervise([ChildSpec("c", Counter, name="here")])
    ref, monitor = node.whereis("here"), node.monitor("here")
    with pytest.raises(AssertionError, match="no successor of"):
        wait_until_restarted(node, (top, "c"), ref, 0.05)
    with pytest.raises(AssertionError, match=r"still runs after 0.05 s"):
        assert_down(monitor, "killed", 0.05)
    with pytest.raises(AssertionError, match=f"processes .{ref.pid}. still run"):
        assert_gone([ref.pid], 0.05)
    assert wait_until_restarted(node, (top, "c"), None) == ref
    node.stop("here")
    with pytest.raises(AssertionError, match="ended for normal: expected killed"):
        assert_down(monitor, "killed")


# rows: 56, 21
@pytest.mark.soak
def test_deaths_of_which_no_notice_comes_are_found_by_looking_after_the_pids(tmp_path):
    tmp_path.chmod(0o700)
    with Node.start(data_dir=tmp_path, preload=[LOST_NOTICES]) as deaf:
        top = deaf.start_supervisor(two("one_for_one", intensity=10, name="top"))
        for child in ("a", "b"):
            old = next(row.ref for row in deaf.which_children(top) if row.id == child)
            monitor = deaf.monitor(old)
            deaf.cast(old, "boom")
            assert_down(monitor, "error")
            wait_until_restarted(deaf, (top, child), old)
        kinds = [(report.id, report.reason.kind) for report in deaf.reports() if report.kind == "child_terminated"]
        assert kinds == [("a", "error"), ("b", "error")]
        pids = processes_of(deaf)
        deaf.stop(top, timeout=10.0)
    assert_gone(pids)


def test_the_library_needs_no_pytest_until_the_fixture_is_asked_for():
    code = "import sys, supervisors.testing; assert 'pytest' not in sys.modules; supervisors.testing.node"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr == ""


def test_wait_until_returns_what_the_condition_returned():
    values = iter([0, None, 7])
    assert wait_until(lambda: next(values)) == 7
