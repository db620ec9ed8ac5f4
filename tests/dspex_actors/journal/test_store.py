"""What a run's coordinator relies on: numbered batches, claims with epochs, and a log for copies."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from property_kit import examples

from dspex_actors.errors import ConfigError, from_record
from dspex_actors.journal import log
from dspex_actors.journal.budget import set_budget
from dspex_actors.journal.errors import Fenced
from dspex_actors.journal.migrations import STEPS, VERSION, copy_path, version_of
from dspex_actors.journal.reader import JournalReader
from dspex_actors.journal.records import ResultRow, RunSpec
from dspex_actors.journal.rows import packed_rows, unpacked_rows
from dspex_actors.journal.schema import INSERT_RUN, attempt_values, spec_values, values_of_result
from dspex_actors.journal.store import Batch
from dspex_actors.journal.writer import Journal
from dspex_actors.lm.attempts import Attempt


def results(*indices, score=1.0):
    return [values_of_result(ResultRow(index=i, score=score, example=b"e", worker="n/w", at=1.0)) for i in indices]


def attempts(*indices, outcome="answered"):
    rows = [Attempt(i, 1, 1, at=9.0, provider="openai", model="x", outcome=outcome, cost=0.5) for i in indices]
    return list(map(attempt_values, rows))


@pytest.fixture
def journal(tmp_path):
    with Journal(tmp_path / "journal.db", owner="a") as made:
        made.create_run(RunSpec(run_id="r"))
        made.claim("r", 3, "a")
        made.next_epoch("r")
        yield made


def test_a_batch_that_comes_twice_is_one_batch(journal):
    first = journal.append("r", 3, Batch(1, 1), results(0, 1), attempts(0, 1))
    assert first.new == 2
    # The second time with other rows: what was acknowledged under this number counts.
    assert journal.append("r", 3, Batch(1, 1), results(7), attempts(7)) == (first.seq, 0)
    row = journal.get_run("r")
    assert (row.done, row.asked, row.cost, row.seq) == (2, 2, 1.0, first.seq)
    assert journal.append("r", 3, Batch(1, 2), results(1, 2), attempts(1, 2)) == (first.seq + 1, 1)


def test_another_opening_numbers_its_batches_anew(journal):
    journal.append("r", 3, Batch(1, 1), results(0), [])
    journal.next_epoch("r")
    assert journal.append("r", 3, Batch(2, 1), results(1), []).new == 1
    # What an evaluator of before still brings is taken by its rows: its numbers are not compared with others'.
    assert journal.append("r", 3, Batch(1, 2), results(1, 2), []).new == 1
    assert journal.append("r", 3, Batch(2, 1), results(3), []).new == 0


@pytest.mark.parametrize("epoch", [0, 2, 4])
def test_nobody_writes_with_another_epoch_than_the_claimed_one(journal, epoch):
    before = journal.get_run("r")
    with pytest.raises(Fenced, match=rf"run r belongs to the coordinator with epoch 3; one with epoch {epoch}"):
        journal.append("r", epoch, Batch(1, 1), results(0), [])
    assert journal.get_run("r") == before
    assert journal.log_since("r", before.seq) == []


def test_a_claim_ends_what_the_one_before_may(journal):
    journal.append("r", 3, Batch(1, 1), results(0), [])
    assert journal.claim("r", 4, "b").owner == "b"
    changes = (
        lambda: journal.append("r", 3, Batch(1, 2), results(1), []),
        lambda: journal.set_state("r", "finished"),
        lambda: journal.set_total("r", 7),
        lambda: journal.next_epoch("r"),
        lambda: journal.set_dataset("r", {}, None, {}),
        lambda: set_budget(journal, "r", 5.0),
        lambda: journal.delete_run("r"),
        lambda: journal.claim("r", 3, "a"),
        lambda: journal.claim("r", 4, "a"),
    )
    before = journal.get_run("r")
    for change in changes:
        with pytest.raises(Fenced):
            change()
    assert journal.pause_interrupted("stopped") == []
    assert journal.get_run("r") == before
    assert journal.claim("r", 4, "b") == before  # its own claim once more


def test_the_refusal_travels_as_what_it_is(journal):
    with pytest.raises(Fenced) as caught:
        journal.append("r", 1, Batch(1, 1), [], results(0))
    assert isinstance(from_record(caught.value.to_record()), Fenced)


def test_runs_of_nobody_are_written_by_a_node_alone(tmp_path):
    with Journal(tmp_path / "journal.db") as journal:
        journal.create_run(RunSpec(run_id="r"))
        assert journal.append("r", 0, Batch(0, 0), results(0), []).new == 1
        assert journal.pause_interrupted("stopped") == ["r"]
        with pytest.raises(ConfigError):
            journal.append("s", 0, Batch(0, 0), results(0), [])


def test_the_log_has_the_examples_of_each_batch_in_order(journal):
    begin = journal.get_run("r").seq
    seqs = [
        journal.append("r", 3, Batch(1, 1), results(5, 4), attempts(4, 5)).seq,
        journal.append("r", 3, Batch(1, 2), results(4, 6), attempts(6)).seq,
    ]
    journal.set_total("r", 9)
    seqs.append(journal.append("r", 3, Batch(1, 3), [], attempts(7)).seq)
    assert seqs == [begin + 1, begin + 2, begin + 4]
    entries = journal.log_since("r", begin)
    assert [(one.seq, list(one.results), list(one.attempts)) for one in entries] == [
        (seqs[0], [4, 5], [4, 5]),
        (seqs[1], [6], [6]),
        (seqs[2], [], [7]),
    ]
    assert [one.batch for one in entries] == [Batch(1, 1), Batch(1, 2), Batch(1, 3)]
    assert journal.log_since("r", seqs[0], limit=1) == entries[1:2]
    assert journal.get_run("r").seq == seqs[-1]


def test_the_log_says_which_epoch_a_number_belongs_to(journal):
    journal.append("r", 3, Batch(1, 1), results(0), [])
    fork = journal.get_run("r").seq
    claimed = journal.claim("r", 5, "a").seq
    assert claimed == fork + 1
    with journal.reading() as db:
        number = db.execute("SELECT number FROM runs").fetchone()[0]
        assert [log.epoch_at(db, number, seq) for seq in (0, fork, claimed, claimed + 9)] == [0, 3, 5, 5]
    assert journal.log_since("r", fork)[0].is_claim


def test_a_deleted_run_leaves_no_log(journal):
    journal.append("r", 3, Batch(1, 1), results(0), [])
    assert journal.delete_run("r")
    with journal.reading() as db:
        assert db.execute("SELECT count(*) FROM log").fetchone()[0] == 0


@settings(max_examples=examples(30), deadline=None)
@given(st.lists(st.tuples(st.integers(1, 6), st.lists(st.integers(0, 20), max_size=5), st.booleans()), max_size=12))
def test_batches_count_once_in_whatever_order_and_however_often_they_come(tmp_path_factory, sent):
    with Journal(tmp_path_factory.mktemp("j") / "journal.db") as journal:
        journal.create_run(RunSpec(run_id="r"))
        journal.next_epoch("r")
        indices, last = set(), 0
        for number, batch, twice in sent:
            for _ in range(1 + twice):
                journal.append("r", 0, Batch(1, number), results(*batch), attempts(*batch))
            if number > last and batch:
                indices |= set(batch)
                last = number
        row = journal.get_run("r")
        assert {one.index for one in journal.iter_results("r")} == indices
        assert (row.done, row.asked) == (len(indices), len(indices))
        logged = [index for entry in journal.log_since("r", 0) for index in entry.results]
        assert sorted(logged) == sorted(indices)


def test_rows_travel_as_bytes_and_come_back_the_same():
    rows = results(0, 1 << 39), attempts(5)
    assert unpacked_rows(packed_rows(*rows)) == rows


def test_a_journal_of_version_4_is_migrated(tmp_path):
    path = tmp_path / "journal.db"
    db = sqlite3.connect(path, isolation_level=None)
    for step in STEPS[:4]:
        step(db)
    db.execute("PRAGMA user_version = 4")
    db.execute(
        INSERT_RUN.replace(", owner", "").replace("?, ?)", "?)"),
        (*spec_values(RunSpec(run_id="r")), "running", 1.0, 1.0, 1.0),
    )
    db.close()
    read = JournalReader(path).get_run("r")
    assert (read.owner, read.claimed, read.seq) == ("", 0, 0)
    with Journal(path) as journal:
        assert journal.get_run("r") == read
        assert journal.append("r", 0, Batch(0, 0), results(0), []) == (1, 1)
        with journal.reading() as db:
            assert version_of(db) == VERSION
    assert JournalReader(copy_path(path, 4)).get_run("r") == read
    assert replace(JournalReader(path).get_run("r"), seq=0, done=0, succeeded=0, scored=0) != read


#: Where what many tests share is.
KITS = Path(__file__).resolve().parents[2]
WRITER = """
import json, sys
sys.path += [{tests!r}, {kits!r}]
from test_store import attempts, results, Batch, Journal, RunSpec
journal = Journal({path!r})
journal.create_run(RunSpec(run_id="r"))
journal.next_epoch("r")
n = 0
while True:
    n += 1
    some = range(n * 10, n * 10 + 10)
    done = journal.append("r", 0, Batch(1, n), results(*some), attempts(*some))
    print(json.dumps([n, done.seq]), flush=True)
"""


def test_what_was_acknowledged_is_there_after_kill_9_with_its_log_and_its_number(tmp_path):
    path = tmp_path / "journal.db"
    script = WRITER.format(path=str(path), tests=os.path.dirname(__file__), kits=str(KITS))
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as writer:
        for _ in range(20):
            line = writer.stdout.readline()
        writer.send_signal(signal.SIGKILL)
        told = [json.loads(one) for one in [line, *writer.stdout.readlines()] if one.endswith("]\n")]
    with Journal(path) as journal:
        row, entries = journal.get_run("r"), journal.log_since("r", 0)
        assert row.seq >= told[-1][1]
        assert [one.batch.number for one in entries] == list(range(1, len(entries) + 1))
        assert len(entries) >= told[-1][0]
        assert row.done == row.asked == 10 * len(entries) == sum(len(one.results) for one in entries)
        # Its sender was told nothing of the last batch, maybe, and sends it again.
        assert journal.append("r", 0, Batch(1, len(entries)), results(5), []).new == 0
