import csv
import io
import json
from dataclasses import replace

import pytest
from rich.console import Console

from dspex_actors.client.report import advice_for
from dspex_actors.client.result import EvaluationResult
from dspex_actors.data.fields import pack_example
from dspex_actors.errors import RunFailed
from dspex_actors.foundation.codec import pack
from dspex_actors.journal.index import as_it_is
from dspex_actors.journal.reader import JournalReader
from dspex_actors.journal.records import ResultRow, RunSpec
from dspex_actors.journal.schema import to_json
from dspex_actors.journal.summary import duration_of, export_lines, run_summary
from dspex_actors.journal.writer import Journal
from dspex_actors.lm.attempts import SECOND, Attempt
from dspex_actors.names import run_command


def finished(tmp_path, *, n=1203, failed=3, settings=None, state="finished", reason=None, cost=0.001):
    path, now = tmp_path / "journal.db", [1000.0]
    with Journal(path, clock=lambda: now[0]) as journal:
        journal.create_run(RunSpec(run_id="r-1", metric_name="exact_match:team", settings=settings or {}, total=n))
        rows = []
        for i in range(n):
            bad = i < failed
            rows.append(
                ResultRow(
                    index=i,
                    example=pack_example({"ticket": f"t{i}", "team": "bugs"}, ["ticket"]),
                    prediction=None if bad else pack({"team": "bugs"}),
                    score=None if bad else float(i % 2),
                    asked=1,
                    error={"type": "Timeout", "message": "no [answer]\nin time"} if bad else None,
                    latency=0.25,
                    usage={"prompt_tokens": 10},
                    cost=cost,
                    worker="n1/w1",
                    at=1002.0,
                )
            )
        sent = {
            "at": 1001.0,
            "provider": "openai",
            "model": "x",
            "outcome": "answered",
            "usage": to_json(rows[0].usage),
        }
        journal.add_results("r-1", rows, [Attempt(index=i, send=1, n=1, cost=cost, **sent) for i in range(n)])
        now[0] = 1004.0
        journal.set_state("r-1", state, reason)
    return JournalReader(path)


def shown(result):
    console = Console(width=110, record=True, file=io.StringIO())
    console.print(result.table())
    return console.export_text()


def test_the_figures_are_those_of_the_run(tmp_path):
    result = EvaluationResult.of(finished(tmp_path), "r-1")
    assert (result.n, result.succeeded, result.failed, result.asked) == (1203, 1200, 3, 1203)
    assert (result.score, result.mean) == (50.0, 0.5)
    assert (result.usage, result.duration) == ({"prompt_tokens": 12030}, 4.0)
    node = result.nodes["n1"]
    assert (list(result.nodes), node["done"], node["failed"]) == (["n1"], 1203, 3)
    assert result.cost == pytest.approx(1.203)
    assert repr(result) == "<EvaluationResult r-1: score 50.00, 1,203 examples, 3 failed>"
    assert "50.0" in result._repr_html_()


@pytest.mark.parametrize(
    ("n", "failed", "settings", "score"),
    [
        (3, 0, None, 33.33),
        (3, 1, {"failure_score": 0.0}, 33.33),
        (3, 3, None, None),
        (4, 4, {"failure_score": 0.5}, 50.0),
    ],
)
def test_score_counts_failures_only_when_told_to(tmp_path, n, failed, settings, score):
    assert EvaluationResult.of(finished(tmp_path, n=n, failed=failed, settings=settings), "r-1").score == score


def test_a_finished_run_is_read_with_the_failure_score_given_last(tmp_path):
    reader = finished(tmp_path, n=4, failed=2)
    assert EvaluationResult.of(reader, "r-1").score == 50.0
    there = reader.get_run("r-1").spec
    with Journal(tmp_path / "journal.db") as journal:
        journal.create_run(replace(there, settings={"failure_score": 0.0, "max_in_flight": 1}))
    assert reader.get_run("r-1").spec.settings == {"failure_score": 0.0}
    assert EvaluationResult.of(reader, "r-1").score == 25.0


def test_an_unknown_price_makes_the_cost_unknown(tmp_path):
    result = EvaluationResult.of(finished(tmp_path, n=2, cost=None), "r-1")
    assert result.cost is None
    assert "unknown (no LM call has a known price)" in shown(result)


def test_the_known_part_of_the_cost_is_shown_where_some_of_it_is_unknown(tmp_path):
    reader = finished(tmp_path, n=4)
    with Journal(tmp_path / "journal.db") as journal:
        lost = Attempt(index=0, send=2, n=1, at=1.0, provider="openai", model="x", outcome="lost", cost=None)
        journal.add_results("r-1", [], [lost])
    result = EvaluationResult.of(reader, "r-1")
    assert result.cost is None
    assert "at least $0.0040 (1 of the LM calls has no known price)" in shown(result)


def test_results_are_read_lazily_in_input_order(tmp_path):
    result = EvaluationResult.of(finished(tmp_path), "r-1")
    results = result.results
    assert len(results) == 1203
    assert [r.index for r in results] == list(range(1203))
    assert results[-1].index == 1202
    assert results[601].example.ticket == "t601"
    assert dict(results[601].example.inputs().items()) == {"ticket": "t601"}
    assert results[601].prediction.team == "bugs"
    assert [r.index for r in results[499:502]] == [499, 500, 501]
    assert [r.error["type"] for r in result.errors] == ["Timeout"] * 3
    with pytest.raises(IndexError, match="1,203 results"):
        results[1203]
    with pytest.raises(RunFailed, match="no run 'x'"):
        EvaluationResult.of(JournalReader(tmp_path / "journal.db"), "x")


