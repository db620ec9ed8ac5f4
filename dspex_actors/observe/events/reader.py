# ruff: noqa: S608 - only constants of this package are put into SQL text
"""Reading a store of events: each process for itself, also where no node runs."""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from dspex_actors.errors import ConfigError
from dspex_actors.foundation.checks import whole
from dspex_actors.foundation.events.event import Event, types_of
from dspex_actors.foundation.events.record import Record
from dspex_actors.foundation.sqlite import ask
from dspex_actors.observe.events.store import COLUMNS, EVENTS_FILE, VERSION
from dspex_actors.observe.events.where import compiled

#: A filter by fields (`where`) looks at the newest so many of the events that the other filters leave.
SCAN_ROWS = 100_000
#: A tree has so many events at most: the first ones.
TREE_ROWS = 100_000
_PAGE = 1000
#: More than any store holds.
_MOST = 1 << 40

T = TypeVar("T")
#: One type or several: a name, or a class, which stands for its subclasses too.
Types = str | type[Event] | Iterable[str | type[Event]]


class EventReader:
    """Read the store at `path` while its writer writes; a missing one is an empty one."""

    def __init__(self, path: Path) -> None:
        """Remember the path; nothing is opened yet."""
        self.path = path

    def query(
        self,
        types: Types | None = None,
        correlation_id: str | None = None,
        since: float | None = None,
        until: float | None = None,
        where: Mapping[str, Any] | None = None,
        limit: int = 1000,
    ) -> list[Record]:
        """Return the newest events that fit, oldest first.

        Args:
            types: of these types.
            correlation_id: that belong together.
            since, until: at or after, at or before, in seconds since 1970.
            where: whose fields are so (`where.compiled`); of the other filters' events the newest `SCAN_ROWS`.
            limit: at most so many.

        Raises:
            ConfigError: an argument is invalid, or the file is no store of events.
        """
        names, text = type_names(types), _text("correlation_id", correlation_id)
        condition, values = _times(since, until)
        if text is not None:
            condition, values = f"{condition} AND correlation_id = ?", [*values, text]
        filtered, wanted = compiled(where)
        limit = min(whole("limit", limit, 1), _MOST)
        rows = limit if where is None else max(limit, SCAN_ROWS)

        def question(db: sqlite3.Connection) -> list[Record]:
            found: list[Record] = []
            # A type each: so each is read in the order of its index, and no further than needed. With a correlation id
            # that index is the better one.
            mine = "+type" if text is not None else "type"
            for name in [None] if names is None else names:
                one = "" if name is None else f" AND {mine} = ?"
                inner = f"SELECT {COLUMNS} FROM events WHERE {condition}{one} ORDER BY at DESC, id DESC LIMIT ?"
                some = [*values, *([] if name is None else [name]), rows]
                outer = f"SELECT * FROM ({inner}) WHERE {filtered} LIMIT ?"
                found += map(Record._make, db.execute(outer, [*some, *wanted, limit]))
            found.sort(key=_order)
            return found[-limit:]

        return self._ask(question, [])

    def correlated(self, correlation_id: str) -> list[Record]:
        """Return the events of a correlation id in the order in which they were made, at most `TREE_ROWS`."""
        text = _text("correlation_id", correlation_id)
        sql = f"SELECT {COLUMNS} FROM events WHERE correlation_id = ? ORDER BY at, id LIMIT {TREE_ROWS}"
        return self._ask(lambda db: [Record._make(row) for row in db.execute(sql, [text])], [])

    def last(self) -> int:
        """Return the number of the newest event there ever was; 0: there was none."""
        return self._ask(_last, 0)

    def after(
        self,
        seq: int,
        names: list[str] | None,
        limit: int,
        most: int,
        correlation_id: str | None = None,
        where: Mapping[str, Any] | None = None,
    ) -> tuple[list[Record], int, int]:
        """Return what has come in after a number, in the order in which it came.

        Args:
            seq: the number of the last event that was seen.
            names: of these types; None: of all.
            limit: at most so many events.
            most: where more than so many wait, the older ones are left out.
            correlation_id: that belong together.
            where: whose fields are so.

        Returns:
            The events, the number to go on after, and how many were left out.

        Raises:
            ConfigError: as `query`.
        """
        condition, values = compiled(where)
        if names is not None:
            condition, values = f"type IN ({', '.join('?' * len(names))}) AND {condition}", [*names, *values]
        if (text := _text("correlation_id", correlation_id)) is not None:
            condition, values = f"+correlation_id = ? AND {condition}", [text, *values]

        def question(db: sqlite3.Connection) -> tuple[list[Record], int, int]:
            newest, left_out, begin = _last(db), 0, seq
            if newest < begin:
                begin = 0  # another store: the one before was damaged, or removed
            if newest - begin > most:
                kept = f"SELECT seq FROM events WHERE seq > ? AND {condition} ORDER BY seq DESC LIMIT 1 OFFSET {most}"
                if cut := db.execute(kept, [begin, *values]).fetchone():
                    count = f"SELECT count(*) FROM events WHERE seq > ? AND seq <= ? AND {condition}"
                    left_out = int(db.execute(count, [begin, cut[0], *values]).fetchone()[0])
                    begin = int(cut[0])
            sql = f"SELECT {COLUMNS}, seq FROM events WHERE seq > ? AND {condition} ORDER BY seq LIMIT ?"
            rows = db.execute(sql, [begin, *values, limit]).fetchall()
            goes_on = int(rows[-1][-1]) if len(rows) == limit else newest
            return [Record._make(row[:-1]) for row in rows], goes_on, left_out

        nothing: tuple[list[Record], int, int] = ([], seq, 0)
        return self._ask(question, nothing)

    def everything(self) -> Iterator[Record]:
        """Give all events in the order in which they came in, a page of them in memory at a time."""
        seq, newest = 0, self.last()
        sql = f"SELECT {COLUMNS}, seq FROM events WHERE seq > ? AND seq <= ? ORDER BY seq LIMIT {_PAGE}"
        rows: list[Any] = [None]
        while rows:
            rows = self._ask(lambda db: db.execute(sql, [seq, newest]).fetchall(), [])  # noqa: B023 - asked at once
            for row in rows:
                yield Record._make(row[:-1])
                seq = row[-1]

    def _ask(self, question: Callable[[sqlite3.Connection], T], empty: T) -> T:
        def checked(db: sqlite3.Connection) -> T:
            version = db.execute("PRAGMA user_version").fetchone()[0]
            if version > VERSION:
                raise ConfigError(f"{self.path} was written by a newer dspex (version {version}): upgrade dspex")
            return question(db) if version else empty

        with _translated(self.path):
            return ask(self.path, checked, empty)


