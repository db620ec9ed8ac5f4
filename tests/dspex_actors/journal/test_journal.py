import os
import signal
import sqlite3
import stat
import subprocess
import sys
import threading

import pytest
import warm
from hypothesis import given, settings
from hypothesis import strategies as st
from property_kit import examples

from dspex_actors.errors import ConfigError
from dspex_actors.journal.errors import JournalCorrupt, JournalError, JournalFull, JournalReadOnly
from dspex_actors.journal.reader import JournalReader, find_journals
from dspex_actors.journal.records import ResultRow, RunSpec
from dspex_actors.journal.sameness import OPTIMISE
from dspex_actors.journal.schema import to_json
from dspex_actors.journal.writer import Journal
from dspex_actors.lm.attempts import Attempt


def row(index, **fields):
    given_ = {
        "score": 1.0,
        "latency": 0.1,
        "asked": 1,
        "cost": 0.5,
        "worker": "n1/w1",
        "at": 10.0,
        "example": b"e",
    }
    return ResultRow(index=index, **(given_ | fields))


@pytest.fixture
def path(tmp_path):
    return tmp_path / "home" / "journal.db"


@pytest.fixture
def journal(path):
    with Journal(path, clock=lambda: 100.0) as made:
        made.create_run(RunSpec(run_id="r", program_digest="p", dataset_digest="d", metric_digest="m", total=3))
        yield made


def test_file_and_folder_are_for_the_owner_only(journal, path):
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert {stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()} == {0o600}


def test_results_and_counters_change_together(journal):
    usage = {"prompt_tokens": 10, "details": {"cached": 2}, "model": "x"}
    batch = [row(0), row(1, score=0.5), row(2, score=None, error={"type": "Timeout"})]
    sent = {"send": 1, "n": 1, "at": 9.0, "provider": "openai", "model": "x", "outcome": "answered"}
    costs, told = [0.5, 0.5, None], to_json(usage)
    requests = [Attempt(index=i, cost=cost, usage=told if cost else None, **sent) for i, cost in enumerate(costs)]
    assert journal.add_results("r", batch, requests) == 3
    run = journal.get_run("r")
    assert (run.done, run.succeeded, run.failed, run.scored, run.score_sum) == (3, 2, 1, 2, 1.5)
    assert (run.asked, run.cost, run.unpriced, run.last_result_at, run.nodes) == (3, 1.0, 1, 10.0, ("n1",))
    assert run.usage == {"prompt_tokens": 20, "details": {"cached": 4}}
    assert [result.index for result in journal.iter_results("r")] == [0, 1, 2]
    journal.check()


def test_the_first_result_of_an_example_wins(journal):
    journal.add_results("r", [row(1, score=1.0)])
    assert journal.add_results("r", [row(0), row(1, score=0.0), row(0, score=0.0)]) == 1
    assert [result.score for result in journal.iter_results("r")] == [1.0, 1.0]
    assert journal.get_run("r").done == 2
    assert journal.add_results("r", []) == 0


@settings(max_examples=examples(25), deadline=None)
@given(
    st.lists(
        st.lists(st.tuples(st.integers(0, 30), st.floats() | st.none(), st.booleans()), max_size=8),
        max_size=6,
    )
)
def test_counters_are_always_those_of_the_rows(tmp_path_factory, batches):
    with Journal(tmp_path_factory.mktemp("j") / "journal.db") as journal:
        journal.create_run(RunSpec(run_id="r"))
        for batch in batches:
            journal.follow_run("r")
            journal.add_results("r", [row(i, score=s, error={"type": "E"} if bad else None) for i, s, bad in batch])
        rows, run = list(journal.iter_results("r")), journal.get_run("r")
        assert repr(journal.follow_run("r")) == repr(run)
        assert run.done == len(rows) == len({result.index for result in rows})
        assert run.failed == sum(result.error is not None for result in rows)
        assert run.succeeded == run.done - run.failed
        scores = [result.score for result in rows if result.score is not None]
        assert run.scored == len(scores)
        assert run.score_sum == pytest.approx(sum(scores))
        assert list(journal.done_indices("r")) == [result.index for result in rows]


