"""The lock of a node's folder."""

import contextlib
import fcntl
import json
import os
import shutil
import subprocess
import sys
import threading

import pytest

from supervisors.host import path_lock
from supervisors.runtime.node import folder as folders
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


# --- what becomes of the folder of a node that runs -------------------------------------------------------------------


class Log:
    def error(self, event, **more):
        pass


@pytest.fixture
def at_home(tmp_path):
    """Return the folder of a node that runs: it has the lock, a key and node.json."""
    folder = NodeFolder(tmp_path / "node")
    assert folder.lock()
    folder.open_key()
    folder.tell({"pid": os.getpid()}, Log())
    return folder


def content(folder):
    return {name: (folder.path / name).read_bytes() for name in ("node.json", "cluster.key")}


@pytest.mark.parametrize("what", ["run/lock", "run", "node.json", "cluster.key", "."])
def test_what_is_removed_is_brought_back_and_nobody_starts_there_meanwhile(at_home, what):
    before, path = content(at_home), at_home.path / what
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    other = NodeFolder(at_home.path)
    assert not other.lock()
    assert at_home.keep(Log()) is None
    assert content(at_home) == before  # the one that was refused has left no key of its own
    assert not other.lock()
    assert at_home.keep(Log()) is None


@pytest.mark.parametrize("replaced", [False, True])
def test_a_node_whose_folder_was_moved_away_has_to_end(at_home, tmp_path, replaced):
    at_home.path.rename(tmp_path / "elsewhere")
    if replaced:
        shutil.copytree(tmp_path / "elsewhere", at_home.path)
    assert "moved away or replaced under it: start it anew where its data is now" in at_home.keep(Log())
    assert not NodeFolder(tmp_path / "elsewhere").lock()  # not before it has ended
    before = sorted(tmp_path.rglob("*"))
    at_home.say_stopping(Log())
    at_home.say_good_bye()
    assert sorted(tmp_path.rglob("*")) == before  # nothing there is its own


def test_a_node_whose_folder_another_one_has_taken_ends_after_a_while(at_home):
    shutil.rmtree(at_home.path)
    NodeFolder(at_home.path)
    fd = os.open(at_home.path / "run" / "lock", os.O_RDWR | os.O_CREAT)
    fcntl.flock(fd, fcntl.LOCK_EX)  # one of another network namespace, over a network
    assert [at_home.keep(Log()) for _ in range(folders.TAKEN_TIMES - 1)] == [None] * (folders.TAKEN_TIMES - 1)
    assert "another node runs in" in at_home.keep(Log())
    os.close(fd)
    assert at_home.keep(Log()) is None


def test_a_folder_that_cannot_be_seen_is_not_said_to_be_moved(at_home, monkeypatch):
    def stat(path):
        raise PermissionError

    monkeypatch.setattr(folders.os, "stat", stat)
    assert not at_home._was_moved()


def test_a_path_is_locked_until_its_last_holder_has_ended(tmp_path):
    first = path_lock.take(tmp_path / "x")
    assert path_lock.take(tmp_path / "x") is None
    other = path_lock.take(tmp_path / "y")
    second = os.dup(first)
    os.close(first)
    assert path_lock.take(tmp_path / "x") is None
    os.close(second)
    third = path_lock.take(tmp_path / "x")
    assert third is not None
    os.close(third)
    os.close(other)
