"""`dspex runs` on journals whose nodes are gone."""

import json
import os
import sys
from collections import defaultdict
from types import SimpleNamespace

import pytest
import warm

from dspex_actors.cli import connection
from dspex_actors.client.system import System
from dspex_actors.data.fields import pack_example
from dspex_actors.foundation.codec import pack
from dspex_actors.foundation.files import replaced
from dspex_actors.foundation.home import default_data_dir
from dspex_actors.journal import index
from dspex_actors.journal.errors import Fenced
from dspex_actors.journal.records import ResultRow, RunSpec, StepRow
from dspex_actors.journal.steps import add_step, end_workflow, open_workflow
from dspex_actors.journal.writer import Journal


def result(index, score=1.0, **fields):
    example = pack_example({"q": f"Grüße {index} \u2028 🦜", "a": "x"}, ["q"])
    return ResultRow(index=index, example=example, prediction=pack({"a": "ß"}), score=score, **fields)


@pytest.fixture
def runs(tmp_path, run):
    """Two runs on one dataset and one that was cancelled; the command line."""
    now = [100.0]
    with Journal(tmp_path / "home" / "journal.db", clock=lambda: now[0]) as journal:
        for name, scores, settings in (
            ("one", [1.0, 0.0, 1.0], {}),
            ("two", [1.0, 1.0, 0.0, 1.0], {"failure_score": 0.25}),
        ):
            identity = {"metric": {"closure value 'limit'": str(len(scores))}}
            journal.create_run(
                RunSpec(
                    run_id=name, dataset_digest="d", metric_digest=name, settings=settings, identity=identity, total=5
                )
            )
            journal.add_results(name, [result(index, score) for index, score in enumerate(scores)])
            journal.add_results(name, [result(4, None, error={"type": "Timeout", "message": "m"})])
            journal.set_state(name, "finished")
            now[0] += 1.0
        journal.create_run(RunSpec(run_id="ended", dataset_digest="e"))
        journal.set_state("ended", "cancelled", "cancelled")
    return run


def test_two_runs_are_compared(runs):
    found = json.loads(runs("runs", "diff", "one", "two", "--json").stdout)
    assert found == {
        "runs": ["one", "two"],
        "scores": [66.67, 65.0],
        "costs": [0.0, 0.0],
        "failed": [1, 1],
        "parts": ["metric (closure value 'limit' was 3 and is 4)"],
        "better": 2,
        "worse": 1,
        "same": 1,
        "only_first": 0,
        "only_second": 1,
        "paired": {
            "n": 3,
            "better": 1,
            "worse": 1,
            "mean": 0.0,
            "low": -1.0,
            "high": 1.0,
            "p": 1.0,
            "is_noise": True,
        },
        "changed": [
            {"index": 1, "scores": [0.0, 1.0]},
            {"index": 2, "scores": [1.0, 0.0]},
            {"index": 4, "scores": [None, 0.25]},
        ],
    }
    assert json.loads(runs("runs", "diff", "two", "--json").stdout) == found
    shown = runs("runs", "diff", "two").stdout
    assert "closure value 'limit' was 3 and is 4" in shown
    assert "2 better, 1 worse, 1 the same" in shown
    assert "chance explains it: p = 1, +0.00 (95 %: -100.00 to +100.00) on 3 examples" in " ".join(shown.split())


def test_a_run_without_another_on_its_dataset_says_so(runs):
    found = runs("runs", "diff", "ended")
    assert found.exit_code == 2
    assert "no run before ended is on the same dataset" in found.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["pause", "one"], "run one is finished: there is nothing to pause"),
        (["pause", "ended"], "run ended is cancelled: there is nothing to pause"),
        (["cancel", "one"], "run one is finished: there is nothing to cancel"),
        (["delete", "nope"], "no run 'nope'"),
    ],
)
def test_what_cannot_be_ended_is_refused(runs, words, message):
    found = runs("runs", *words)
    assert found.exit_code == 2
    assert message in found.stderr


def test_to_cancel_a_cancelled_run_changes_nothing(runs):
    assert json.loads(runs("runs", "cancel", "ended", "--json").stdout)["state"] == "cancelled"


def test_a_failed_example_has_the_failure_score_of_its_run(runs):
    lines = [json.loads(line) for line in runs("runs", "export", "two").stdout.split("\n") if line]
    assert [line["score"] for line in lines] == [1.0, 1.0, 0.0, 1.0, 0.25]
    assert lines[0]["inputs"] == {"q": "Grüße 0 \u2028 🦜"}
    lines = [json.loads(line) for line in runs("runs", "export", "one").stdout.split("\n") if line]
    assert lines[-1]["score"] is None


