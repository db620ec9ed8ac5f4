"""The dspex command, end to end: every process it starts is its own, and none is left."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import warm

from dspex_actors.cli import processes
from dspex_actors.journal.index import list_runs
from supervisors.testing import wait_until

SECONDS = 60.0
PROGRAM = """
import dspex_actors as dspex
triage = dspex.Predict("ticket -> team")
def text(example, prediction, trace=None): return "yes"
"""
ANSWER = "[[ ## team ## ]]\nbilling\n\n[[ ## completed ## ]]"


class Host:
    """A working folder and a DSPEX_HOME, and commands in them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.home = folder / "home"
        self.running: list[subprocess.Popen] = []
        (folder / "prog.py").write_text(PROGRAM)
        rows = [{"ticket": f"ticket {number}", "team": "billing" if number % 2 else "bugs"} for number in range(60)]
        (folder / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    def popen(self, *words, **environ):
        kept = {name: value for name, value in os.environ.items() if not name.startswith("DSPEX_")}
        process = warm.Popen(
            [sys.executable, "-m", "dspex_actors", *map(str, words)],
            cwd=self.folder, env=kept | {"DSPEX_HOME": str(self.home)} | environ, text=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        self.running.append(process)
        return process

    def run(self, *words, status=0, **environ):
        process = self.popen(*words, **environ)
        out, err = process.communicate(timeout=SECONDS)
        assert process.returncode == status, (words, process.returncode, out, err)
        assert "Traceback" not in err
        return out, err

    def json(self, *words, status=0, **environ):
        return json.loads(self.run(*words, "--json", status=status, **environ)[0])

    def provider(self, *options):
        process = self.popen("provider", "serve", *options)
        words = process.stdout.readline().split()
        return process, words[words.index("openai") + 1]

    def pids(self):
        folders = [self.home, *self.home.glob("embedded/*")]
        return [pid for folder in folders for pid in processes.of_folder(folder)]

    def clear(self):
        for process in self.running:
            if process.poll() is None:
                process.kill()
            process.communicate()
        # What a killed daemon leaves to the kernel takes it a moment.
        for pid in self.pids():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        wait_until(lambda: not self.pids(), SECONDS)


@pytest.fixture
def host(tmp_path):
    made = Host(tmp_path)
    try:
        yield made
    finally:
        made.clear()


def names(tree):
    return [tree["id"], *(name for child in tree["children"] for name in names(child))]


def test_a_node_from_start_to_stop(host):
    both = [host.popen("start", "--name", "lab", "--workers", "2", "--json") for _ in range(2)]
    said = [json.loads(process.communicate(timeout=SECONDS)[0]) for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert sorted(one["started"] for one in said) == [False, True]
    assert said[0]["pid"] == said[1]["pid"]
    assert "runs already" in host.run("start")[0]

    status = host.json("status")
    assert {"name", "state", "address", "pid", "uptime", "version", "processes", "restarts"} <= set(status)
    assert (status["name"], status["state"]) == ("lab", "healthy")
    assert "healthy" in host.run("status")[0]
    (row,) = host.json("nodes")
    assert row["name"] == "lab"
    assert row["last_beat"] < 10

    tree = host.json("tree")
    assert {"id", "name", "type", "state", "pid", "restarts", "at_rest", "children", "memory", "cpu"} == set(tree)
    assert {"worker-1", "worker-2", "runs", "http_workers"} <= set(names(tree))
    assert "─ ◆ http_workers" in host.run("tree")[0]
    assert "node started" in host.run("logs")[0]
    assert host.json("failures") == []
    assert all(one["state"] == "ok" for one in host.json("doctor"))

    result = host.json(
        "evaluate", "prog:triage", "data.jsonl", "--metric", "exact_match:team", "--lm", "embedded/nearest"
    )
    assert (result["state"], result["total"], result["done"], result["failed"]) == ("finished", 60, 60, 0)
    assert "lab" in result["nodes"][0]
    assert host.json("runs")[0]["run_id"] == result["run_id"]

    assert "has stopped" in host.run("stop")[0]
    assert host.pids() == []
    assert "no node runs" in host.run("stop", status=2)[1]
    shown = host.json("runs", "show", result["run_id"])
    assert (shown["state"], shown["asked"]) == ("finished", 60)
    lines = [json.loads(line) for line in host.run("runs", "export")[0].splitlines()]
    assert [line["index"] for line in lines] == list(range(60))
    keys = ("index", "inputs", "labels", "prediction", "score", "error", "attempts", "latency", "usage")
    assert set(keys) <= set(lines[0])
    host.run("runs", "export", result["run_id"], "--output", "out.jsonl")
    assert [json.loads(line) for line in (host.folder / "out.jsonl").open()] == lines


@pytest.mark.soak
def test_ctrl_c_pauses_a_run_and_resume_goes_on_without_a_daemon(host):
    slow, url = host.provider("--latency-ms", "1000", "--answer", ANSWER)  # a command to pause takes its time
    words = ("evaluate", "prog:triage", "data.jsonl", "--metric", "exact_match:team", "--lm", "openai/x",
             "--base-url", url, "--max-in-flight", "4", "--run-id", "mine")  # fmt: skip
    process = host.popen(*words, "--json")
    wait_until(lambda: any(run["done"] >= 4 for run in list_runs(host.home)), SECONDS)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=SECONDS)
    told = json.loads(out)
    assert (process.returncode, told["state"], told["resume"]) == (130, "paused", "dspex runs resume mine")
    assert err.strip().endswith("resume with `dspex runs resume mine`")
    assert host.pids() == []
    paused = host.json("runs", "show", "mine")
    assert paused["state"] == "paused"
    assert 4 <= paused["done"] < 60
    # Whoever follows a run that somebody else pauses is told in the same document.
    process = host.popen("runs", "resume", "mine", "--json")
    wait_until(lambda: list_runs(host.home)[0]["done"] > paused["done"], SECONDS)
    assert host.json("runs", "pause", "mine")["state"] == "paused"
    out, err = process.communicate(timeout=SECONDS)
    told = json.loads(out)
    assert (process.returncode, told["state"], told["resume"]) == (1, "paused", "dspex runs resume mine")
    assert "run mine is paused (by dspex runs pause); resume with" in err
    slow.send_signal(signal.SIGTERM)
    slow.communicate(timeout=SECONDS)
    # At the same address, and as fast as it can.
    fast, _ = host.provider("--port", url.split(":")[2].split("/")[0], "--answer", ANSWER)
    done = host.json("runs", "resume", "mine")
    assert (done["state"], done["done"], done["failed"], done["score"]) == ("finished", 60, 0, 50.0)
    assert 60 <= done["asked"] <= 60 + 2 * 4, "what was in flight at the pauses is booked too, and no more"
    assert host.pids() == []
    fast.send_signal(signal.SIGTERM)
    fast.communicate(timeout=SECONDS)
    # Named again it answers from its journal, without any LM; with another metric it is refused.
    again = host.json(*words)
    assert (again["asked"], again["ended_at"]) == (done["asked"], done["ended_at"])
    other = [word.replace("exact_match:", "contains:") for word in words]
    assert "another metric" in host.run(*other, status=2)[1]


@pytest.mark.soak
def test_a_run_with_failed_examples_ends_with_status_1(host):
    _, url = host.provider("--answer", "nothing that could be read")
    words = ("evaluate", "prog:triage", "data.jsonl", "--metric", "exact_match:team", "--lm", "openai/x",
             "--base-url", url, "--failures", "skip", "--limit", "5")  # fmt: skip
    result = host.json(*words, status=1)
    assert (result["state"], result["done"], result["succeeded"], result["failed"]) == ("finished", 5, 0, 5)
    assert "AdapterParseError" in host.run("runs", "show", status=1)[0]


@pytest.mark.soak
def test_a_metric_that_returns_text_ends_the_run_early(host):
    words = ("evaluate", "prog:triage", "data.jsonl", "--metric", "prog:text", "--lm", "embedded/nearest")
    out, err = host.run(*words, status=1)
    assert "expected bool or number" in err
    assert len(err.strip().splitlines()) == 1
    assert "failed" in out


@pytest.mark.soak
def test_the_doctor_clears_up_after_a_crash(host):
    host.run("start")
    pid = json.loads((host.home / "node.json").read_text())["pid"]
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not host.pids(), SECONDS)
    assert "died" in host.run("status", status=2)[1]
    assert "doctor --fix" in host.run("stop", status=2)[1]
    found = {one["check"]: one for one in host.json("doctor", status=1)}
    assert found["node"]["state"] == "fail"
    host.run("doctor", "--fix")
    assert not (host.home / "node.json").exists()
    host.run("doctor")


def test_a_taken_port_and_an_open_key_are_one_line(host):
    import socket

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        _, err = host.run("start", "--port", port, status=2)
        assert f"127.0.0.1:{port}" in err
        assert len(err.strip().splitlines()) == 1
    (host.home / "cluster.key").chmod(0o644)
    _, err = host.run("start", status=2)
    assert "chmod 600" in err
    assert host.pids() == []


def test_a_node_in_the_foreground_stops_with_ctrl_c(host):
    process = host.popen("start", "--foreground")
    # Only from here on it is the node that Ctrl-C stops; before, it is the start that it breaks off.
    wait_until(lambda: "Ctrl-C stops it" in process.stdout.readline(), SECONDS)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=SECONDS)
    assert process.returncode == 0
    assert host.pids() == []
