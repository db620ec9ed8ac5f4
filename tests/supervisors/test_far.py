"""Links, monitors and calls between two nodes: real ones, on two addresses of this host, with one key."""

import contextlib
import os
import shutil
import signal
import time

import pytest
from genserver_helpers import Probe, log_lines
from node_helpers import alive, family, kill, kill_quietly, until

from supervisors import ChildSpec, Down, ExitReason, Node, SupervisorSpec, errors

NODEDOWN = ExitReason("nodedown")


@contextlib.contextmanager
def running(folder, host, key_of=None):
    """A node with the key of another one; none of its processes is left behind, whatever happened to them."""
    folder.mkdir(mode=0o700)
    if key_of is not None:
        shutil.copy(key_of.data_dir / "cluster.key", folder / "cluster.key")
    node = Node.start(host=host, data_dir=folder)
    pids = family(node.info["pid"])
    try:
        yield node
    finally:
        with contextlib.suppress(ProcessLookupError):
            pids |= family(node.info["pid"]) if alive(node.info["pid"]) else {}
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
        node.close()
        assert not [pid for pid in pids if alive(pid)]


@pytest.fixture(scope="module")
def here(tmp_path_factory):
    with running(tmp_path_factory.mktemp("here") / "node", "127.0.0.1") as node:
        yield node


@pytest.fixture
def there(here, tmp_path):
    with running(tmp_path / "there", "127.0.0.2", here) as node:
        yield node


@pytest.fixture
def start(here, there):
    """Start a server on a node; those of the node that stays are stopped after the test."""
    mine = []

    def start(node, **options):
        child = ChildSpec("p", Probe, kwargs=options, restart="temporary")
        supervisor = node.start_supervisor(SupervisorSpec([child]))
        if node is here:
            mine.append(supervisor)
        return node.which_child(supervisor, "p").ref

    yield start
    for supervisor in mine:
        with contextlib.suppress(errors.NoProcess):
            here.stop(supervisor)


def seen(node, target):
    return [value for _, value in node.call(target, ("look",))]


def watched_by(there, target, count=1):
    """Wait until the door of a process's node has so many watches on it, which is when a kill is seen at once."""

    def doors():
        return there.get_status(target)["links"] is not None

    until(doors)


def freeze(node):
    """Stop every process of a node."""
    for pid in family(node.info["pid"]):
        kill(pid, signal.SIGSTOP)


def fell(node):
    """Kill every process of a node."""
    for pid in family(node.info["pid"]):
        kill_quietly(pid)


# rows: X1, X3
def test_a_killed_process_of_another_node_is_seen_at_once_by_every_monitor_of_it(here, there, start):
    watcher, target = start(here), start(there)
    for _ in range(2):
        here.call(watcher, ("watch", target))
    outside = here.monitor(target)
    began = time.monotonic()
    kill(target.pid)
    assert outside.wait(5.0) == Down(target, ExitReason("killed"))
    until(lambda: seen(here, watcher) == [(target, "killed")] * 2)
    print("killed", time.monotonic() - began)
    assert time.monotonic() - began < 2.0
