"""A connection that takes the journal's SQL as SQLite does, and what can go wrong with it in our words."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

from dspex_actors.errors import ConfigError, DspexError
from dspex_actors.journal.errors import JournalError, JournalFull, JournalReadOnly
from dspex_actors.journal.postgres.address import connect_options, shown

#: Older servers lack nothing that we know of, but are given up by those who make them.
OLDEST = 13
#: The schema of the database that our tables are in.
SCHEMA = "dspex"
#: A transaction whose client says nothing for so many milliseconds is rolled back; a lock is waited for so long.
IDLE_MS, LOCK_MS = 5_000, 10_000
_STREAMED = 5_000
_USER = re.compile(r"\buser\b")


@lru_cache(maxsize=1000)
def _translated(statement: str) -> str:
    ours = statement.replace("%", "%%").replace("?", "%s").replace("instr(", "strpos(")
    return _USER.sub('"user"', ours)


class Connection:
    """A connection of psycopg, for the journal's statements.

    Args:
        raw: in autocommit mode.
        version: the version of the journal's tables, as SQLite's files count it.
    """

    def __init__(self, raw: Any, version: int) -> None:
        """Keep both."""
        self.raw, self.version = raw, version

    def execute(self, statement: str, values: Sequence[Any] = ()) -> Any:
        """Carry a statement out, and return its cursor."""
        return self.raw.execute(_translated(statement), values)

    def executemany(self, statement: str, rows: Iterable[Sequence[Any]]) -> Any:
        """Carry a statement out for each of the rows, on one way to the server and back."""
        cursor = self.raw.cursor()
        cursor.executemany(_translated(statement), rows)
        return cursor

    def copy(self, table: str, names: Sequence[str], base: int, rows: Sequence[Sequence[Any]]) -> bool:
        """Put rows into a table as fast as it goes; return False, with the transaction broken, if one was there.

        Args:
            table: which one.
            names: its columns.
            base: the key of index 0, which the first value of each row is counted from.
            rows: values by column.
        """
        from psycopg.errors import UniqueViolation

        try:
            with self.raw.cursor().copy(_translated(f"COPY {table} ({', '.join(names)}) FROM STDIN")) as copy:
                for index, *values in rows:
                    copy.write_row((base | index, *values))
        except UniqueViolation:
            return False
        return True

    def stream(self, statement: str, values: Sequence[Any]) -> Iterator[Any]:
        """Give the rows of an answer with a part of them in memory; inside a transaction."""
        with self.raw.cursor(name="dspex_rows") as cursor:
            cursor.itersize = _STREAMED
            yield from cursor.execute(_translated(statement), values)


def connected(address: str) -> Any:
    """Return a connection of psycopg to the server, in autocommit mode.

    Raises:
        ConfigError: psycopg is missing, or the server is too old.
        JournalError: it cannot be reached, or refuses us.
    """
    try:
        import psycopg
        from psycopg.adapt import Loader
        from psycopg.types.string import StrDumper
    except ImportError:
        raise ConfigError(
            "a journal in PostgreSQL needs psycopg: install it with `pip install 'dspex-actors[postgresql]'`"
        ) from None

    class Text(StrDumper):
        """Texts of PostgreSQL cannot have a zero in them."""

        def dump(self, obj: str) -> Any:
            return super().dump(obj.replace("\x00", "\ufffd") if "\x00" in obj else obj)

    class Whole(Loader):
        """Sums of whole numbers."""

        def load(self, data: Any) -> int:
            return int(bytes(data))

    with translated(address):
        raw = psycopg.connect(**connect_options(address), autocommit=True)
        raw.adapters.register_dumper(str, Text)
        raw.adapters.register_loader("numeric", Whole)
        raw.execute(f"SET search_path = {SCHEMA}")
        # A node that is stopped in the middle of a transaction must not keep its runs from those who take them over.
        raw.execute(f"SET idle_in_transaction_session_timeout = {IDLE_MS}")
        raw.execute(f"SET lock_timeout = {LOCK_MS}")
    if (version := raw.info.server_version) < OLDEST * 10_000:
        raw.close()
        raise ConfigError(
            f"the PostgreSQL server at {shown(address)} is too old: it is {version // 10_000}, "
            f"expected {OLDEST} or newer"
        )
    return raw


@contextmanager
def one_transaction(raw: Any) -> Iterator[None]:
    """Carry out the block as one transaction; a connection that is not idle after it is closed, and so made anew.

    A server that ends in the middle of a pipeline can leave psycopg in it ("cannot exit pipeline mode while busy"): the
    connection counts as open, and every statement that follows fails.
    """
    try:
        with raw.transaction():
            yield
    finally:
        if not raw.closed and (raw.info.pipeline_status or raw.info.transaction_status):
            raw.close()


@contextmanager
def translated(address: str) -> Iterator[None]:
    """Turn what psycopg raises inside the block into the journal's errors."""
    import psycopg

    try:
        yield
    except psycopg.Error as error:
        raise _ours(address, error) from error


#: What a server says to one whom it will not let in the next time either.
_LETS_NOBODY_IN = re.compile(r"FATAL: .*(does not exist|authentication failed|no pg_hba\.conf entry|not permitted)")


def _ours(address: str, error: Any) -> DspexError:
    where = f"the journal at {shown(address)}"
    text = " ".join(str(error).split())[:200]
    match str(error.sqlstate or ""):
        case "53100":
            return JournalFull(f"no space left for {where}: free some and go on; everything acknowledged is kept")
        case "25006":
            return JournalReadOnly(f"{where} cannot be written (the server is read-only): use its primary")
        case "42501":
            return JournalReadOnly(f"{where} cannot be written ({text}): grant it to this user")
        case "" if _LETS_NOBODY_IN.search(text):  # a connection that is refused has no state
            return JournalError(f"{where} lets this user not in ({text}): see to user, password and database")
        case state if not state or state.startswith(("08", "57P", "25P03")):
            return JournalError(f"{where} does not answer ({text}); what is acknowledged is kept")
    return JournalError(f"{where}: {text} ({error.sqlstate})")