def test_a_run_that_is_followed_is_as_the_journal_has_it_after_every_change(journal, path):
    sent = {
        "send": 1,
        "at": 9.0,
        "provider": "openai",
        "model": "x",
        "cost": 0.25,
        "usage": to_json({"input_total": 7}),
    }
    changes = [
        lambda: journal.add_results("r", [row(0)], [Attempt(index=0, n=1, outcome="answered", **sent)]),
        lambda: journal.add_results("r", [row(0), row(1, worker="n2/w", error={"type": "E"})]),
        lambda: journal.add_results("r", [], [Attempt(index=2, n=1, outcome="lost", **sent)]),
        lambda: journal.add_results("r", [row(2)], [Attempt(index=2, n=1, outcome="answered", **sent)]),
        lambda: journal.set_total("r", 5),
        lambda: journal.next_epoch("r"),
        lambda: journal.set_state("r", "paused", "why"),
        lambda: journal.pause_interrupted("gone"),
        lambda: journal.delete_run("r"),
    ]
    for change in changes:
        journal.follow_run("r")
        change()
        assert journal.follow_run("r") == journal.get_run("r")


def test_following_a_run_reads_it_once(journal, monkeypatch):
    read = []
    monkeypatch.setattr(journal, "get_run", lambda run_id: read.append(run_id) or Journal.get_run(journal, run_id))
    for index in range(3):
        journal.add_results("r", [row(index)])
        assert journal.follow_run("r").done == index + 1
    assert read == ["r"]


def test_creating_a_run_again_returns_it(journal):
    journal.add_results("r", [row(0)])
    again = journal.create_run(RunSpec(run_id="r", program_digest="p", dataset_digest="d", metric_digest="m"))
    assert again.done == 1


@pytest.mark.parametrize(
    ("field", "word"),
    [("program_digest", "program"), ("dataset_digest", "dataset"), ("metric_digest", "metric")],
)
def test_a_run_id_with_something_else_under_it_is_refused_by_name(journal, field, word):
    spec = {"run_id": "r", "program_digest": "p", "dataset_digest": "d", "metric_digest": "m"} | {field: "other"}
    with pytest.raises(ConfigError, match=f"run r is there already with another {word}: continue"):
        journal.create_run(RunSpec(**spec))


def test_time_is_counted_only_while_running(path):
    now = [100.0]
    with Journal(path, clock=lambda: now[0]) as journal:
        journal.create_run(RunSpec(run_id="r"))
        now[0] = 107.0
        assert journal.set_state("r", "paused", "asked to").reason == "asked to"
        now[0] = 200.0
        journal.set_state("r", "running")
        now[0] = 203.0
        done = journal.set_state("r", "finished")
        assert (done.active_seconds, done.ended_at, done.started_at, done.running_since) == (
            10.0,
            203.0,
            100.0,
            None,
        )
        assert journal.set_state("r", "paused").state == "finished"
        with pytest.raises(ConfigError, match="one of running"):
            journal.set_state("r", "done")
        with pytest.raises(ConfigError, match="no run 'x'"):
            journal.set_state("x", "paused")


def test_runs_left_running_by_a_dead_node_are_paused(journal):
    journal.add_results("r", [row(0, at=130.0)])
    assert journal.pause_interrupted("the node went away") == ["r"]
    run = journal.get_run("r")
    assert (run.state, run.reason, run.active_seconds) == ("paused", "the node went away", 30.0)
    assert journal.pause_interrupted("again") == []


def test_of_an_optimisation_left_running_the_time_up_to_its_runs_last_result_counts(journal):
    journal.create_run(RunSpec(run_id="o", kind=OPTIMISE))
    for run_id, at in (("o.0", 140.0), ("o.1", 125.0)):
        journal.create_run(RunSpec(run_id=run_id, parent_id="o"))
        journal.add_results(run_id, [row(0, at=at)])
    journal.pause_interrupted("killed")
    assert [journal.get_run(run_id).active_seconds for run_id in ("o", "o.0", "o.1", "r")] == [40.0, 40.0, 25.0, 0.0]


