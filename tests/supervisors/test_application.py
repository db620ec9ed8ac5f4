"""Applications: dependencies, order of the stop, what an end means for the node."""

import contextlib
import json
import os
import signal
from pathlib import Path

import psutil
import pytest
from node_helpers import Counter, Init, Recorder, alive, kill

from supervisors import Application, ChildSpec, Node, SupervisorSpec, errors
from supervisors.application.application import start_order
from supervisors.host.log import LOG_FILE
from supervisors.testing import assert_down, assert_gone, processes_of, wait_until, wait_until_restarted


def tree(name="t", *children, **fields):
    return SupervisorSpec(children or [ChildSpec(name, Counter, name=name)], **fields)


def app(name, *dependencies, **fields):
    return Application(name, fields.pop("start", tree(name)), dependencies, **fields)


def names(applications):
    return [each.name for each in applications]


def recorder(path, text):
    def write(*arguments):
        with open(path, "a") as file:
            file.write(" ".join([text, *map(str, arguments)]) + "\n")
        return text

    return write


# rows: X4
def test_dependencies_come_first_in_order():
    c, b, a, d = app("c", "b", "a"), app("b", "a"), app("a"), app("d")
    assert names(start_order([c, d, b, a])) == ["a", "b", "c", "d"]
    assert names(start_order([d, a, b, c])) == ["d", "a", "b", "c"]
    assert names(start_order([c, b], running=["a"])) == ["b", "c"]
    assert start_order([c], running=["c"]) == []


# rows: X4
@pytest.mark.parametrize(
    ("applications", "message"),
    [
        ([app("a", "c"), app("b", "a"), app("c", "b")], "dependencies is invalid: got a circle: a -> c -> b -> a"),
        ([app("x", "a"), app("a", "a")], "circle: a -> a"),
        ([app("a", "zoo")], "dependencies of application 'a' is invalid: got 'zoo', expected one that runs"),
        ([app("a"), app("a")], "applications is invalid: got 'a', expected each name once"),
    ],
)
def test_an_order_that_cannot_be_is_refused_by_name(applications, message):
    with pytest.raises(errors.SpecError, match=message):
        start_order(applications)


# rows: X4, X6
@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"name": ""}, "name is invalid: got ''"),
        ({"type": "eternal"}, "type is invalid: got 'eternal', expected one of temporary, transient, permanent"),
        ({"dependencies": "abc"}, "dependencies is invalid: got 'abc'"),
        ({"stop": 5}, "stop is invalid: got 5, expected a function"),
        ({"start": 5}, "start is invalid: got 5, expected"),
        ({"start_timeout": 0}, "start_timeout is invalid: got 0"),
    ],
)
def test_an_application_that_cannot_be_is_refused_before_anything_starts(fields, message):
    with pytest.raises(errors.SpecError, match=message):
        Application(**{"name": "a", "start": tree(), **fields})


# rows: X4
def test_an_application_starts_only_when_its_dependencies_run(node):
    base, upper = app("base"), app("upper", "base")
    assert node.which_applications() == []
    assert node.whereis("application_controller") is None  # to look starts nothing
    with pytest.raises(errors.StartError, match="'upper' needs 'base', which must be started before it"):
        node.start_application(upper)
    assert node.which_applications() == []
    assert node.start_application(base).pid
    node.start_application(upper)
    with pytest.raises(errors.AlreadyStarted):
        node.start_application(base)
    assert names(node.which_applications()) == ["base", "upper"]
    assert node.which_applications()[1].dependencies == ("base",)
    for name in ("upper", "base"):
        node.stop_application(name)
        assert node.whereis(name) is None
    with pytest.raises(errors.NoProcess, match="'base' does not run"):
        node.stop_application("base")
    assert node.which_applications() == []


# rows: X4
def test_all_are_started_in_order_and_none_stays_when_one_fails(node):
    broken = app("broken", "b", start=tree("w", ChildSpec("ok", Counter), ChildSpec("bad", Init, args=("raise",))))
    with pytest.raises(errors.StartError, match="child 'bad' did not start: error: ValueError: no start") as caught:
        node.ensure_all_started(broken, app("b", "a"), app("a"))
    assert caught.value.reason.detail["message"] == "no start"
    assert node.which_applications() == []
    assert node.whereis("a") is None
    assert node.ensure_all_started(app("b", "a"), app("a")) == ["a", "b"]
    assert node.ensure_all_started(app("b", "a"), app("a"), app("c")) == ["c"]
    for name in ("c", "b", "a"):
        node.stop_application(name)


# rows: X5, 51
def test_prep_stop_then_the_tree_in_reverse_then_stop(node, tmp_path):
    path = tmp_path / "log"
    children = [ChildSpec(each, Recorder, args=(str(path), each)) for each in "AB"]
    application = app(
        "ordered", start=tree("t", *children), prep_stop=recorder(path, "prep"), stop=recorder(path, "stop")
    )
    node.start_application(application)
    node.stop_application("ordered")
    assert path.read_text().splitlines() == ["+A", "+B", "prep", "-B shutdown", "-A shutdown", "stop prep"]
    node.start_application(application)
    node.stop_application("ordered")


