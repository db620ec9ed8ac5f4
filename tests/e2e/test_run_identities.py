"""A run is what it was started with, whoever goes on with it; and a run that nobody waits for spends nothing."""

import contextlib
import json
import os
import signal
import subprocess
import sys

import pytest
import warm
from e2e_kit import ANSWER, LMServer, metric, tickets, triage, until

import dspex_actors as dspex
from dspex_actors.names import RUNS
from dspex_actors.runs.notes import FOLDER


@pytest.fixture(scope="module")
def system(tmp_path_factory):
    """One node for all tests that need no other; each has a run id of its own."""
    with (
        pytest.MonkeyPatch.context() as patch,
        contextlib.closing(LMServer("--latency-ms", 20, "--answer", ANSWER)) as lm,
    ):
        patch.setenv("DSPEX_HOME", str(tmp_path_factory.mktemp("shared") / "home"))
        with dspex.connect(lm=lm.lm(), workers=1) as connected:
            connected.lm_server = lm
            yield connected


@pytest.fixture
def run_id(request):
    return request.node.name


def evaluate(devset, **options):
    return dspex.evaluate(triage(), devset, metric(), display_progress=False, **options)


def pause_in_the_middle(system, devset, run_id):
    """Start a run and pause it after a few examples."""

    def stop(summary):
        if summary["done"] >= 2:
            system.pause(run_id)

    with pytest.raises(dspex.RunInterrupted):
        evaluate(devset, run_id=run_id, max_in_flight=2, on_progress=stop, system=system)


def data_file(tmp_path, count=40):
    path = tmp_path / "data.jsonl"
    path.write_text("".join(json.dumps({"ticket": f"ticket {n}", "team": "bugs"}) + "\n" for n in range(count)))
    return path


@pytest.mark.soak
def test_an_edited_dataset_is_refused_at_every_opening_and_taken_where_that_is_said(system, run_id, tmp_path):
    path = data_file(tmp_path)
    pause_in_the_middle(system, path, run_id)
    text = path.read_text()
    path.write_text(text.replace("ticket 39", "ticket 93"))
    with pytest.raises(dspex.RunFailed, match=r"was changed since the run began: it has [\d,]+ bytes as before, but"):
        system.resume(run_id, display_progress=False)
    with pytest.raises(dspex.ConfigError, match="another dataset: "):
        evaluate(path, run_id=run_id, system=system)
    path.write_text(text + text)
    with pytest.raises(dspex.RunFailed, match=r"it had 1,\d+ bytes and has [23],\d+; put it back as it was"):
        system.resume(run_id, display_progress=False)
    with pytest.raises(dspex.ConfigError, match="number of examples was 40 and is 80"):
        evaluate(path, run_id=run_id, system=system)
    assert system.resume(run_id, display_progress=False, force_resume=True).n == 80


def test_a_file_that_is_put_back_is_the_same(system, run_id, tmp_path):
    path = data_file(tmp_path)
    pause_in_the_middle(system, path, run_id)
    text = path.read_text()
    path.write_text("")
    with pytest.raises(dspex.RunFailed):
        system.resume(run_id, display_progress=False)
    path.write_text(text)
    assert evaluate(path, run_id=run_id, system=system).n == 40


def test_another_model_is_refused_and_another_server_is_not(system, run_id, server):
    first = evaluate(tickets(4), run_id=run_id, system=system)
    asked = system.lm_server.requests
    other = system.lm_server.lm(temperature=0.5)
    with pytest.raises(dspex.ConfigError, match=r"another LM \(temperature is new\)"):
        evaluate(tickets(4), run_id=run_id, lm=other, system=system)
    moved = server("--answer", ANSWER)
    again = evaluate(tickets(4), run_id=run_id, lm=moved.lm(timeout=3.0), system=system)
    forced = evaluate(tickets(4), run_id=run_id, lm=other, system=system, force_resume=True)
    assert first.score == again.score == forced.score
    assert (system.lm_server.requests, moved.requests) == (asked, 0)


def test_a_cancelled_run_goes_on_only_where_that_is_said(system, run_id):
    pause_in_the_middle(system, tickets(30), run_id)
    assert not any((system.data_dir / FOLDER).glob("*")), "what was asked is in the journal, and noted nowhere else"
    system.cancel(run_id)
    for go_on in (lambda: system.resume(run_id), lambda: evaluate(tickets(30), run_id=run_id, system=system)):
        with pytest.raises(dspex.ConfigError, match=r"was cancelled \(cancelled\): it goes on only if that is meant"):
            go_on()
    assert system.journal.get_run(run_id).state == "cancelled"
    assert system.resume(run_id, display_progress=False, force_resume=True).n == 30