def test_pages_are_in_input_order_and_can_start_anywhere(journal):
    journal.add_results("r", [row(i) for i in range(1300, 0, -1)])
    assert [r.index for r in journal.iter_results("r", 2)] == list(range(2, 1301))
    assert [r.index for r in journal.iter_results("r", 700, 3)] == [700, 701, 702]
    assert list(journal.iter_results("nothing")) == []


def test_events_are_kept_in_order(journal):
    numbers = [journal.add_event("restart", {"worker": i}) for i in range(3)]
    assert [event.data["worker"] for event in journal.events(after=numbers[0])] == [1, 2]


def test_a_deleted_run_is_gone(journal):
    journal.add_results("r", [row(0)])
    assert journal.delete_run("r")
    assert not journal.delete_run("r")
    assert list(journal.iter_results("r")) == []


def test_a_full_disk_rolls_back_and_the_journal_goes_on_afterwards(journal):
    pages = journal._db.execute("PRAGMA page_count").fetchone()[0]
    journal._db.execute(f"PRAGMA max_page_count = {pages + 2}")
    with pytest.raises(JournalFull, match="no space left"):
        journal.add_results("r", [row(i, example=b"x" * 4000) for i in range(50)])
    assert journal.get_run("r").done == 0
    journal._db.execute("PRAGMA max_page_count = 100000")
    assert journal.add_results("r", [row(i, example=b"x" * 4000) for i in range(50)]) == 50
    journal.check()


def test_a_journal_that_cannot_be_written_says_so(journal):
    journal._db.execute("PRAGMA query_only = 1")
    with pytest.raises(JournalReadOnly, match="cannot be written"):
        journal.add_results("r", [row(0)])


def test_a_lock_held_by_another_program_is_named(journal, path):
    journal._db.execute("PRAGMA busy_timeout = 1")
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(JournalError, match="locked by another program"):
        journal.add_results("r", [row(0)])
    other.close()


def test_a_damaged_file_is_refused_with_a_way_out(path):
    with Journal(path) as journal:
        journal.create_run(RunSpec(run_id="r"))
        journal.add_results("r", [row(i, example=b"x" * 3000) for i in range(50)])
    whole = path.read_bytes()
    for damaged in (
        b"not a database at all" * 300,
        whole[: len(whole) // 2],
        whole[:4096] + b"\xff" * 8192 + whole[12288:],
    ):
        path.write_bytes(damaged)
        with pytest.raises(JournalCorrupt, match=r"damaged.*\.recover.*move journal\.db away") as caught:
            Journal(path)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("statement", "words"),
    [("PRAGMA user_version = 99", "newer dspex .schema 99"), ("DROP TABLE events", "no table events"),
     ("PRAGMA user_version = 0", "not a journal of dspex")],
)  # fmt: skip
def test_a_file_with_another_schema_is_refused(path, statement, words):
    Journal(path).close()
    db = sqlite3.connect(path)
    db.execute(statement)
    db.close()
    for use in (Journal, lambda path: JournalReader(path).list_runs()):
        with pytest.raises(JournalCorrupt, match=words):
            use(path)


def test_a_reader_makes_no_files(path):
    reader = JournalReader(path)
    assert (reader.list_runs(), reader.get_run("r"), len(reader.done_indices("r"))) == ([], None, 0)
    assert not path.parent.exists()
    with Journal(path) as journal:
        journal.create_run(RunSpec(run_id="r"))
    before = sorted(path.parent.iterdir())
    assert [run.run_id for run in reader.list_runs()] == ["r"]
    assert sorted(path.parent.iterdir()) == before == [path]


def test_a_reader_sees_what_the_writer_has_acknowledged_while_it_writes(journal, path):
    reader, stop, seen = JournalReader(path), threading.Event(), []

    def read():
        while not stop.is_set():
            run = reader.get_run("r")
            seen.append((run.done, len(reader.done_indices("r")) >= run.done))

    thread = threading.Thread(target=read)
    thread.start()
    for start in range(0, 2000, 50):
        journal.add_results("r", [row(start + i) for i in range(50)])
        assert reader.get_run("r").done == start + 50
    stop.set()
    thread.join(60)
    assert all(enough for _, enough in seen)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)


