"""A real node for the tests of a module, and helpers that wait for what they want to see."""

import os
import time

import psutil
import pytest

from supervisors import Node


def pytest_configure(config):
    config.addinivalue_line("markers", "slow: takes more than a few seconds")


def until(condition, seconds=5.0, pause=0.005):
    """Wait until `condition()` is true, and return what it returned; fail after `seconds`."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, f"not within {seconds} s: {condition}"
        time.sleep(pause)
    return value


def alive(pid):
    """Whether a process runs; a zombie does not."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def family(pid):
    """Return the pids of a process and of all below it, and what they are called."""
    process = psutil.Process(pid)
    found = {}
    for each in [process, *process.children(recursive=True)]:
        try:
            found[each.pid] = each.name()
        except psutil.NoSuchProcess:
            continue
    return found


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
    from supervisors import SupervisorSpec, errors

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