def find_stores(home: Path) -> list[Path]:
    """Return the stores of events under a DSPEX_HOME: the daemon's, then those of embedded nodes, by name."""
    return [path for path in (home / EVENTS_FILE, *sorted(home.glob(f"embedded/*/{EVENTS_FILE}"))) if path.is_file()]


def type_names(types: Types | None) -> list[str] | None:
    """Return the names of types; None: all.

    Raises:
        ConfigError: something is neither a name nor a class of events.
    """
    if types is None or types is Event:
        return None
    if isinstance(types, str):
        several: list[Any] = [types]
    elif isinstance(types, type) or not isinstance(types, Iterable):
        several = [types]
    else:
        several = list(types)
    names: list[str] = []
    for one in several:
        if one is Event:
            return None
        if isinstance(one, type) and issubclass(one, Event):
            names += types_of(one)
        elif isinstance(one, str) and one and one.isprintable():
            names.append(one)
        else:
            raise ConfigError(
                f"the type of events is invalid: got {one!r:.100}, expected a name or a subclass of dspex.Event"
            )
    return list(dict.fromkeys(names))


def _order(record: Record) -> tuple[float, str]:
    return record.at, record.id


def _last(db: sqlite3.Connection) -> int:
    found = db.execute("SELECT seq FROM sqlite_sequence WHERE name = 'events'").fetchone()
    return 0 if found is None else int(found[0])


def _times(since: float | None, until: float | None) -> tuple[str, list[Any]]:
    condition, values = "1", []
    for name, value, sign in (("since", since, ">="), ("until", until, "<=")):
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) < math.inf:
            raise ConfigError(f"{name} is invalid: got {value!r:.100}, expected seconds since 1970")
        condition += f" AND at {sign} ?"
        values.append(float(max(-_MOST, min(value, _MOST))))
    return condition, values


def _text(name: str, value: Any) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str) or not value.isprintable():
        raise ConfigError(f"{name} is invalid: got {value!r:.100}, expected a text")
    return value


@contextmanager
def _translated(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise ConfigError(f"the store of events {path} cannot be read: {error}") from error
    except OSError as error:
        raise ConfigError(f"the store of events {path} cannot be read: {error.strerror or error}") from error
