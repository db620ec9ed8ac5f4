"""A real node for the tests of a module, and helpers that wait for what they want to see."""

import os

import pytest
from node_helpers import alive, family, until

from supervisors import Node, SupervisorSpec, errors


@pytest.fixture(scope="module")
def node(tmp_path_factory):
    """A node of the module's own; nothing of it is left at the end."""
    folder = tmp_path_factory.mktemp("node")
    folder.chmod(0o700)
    with Node.start(data_dir=folder) as running:
        pids = family(running.info["pid"])
        yield running
        pids |= family(running.info["pid"])
    until(lambda: not [pid for pid in pids if alive(pid)], 2.0)
    assert not os.path.exists(folder / "node.json")


@pytest.fixture
def supervise(node):
    """Start supervisors that are stopped after the test."""
    started = []

    def start(children, **fields):
        fields.setdefault("intensity", 100)
        started.append(node.start_supervisor(SupervisorSpec(children, **fields)))
        return started[-1]

    yield start
    for ref in started:
        try:
            node.stop(ref, timeout=20.0)
        except errors.NoProcess:
            continue
