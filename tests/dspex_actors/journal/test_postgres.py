"""The journal in a PostgreSQL server: what the file does, and what becomes of it when the server dies."""

import threading
import time

import pytest
from postgres_kit import postgres_of_module

from dspex_actors.errors import ConfigError
from dspex_actors.journal import log, spend
from dspex_actors.journal.copying import content_of, copy_run, source_at, target_at
from dspex_actors.journal.errors import Fenced, JournalCorrupt, JournalError, JournalFull, JournalReadOnly
from dspex_actors.journal.opening import choose_journal, open_journal, open_reader, owner_of, place_of, readers_under
from dspex_actors.journal.postgres import connection, writer
from dspex_actors.journal.postgres.address import checked_address, connect_options, shown
from dspex_actors.journal.postgres.reader import PostgresReader
from dspex_actors.journal.postgres.writer import PostgresJournal, check_server
from dspex_actors.journal.reader import JournalReader
from dspex_actors.journal.records import ResultRow, RunSpec, StepRow
from dspex_actors.journal.schema import attempt_values, values_of_result
from dspex_actors.journal.steps import add_step, end_workflow, open_workflow
from dspex_actors.journal.store import Batch
from dspex_actors.journal.writer import Journal
from dspex_actors.lm.attempts import Attempt
from supervisors.testing import wait_until

server = postgres_of_module()


@pytest.fixture
def address(server):
    if server.process is None:
        server.start()
    server.empty()
    return server.address


@pytest.fixture
def journal(address, tmp_path):
    with PostgresJournal(address, owner="a", folder=tmp_path) as made:
        made.create_run(RunSpec(run_id="r"))
        yield made


def results(*indices, **fields):
    rows = [
        ResultRow(**{"index": i, "score": 1.0, "example": b"e", "worker": "n/w", "at": 1.0} | fields) for i in indices
    ]
    return list(map(values_of_result, rows))


def attempts(*indices, **fields):
    usual = {"at": 9.0, "provider": "openai", "model": "x", "outcome": "answered", "cost": 0.5}
    return [attempt_values(Attempt(i, 1, 1, **(usual | fields))) for i in indices]


def filled(journal):
    """Do to a journal what runs do; return everything that it then says."""
    journal.create_run(
        RunSpec(run_id="all", program=b"\0p", dataset={"kind": "x"}, lm={"a": 1}, identity={"lm": {"m": "x"}}, total=9)
    )
    journal.next_epoch("all")
    sent = '{"input_total":3,"output_total":1,"note":"\\u0000"}'
    first = journal.append("all", 0, Batch(1, 1), results(3, 1, latency=0.25), attempts(1, 3, usage=sent, user="me"))
    twice = journal.append("all", 0, Batch(1, 1), results(3), [])
    journal.append("all", 0, Batch(1, 2), results(1, 2, 5, latency=0.5), attempts(2, outcome="lost", cost=None))
    journal.append("all", 0, Batch(1, 3), [], attempts(2, 5, tags='{"t":"1"}'))
    bad = {"error": {"type": "Timeout", "message": "late"}, "score": None, "prediction": None}
    journal.append("all", 0, Batch(1, 4), results(7, 6, **bad), [])
    journal.append("all", 0, Batch(1, 5), results(1 << 17, extra=b"\1", cached="disk", usage={"n": 1}), [])
    journal.set_total("all", 12)
    journal.set_state("all", "paused", "zero \0 inside")
    journal.set_dataset("all", {"kind": "y"}, "d", {"name": "y"})
    journal.pay("worker", 1, [[5, "", "openai", "m", "", "", 1, 1, 0, 0, 0, 0.5, 1, 1, 0, 0, 0, 0, 0.0]], 9.0)
    journal.pay("worker", 1, [[5, "", "openai", "m", "", "", 1, 1, 0, 0, 0, 0.5, 1, 1, 0, 0, 0, 0, 0.0]], 9.0)
    journal.pay("worker", 2, [[5, "", "openai", "m", "", "", 2, 2, 0, 0, 0, 0.5, 1, 1, 0, 0, 0, 0, 0.0]], 9.0)
    holder = {"pid": 1, "born": 2.0}
    epoch = open_workflow(journal, RunSpec(run_id="w", kind="workflow"), holder, lambda there: True).epoch
    for name in ("one", "two", "one"):
        add_step(journal, "w", epoch, StepRow(name, "completed", 1, 0.5, 3.0, None, b"\0"))
    end_workflow(journal, "w", epoch, "finished", None)
    return first, twice, journal.add_event("kind", {"a": 1}), journal.done_indices("all").to_bytes()


