"""Durable workflows: each finished step is in the journal, and the same id goes on after it, whatever was killed."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import warm
from click.testing import CliRunner
from e2e_kit import Background, Host, gone, until

import dspex_actors as dspex
from dspex_actors.cli.main import dspex as command
from dspex_actors.journal.index import list_runs

WAIT = 100.0


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    one = Host(tmp_path_factory.mktemp("flows"), workers=1)
    try:
        yield one.start()
    finally:
        one.close()


@pytest.fixture
def system(place, monkeypatch):
    monkeypatch.setenv("DSPEX_HOME", str(place.home))
    with dspex.connect() as one:
        yield one


class Log:
    """Which steps have run; told by files, so that identities do not hang on it."""

    def __init__(self, folder):
        self.folder = Path(folder)

    def note(self, what):
        with (self.folder / "ran").open("a") as file:
            file.write(what + "\n")

    @property
    def ran(self):
        path = self.folder / "ran"
        return path.read_text().split() if path.exists() else []


def workflow(log, fails=False, last=None):
    """Steps a, b and c side by side, d, which fails while there is a file, e."""

    def put(name):
        def step(data):
            log.note(name)
            return {name: (data["n"], name)}

        return step

    def d(data):
        log.note("d")
        if (log.folder / "fail").exists():
            raise ValueError("not yet")
        return {"d": data["a"]}

    return dspex.Workflow(
        [("a", put("a")), dspex.Branches({"b": put("b"), "c": [("x", put("c"))]}), ("d", d), ("e", last or put("e"))]
    )


DATA = {"a": (1, "a"), "b": (1, "b"), "c": (1, "c"), "d": (1, "a"), "e": (1, "e")}


@pytest.mark.parametrize("way", ["run", "arun"])
def test_it_goes_on_after_the_last_finished_step(system, tmp_path, way):
    def run(flow, data, run_id=None):
        if way == "run":
            return flow.run(data, durable=True, run_id=run_id)
        return asyncio.run(flow.arun(data, durable=True, run_id=run_id))

    log = Log(tmp_path)
    (tmp_path / "fail").touch()
    with pytest.raises(dspex.WorkflowError, match="step 'd' of 'workflow' failed: ValueError: not yet") as caught:
        run(workflow(log), {"n": 1})
    run_id = caught.value.run_id
    assert sorted(log.ran) == ["a", "b", "c", "d"]
    (listed,) = [one for one in system.runs() if one["run_id"] == run_id]
    assert (listed["kind"], listed["state"], listed["done"], listed["total"]) == ("workflow", "failed", 3, 5)
    assert "not yet" in listed["reason"]
    failed = CliRunner().invoke(command, ["runs", "show", run_id])
    assert failed.exit_code == 1
    # Not `dspex runs resume`, which has not its steps.
    assert f"run_id='{run_id}'" in "".join(failed.output.replace("│", "").split())
    (tmp_path / "fail").unlink()
    result = run(workflow(log), {"n": 1}, run_id)
    assert sorted(log.ran) == ["a", "b", "c", "d", "d", "e"]
    assert result.data == {"n": 1, **DATA}
    assert {step.name: step.state for step in result.steps} == {
        "a": "restored", "b": "restored", "c/x": "restored", "d": "completed", "e": "completed",
    }  # fmt: skip
    again = run(workflow(log), {"n": 1}, run_id)
    assert (again.data, {step.state for step in again.steps}) == (result.data, {"restored"})
    assert len(log.ran) == 6
    shown = json.loads(CliRunner().invoke(command, ["runs", "show", run_id, "--json"]).output)
    assert shown["state"] == "finished"
    assert [(step["step"], step["state"]) for step in shown["steps"][-2:]] == [("d", "completed"), ("e", "completed")]
    page = CliRunner().invoke(command, ["runs", "show", run_id])
    assert page.exit_code == 0
    assert "5 of 5" in page.output
    assert "c/x" in page.output
    assert "score" not in page.output
    lines = CliRunner().invoke(command, ["runs", "export", run_id]).output.splitlines()
    assert {line["step"]: line["data"] for line in map(json.loads, lines)}["d"] == {"d": [1, "a"]}
    assert run_id in CliRunner().invoke(command, ["runs"]).output


def test_what_a_step_changes_in_place_is_as_little_there_as_after_a_restart(system):
    def append(data):
        data["found"].append("by append")

    given = {"found": []}
    result = dspex.Workflow([("append", append), ("copy", lambda data: {"copy": data["found"]})]).run(
        given, durable=True
    )
    assert (given, result.data) == ({"found": []}, {"found": [], "copy": []})


def test_its_run_is_traced_by_its_id(system):
    with dspex.testing.capture_events() as events:
        run_id = dspex.Workflow([("a", lambda data: {"at": dspex.correlation_id()})]).run({}, durable=True).run_id
    assert {event.correlation_id for event in events if event.type.startswith("workflow.")} == {run_id}


def test_another_workflow_or_other_data_under_its_id_are_refused(system, tmp_path):
    log = Log(tmp_path)
    run_id = workflow(log).run({"n": 1}, durable=True).run_id
    with pytest.raises(dspex.ConfigError, match=r"other data \(n was 1 and is 2\)"):
        workflow(log).run({"n": 2}, durable=True, run_id=run_id)
    with pytest.raises(dspex.ConfigError, match=r"other steps \(step e has changed\)"):
        workflow(log, last=lambda data: {"e": "another"}).run({"n": 1}, durable=True, run_id=run_id)
    given = workflow(log).given
    with pytest.raises(dspex.ConfigError, match=r"other steps \(order was a, b, c/x, d, e and is a, d, b, c/x, e\)"):
        dspex.Workflow([given[0], given[2], given[1], given[3]]).run({"n": 1}, durable=True, run_id=run_id)
    with pytest.raises(dspex.ConfigError, match="the run id is invalid"):
        workflow(log).run({"n": 1}, durable=True, run_id="../x")
    with pytest.raises(dspex.ConfigError, match=rf"run {run_id} is a workflow.*workflow.run\(data, durable=True"):
        system.resume(run_id, display_progress=False)


def test_what_cannot_be_written_is_said_before_anything_is_lost(system, tmp_path):
    log = Log(tmp_path)
    with pytest.raises(dspex.ConfigError, match="the data cannot be written down: 'lock' holds something"):
        workflow(log).run({"n": 1, "lock": threading.Lock()}, durable=True)
    assert log.ran == []

    def opens(data):
        return {"good": 1, "lock": threading.Lock()}

    flow = dspex.Workflow([("one", lambda data: {"one": 1}), ("opens", opens)])
    with pytest.raises(
        dspex.WorkflowError, match="what step 'opens' gave cannot be written down: 'lock' holds"
    ) as caught:
        flow.run(durable=True)
    assert caught.value.data.keys() == {"one", "good", "lock"}
    assert [(one["done"], one["state"]) for one in system.runs() if one["run_id"] == caught.value.run_id] == [
        (1, "failed")
    ]


def test_one_of_two_that_resume_it_at_once_is_refused(system, tmp_path):
    there, go = threading.Event(), threading.Event()

    def waits(data):
        there.set()
        assert go.wait(WAIT)

    # Identities look at what a function reads: an event would not be told twice alike.
    flow = dspex.Workflow([("waits", Opaque(waits))])
    first = Background(flow.run, {}, durable=True, run_id="twice")
    assert there.wait(WAIT)
    with pytest.raises(dspex.ConfigError, match=f"run twice is being carried out by process {os.getpid()}"):
        flow.run({}, durable=True, run_id="twice")
    go.set()
    assert first.result().run_id == "twice"


class Opaque:
    """A function that is told by its class only."""

    __slots__ = ("history",)

    def __init__(self, function):
        self.history = function

    def __call__(self, data):
        return self.history(data)


@pytest.mark.parametrize("verb", ["pause", "cancel"])
def test_it_stops_before_the_next_step_when_it_is_ended_from_outside(system, verb):
    run_id = f"ended-{verb}"
    ran = []
    stop = Opaque(lambda data: ran.append(1) or CliRunner().invoke(command, ["runs", verb, run_id]))
    flow = dspex.Workflow(
        [("stop", [("a", Opaque(lambda data: stop(data) and None))]), ("b", Opaque(lambda data: ran.append(2)))]
    )
    with pytest.raises(dspex.RunInterrupted, match="the workflow does not go on here") as caught:
        flow.run({}, durable=True, run_id=run_id)
    assert caught.value.run_id == run_id
    assert ("resume it with" in str(caught.value)) is (verb == "pause")
    if verb == "pause":
        assert flow.run({}, durable=True, run_id=run_id).steps[0].state == "restored"
        assert ran == [1, 2]
    else:
        with pytest.raises(dspex.ConfigError, match="was cancelled"):
            flow.run({}, durable=True, run_id=run_id)
        assert ran == [1]


def test_an_interrupted_one_is_paused(system):
    flow = dspex.Workflow([("a", lambda data: {"a": 1}), ("b", Opaque(interrupted))])
    with pytest.raises(KeyboardInterrupt):
        flow.run({}, durable=True, run_id="interrupted")
    row = system.journal.get_run("interrupted")
    assert (row.state, row.reason, row.done) == ("paused", "interrupted", 1)


@pytest.mark.parametrize("when", ["while it is opened", "in a step"])
def test_one_whose_task_is_cancelled_is_paused(system, when):
    run_id = f"cancelled {when}"

    async def main():
        started = asyncio.Event()

        async def waits(data):
            started.set()
            await asyncio.sleep(WAIT)

        flow = dspex.Workflow([("a", lambda data: {"a": 1}), ("b", Opaque(waits))])
        task = asyncio.create_task(flow.arun({}, durable=True, run_id=run_id))
        await (started.wait() if when == "in a step" else two_turns())
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    async def two_turns():
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    asyncio.run(main())
    row = system.journal.get_run(run_id)
    assert (row.state, row.reason) == ("paused", "interrupted")


def interrupted(data):
    raise KeyboardInterrupt


def test_the_keeper_of_runs_is_killed_between_steps(system, place, tmp_path):
    killed = []

    def kills(data):
        killed.append(place.kill("runs", system.node))
        until(lambda: gone(killed[0]))
        return {"killed": True}

    flow = dspex.Workflow(
        [("a", lambda data: {"a": 1}), ("kills", Opaque(kills)), ("c", lambda data: {"c": data["a"]})]
    )
    result = flow.run({}, durable=True, run_id="keeper")
    assert result.data == {"a": 1, "killed": True, "c": 1}
    assert system.journal.get_run("keeper").state == "finished"


PROGRAM = """
import os, sys
import dspex_actors as dspex