def test_export_and_files_hold_every_result(tmp_path):
    reader = finished(tmp_path, n=5, failed=1)
    result = EvaluationResult.of(reader, "r-1")
    lines = [json.loads(line) for line in export_lines(reader, "r-1")]
    assert lines[2] == {
        "index": 2,
        "inputs": {"ticket": "t2"},
        "labels": {"team": "bugs"},
        "prediction": {"team": "bugs"},
        "score": 0.0,
        "error": None,
        "attempts": 1,
        "latency": 0.25,
        "usage": {"prompt_tokens": 10},
        "finish_reason": None,
        "cached": None,
    }
    assert result.to_json(tmp_path / "out.json") is None
    whole = json.loads((tmp_path / "out.json").read_text())
    assert whole == json.loads(result.to_json())
    assert (whole["results"], whole["run_id"]) == (lines, "r-1")
    result.to_csv(tmp_path / "out.csv")
    with (tmp_path / "out.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert json.loads(rows[0]["error"])["message"] == "no [answer]\nin time"
    assert len(rows) == 5


def test_the_summary_has_the_keys_of_the_contract(tmp_path):
    summary = run_summary(finished(tmp_path, n=2).get_run("r-1"))
    keys = [
        "run_id",
        "state",
        "total",
        "done",
        "succeeded",
        "failed",
        "score",
        "asked",
        "usage",
        "cost",
        "started_at",
        "ended_at",
    ]
    assert set(keys) <= set(summary)
    assert summary["started_at"] == "1970-01-01T00:16:40.000Z"
    json.dumps(summary)


def test_the_report_shows_speed_errors_and_what_to_do(tmp_path):
    text = shown(EvaluationResult.of(finished(tmp_path, state="paused", reason="node stopped"), "r-1"))
    for words in (
        "50.00",
        "1,203",
        "p95 250 ms",
        "300.8 examples/s",
        "Timeout",
        "no [answer] in time",
        "$1.2030",
        "dspex runs resume r-1",
    ):
        assert words in text


def test_a_good_run_needs_no_advice(tmp_path):
    assert advice_for(finished(tmp_path, n=2, failed=0).get_run("r-1")) is None


def test_what_to_type_for_a_run_is_right_in_a_shell():
    assert run_command("resume", "r-1") == "dspex runs resume r-1"
    assert run_command("export", "my run;x") == "dspex runs export 'my run;x'"


def test_a_run_whose_node_was_killed_took_the_time_until_its_last_result(tmp_path):
    now = [1000.0]
    with Journal(tmp_path / "journal.db", clock=lambda: now[0]) as journal:
        journal.create_run(RunSpec(run_id="r-1", total=2))
        example = pack_example({"ticket": "t"}, ["ticket"])
        journal.add_results("r-1", [ResultRow(index=0, example=example, score=1.0, worker="n1/w1", at=1007.5)])
        row = as_it_is(JournalReader(tmp_path / "journal.db").get_run("r-1"), tmp_path)
    assert (row.state, row.active_seconds, duration_of(row, 2000.0)) == ("paused", 7.5, 7.5)


def test_what_each_node_did_and_what_was_started_twice_is_told(tmp_path):
    path = tmp_path / "journal.db"
    sent = {"at": 1.0, "provider": "openai", "model": "x", "outcome": "answered"}
    with Journal(path) as journal:
        journal.create_run(RunSpec(run_id="r"))
        rows = [
            ResultRow(
                index=i, example=b"", asked=1, latency=float(i), cost=0.5, worker=f"n{1 + i % 2}/worker-1", at=1.0
            )
            for i in range(200)
        ]
        first = [Attempt(index=i, send=1, n=1, cost=0.5, **sent) for i in range(200)]
        second = [Attempt(index=i, send=1 | SECOND, n=n, cost=0.25, **sent) for i in (7, 9) for n in (1, 2)]
        journal.add_results("r", rows, first + second)
    result = EvaluationResult.of(JournalReader(path), "r")
    assert {name: (did["done"], did["p50"], did["p95"], did["cost"]) for name, did in result.nodes.items()} == {
        "n1": (100, 100.0, 190.0, 50.0),
        "n2": (100, 101.0, 191.0, 50.0),
    }
    assert result.hedged == {"examples": 2, "asked": 4, "cost": 1.0}
    assert (result.asked, result.cost) == (204, 101.0)
    text = shown(result)
    assert "2 examples, started again elsewhere: 4 of the LM calls, $1.0000" in text
    assert "n1  100 examples  p50 1 min 40 s  p95 3 min 10 s  $50.0000" in text
    with Journal(path) as journal:
        journal.add_results("r", [], [Attempt(index=9, send=1 | SECOND, n=3, cost=None, **sent)])
    assert EvaluationResult.of(JournalReader(path), "r").hedged == {"examples": 2, "asked": 5, "cost": None}
