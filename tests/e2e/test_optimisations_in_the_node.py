"""Optimisations that the node carries out: their user leaves, parts of it die, and they end as if nothing had been."""

import json
import subprocess
import sys
import threading
from pathlib import Path

import optimised
import pytest
from click.testing import CliRunner
from e2e_kit import lines, metric, tickets, triage, until
from optimised import Scripted, chosen, connected, is_yes, one, questions
from test_optimisers import SEARCH_OF_DSPY

import dspex_actors as dspex
from dspex_actors.cli.main import dspex as command
from dspex_actors.teleprompt import COPRO

#: The scores of the first two rounds of `optimised.begin("propose")`, undisturbed; the best is what DSPy chooses.
SCORES = [40.0, 80.0, 5.0, 90.0, 55.0, 20.0, 0.0, 80.0]
#: Requests of it: 11 proposals, and 12 candidates on 20 examples.
REQUESTS = 251
#: Examples at once of each run, and runs at once.
IN_FLIGHT = 4 * 8

system = pytest.fixture(connected)


def scores(handle):
    """Return the scores of the first two rounds, in the order of their names."""
    found = {(found.name, found.score) for found in handle.candidates()}
    return [score for name, score in sorted(found) if not name.startswith("round 3")]


@pytest.mark.parametrize("way", ["propose", pytest.param("search", marks=pytest.mark.soak)])
def test_its_user_leaves_and_its_parts_and_the_node_are_killed(tmp_path, shared_host, way):
    book, run_id = tmp_path / "book", f"lives {way}"
    whole = REQUESTS if way == "propose" else 900
    command = [sys.executable, optimised.__file__, str(shared_host.home), f"begin {way}", str(book), run_id]
    subprocess.run(command, cwd=Path(optimised.__file__).parent, check=True, timeout=120)
    with dspex.connect(home=shared_host.home) as system:
        handle = system.optimization(run_id)
        for number, what in enumerate(["optimise:", "optimisations", "run:", "worker-1"], 1):
            until(lambda least=0.1 * number * whole: lines(book) > least, 120)
            until(lambda what=what: shared_host.kills(what, system.node), 60)
        until(lambda: lines(book) > 0.6 * whole, 120)
        assert handle.status().state == "running"
        assert handle.best() is not None
    shared_host.kill_everything()
    shared_host.start()
    with dspex.connect(home=shared_host.home) as system:
        handle = system.optimization(run_id)
        assert handle.status().state == "paused"
        best = handle.resume().wait(120)
        status = handle.status()
    assert (status.state, status.remaining, status.running) == ("finished", 0.0, 0)
    if way == "search":
        assert [[demo["question"] for demo in one.demos] for one in best.predictors()] == SEARCH_OF_DSPY
        return
    assert scores(handle) == SCORES
    assert (best.signature.instructions, status.best_score) == ("Answer it.", 90.0)
    assert lines(book) <= REQUESTS + 5 * IN_FLIGHT


def test_what_compares_nothing_is_one_candidate_all_the_same(system):
    handle = system.start_optimization(dspex.LabeledFewShot(2), one(), questions(5), run_id="labelled")
    assert len(handle.wait(60).demos) == 2
    status = handle.status()
    assert (status.state, status.candidates, status.expected) == ("finished", 1, 1)
    assert len(handle.candidates()[0].state["demos"]) == 2


