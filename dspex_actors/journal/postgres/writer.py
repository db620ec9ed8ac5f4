"""The journal in PostgreSQL: what `writer.Journal` is for a file, for all nodes that write to one server.

What a method has acknowledged is as safe as the server's commits are. A connection that breaks is made anew at the next
call; whether the transaction it broke in was carried out is not known then, so whoever asks again asks for the same
batch, and it counts once. Which node a run belongs to stands in its row: a node pauses, revives and ends its own.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dspex_actors.journal.base import JournalBase
from dspex_actors.journal.errors import JournalError, JournalReadOnly
from dspex_actors.journal.postgres.address import checked_address, shown
from dspex_actors.journal.postgres.connection import LOCK_MS, Connection, connected, one_transaction, translated
from dspex_actors.journal.postgres.tables import SAME_AS, make_tables
from dspex_actors.journal.records import RunRow

#: A server that could not be reached is tried again after so many seconds; until then nobody waits for it.
AGAIN_SECONDS = 0.5
#: What the server says where a lock was waited for too long.
LOCK_TIMEOUT = "55P03"


class PostgresJournal(JournalBase):
    """Write a journal that is in a PostgreSQL server.

    Args:
        address: `postgresql://USER@HOST:PORT/DATABASE`.
        owner: this node; its runs are told apart by it from those of others.
        folder: this node's data folder.
        clock: wall-clock seconds since 1970.

    Nothing is opened before it is used, so that a node comes up while its server does not.
    """

    is_far = True

    def __init__(self, address: str, *, owner: str, folder: Path, clock: Callable[[], float] = time.time) -> None:
        """Check the address."""
        super().__init__(clock, owner)
        self.address = checked_address(address)
        self.path = folder / "journal.json"
        self._db: Connection | None = None
        self._failed: tuple[float, Exception] | None = None

    def open(self) -> None:
        """Connect, and bring the tables to this version.

        Raises:
            JournalCorrupt: a newer dspex has made them.
            JournalReadOnly: they cannot be written.
            JournalError: the server cannot be reached.
        """
        with self._lock, translated(self.address):
            self._refuse_read_only(self._connection().raw)

    def _refuse_read_only(self, raw: Any) -> None:
        if raw.execute("SHOW transaction_read_only").fetchone()[0] == "on":
            raise JournalReadOnly(
                f"the journal at {shown(self.address)} cannot be written (the server is read-only): use its primary"
            )

    def check_there(self) -> None:
        """Connect to the server anew, and look whether it can be written."""
        with contextlib.closing(connected(self.address)) as raw, translated(self.address):
            self._refuse_read_only(raw)

    def _connection(self) -> Connection:
        if self._db is not None and not self._db.raw.closed:
            return self._db
        if self._failed is not None and time.monotonic() - self._failed[0] < AGAIN_SECONDS:
            raise self._failed[1]
        self._db = None
        try:
            raw = connected(self.address)
            make_tables(raw, self.address)
        except JournalError as error:
            self._failed = time.monotonic(), error
            self._trouble_since = self._trouble_since or self._clock()
            raise
        self._trouble_since = None
        self._failed, self._db = None, Connection(raw, SAME_AS)
        return self._db

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """Read something, as it is at one moment, locked."""
        with self._lock, translated(self.address):
            db = self._connection()
            with one_transaction(db.raw):
                yield db

    @contextmanager
    def transaction(self, *, adds: bool = False) -> Iterator[Connection]:
        """Change something, all or nothing, locked; `adds`: only results, to the run that is followed."""
        with self._lock, translated(self.address):
            self._followed = self._followed if adds else {}
            db = self._connection()
            with one_transaction(db.raw):
                yield db

    def claim(self, run_id: str, epoch: int, owner: str) -> RunRow:
        """Take a run over, also from a node that stands still among the rows that it sends and keeps the run locked.

        The server ends a transaction that is idle, but does not call it idle in the middle of a COPY.
        """
        try:
            return super().claim(run_id, epoch, owner)
        except JournalError as error:
            if getattr(error.__cause__, "sqlstate", None) != LOCK_TIMEOUT:
                raise
        with self.reading() as db:
            db.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = current_user "
                "AND datname = current_database() AND pid <> pg_backend_pid() AND wait_event = 'ClientRead' "
                "AND xact_start < clock_timestamp() - ? * interval '1 millisecond'",
                (LOCK_MS,),
            )
        return super().claim(run_id, epoch, owner)

    def check(self) -> None:
        """Ask the server for its tables; it checks its files itself."""
        with self.reading() as db:
            db.execute("SELECT count(*) FROM runs")

    def close(self) -> None:
        """Close the connection."""
        with self._lock:
            if self._db is not None:
                self._db.raw.close()
                self._db = None


def check_server(address: str, owner: str, folder: Path) -> None:
    """Try a server before a node is started on it: connect, make the tables, and write.

    Raises:
        DspexError: what is wrong, in one line.
    """
    journal = PostgresJournal(address, owner=owner, folder=folder)
    try:
        journal.open()
    finally:
        journal.close()