@pytest.mark.soak
def test_results_are_exported_where_only_ascii_can_be_written(runs, tmp_path):
    env = os.environ | {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0", "PYTHONIOENCODING": "ascii"}
    for words in (["runs", "export", "two"], ["runs", "show", "two", "--json"], ["runs", "diff", "two"]):
        found = warm.run([sys.executable, "-m", "dspex_actors", *words], capture_output=True, env=env, check=False)
        assert b"Traceback" not in found.stderr
        assert b"error:" not in found.stderr
        assert found.stdout.isascii()
        if words[1] == "export":
            assert json.loads(found.stdout.splitlines()[0])["inputs"] == {"q": "Grüße 0 \u2028 🦜"}


@pytest.mark.parametrize("run_id", ["a/b", "..", "a\\b", "a\nb", "", "x" * 129, " a", "-a", "ä" * 101, "a\x00"])
def test_a_run_id_that_cannot_be_a_file_name_is_refused(run, run_id):
    found = run("evaluate", "p.json", "d.jsonl", "--metric", "exact_match:a", f"--run-id={run_id}")
    assert found.exit_code == 2
    assert "the run id is invalid: got" in found.stderr


def test_a_file_that_is_replaced_has_the_mode_of_a_new_one_and_the_umask_stays(tmp_path):
    before = os.umask(0o027)
    try:
        with replaced(tmp_path / "file") as file:
            file.write("x")
        assert (tmp_path / "file").stat().st_mode & 0o777 == 0o640
        assert os.umask(0o027) == 0o027
    finally:
        os.umask(before)
    with pytest.raises(ZeroDivisionError), replaced(tmp_path / "file") as file:
        raise ZeroDivisionError
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_text() == "x"


@pytest.fixture
def workflows(tmp_path, run):
    """Two workflows of two steps each: one is finished, one was paused after its first step; the command line."""
    with Journal(tmp_path / "home" / "journal.db") as journal:
        for name, done in (("whole", 2), ("half", 1)):
            spec = RunSpec(run_id=name, kind="workflow", dataset_digest="d", total=2)
            row = open_workflow(journal, spec, {"pid": 1, "born": 1}, lambda _: False)
            for step, error in (("find", None), ("answer", "KeyError: 'x'"))[:done]:
                state = "completed" if error is None else "fallback"
                add_step(journal, name, row.epoch, StepRow(step, state, 1, 0.5, 3.0, error, pack({step: (1, "ß")})))
            end_workflow(journal, name, row.epoch, "finished" if done == 2 else "paused", "its program ended")
    return run


def test_a_workflow_shows_its_steps(workflows):
    shown = workflows("runs", "show", "whole").stdout
    assert "steps   2 of 2" in shown
    assert all(text in shown for text in ("find", "completed", "answer", "fallback", "KeyError: 'x'"))
    assert not any(word in shown for word in ("score", "examples", "LM calls"))
    shown = " ".join(workflows("runs", "show", "half").stdout.replace("│", " ").split())
    assert "steps 1 of 2" in shown
    assert "workflow.run(data, durable=True, run_id='half')" in shown
    assert "runs resume" not in shown


def test_what_the_steps_of_a_workflow_gave_is_exported(workflows):
    lines = [json.loads(line) for line in workflows("runs", "export", "whole").stdout.splitlines()]
    assert [(line["step"], line["state"], line["data"]) for line in lines] == [
        ("find", "completed", {"find": [1, "ß"]}),
        ("answer", "fallback", {"answer": [1, "ß"]}),
    ]


def test_a_workflow_has_nothing_to_compare(workflows):
    found = workflows("runs", "diff", "whole", "half")
    assert found.exit_code == 2
    assert "run whole is a workflow: it has no examples to compare" in found.stderr


def test_a_paused_workflow_is_said_to_go_on_in_its_program(workflows):
    found = workflows("runs", "pause", "half")
    assert "it has 1 finished step; resume with `workflow.run(data, durable=True, run_id='half')`" in found.stderr


@pytest.mark.parametrize("verb", ["pause", "cancel"])
def test_a_run_that_goes_on_at_another_node_is_not_said_to_have_been_ended(runs, monkeypatch, verb):
    """It went on, and was paid for: the node's refusal was told to nobody, with status 0."""

    class There:
        def __enter__(self):
            info = defaultdict(str, data_dir=".", role="full")
            return System(SimpleNamespace(info=info, call=self.call), None, own=False)

        def __exit__(self, *error):
            pass

        def call(self, name, request, timeout):
            assert request[:2] == (verb, "there")
            return "error", Fenced("run there belongs to another node now").to_record()

    with Journal(default_data_dir() / "journal.db") as journal:
        journal.create_run(RunSpec(run_id="there"))
    monkeypatch.setattr(index, "as_it_is", lambda row, folder: row)
    monkeypatch.setattr(connection, "over", lambda folder: There())
    result = runs("runs", verb, "there")
    told = f"error: run there is that of a node which this one does not know: {verb} it there\n"
    assert (result.exit_code, result.stderr) == (2, told)
