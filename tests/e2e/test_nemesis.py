"""Evil that is done to a cluster in the middle of a run: each example has one result, and all is whole again after it.

What is checked is in `nemesis_kit`: `Run.check` and `check_whole`. Nodes are on hosts of their own, in namespaces.
"""

import os
import signal
import time

import pytest
from e2e_kit import gone, until
from nemesis_kit import WHOLE_SECONDS, Run, World, check_whole
from net_kit import why_not

pytestmark = pytest.mark.skipif(why_not() is not None, reason=str(why_not()))

#: Faults of the net, and stops, last so many seconds.
LASTS = 20.0
SHORT, LONG = 400, 2000


class Worlds:
    """One cluster for all tests of this file; another one after a test that has failed."""

    def __init__(self, factory):
        self._factory, self._world = factory, None

    def get(self):
        if self._world is None:
            self._world = World(self._factory.mktemp("nemesis"))
        return self._world

    def drop(self):
        world, self._world = self._world, None
        if world is not None:
            world.close()


@pytest.fixture(scope="module")
def worlds(tmp_path_factory):
    made = Worlds(tmp_path_factory)
    yield made
    made.drop()


# --- what is done -------------------------------------------------------------------------------------------------


def killed(what):
    """Kill one process of the first node, which coordinates the run."""

    def do(world):
        world.first.kill(what, world.first.node)

    return do


def node_killed(name):
    """Kill all of a node at once, and start it again when the run goes on without it, or has ended."""

    def do(world):
        world.places[name].die()
        time.sleep(5.0)
        world.start(name)

    return do


def daemon_killed(world):
    """Kill the daemon: its node ends with it, and somebody starts it again."""
    place = world.first
    os.kill(place.pid_of(None, "daemon"), signal.SIGKILL)
    place._daemon.wait()
    until(lambda: not [pid for pid in place._all if not gone(pid)], WHOLE_SECONDS, "a node outlives its daemon")
    place.node.close()
    world.start(place.name)


def server_killed(world):
    """Kill the server of the journal, and have it come back."""
    world.journal.server.kill()
    time.sleep(3.0)
    world.journal.start()


def stopped(world):
    """Have the node that coordinates the run stand still."""
    world.first.signal(signal.SIGSTOP)
    time.sleep(LASTS)
    world.first.signal(signal.SIGCONT)


def cut(**ways):
    """Cut the node off that coordinates the run."""

    def do(world):
        world.net.cut(world.numbers["n1"], **ways)
        time.sleep(LASTS)
        world.net.rules()

    return do


def net(**rules):
    """Have the net do something to all packets."""

    def do(world):
        world.net.rules(**rules)
        time.sleep(LASTS)
        world.net.rules()

    return do


FAULTS = [
    ("a worker is killed", "n1", SHORT, killed("http_worker")),
    ("the evaluator is killed", "n1", SHORT, killed("run:")),
    ("the supervisor of evaluators is killed", "n1", SHORT, killed("evaluators")),
    ("the keeper of runs is killed", "n1", SHORT, killed("runs")),
    ("the supervisor of what makes a cluster is killed", "n1", SHORT, killed("cluster")),
    ("the root of all supervisors is killed", "n1", SHORT, killed("root")),
    ("the daemon is killed", "n1", SHORT, daemon_killed),
    ("the node that coordinates is killed", "n2", SHORT, node_killed("n2")),
    ("the first node is killed", "n2", SHORT, node_killed("n1")),
    ("the server of the journal is killed", "n1", SHORT, server_killed),
    ("a node stands still", "n1", LONG, stopped),
    ("a node is cut off", "n1", LONG, cut()),
    ("a node is cut off from the others, not from the journal", "n1", LONG, cut(outside=False)),
    ("a node hears nothing", "n1", LONG, cut(out=False)),
    ("a node is not heard", "n1", LONG, cut(into=False)),
    ("all comes half a second late", "n1", LONG, net(delay=0.5)),
    ("much comes twice and in another order", "n1", LONG, net(spread=0.1, double=0.3)),
]


def go_through(worlds, record_property, at, count, do):
    """Do evil to a cluster in the middle of a run, and check all that has to hold afterwards."""
    world = worlds.get()
    try:
        run = Run(world, at, count)
        do(world)
        healed = time.monotonic()
        for name, value in run.check().items():
            record_property(name, value)
        check_whole(world)
        record_property("whole after", round(time.monotonic() - healed, 1))
    except BaseException:
        worlds.drop()
        raise


#: `make soak` does these each time; the others take a minute each.
QUICK = ("the evaluator is killed", "the server of the journal is killed")


@pytest.mark.nemesis
@pytest.mark.parametrize(
    ("at", "count", "do"),
    [pytest.param(*rest, id=name, marks=pytest.mark.soak if name in QUICK else ()) for name, *rest in FAULTS],
)
def test_each_example_has_one_result_and_all_is_whole_again_after(worlds, record_property, at, count, do):
    go_through(worlds, record_property, at, count, do)