def test_whoever_follows_a_run_and_fails_leaves_it_paused(system, run_id):
    def fail(summary):
        if summary["done"]:
            raise ZeroDivisionError("mine")

    with pytest.raises(ZeroDivisionError, match="mine"):
        evaluate(tickets(500), run_id=run_id, max_in_flight=2, on_progress=fail, system=system)
    row = system.journal.get_run(run_id)
    assert (row.state, row.reason) == ("paused", "whoever followed it failed with ZeroDivisionError: mine")
    assert row.done < 500


def test_the_lm_of_a_connection_that_is_named_goes_before_that_of_the_last_one(system, server):
    other = server("--answer", ANSWER)
    before = system.lm_server.requests
    with dspex.context(lm=other.lm(temperature=0.1)):
        evaluate(tickets(3), system=system)
    assert (system.lm_server.requests - before, other.requests) == (0, 3)
    lm = dspex.settings.lm
    dspex.configure(lm=other.lm())
    try:
        evaluate(tickets(3), system=system)
        assert (system.lm_server.requests - before, other.requests) == (3, 3)
        evaluate(tickets(3))
        assert (system.lm_server.requests - before, other.requests) == (3, 6)
    finally:
        dspex.configure(lm=lm)


def test_a_request_that_cannot_be_done_does_not_end_the_keeper(system):
    pid, count = system.node.pid(RUNS), len(system.runs())
    for request in (("create", {"run_id": "x", "settings": {"a": object}}, False), ("add", "x", [[{}]]), "what", 3):
        kind, error = system.node.call(RUNS, request)
        assert (kind, error["type"]) in (("error", "DspexError"), ("error", "ConfigError"))
    with pytest.raises(dspex.ConfigError, match="the run id is invalid"):
        system._ask("create", {"run_id": "../x"}, False)
    assert (system.node.pid(RUNS), len(system.runs())) == (pid, count)


def test_numbers_of_other_libraries_are_numbers(system, run_id):
    class Whole(int):
        """As numpy's: a number that JSON does not know."""

    class Real(float):
        pass

    result = evaluate(
        tickets(3), run_id=run_id, max_in_flight=Whole(2), max_attempts=Whole(1), failure_score=Real(0.5), system=system
    )
    assert result.n == 3


def test_a_keeper_that_stands_still_while_a_run_is_made_keeps_its_examples(system, run_id, monkeypatch):
    pid = system.node.pid(RUNS)
    ask = system._ask
    monkeypatch.setattr(system, "_ask", lambda *request, **options: ask(*request, timeout=0.2))
    os.kill(pid, signal.SIGSTOP)
    try:
        with pytest.raises(dspex.RunInterrupted, match="continue with run_id="):
            system.start_run("evaluate", triage(), tickets(5), metric(), run_id=run_id)
    finally:
        os.kill(pid, signal.SIGCONT)
    monkeypatch.undo()
    until(lambda: system.journal.get_run(run_id) is not None)
    assert system.wait_run(run_id).n == 5


def command(*words):
    return warm.Popen(
        [sys.executable, "-m", "dspex_actors", "runs", *words, "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def told(process):
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    return json.loads(out)


@pytest.mark.soak
def test_a_run_of_a_node_that_is_gone_is_resumed_by_two_at_once_and_ended(home, server):
    lm_server = server("--latency-ms", 20, "--answer", ANSWER)
    with dspex.connect(lm=lm_server.lm(), workers=1) as system:
        for run_id in ("mine", "other"):
            pause_in_the_middle(system, tickets(60), run_id)
    both = [command("resume", "mine", "--quiet") for _ in range(2)]
    found = [told(one) for one in both]
    assert [(one["state"], one["done"]) for one in found] == [("finished", 60)] * 2
    assert all(60 <= one["asked"] <= 64 for one in found), "what was in flight at a pause is booked too, and no more"
    assert told(command("pause", "other"))["state"] == "paused"
    assert told(command("cancel", "other"))["state"] == "cancelled"
    assert told(command("delete", "other"))["deleted"]
    assert [row["run_id"] for row in told(command())] == ["mine"]