@pytest.mark.soak
def test_two_of_one_id_are_one(system):
    handles, errors = [], []

    def start():
        try:
            handles.append(optimised.begin("propose", system, "twice"))
        except dspex.ConfigError as error:
            errors.append(error)

    threads = [threading.Thread(target=start) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    with pytest.raises(dspex.ConfigError, match="run twice is being carried out by process"):
        COPRO(metric=is_yes, breadth=4, depth=3).compile(one(), trainset=questions(20), run_id="twice")
    words = r"twice is there already with other settings \(breadth was 4 and is 5\)"
    with pytest.raises(dspex.ConfigError, match=words):
        system.start_optimization(COPRO(metric=is_yes, breadth=5, depth=3), one(), questions(20), run_id="twice")
    first, second = (chosen(handle.wait(120)) for handle in handles)
    assert first == second
    assert [status.run_id for status in system.optimizations()].count("twice") == 1
    assert scores(handles[0]) == SCORES
    # The program's own optimisation of this id is that of the node, and asks nothing anew.
    again = COPRO(metric=is_yes, breadth=4, depth=3).compile(
        one(), trainset=questions(20), run_id="twice", display_progress=False
    )
    assert chosen(again) == first


@pytest.mark.soak
def test_it_is_paused_resumed_and_cancelled_and_its_budget_of_calls_is_kept(tmp_path, shared_host):
    book = tmp_path / "book"
    with dspex.connect(home=shared_host.home, lm=Scripted(str(book), 0.02)) as system:
        handle = optimised.begin("propose", system, "paused", budget={"calls": 60})
        with pytest.raises(dspex.BudgetExceeded, match=r"its budget is used up .*60 calls are made"):
            handle.wait(120)
        assert 60 <= handle.status().calls <= 60 + IN_FLIGHT
        handle.resume(budget={"calls": 10_000})
        until(lambda: lines(book) > 120, 60)
        handle.pause("lunch")
        with pytest.raises(dspex.RunInterrupted, match=r"optimisation paused is paused \(lunch\); go on with system"):
            handle.wait(60)
        until(lambda: not handle.status().running, 60)
        best = handle.best()
        assert type(best) is dspex.Predict
        assert handle.status().best_score is not None
        handle.resume()
        assert handle.status().state == "running"
        with pytest.raises(dspex.ConfigError, match="paused is under way with the budget that it has: pause it first"):
            handle.resume(budget=3)
        handle.wait(120)
        assert scores(handle) == SCORES
        assert lines(book) <= REQUESTS + 2 * IN_FLIGHT

        other = optimised.begin("propose", system, "cancelled")
        until(lambda: other.status().running, 60)
        other.cancel("enough")
        with pytest.raises(dspex.RunFailed, match="optimisation cancelled cancelled: enough"):
            other.wait(60)
        until(lambda: not other.status().running, 60)
        with pytest.raises(dspex.ConfigError, match=r"run cancelled was cancelled \(enough\)"):
            other.resume()
        with pytest.raises(dspex.ConfigError, match=r"run cancelled was cancelled \(enough\)"):
            optimised.begin("propose", system, "cancelled")
        found = other.status().candidates
        optimised.begin("propose", system, "cancelled", force_resume=True)
        until(lambda: other.status().candidates > found, 60)
        other.cancel()
        system.delete("cancelled")
        assert not [run for run in system.runs() if run["run_id"].startswith("cancelled")]


@pytest.mark.soak
@pytest.mark.parametrize(
    "optimizer",
    [
        dspex.BootstrapFewShot(metric(), max_labeled_demos=4),
        dspex.LabeledFewShot(k=3),
        dspex.DistributedBootstrap(metric(), target_demos=2, chunk_size=6, max_labeled_demos=4),
    ],
    ids=lambda one: one.name,
)
def test_each_optimiser_gives_in_the_node_what_its_compile_gives(shared_host, optimizer):
    train = [dspex.Example(row).with_inputs("ticket") for row in tickets(12)]
    with dspex.connect(home=shared_host.home, lm="embedded/nearest") as system:
        best = system.start_optimization(optimizer, triage(), train).wait(120)
        assert chosen(best) == chosen(optimizer.compile(triage(), trainset=train, display_progress=False))


@pytest.mark.soak
def test_the_command_line_begins_pauses_goes_on_and_compares(shared_host, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DSPEX_HOME", str(shared_host.home))
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in tickets(20)))
    dspex.Predict("ticket -> team").save("triage.json")

    def run(*words, status=0):
        result = CliRunner().invoke(command, [*map(str, words), "--json"])
        assert result.exit_code == status, result.output + result.stderr
        return json.loads(result.stdout)

    begun = run(
        *("optimize", "triage.json", "rows.jsonl", "--optimizer", "random-search", "--metric", "exact_match:team"),
        *("--lm", "embedded/nearest", "--set", "num_candidate_programs=1", "--run-id", "by-command"),
        *("--max-calls", 5, "--max-in-flight", 2),
        status=1,
    )
    assert (begun["state"], begun["expected"], begun["max_calls"]) == ("paused", 4, 5)
    ended = run("optimizations", "resume", "by-command", "--max-calls", 10_000, "-o", "best.json")
    assert (ended["state"], ended["candidates"], ended["saved"]) == ("finished", 4, "best.json")
    shown = run("optimizations", "show", "by-command")
    as_run = run("runs", "show", "by-command")
    assert (as_run["best"], as_run["found"], as_run["kind"]) == (shown["best"], shown["found"], "optimise")
    assert {part["kind"] for part in shown["parts"]} == {"evaluate", "bootstrap"}
    best = max(shown["found"], key=lambda one: one["score"] or 0.0)
    assert (best["score"], best["name"]) == (shown["best_score"], shown["best"])
    again = dspex.Predict("ticket -> team")
    again.load("best.json")
    assert [dict(demo) for demo in again.demos] == best["program"]["demos"]
    # Numbers follow from which one was scored first.
    bare = next(one["number"] for one in shown["found"] if one["name"] == "seed -3")
    difference = run("optimizations", "diff", "by-command", bare, "best")["differences"]
    assert difference["program"]["demos_new"] == best["program"]["demos"]
    assert "by-command" in [one["run_id"] for one in run("optimizations")]