# rows: X5, X6
def test_a_temporary_application_that_ends_by_itself_is_reported_and_cleared_away(node, tmp_path):
    path = tmp_path / "log"
    fields = {"prep_stop": recorder(path, "prep"), "stop": recorder(path, "stop")}
    ref = node.start_application(app("brief", start=tree("brief", intensity=0), **fields))
    monitor = node.monitor(ref)
    node.cast("brief", "boom")
    assert_down(monitor, "shutdown")
    wait_until(lambda: node.which_applications() == [])
    assert path.read_text().splitlines() == ["stop None"]
    lines = [json.loads(line) for line in (Path(node.data_dir) / "logs" / LOG_FILE).read_text().splitlines()]
    assert [line["type"] for line in lines if line.get("application") == "brief"] == ["temporary", "temporary"]
    node.start_application(app("brief"))
    node.stop_application("brief")


# rows: X5
def test_a_callback_that_hangs_is_killed_when_its_time_is_over(node):
    def hang():
        import time

        time.sleep(600)

    node.start_application(app("hanging", prep_stop=hang, stop_timeout=0.3))
    node.stop_application("hanging")
    assert node.whereis("hanging") is None


# rows: X4
def test_a_killed_controller_takes_up_what_runs(node):
    node.ensure_all_started(app("b", "a"), app("a", prep_stop=int))
    old = node.whereis("application_controller")
    before = {each.name: each.ref for each in node.which_applications()}
    kill(old.pid)
    wait_until_restarted(node, "application_controller", old)
    assert {each.name: each.ref for each in node.which_applications()} == before
    for name in ("b", "a"):
        node.stop_application(name)
    assert node.which_applications() == []


def ends(folder, kind, how, stop=None):
    """Start a node with an application that ends; return the node's processes and itself."""
    folder.chmod(0o700)
    node = Node.start(data_dir=folder)
    spec = SupervisorSpec([ChildSpec("c", Counter, name="c")], intensity=0, name="top")
    node.start_application(Application("app", spec, type=kind, stop=stop))
    pids = processes_of(node)
    how(node)
    return node, pids


def kill_with_controller(node):
    """Kill the tree while nobody watches it."""
    controller = node.pid("application_controller")
    os.kill(controller, signal.SIGSTOP)
    kill(node.pid("top"))
    kill(controller)


def kill_under_a_frozen_supervisor(node):
    """Kill the tree and the controller; the next controller is there before what is above the tree has seen it."""
    (top,) = [each.ref.pid for each in node.which_applications()]
    root, controller = psutil.Process(top).parent(), node.pid("application_controller")
    os.kill(controller, signal.SIGSTOP)
    os.kill(top, signal.SIGSTOP)
    before = {each.pid for each in root.children()}
    kill(node.pid("top"))
    kill(controller)

    def controllers():
        with contextlib.suppress(psutil.NoSuchProcess):  # one has just ended
            return {each.pid for each in root.children() if each.name() == "application_con"} - before

    wait_until(controllers)
    os.kill(top, signal.SIGCONT)


def kill_before_a_frozen_controller(node):
    """Kill the tree; the controller sees it only when what was above it has ended too."""
    (top,) = [each.ref for each in node.which_applications()]
    controller = node.pid("application_controller")
    os.kill(controller, signal.SIGSTOP)
    kill(node.pid("top"))
    wait_until(lambda: not alive(top.pid))
    os.kill(controller, signal.SIGCONT)


def boom(node):
    node.cast("c", "boom")


def crash_tree(node):
    kill(node.pid("top"))


# rows: X6
@pytest.mark.parametrize(
    ("kind", "how"),
    [
        ("permanent", boom),
        ("permanent", crash_tree),
        ("transient", crash_tree),
        ("permanent", kill_with_controller),
        ("transient", kill_with_controller),
        ("transient", kill_under_a_frozen_supervisor),
        ("transient", kill_before_a_frozen_controller),
    ],
)
def test_the_end_of_such_an_application_brings_the_node_down_in_order(tmp_path, kind, how):
    path = tmp_path / "log"
    node, pids = ends(tmp_path, kind, how, stop=recorder(path, "stop"))
    assert_gone(pids, 20.0)
    assert not (tmp_path / "node.json").exists(), "the daemon cleans up when it stops in order"
    assert path.read_text() == "stop None\n"
    node.close()


# rows: X6
def test_a_transient_application_that_gives_up_and_a_permanent_one_that_is_stopped_leave_the_node_up(tmp_path):
    node, _ = ends(tmp_path, "transient", boom)
    with node:
        wait_until(lambda: node.which_applications() == [])
        node.start_application(app("keep", type="permanent"))
        node.stop_application("keep")
        assert node.status()["incarnation"] == 0


# rows: X6
def test_a_controller_that_was_killed_knows_which_ends_it_had_seen(tmp_path):
    go_on = tmp_path / "go on"

    def stop(state):
        import time

        while not go_on.exists():
            time.sleep(0.01)

    node, _ = ends(tmp_path, "transient", boom, stop=stop)
    with node:
        file = tmp_path / "run" / "applications.json"
        wait_until(lambda: len(json.loads(file.read_text())["applications"][0]["left"]) == 1)
        kill(old := node.pid("application_controller"))
        wait_until(lambda: node.pid("application_controller") not in (None, old))
        assert names(node.which_applications()) == ["app"]
        go_on.touch()
        wait_until(lambda: node.which_applications() == [])
        assert node.status()["incarnation"] == 0
