"""The lock of a node's folder."""

import contextlib
import fcntl
import json
import os
import subprocess
import sys
import threading

import pytest

from supervisors.runtime.node.folder import NodeFolder


@pytest.fixture
def taken(tmp_path):
    """Return a folder whose lock another one holds, and a way to free it."""
    folder = NodeFolder(tmp_path)
    fd = os.open(tmp_path / "run" / "lock", os.O_RDWR | os.O_CREAT)
    fcntl.flock(fd, fcntl.LOCK_EX)
    yield folder, lambda: os.close(fd)
    with contextlib.suppress(OSError):
        os.close(fd)


def told(folder, pid):
    (folder.path / "node.json").write_text(json.dumps({"pid": pid}))


def dead():
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_what_is_left_of_a_node_whose_daemon_is_dead_is_waited_for(taken):
    folder, free = taken
    told(folder, dead())
    threading.Timer(0.2, free).start()
    assert folder.lock_in_turn()


@pytest.mark.parametrize("says", [os.getpid, lambda: "x", lambda: None, None])
def test_a_node_that_runs_or_begins_is_not_waited_for(taken, says):
    folder, _ = taken
    if says is not None:
        told(folder, says())
    refused = threading.Event()
    threading.Thread(target=lambda: folder.lock_in_turn() or refused.set()).start()
    assert refused.wait(20.0)


def test_what_does_not_end_is_waited_for_a_while_only(taken, monkeypatch):
    folder, _ = taken
    told(folder, dead())
    monkeypatch.setattr("supervisors.runtime.node.folder.REMAINS_SECONDS", 0.1)
    assert not folder.lock_in_turn()