def told(reader):
    parts = [
        "run_id",
        "spec",
        "state",
        "done",
        "failed",
        "scored",
        "asked",
        "cost",
        "usage",
        "seq",
        "unpriced",
        "nodes",
        "last_result_at",
        "epoch",
    ]
    run = [[getattr(row, name) for name in parts] for row in reader.list_runs()]
    return (
        run,
        list(reader.iter_results("all")),
        reader.results("all", 2, 2, failed_only=True),
        list(reader.iter_attempts("all")),
        reader.steps("w"),
        reader.events(),
        reader.error_groups("all"),
        reader.latency_percentiles("all", (0.0, 0.5, 0.9, 1.0)),
        sorted(reader.spent(0, spend.KEY_COLUMNS)),
        reader.spent(0),
        reader.by_node("all"),
        reader.hedged("all"),
        reader.get_run("nobody"),
        [row.run_id for row in reader.list_runs(state="finished", limit=1)],
    )


def test_it_says_what_the_file_says(address, tmp_path):
    with PostgresJournal(address, owner="", folder=tmp_path, clock=lambda: 50.0) as far:
        one = filled(far)
    with Journal(tmp_path / "journal.db", clock=lambda: 50.0) as near:
        other = filled(near)
    assert one == other
    there, here = told(PostgresReader(address, tmp_path)), told(JournalReader(tmp_path / "journal.db"))
    for ours, theirs in zip(there, here, strict=True):
        assert repr(ours).replace("\ufffd", "\\x00") == repr(theirs).replace("\ufffd", "\\x00")


def test_where_nobody_has_made_tables_it_is_empty(address, tmp_path):
    reader = PostgresReader(address, tmp_path)
    assert (reader.list_runs(), reader.spent(), reader.get_run("r")) == ([], [], None)


def test_nodes_have_runs_of_their_own_in_one_journal(journal, address, tmp_path):
    with PostgresJournal(address, owner="b", folder=tmp_path) as other:
        other.create_run(RunSpec(run_id="s"))
        assert other.pause_interrupted("stopped") == ["s"]
        row = other.get_run("r")
        assert (row.state, other.has(row), journal.has(row)) == ("running", False, True)
        with pytest.raises(Fenced):
            other.set_state("r", "paused")
        with pytest.raises(ConfigError, match="is running on another node"):
            other.take_over(row, force=False)
        taken = other.take_over(row, force=True)
        assert (taken.owner, taken.claimed) == ("b", 1)
        with pytest.raises(Fenced):
            journal.append("r", 0, Batch(0, 0), results(1), [])
        assert other.append("r", 1, Batch(0, 0), results(1), []).new == 1
        # One that is not running goes on wherever its user says.
        other.set_state("r", "paused")
        assert journal.take_over(journal.get_run("r"), force=False).owner == "a"


def test_who_stands_still_in_a_transaction_keeps_nobody_from_its_runs(journal, address, tmp_path, monkeypatch):
    monkeypatch.setattr(connection, "IDLE_MS", 300)
    with (
        PostgresJournal(address, owner="s", folder=tmp_path) as still,
        PostgresJournal(address, owner="b", folder=tmp_path) as other,
    ):
        with pytest.raises(JournalError, match="does not answer"), still.transaction() as db:  # noqa: PT012 - the end of the block raises
            log.hold(db, "r", None)
            assert other.claim("r", 1, "b").owner == "b"  # waits for the server to end the other one
            db.execute("UPDATE runs SET total = 7")
        assert other.get_run("r").spec.total is None
        assert still.get_run("r").owner == "b"  # over another connection


def test_who_stands_still_among_the_rows_it_sends_keeps_nobody_from_its_runs(journal, address, tmp_path, monkeypatch):
    monkeypatch.setattr(connection, "LOCK_MS", 300)
    monkeypatch.setattr(writer, "LOCK_MS", 300)
    with (
        PostgresJournal(address, owner="s", folder=tmp_path) as still,
        PostgresJournal(address, owner="b", folder=tmp_path) as other,
    ):

        def rows():
            yield (0, 1, 1, 0.0, "w", b"x")
            assert other.claim("r", 1, "b").owner == "b"  # waits for the server to end the other one
            yield from ((index, 1, 1, 0.0, "w", b"x" * 100_000) for index in range(1, 100))

        with pytest.raises(JournalError, match="does not answer"), still.transaction() as db:  # noqa: PT012 - the end of the block raises
            log.hold(db, "r", None)
            db.copy("results", ("key", "attempts", "asked", "at", "worker", "example"), 0, rows())
        assert still.get_run("r").owner == "b"


def test_two_that_make_the_tables_or_a_run_at_once_make_one(address, tmp_path):
    found, ready = [], threading.Barrier(4)

    def make(owner):
        with PostgresJournal(address, owner=owner, folder=tmp_path) as journal:
            ready.wait()
            found.append(journal.create_run(RunSpec(run_id="r")).owner)

    threads = [threading.Thread(target=make, args=(name,)) for name in "abcd"]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert len(found) == 4
    assert len(set(found)) == 1


