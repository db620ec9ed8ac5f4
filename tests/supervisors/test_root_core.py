"""The root restarts registry and door beside what else it does; otherwise it is a supervisor as any."""

import pytest
from node_helpers import Async, Counter, kill

from supervisors import ChildSpec, Node, SupervisorSpec, errors
from supervisors.supervisor import events
from supervisors.supervisor.root import RootCore
from supervisors.testing import CoreStepper, wait_until
from supervisors.testing.stepper import CRASH
from supervisors.wire.pickles import seal

pytestmark = pytest.mark.timeout(60)


class Root(CoreStepper):
    core_class = RootCore


def root(**fields):
    fields.setdefault("intensity", 5)
    children = [ChildSpec(each, Counter) for each in ("registry", "door", "app")]
    return Root(SupervisorSpec(children, period=10.0, **fields)).started("registry").started("door").started("app")


def slow_start(step):
    number = step.call("start_child", ChildSpec("slow", Counter))
    assert step.starting == ["slow"]
    return number


# rows: 25, 77
def test_an_urgent_child_is_restarted_while_another_one_starts():
    step = root()
    number = slow_start(step)
    step.exit("registry", "killed").exit("door", "killed")
    assert sorted(step.starting) == ["door", "registry", "slow"]
    step.started("door").started("registry")
    assert number not in step.answers
    step.started("slow")
    assert step.answers[number] is not None
    assert sorted(step.running) == ["app", "door", "registry", "slow"]


# rows: 77
def test_any_other_child_waits():
    step = root()
    slow_start(step)
    step.exit("app", "killed")
    assert step.starting == ["slow"]
    step.started("slow")
    assert step.starting == ["app"]


# rows: 39
def test_an_urgent_restart_that_fails_is_tried_again_aside_until_the_intensity_is_reached():
    step = root(intensity=3)
    slow_start(step)
    step.exit("registry", "killed").fail("registry").fail("registry").fail("registry")
    assert step.starting == ["slow"]
    assert step.finished is None
    step.started("slow")
    assert "reached_max_restart_intensity" in [tell.kind for tell in step.told]
    for child in ("slow", "app", "door"):
        step.exit(child, "shutdown")
    assert step.finished.reason.kind == "shutdown"


# rows: 51, 48
@pytest.mark.parametrize("moment", ["asked", "gives up"])
def test_an_end_gives_up_a_restart_aside_and_stops_it_too(moment):
    step = root(intensity=1)
    slow_start(step)
    step.exit("registry", "killed")
    assert sorted(step.starting) == ["registry", "slow"]
    if moment == "asked":
        step.shutdown()
        step.exit("slow", "killed")
    else:
        step.exit("app").started("slow")
        step.exit("slow", "shutdown")
    for child in ("app", "door", "registry"):
        if child in step.stopping:
            step.exit(child, "killed" if child == "registry" else "shutdown")
    assert step.finished is not None
    assert step.starting + step.running + step.stopping == []


# rows: 66
def test_whoever_stops_an_urgent_child_finds_its_restart_given_up():
    step = root()
    step.call("terminate_child", "app")
    step.exit("registry", "killed")
    number = step.call("terminate_child", "registry")
    step.exit("app", "shutdown")
    assert step.stopping == ["registry"]
    step.exit("registry", "killed")
    assert step.answers[number] is None
    assert next(row for row in step.view if row.id == "registry").state == "stopped"


def test_it_spawns_each_generation_once():
    step = root()
    slow_start(step)
    step.take()
    step.exit("registry", CRASH).started("registry")
    spawned = [(effect.spec.id, effect.generation) for effect in step.take() if isinstance(effect, events.Spawn)]
    assert spawned == [("registry", 2)]


# rows: 61
@pytest.mark.soak
@pytest.mark.parametrize("who", ["registry", "door"])
def test_a_node_is_reachable_and_knows_names_while_a_tree_starts_slowly_and_they_are_killed(tmp_path, who):
    tmp_path.chmod(0o700)
    with Node.start(data_dir=tmp_path) as node:
        node.start_supervisor(SupervisorSpec([ChildSpec("c", Counter, name="c")]))
        spec = SupervisorSpec([ChildSpec("slow", Async, args=(3.0,)), ChildSpec("n", Counter, name="named")])
        _, outcome = node.submit("start_supervisor", seal(spec))
        wait_until(lambda: [row for row in node.tree()["children"] if row["state"] != "running"])
        kill(next(row["pid"] for row in node.tree()["children"] if row["id"] == who))

        def answers():
            try:
                return node.call("c", ("add", 0), timeout=0.5) == 0 and node.names()["c"]
            except errors.SupervisorsError:
                return None

        wait_until(answers, pause=0.01)
        assert not outcome.done() or who == "door", "they came back before the slow start was over"
        wait_until(lambda: node.whereis("named"), pause=0.02)