def test_statistics_are_exact(journal, path):
    errors = [
        {"type": "Timeout", "message": "first"},
        {"type": "Timeout", "message": "later"},
        {"type": "Overloaded"},
    ]
    rows = [row(i, latency=i / 100) for i in range(100)]
    journal.add_results("r", rows + [row(200 - i, error=error, latency=None) for i, error in enumerate(errors)])
    reader = JournalReader(path)
    assert reader.latency_percentiles("r", (0.5, 0.95, 0.99)) == [0.5, 0.95, 0.99]
    groups = [(group.type, group.count, group.first_index, group.first_message) for group in reader.error_groups("r")]
    assert groups == [("Timeout", 2, 199, "later"), ("Overloaded", 1, 198, "")]
    assert [r.index for r in reader.iter_results("r", failed_only=True)] == [198, 199, 200]


def test_journals_of_embedded_nodes_are_found_too(tmp_path):
    for place in ("journal.db", "embedded/b/journal.db", "embedded/a/journal.db"):
        Journal(tmp_path / place).close()
    found = [str(path.relative_to(tmp_path)) for path in find_journals(tmp_path)]
    assert found == ["journal.db", "embedded/a/journal.db", "embedded/b/journal.db"]
    assert find_journals(tmp_path / "none") == []


WRITER = """
import sys
from dspex_actors.journal.schema import to_json
from dspex_actors.journal.writer import Journal
from dspex_actors.journal.records import ResultRow, RunSpec
journal = Journal(sys.argv[1])
journal.create_run(RunSpec(run_id="r"))
start = len(journal.done_indices("r"))
while True:
    journal.add_results("r", [ResultRow(index=start + i, example=b"x" * 900, score=1.0) for i in range(100)])
    start += 100
    print(start, flush=True)
"""


def test_nothing_acknowledged_is_lost_when_the_writer_is_killed(path):
    acknowledged = 0
    for batches in (1, 7, 20):
        writer = warm.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True)
        for _ in range(batches):
            acknowledged = int(writer.stdout.readline())
        os.kill(writer.pid, signal.SIGKILL)
        rest = writer.stdout.read().splitlines()
        writer.wait()
        whole = [line for line in rest if line.endswith("00")]
        acknowledged = int(whole[-1]) if whole else acknowledged
        reader = JournalReader(path)
        assert reader.get_run("r").done >= acknowledged
        with Journal(path) as journal:
            journal.check()
            done = journal.done_indices("r")
            assert len(done) == journal.get_run("r").done == done.next_missing(0)
            assert len(done) % 100 == 0


@pytest.mark.parametrize(
    ("state", "taken"), [("paused", True), ("failed", True), ("running", False), ("finished", False)]
)
def test_a_run_that_is_continued_takes_the_lm_settings_and_place_that_are_good_now(journal, state, taken):
    journal.set_state("r", state)
    now = {"lm": {"model": "openai/x", "rpm": 5}, "settings": {"max_in_flight": 3}, "dataset": {"path": "/new"}}
    same = {"program_digest": "p", "dataset_digest": "d", "metric_digest": "m", "program": b"2", "metric": b"3"}
    row = journal.create_run(RunSpec(run_id="r", **same, **now))
    assert row.state == state
    found = (row.spec.lm, row.spec.settings, row.spec.dataset, row.spec.program, row.spec.metric)
    assert found == ((*now.values(), b"2", b"3") if taken else (None, {}, {}, b"", b""))


@pytest.mark.parametrize("replaced", [False, True])
def test_a_file_that_was_removed_while_it_is_open_is_told(tmp_path, replaced):
    with Journal(tmp_path / "journal.db") as journal:
        assert journal.trouble() is None
        (tmp_path / "journal.db").rename(tmp_path / "elsewhere")
        if replaced:
            Journal(tmp_path / "journal.db").close()
        assert "removed or replaced while it is in use" in journal.trouble()[0]
        (tmp_path / "elsewhere").replace(tmp_path / "journal.db")
        assert journal.trouble() is None
