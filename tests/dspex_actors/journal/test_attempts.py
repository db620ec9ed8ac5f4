"""Requests as rows: their sums are the run's, whatever comes twice, late or instead of another."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from property_kit import examples

from dspex_actors.journal.reader import JournalReader
from dspex_actors.journal.records import ResultRow, RunSpec
from dspex_actors.journal.schema import to_json
from dspex_actors.journal.writer import Journal
from dspex_actors.lm.attempts import Attempt


def sent(index=0, send=1, n=1, outcome="answered", **fields):
    values = {"at": 1.0, "provider": "openai", "model": "gpt-5", "usage": to_json({"input_total": 10}), "cost": 0.5}
    return Attempt(index=index, send=send, n=n, outcome=outcome, **(values | fields))


@pytest.fixture
def path(tmp_path):
    return tmp_path / "journal.db"


@pytest.fixture
def journal(path):
    with Journal(path) as made:
        made.create_run(RunSpec(run_id="r"))
        made.create_run(RunSpec(run_id="s"))
        yield made


def test_requests_come_back_as_they_were_written_in_order(journal, path):
    rows = [
        sent(index, send, n, error="Timeout", status=504, latency=0.5, finish_reason="stop", request_id="q")
        for index in (0, 1)
        for send in (1, 2)
        for n in (1, 2)
    ]
    journal.add_results("r", [], rows[::-1])
    journal.add_results("s", [], [sent(7)])
    assert list(JournalReader(path).iter_attempts("r")) == rows
    assert list(JournalReader(path).iter_attempts("s")) == [sent(7)]
    assert list(JournalReader(path).iter_attempts("nothing")) == []


def test_many_requests_are_read_page_by_page(journal, path):
    rows = [sent(index, n=n) for index in range(700) for n in (1, 2)]
    journal.add_results("r", [], rows)
    assert list(JournalReader(path).iter_attempts("r")) == rows


def test_what_a_run_has_paid_is_the_sum_over_its_requests(journal):
    requests = [
        sent(n=1, outcome="failed", cost=None, usage=None),
        sent(n=2),
        sent(index=1, usage='{"estimated":true}'),
    ]
    journal.add_results("r", [ResultRow(index=0, asked=9, cost=9.0, usage={"input_total": 99})], requests)
    run = journal.get_run("r")
    assert (run.asked, run.cost, run.unpriced) == (3, 1.0, 1)
    assert run.usage == {"input_total": 10, "estimated": True}


def test_a_request_that_comes_again_is_counted_once(journal):
    journal.add_results("r", [], [sent(), sent(n=2)])
    journal.add_results("r", [ResultRow(index=0)], [sent(), sent(n=3)])
    assert (journal.get_run("r").asked, journal.get_run("r").done) == (3, 1)
    journal.add_results("r", [ResultRow(index=0)], [sent(send=2)])
    assert (journal.get_run("r").asked, journal.get_run("r").done) == (4, 1)


def test_a_lost_request_is_replaced_by_what_became_of_it_and_never_the_other_way(journal, path):
    lost = sent(outcome="lost", cost=None, usage=to_json({"input_total": 12, "estimated": True}))
    journal.add_results("r", [], [lost])
    assert (journal.get_run("r").asked, journal.get_run("r").unpriced) == (1, 1)
    journal.add_results("r", [], [sent()])
    journal.add_results("r", [], [lost])
    run = journal.get_run("r")
    assert (run.asked, run.unpriced, run.cost, run.usage["input_total"]) == (1, 0, 0.5, 10)
    assert [row.outcome for row in JournalReader(path).iter_attempts("r")] == ["answered"]


def test_the_requests_of_a_deleted_run_are_gone(journal, path):
    journal.add_results("r", [], [sent()])
    journal.delete_run("r")
    assert list(JournalReader(path).iter_attempts("r")) == []


def test_results_and_requests_are_written_together_or_not_at_all(journal, path):
    with pytest.raises(ValueError, match="index"):
        journal.add_results("r", [ResultRow(index=0)], [sent(index=-1)])
    assert journal.get_run("r").done == 0
    assert list(JournalReader(path).iter_results("r")) == []


requests = st.builds(
    sent,
    index=st.integers(0, 3),
    send=st.integers(1, 2),
    n=st.integers(1, 2),
    outcome=st.sampled_from(["answered", "failed", "cancelled", "lost"]),
    cost=st.none() | st.floats(0, 1),
    usage=st.none() | st.fixed_dictionaries({"input_total": st.integers(0, 100)}).map(to_json),
)


@settings(max_examples=examples(40), deadline=None)
@given(st.lists(st.lists(requests, max_size=6), max_size=6))
def test_the_sums_are_always_those_of_the_rows(tmp_path_factory, batches):
    path = tmp_path_factory.mktemp("j") / "journal.db"
    with Journal(path) as journal:
        journal.create_run(RunSpec(run_id="r"))
        for batch in batches:
            journal.add_results("r", [], batch)
        run = journal.get_run("r")
    rows = list(JournalReader(path).iter_attempts("r"))
    assert run.asked == len(rows) == len({(row.index, row.send, row.n) for row in rows})
    assert run.unpriced == sum(row.cost is None for row in rows)
    assert math.isclose(run.cost, sum(row.cost or 0.0 for row in rows), abs_tol=1e-9)
    assert run.usage.get("input_total", 0) == sum((row.tokens or {}).get("input_total", 0) for row in rows)