def test_a_server_that_is_killed_and_comes_back_has_each_batch_once(journal, server):
    journal.next_epoch("r")
    stop, acknowledged, failures = threading.Event(), [], []

    def write():
        number = 0
        while not stop.is_set():
            number += 1
            rows = range(number * 10, number * 10 + 10)
            while True:  # as evaluators do: the same batch until it is acknowledged
                try:
                    journal.append("r", 0, Batch(1, number), results(*rows), attempts(*rows))
                    break
                except JournalError as error:
                    failures.append(error.message)
                    stop.wait(0.01)
                    if stop.is_set() and len(failures) > 10_000:
                        return
            acknowledged.append(number)

    thread = threading.Thread(target=write)
    thread.start()
    try:
        for _ in range(3):
            enough = len(acknowledged) + 20
            wait_until(lambda enough=enough: len(acknowledged) >= enough, 60)
            server.kill()
            many = len(failures)
            wait_until(lambda many=many: len(failures) > many, 60)
            server.start()
        enough = len(acknowledged) + 5
        wait_until(lambda: len(acknowledged) >= enough, 60)
    finally:
        stop.set()
        thread.join(60)
    assert not thread.is_alive()
    assert "does not answer" in failures[0]
    row = journal.get_run("r")
    assert row.done == row.asked == 10 * len(acknowledged) == 10 * acknowledged[-1]
    assert row.cost == pytest.approx(0.5 * row.asked)
    [paid] = [one for one in PostgresReader(server.address, journal.path).spent(0) if one.requests]
    assert (paid.requests, paid.cost) == (row.asked, pytest.approx(row.cost))
    entries = journal.log_since("r", 0, limit=100_000)
    assert [one.batch.number for one in entries] == acknowledged


@pytest.mark.parametrize("who", ["writer", "reader"])
def test_a_connection_that_is_left_in_a_pipeline_is_made_anew(journal, server, who):
    reader = PostgresReader(server.address, journal.path)
    journal.next_epoch("r")

    def breaks(db):
        db.raw.pgconn.enter_pipeline_mode()  # as a server that ends in the middle of executemany leaves it
        return db.execute("SELECT 1")

    def writes():
        with journal.transaction() as db:
            breaks(db)

    with pytest.raises(JournalError):
        reader.ask(breaks, None) if who == "reader" else writes()
    assert journal.next_epoch("r").epoch == 2
    assert reader.ask(lambda db: db.execute("SELECT epoch FROM runs").fetchall(), None) == [(2,)]


def test_who_asks_while_the_server_is_away_waits_for_nobody(journal, server, monkeypatch):
    server.kill()
    for _ in range(2):  # the connection is gone; another one cannot be had
        with pytest.raises(JournalError, match="does not answer"):
            journal.get_run("r")
    tried = []
    with monkeypatch.context() as patch:
        patch.setattr(writer, "AGAIN_SECONDS", 1e9)
        patch.setattr(writer, "connected", tried.append)
        for _ in range(100):
            with pytest.raises(JournalError, match="does not answer"):
                journal.get_run("r")
    assert tried == []
    server.start()
    deadline = time.monotonic() + 10
    while True:
        try:
            assert journal.get_run("r").run_id == "r"
            break
        except JournalError:
            assert time.monotonic() < deadline


def test_a_server_that_cannot_be_used_is_refused_in_one_line(server, address, tmp_path, monkeypatch):
    def refused(kind, match):
        with pytest.raises(kind, match=match) as caught:
            check_server(address, "a", tmp_path)
        assert "\n" not in caught.value.message

    monkeypatch.setattr(connection, "OLDEST", 99)
    refused(ConfigError, r"too old: it is \d+, expected 99 or newer")
    monkeypatch.undo()
    server.execute("ALTER DATABASE postgres SET default_transaction_read_only = on")
    refused(JournalReadOnly, "read-only")
    server.execute(
        "SET default_transaction_read_only = off; ALTER DATABASE postgres RESET default_transaction_read_only"
    )
    check_server(address, "a", tmp_path)
    refused_before = server.execute("SELECT version FROM dspex.meta")
    server.execute("UPDATE dspex.meta SET version = 7")
    refused(JournalCorrupt, "newer dspex")
    assert refused_before == [(1,)]
    server.execute("UPDATE dspex.meta SET version = 1")
    for other in (address.replace("/postgres", "/none"), address.replace("//dspex@", "//nobody@")):
        with pytest.raises(JournalError, match=r"lets this user not in \(.*does not exist\): see to user"):
            check_server(other, "a", tmp_path)
    server.kill()
    refused(JournalError, "does not answer")


