"""The wall clock of a running node is set back and forward: nothing fails, nothing is refused, uptimes stay right."""

import json
import shutil
import struct
import subprocess
import time
from pathlib import Path

import pytest
from node_helpers import Async, Counter, kill, ready_again, until

from supervisors import ChildSpec, GenServer, Node, Ref, SupervisorSpec, errors

COMPILER = shutil.which("cc") or shutil.which("gcc")
DAY = 86_400.0
#: Where the clock stands, in seconds from where it should: set back by 2 s, by 30 s and by a day, then forward by two.
STEPS = [0.0, -2.0, -32.0, -DAY, DAY, 0.0]


class Timekeeper(GenServer):
    """Knows what its wall clock says."""

    def handle_call(self, request, caller):
        return time.time()


@pytest.fixture(scope="module")
def clock(tmp_path_factory):
    """A file that says how wrong the wall clock of `stepped` is; set with `set_clock`."""
    path = tmp_path_factory.mktemp("clock") / "step"
    path.write_bytes(struct.pack("q", 0))
    return path


def set_clock(clock, seconds):
    with clock.open("r+b") as file:
        file.write(struct.pack("q", int(seconds * 1e9)))


@pytest.fixture(scope="module")
def stepped(clock):
    """A node whose wall clock is its own."""
    if COMPILER is None:
        pytest.skip("no C compiler")
    library = clock.with_name("wall_clock.so")
    source = Path(__file__).with_name("wall_clock.c")
    subprocess.run([COMPILER, "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True)
    with start(clock) as node:
        yield node


def start(clock, **options):
    """Start a node whose wall clock is that of the file."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LD_PRELOAD", str(clock.with_name("wall_clock.so")))
        patch.setenv("WALL_CLOCK_STEP", str(clock))
        return Node.start(**options)


def refusals(node):
    path = node.data_dir / "logs" / "security.jsonl"
    return path.read_text() if path.exists() else ""


def node_file(node):
    return json.loads((node.data_dir / "node.json").read_text())


def door_pid(node):
    """Return the door's pid; None while it is away."""
    try:
        return next(row.pid for row in node.which_children(Ref(**node_file(node)["root"])) if row.id == "door")
    except errors.NodeDown:
        return None


@pytest.mark.soak
def test_a_node_goes_on_whatever_happens_to_its_wall_clock(stepped, clock):
    node = stepped
    began = time.monotonic() - node.status()["uptime"]
    top = node.start_supervisor(
        SupervisorSpec(
            [ChildSpec("time", Timekeeper, name="time"), ChildSpec("old", Counter, name="old")], intensity=99
        )
    )
    for number, step in enumerate(STEPS):
        set_clock(clock, step)
        assert abs(node.call("time", "now") - time.time() - step) < 30.0
        old = node.call("old", "pid")
        # a new sender, and old ones to it
        name = f"new-{number}"
        ref = node.start_child(top, ChildSpec(name, Counter, name=name))
        assert node.call(name, ("add", 1)) == 1
        # a restart: registered again, found again
        kill(old)
        ready_again(node, "old", old)
        # new programs, and a new door
        with Node.attach(node.data_dir) as other:
            assert other.call(name, ("add", 1)) == 2
        door = door_pid(node)
        kill(door)
        until(lambda: door_pid(node) not in (None, door), 20.0)  # noqa: B023 - waited for here
        assert node.call(name, ("add", 1)) == 3
        monitor = node.monitor(ref)
        node.stop(ref)
        assert monitor.wait(20.0).reason.kind == "normal"
        assert abs(node.status()["uptime"] - (time.monotonic() - began)) < 30.0
    assert node.status()["incarnation"] == 0
    assert refusals(node) == ""


def test_a_node_that_falls_comes_back_when_its_clock_was_set_back(stepped, clock):
    node = stepped
    set_clock(clock, -DAY)
    kill(node_file(node)["root"]["pid"])
    until(lambda: node_file(node)["incarnation"] == 1, 20.0)
    until(lambda: door_pid(node) is not None, 20.0)
    assert node.status()["state"] == "healthy"
    assert refusals(node) == ""


@pytest.mark.parametrize("step", [-600.0, 600.0])
def test_nodes_that_were_started_before_and_after_a_step_hear_each_other(stepped, clock, tmp_path, step):
    tmp_path.chmod(0o700)
    shutil.copy(stepped.data_dir / "cluster.key", tmp_path)
    asker = ChildSpec("asker", Async, name="asker")
    first = stepped.start_supervisor(SupervisorSpec([asker]))
    set_clock(clock, step)
    with start(clock, host="127.0.0.2", data_dir=tmp_path) as other:
        other.start_supervisor(SupervisorSpec([asker, ChildSpec("counter", Counter, name="counter")]))
        new = other.start_child(other.start_supervisor(SupervisorSpec()), ChildSpec("new", Counter))
        assert stepped.call("asker", ("ask", other.whereis("counter"), ("add", 1), 5.0)) == 1
        assert stepped.call("asker", ("ask", new, ("add", 1), 5.0)) == 1
        monitor = stepped.monitor(new)  # through the other door
        assert other.call("asker", ("ask", stepped.whereis("asker"), "pid", 5.0)) > 0
        other.stop(new)
        assert monitor.wait(20.0).reason.kind == "normal"
        assert refusals(stepped) == refusals(other) == ""
    stepped.stop(first)
