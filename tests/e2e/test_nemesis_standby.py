"""Evil that is done to a cluster whose nodes have a journal each: runs have copies, and go on where one is.

What is checked is in `nemesis_kit`, and that all copies are the same in the end.
"""

import contextlib
import os
import shutil
import struct
import subprocess
import time
from pathlib import Path

import pytest
from e2e_kit import until
from nemesis_kit import WHOLE_SECONDS, World
from net_kit import why_not
from test_nemesis import LASTS, LONG, SHORT, Worlds, cut, go_through, killed, net, node_killed, stopped

from dspex_actors.names import RUNS
from supervisors.cluster.leases.messages import LEASES
from supervisors.errors import SupervisorsError

pytestmark = [
    pytest.mark.nemesis,
    pytest.mark.timeout(600),
    pytest.mark.skipif(why_not() is not None, reason=str(why_not())),
]

#: The disk of the first node: what a node and its journals take, and not much more.
DISK = "48m"
COMPILER = shutil.which("cc") or shutil.which("gcc")
CLOCK = Path(__file__).parents[1] / "supervisors" / "wall_clock.c"


class OwnDisk(Worlds):
    """Worlds whose first node has a small disk and a wall clock of its own."""

    def __init__(self, factory):
        super().__init__(factory)
        self._disks = contextlib.ExitStack()

    def get(self):
        if self._world is None:
            folder = self._factory.mktemp("nemesis")
            disk = folder / "n1"
            disk.mkdir()
            options = f"size={DISK},mode=0700"
            subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(disk)], check=True)
            self._disks.callback(subprocess.run, ["umount", "-l", str(disk)], check=True)
            self._world = World(folder, standbys=True, environ=own_clock(folder))
        return self._world

    def drop(self):
        try:
            super().drop()
        finally:
            self._disks.close()


def own_clock(folder):
    """Return the variables that give a process the clock of a file; none where nothing can be compiled."""
    if COMPILER is None:
        return {}
    library = folder / "wall_clock.so"
    subprocess.run([COMPILER, "-shared", "-fPIC", "-o", library, CLOCK, "-ldl"], check=True)
    (folder / "step").write_bytes(struct.pack("q", 0))
    # What is forked has the clock of the one that it is forked from.
    return {"LD_PRELOAD": str(library), "WALL_CLOCK_STEP": str(folder / "step"), "COLD_STARTS": "1"}


@pytest.fixture(scope="module")
def worlds(tmp_path_factory):
    made = OwnDisk(tmp_path_factory)
    yield made
    made.drop()


# --- what is done -------------------------------------------------------------------------------------------------


def disk_full(world):
    """Fill the disk of the node that coordinates the run."""
    ballast = world.first.home / "ballast"
    with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as file:
        while file.write(bytes(4096)):
            pass
    assert os.statvfs(world.first.home).f_bavail == 0
    until(lambda: "no space left" in trouble(world.first), WHOLE_SECONDS, lambda: trouble(world.first))
    time.sleep(LASTS)
    ballast.unlink()


def trouble(place):
    """Return what a node says of why its runs stand still."""
    with contextlib.suppress(SupervisorsError):
        _, runs = place.node.call(RUNS, ("list", 10), timeout=10.0)
        found = [place.node.call(RUNS, ("progress", run["run_id"]), timeout=10.0)[1]["note"] for run in runs]
        return str([note.get("trouble") for note in found])
    return ""


def clock_set(world):
    """Set the clock of the node that coordinates the run five minutes forward, then ten back, then right."""
    if COMPILER is None:
        pytest.skip("no C compiler")
    own = [
        "wall_clock.so" in Path(f"/proc/{place.pid_of(place.node, 'runs')}/maps").read_text()
        for place in world.places.values()
    ]
    assert own == [True, False, False]
    for seconds in (300, -300, 0):
        with (world.folder / "step").open("r+b") as file:
            file.write(struct.pack("q", int(seconds * 1e9)))
        time.sleep(LASTS / 3)


def leader(world):
    """Return the node whose server of leases leads the others."""

    def found():
        with contextlib.suppress(SupervisorsError):
            _, _, uid = world.first.node.call(LEASES, ("about", ""), timeout=5.0)
            names = {member.uid: member.name for member in world.first.cluster.members()}
            return world.places.get(names.get(uid))
        return None

    return until(found, WHOLE_SECONDS, "nobody leads")


def leader_killed(world):
    """Kill the server of leases that leads, twice: another one leads then, or the same again."""
    for _ in range(2):
        place = leader(world)
        place.kill("leases", place.node)
        time.sleep(LASTS / 4)


def leaders_node_killed(world):
    """Kill all of the node whose server of leases leads, and start it again."""
    node_killed(leader(world).name)(world)


FAULTS = [
    ("the keeper of runs is killed", "n1", SHORT, killed("runs")),
    ("the node that coordinates is killed", "n2", SHORT, node_killed("n2")),
    ("the server of leases that leads is killed", "n1", SHORT, leader_killed),
    ("the node whose server of leases leads is killed", "n1", SHORT, leaders_node_killed),
    ("a node stands still", "n1", LONG, stopped),
    ("a node is cut off", "n1", LONG, cut()),
    ("a node hears nothing", "n1", LONG, cut(out=False)),
    ("a node is not heard", "n1", LONG, cut(into=False)),
    ("all comes half a second late", "n1", LONG, net(delay=0.5)),
    ("much comes twice and in another order", "n1", LONG, net(spread=0.1, double=0.3)),
    ("the disk of the node that coordinates is full", "n1", LONG, disk_full),
    ("the clock of the node that coordinates is five minutes wrong", "n1", LONG, clock_set),
]


@pytest.mark.parametrize(("at", "count", "do"), [pytest.param(*rest, id=name) for name, *rest in FAULTS])
def test_each_example_has_one_result_in_all_copies_and_all_is_whole_again_after(worlds, record_property, at, count, do):
    go_through(worlds, record_property, at, count, do)
