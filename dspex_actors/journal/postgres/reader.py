"""Reading a journal that is in PostgreSQL."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from dspex_actors.journal.postgres.address import checked_address
from dspex_actors.journal.postgres.connection import Connection, connected, one_transaction, translated
from dspex_actors.journal.postgres.tables import SAME_AS, version_there
from dspex_actors.journal.reader import JournalReader

T = TypeVar("T")


class PostgresReader(JournalReader):
    """Read the journal that a node has in a PostgreSQL server; where no node has made the tables yet it is empty.

    Args:
        address: of the server.
        path: the file in the node's data folder that says so.
    """

    def __init__(self, address: str, path: Path) -> None:
        """Connect when the first question comes."""
        super().__init__(path)
        self._raw: Any = None
        self.address = checked_address(address)
        self._lock = threading.Lock()

    def check(self) -> None:
        """Ask the server for its tables; it checks its files itself."""
        self.ask(lambda db: db.execute("SELECT count(*) FROM runs").fetchone(), None)

    def close(self) -> None:
        """Close the connection; the next question makes another one."""
        with self._lock:
            if self._raw is not None:
                self._raw.close()
            self._raw = None

    def __del__(self) -> None:
        """Leave no connection behind."""
        if self._raw is not None:
            self._raw.close()

    def ask(self, question: Callable[[Any], T], empty: T) -> T:
        """Put a question to the open journal: all of its answer is of one moment; `empty` where there is none."""
        with self._lock, translated(self.address):
            if self._raw is None or self._raw.closed:
                self._raw = connected(self.address)
            raw = self._raw
            with one_transaction(raw):
                raw.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
                return empty if version_there(raw, self.address) == 0 else question(Connection(raw, SAME_AS))