def test_a_full_disk_is_told_as_such(journal, monkeypatch):
    from psycopg import errors

    with pytest.raises(JournalFull, match="free some"), journal.transaction():
        raise errors.DiskFull("could not extend file")


@pytest.mark.parametrize(
    "text",
    [
        "postgresql://me:secret@host/db", "postgresql://me@host/db?password=secret",
        "postgresql://me@host/db?sslmode=require&password=secret", "postgres://:secret@host",
        "postgresql://me@host/db?pass%77ord=secret", "postgresql://me@host/db?sslpassword=secret",
    ],
)  # fmt: skip
def test_a_password_in_the_address_is_refused_and_not_repeated(text, tmp_path):
    with pytest.raises(ConfigError, match=r"~/\.pgpass") as caught:
        choose_journal(tmp_path, text, runs=False)
    assert "secret" not in caught.value.message
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "text",
    [
        "", "mysql://me:secret@h/db", "postgresql://", "postgresql://h:port/db", "/tmp/x.db", "host=h password=secret",
        "host=h password = 'x@secret'", "mysql://h/db?password=secret", "postgresql://me:secret/@h/db",
    ],
)  # fmt: skip
def test_what_is_no_journal_is_refused(text, tmp_path):
    with pytest.raises(ConfigError, match=r"^journal is invalid: .*expected postgresql://USER@HOST") as caught:
        choose_journal(tmp_path, text, runs=False)
    assert "secret" not in caught.value.message


def test_a_password_is_read_where_the_address_says(monkeypatch):
    address = checked_address("postgresql://me@h:1/db?password=env:MY_PASSWORD&sslmode=require")
    with pytest.raises(ConfigError, match="MY_PASSWORD, which is not set"):
        connect_options(address)
    monkeypatch.setenv("MY_PASSWORD", "s3cret")
    found = connect_options(address)
    assert (found["password"], found["sslmode"], found["host"]) == ("s3cret", "require", "h")
    assert shown(address) == "postgresql://me@h:1/db"


def test_a_node_keeps_its_journal_where_it_was_told(address, tmp_path):
    folder = tmp_path / "home"
    choose_journal(folder, address, runs=False)
    owner = owner_of(folder)
    assert place_of(folder) == {"address": address, "owner": owner}
    assert (folder / "journal.json").stat().st_mode & 0o777 == 0o600
    assert folder.stat().st_mode & 0o777 == 0o700  # a node refuses one that is open to others
    with open_journal(folder) as journal:
        journal.create_run(RunSpec(run_id="far"))
        assert (journal.get_run("far").owner, journal.path.parent) == (owner, folder)
    assert open_reader(folder).get_run("far").run_id == "far"
    with pytest.raises(ConfigError, match="dspex stop"):
        choose_journal(folder, "sqlite", runs=True)
    choose_journal(folder, address, runs=True)
    choose_journal(folder, "sqlite", runs=False)
    with open_journal(folder) as journal:
        assert journal.list_runs() == []
    choose_journal(folder, address, runs=False)
    assert owner_of(folder) == owner
    assert [row.run_id for reader in readers_under(folder, folder) for row in reader.list_runs()] == ["far"]


def test_runs_are_copied_there_and_back(address, tmp_path):
    with Journal(tmp_path / "one.db") as near:
        filled(near)
    source = source_at(str(tmp_path / "one.db"))
    with target_at(address) as far:
        assert {copy_run(source, far, row).outcome for row in source.list_runs()} == {"copied"}
        assert {copy_run(source, far, row).outcome for row in source.list_runs()} == {"there"}
    there = source_at(address)
    with target_at(str(tmp_path / "two.db")) as back:
        for row in there.list_runs():
            copy_run(there, back, row)
    for run_id in ("all", "w"):
        contents = [content_of(one, run_id) for one in (source, there, JournalReader(tmp_path / "two.db"))]
        assert contents[0] == contents[1] == contents[2]
    assert there.get_run("all").owner == ""


def test_a_server_that_is_away_is_told_with_since_when_and_forgotten_when_it_is_back(server, address, tmp_path):
    now = 1000.0
    with PostgresJournal(address, owner="a", folder=tmp_path, clock=lambda: now) as journal:
        journal.open()
        assert journal.trouble() is None
        server.kill()
        why, since = journal.trouble()
        assert ("does not answer" in why, "\n" in why, since) == (True, False, 1000.0)
        now = 1060.0
        assert journal.trouble()[1] == 1000.0
        server.start("-c", "default_transaction_read_only=on")
        assert "read-only" in journal.trouble()[0]
        server.kill()
        server.start()
        assert journal.trouble() is None
        now = 1090.0
        server.kill()
        with pytest.raises(JournalError):
            journal.check()  # the connection of before
        with pytest.raises(JournalError):
            journal.check()
        now = 1120.0
        assert journal.trouble()[1] == 1090.0  # known since somebody wanted to use it