folder = os.environ["LOG"]

def note(what):
    with open(os.path.join(folder, "ran"), "a") as file:
        file.write(what + "\\n")

def first(data):
    note("first")
    return {"first": data["n"] + 1}

def second(data):
    note("second")
    if not os.path.exists(os.path.join(folder, "go")):
        print("hangs", flush=True)
        sys.stdin.readline()
    return {"second": data["first"] + 1}

def third(data):
    note("third")
    return {"third": data["second"] + 1}

dspex.connect(home=os.environ["DSPEX_HOME"], workers=1)
flow = dspex.Workflow([("first", first), ("second", second), ("third", third)])
try:
    print(flow.run({"n": 1}, durable=True, run_id="long").data, flush=True)
except dspex.RunInterrupted as error:
    print("interrupted", error.run_id, flush=True)
    sys.stdin.readline()
    dspex.connect()
    print(flow.run({"n": 1}, durable=True, run_id=error.run_id).data, flush=True)
"""


def start(home, folder):
    (folder / "program.py").write_text(PROGRAM)
    return warm.Popen(
        [sys.executable, "program.py"],
        cwd=folder,
        env={**os.environ, "DSPEX_HOME": str(home), "LOG": str(folder)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def test_the_program_is_killed_between_steps(system, place, tmp_path):
    killed = start(place.home, tmp_path)
    assert killed.stdout.readline() == "hangs\n"
    os.kill(killed.pid, signal.SIGKILL)
    killed.wait()
    until(lambda: system.journal.get_run("long").state == "paused", WAIT)
    assert system.journal.get_run("long").reason == "its program ended"
    (tmp_path / "go").touch()
    again = start(place.home, tmp_path)
    assert again.communicate(timeout=WAIT)[0] == "{'n': 1, 'first': 2, 'second': 3, 'third': 4}\n"
    assert Log(tmp_path).ran == ["first", "second", "second", "third"]


@pytest.mark.soak
def test_the_node_and_its_program_are_killed_between_steps(tmp_path):
    """A node of the program's own is gone with it; the journal is found wherever it is."""
    home = tmp_path / "own"
    killed = start(home, tmp_path)
    assert killed.stdout.readline() == "hangs\n"
    os.kill(killed.pid, signal.SIGKILL)
    killed.wait()
    until(lambda: [one["state"] for one in list_runs(home)] == ["paused"], WAIT)
    (tmp_path / "go").touch()
    again = start(home, tmp_path)
    assert again.communicate(timeout=WAIT)[0] == "{'n': 1, 'first': 2, 'second': 3, 'third': 4}\n"
    assert Log(tmp_path).ran == ["first", "second", "second", "third"]


def test_the_node_is_killed_between_steps_and_the_program_says_how_to_go_on(tmp_path):
    home = tmp_path / "host"
    host = Host(home, workers=1)
    try:
        host.start()
        one = start(home, tmp_path)
        assert one.stdout.readline() == "hangs\n"
        host.kill_everything()
        one.stdin.write("\n")
        one.stdin.flush()
        assert one.stdout.readline() == "interrupted long\n"
        host.start()
        (tmp_path / "go").touch()
        # The program itself may go on: it was the run's holder, and nobody has heard of its giving up.
        assert one.communicate("\n", timeout=WAIT)[0] == "{'n': 1, 'first': 2, 'second': 3, 'third': 4}\n"
        assert Log(tmp_path).ran == ["first", "second", "second", "third"]
    finally:
        host.close()
