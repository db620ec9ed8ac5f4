"""What was paid, by the hour: always the sum of the requests that are written down, whatever comes twice or instead."""

import sqlite3
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from property_kit import examples

from dspex_actors.journal import spend
from dspex_actors.journal.migrations import STEPS, VERSION
from dspex_actors.journal.records import RunSpec
from dspex_actors.journal.spend import HOUR_SECONDS, KEY_COLUMNS, SUM_COLUMNS
from dspex_actors.journal.writer import Journal
from dspex_actors.lm.attempts import Attempt, tags_text


def sent(index=0, send=1, n=1, outcome="answered", **fields):
    usage = '{"input_total":10,"output_total":3,"cache_read":2}'
    values = {"at": 10.0, "provider": "openai", "model": "gpt-5", "usage": usage, "cost": 0.5}
    return Attempt(index=index, send=send, n=n, outcome=outcome, **(values | fields))


def spent(journal, *columns, since=0):
    with journal.transaction() as db:
        return spend.spent(db, since, columns)


@pytest.fixture
def journal(tmp_path):
    with Journal(tmp_path / "journal.db") as made:
        made.create_run(RunSpec(run_id="r"))
        made.create_run(RunSpec(run_id="s"))
        yield made


def test_requests_are_summed_by_what_is_asked_for(journal):
    tags = tags_text({"team": "search", "step": "1"})
    journal.add_results(
        "r", [], [sent(0), sent(1, cost=None, outcome="failed", usage=None), sent(2, user="u", tags=tags)]
    )
    journal.add_results("s", [], [sent(0, model="gpt-4o", at=2 * HOUR_SECONDS + 1.0, outcome="cancelled")])
    [total] = spent(journal)
    assert (total.requests, total.answered, total.failed, total.given_up, total.unpriced) == (4, 2, 1, 1, 1)
    assert (total.cost, total.input_total, total.output_total, total.cache_read) == (1.5, 30, 9, 6)
    by_run = {row.run: row for row in spent(journal, "run")}
    assert (by_run["r"].requests, by_run["s"].requests) == (3, 1)
    by_user = {(row.user, row.tags): row.cost for row in spent(journal, "user", "tags")}
    assert by_user == {("", ""): 1.0, ("u", '{"step":"1","team":"search"}'): 0.5}
    [late] = spent(journal, "model", since=1)
    assert (late.model, late.requests) == ("gpt-4o", 1)


def test_nothing_spent_is_no_row(journal):
    assert spent(journal) == []
    assert spent(journal, "model") == []


def test_what_a_deleted_run_has_cost_stays(journal):
    journal.add_results("r", [], [sent(0)])
    journal.delete_run("r")
    assert [(row.run, row.cost) for row in spent(journal, "run")] == [("r", 0.5)]


attempts = st.builds(
    sent,
    index=st.integers(0, 3),
    send=st.integers(1, 2),
    n=st.integers(1, 2),
    outcome=st.sampled_from(["answered", "failed", "cancelled", "lost"]),
    at=st.sampled_from([0.0, 3599.0, 3600.0, 9000.0]),
    cost=st.sampled_from([None, 0.0, 0.25, 1.0]),
    usage=st.sampled_from([None, "{}", '{"input_total":7,"reasoning":2,"estimated":true}']),
    user=st.sampled_from([None, "u1"]),
    tags=st.sampled_from([None, '{"team":"a"}']),
)


@settings(max_examples=examples(60), deadline=None)
@given(st.lists(st.lists(attempts, max_size=6), max_size=6))
def test_the_sums_are_those_of_the_rows(tmp_path_factory, batches):
    with Journal(tmp_path_factory.mktemp("journal") / "journal.db") as journal:
        journal.create_run(RunSpec(run_id="r"))
        for batch in batches:
            journal.add_results("r", [], batch)
        with journal.transaction() as db:
            rows = db.execute("SELECT at, user, tags, outcome, cost FROM attempts").fetchall()
        wanted: Counter = Counter()
        for at, user, tags, outcome, cost in rows:
            key = int(at // HOUR_SECONDS), user or "", tags or ""
            wanted[key, "requests"] += 1
            wanted[key, outcome if outcome in ("answered", "failed") else "given_up"] += 1
            wanted[key, "cost"] += cost or 0.0
            wanted[key, "unpriced"] += cost is None
        found: Counter = Counter()
        for row in spent(journal, *KEY_COLUMNS):
            for name in ("requests", "answered", "failed", "given_up", "cost", "unpriced"):
                found[(row.hour, row.user, row.tags), name] += getattr(row, name)
        assert +found == +wanted
        run = journal.get_run("r")
        total = spent(journal)[0] if rows else spend.Spent(0, "", "", "")
        assert (run.asked, run.cost, run.unpriced) == (total.requests, total.cost, total.unpriced)
        assert run.usage.get("input_total", 0) == total.input_total


def test_a_journal_of_version_3_has_its_sums_after_it_was_opened(tmp_path):
    path = tmp_path / "journal.db"
    with sqlite3.connect(path, isolation_level=None) as db:
        for step in STEPS[:3]:
            step(db)
        db.execute("PRAGMA user_version = 3")
        db.execute(
            "INSERT INTO runs (number, run_id, kind, state, created_at, program_digest, metric_name, metric_digest, "
            "settings, dataset, program, metric) "
            "VALUES (7, 'old', 'evaluate', 'paused', 1.0, '', '', '', '{}', '{}', '', '')"
        )
        for n, (outcome, cost) in enumerate([("answered", 0.25), ("failed", None), ("lost", None)]):
            db.execute(
                "INSERT INTO attempts (key, send, n, at, provider, model, outcome, usage, cost) "
                "VALUES (?, 1, ?, 7200.5, 'openai', 'gpt-5', ?, '{\"input_total\": 5}', ?)",
                ((7 << 40) + 3, n, outcome, cost),
            )
    db.close()
    with Journal(path) as journal:
        [row] = spent(journal, *KEY_COLUMNS)
        assert row[:6] == (2, "old", "openai", "gpt-5", "", "")
        assert (row.requests, row.answered, row.failed, row.given_up, row.unpriced) == (3, 1, 1, 1, 2)
        assert (row.cost, row.input_total) == (0.25, 15)
        journal.add_results("old", [], [sent(9, at=7201.0)])
        [row] = spent(journal, *KEY_COLUMNS)
        assert (row.requests, row.cost) == (4, 0.75)
    assert (tmp_path / "journal.db.v3").exists()
    assert VERSION >= 4


def test_columns_and_rows_have_one_order():
    assert spend.Spent._fields == (*KEY_COLUMNS, *SUM_COLUMNS)
