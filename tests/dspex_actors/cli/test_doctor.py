"""What the doctor finds, and what it mends."""

import fcntl
import json
import os
import subprocess
import sys
import time

import pytest

from dspex_actors.cli import checks, processes
from dspex_actors.journal.records import RunSpec
from dspex_actors.journal.writer import Journal
from dspex_actors.sandbox.interpreter import PythonInterpreter


@pytest.fixture
def home(tmp_path):
    folder = tmp_path / "home"
    (folder / "run").mkdir(parents=True, mode=0o700)
    folder.chmod(0o700)
    return folder


@pytest.fixture
def orphan(home):
    """A process that looks like one of a node of this folder whose daemon is gone: it holds the daemon's lock, too."""
    words = [sys.executable, "-c", "input()", "supervisors.runtime.node", str(home / "run" / "config-1.json")]
    with (home / "run" / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        process = subprocess.Popen(words, stdin=subprocess.PIPE, pass_fds=[lock.fileno()])
    yield process
    process.kill()
    process.communicate()


def found(result):
    return {one["check"]: one for one in json.loads(result.output)}


def test_all_is_well_where_nothing_ran_yet(run):
    result = run("doctor", "--json")
    assert result.exit_code == 0
    assert {one["state"] for one in json.loads(result.output)} == {"ok"}
    assert "all is well" in run("doctor").output


def test_processes_without_a_node_are_ended_and_nothing_else(run, home, orphan, monkeypatch):
    monkeypatch.setattr(checks, "STARTING_SECONDS", 0.0)
    (home / "node.json").write_text('{"pid": 999999999, "address": "127.0.0.1:1"}')
    other = subprocess.Popen([sys.executable, "-c", "input()", str(home)], stdin=subprocess.PIPE)
    try:
        assert processes.of_folder(home) == [orphan.pid]
        result = run("doctor", "--json")
        assert result.exit_code == 1
        assert str(orphan.pid) in json.loads(result.output)[4]["text"]
        assert found(result)["node"]["text"] == "node.json says that a node runs, but it is dead"
        assert run("doctor", "--fix").exit_code == 0
        assert orphan.wait(60) < 0
        assert other.poll() is None
    finally:
        other.kill()
        other.communicate()


def test_a_node_that_is_just_starting_is_left_alone(run, home, orphan, monkeypatch):
    monkeypatch.setattr(checks, "STARTING_SECONDS", 3600.0)  # a busy host is slow to look
    assert run("doctor", "--fix").exit_code == 0
    assert orphan.poll() is None


def test_the_spool_of_a_run_that_is_finished_is_stale_and_of_one_that_may_go_on_is_not(run, home):
    (home / "spool").mkdir()
    with Journal(home / "journal.db") as journal:
        for run_id, state in (("paused", "paused"), ("finished", "finished")):
            path = home / "spool" / f"{run_id}.spool"
            path.write_text("x")
            os.utime(path, (1, 1))
            journal.create_run(RunSpec(run_id=run_id, kind="evaluate", dataset={"kind": "spool", "path": str(path)}))
            journal.set_state(run_id, state)
    run("doctor", "--fix")
    assert [path.name for path in (home / "spool").iterdir()] == ["paused.spool"]


def test_stale_files_go_and_fresh_ones_stay(run, home):
    (home / "spool").mkdir()
    old = [home / "run" / "config-1.json", home / "spool" / "a.spool"]
    fresh = [home / "run" / "config-2.json", home / "spool" / "b.spool"]
    for path in (*old, *fresh):
        path.write_text("x")
    long_ago = time.time() - 2 * checks.GRACE_SECONDS
    for path in old:
        os.utime(path, (long_ago, long_ago))
    (home / "node.json").write_text('{"pid": 999999999}')
    result = run("doctor", "--json")
    assert result.exit_code == 1
    assert found(result)["files"]["state"] == "warn"
    assert found(result)["node"]["state"] == "fail"
    assert run("doctor", "--fix").exit_code == 0
    assert not any(path.exists() for path in (*old, home / "node.json"))
    assert all(path.exists() for path in fresh)


def test_a_key_that_is_none_and_a_configuration_that_is_wrong_are_found(run, home, tmp_path):
    (home / "cluster.key").write_text("no key")
    (home / "cluster.key").chmod(0o600)
    (tmp_path / "dspex.toml").write_text("[node]\nprot = 1")
    result = run("doctor", "--json")
    assert result.exit_code == 1
    every = json.loads(result.output)
    failed = {one["check"] for one in every if one["state"] == "fail"}
    assert failed == {"configuration", "cluster key"}


def test_a_taken_port_is_found(run, home, monkeypatch):
    import socket

    with socket.create_server(("127.0.0.1", 0)) as taken:
        monkeypatch.setenv("DSPEX_NODE_PORT", str(taken.getsockname()[1]))
        assert found(run("doctor", "--json"))["port"]["state"] == "fail"


def test_whether_code_of_lms_can_be_run_is_tried(run, monkeypatch):
    one = found(run("doctor", "--json"))["code of LMs"]
    assert one["state"] == "ok"
    assert one["text"].startswith("is run in a sandbox: network: ")
    monkeypatch.setattr(PythonInterpreter, "_without", ("namespaces", "Landlock"))
    one = found(run("doctor", "--json"))["code of LMs"]
    assert one["state"] == "warn"
    assert "this host cannot keep files safe from it (namespaces: left out; Landlock: left out)" in one["text"]
    assert "ProgramOfThought and CodeAct run nothing here" in one["fix"]
