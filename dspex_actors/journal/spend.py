# ruff: noqa: S608 - only constants of this package are put into SQL text; values are always bound
"""What was paid, by the hour: a row per hour, run, model, user and tags, and never one per request.

The rows grow with the requests that are written down, in the same transaction, so they are their sums; and they have
what is in no table of requests: single calls of programs, and answers that a cache gave. A run that is deleted has been
paid all the same: its rows stay.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import orjson

from dspex_actors.journal.migrations import version_of
from dspex_actors.journal.schema import ATTEMPT_COLUMNS, Values, attempt_values
from dspex_actors.lm.attempts import Attempt

HOUR_SECONDS = 3600
#: A worker that has told nothing for so many seconds tells no batch again.
TOLD_SECONDS = 7 * 86_400.0
KEY_COLUMNS = ("hour", "run", "provider", "model", "user", "tags")
SUM_COLUMNS = (
    "requests", "answered", "failed", "given_up", "unpriced", "cost",
    "input_total", "output_total", "cache_read", "cache_write", "reasoning", "cached", "saved",
)  # fmt: skip
_TOKENS = SUM_COLUMNS[6:11]
_ADD = (
    f"INSERT INTO spend ({', '.join((*KEY_COLUMNS, *SUM_COLUMNS))}) "
    f"VALUES ({', '.join('?' * (len(KEY_COLUMNS) + len(SUM_COLUMNS)))}) "
    f"ON CONFLICT ({', '.join(KEY_COLUMNS)}) DO UPDATE SET "
    f"{', '.join(f'{name} = spend.{name} + excluded.{name}' for name in SUM_COLUMNS)}"
)
_AT, _PROVIDER, _MODEL, _OUTCOME, _COST, _USAGE, _USER, _TAGS = (
    ATTEMPT_COLUMNS.index(name) for name in ("at", "provider", "model", "outcome", "cost", "usage", "user", "tags")
)
_PLACES = {"answered": 1, "failed": 2}

#: Hour since 1970, run id, provider, model, user, tags (JSON); an empty text: none.
Key = tuple[int, str, str, str, str, str]


class Spent(NamedTuple):
    """What was paid in one hour for one kind of request.

    Args:
        hour: since 1970, whole.
        run: the run's id; empty: no run.
        provider: who was asked.
        model: which model.
        user: for whom; empty: nobody said.
        tags: what for, as JSON; empty: nobody said.
        requests: made, whatever became of them; `answered`, `failed` and `given_up` (by us, or with their worker) are
            its parts.
        answered: with an answer.
        failed: with an error.
        given_up: without either.
        unpriced: requests whose price is unknown.
        cost: USD, of those whose price is known.
        input_total: tokens of prompts, those included that a provider's cache had; so `output_total` of replies.
        output_total: tokens of replies.
        cache_read: of the prompts' tokens, read from a provider's cache.
        cache_write: of the prompts' tokens, written to it.
        reasoning: of the replies' tokens, hidden reasoning.
        cached: answers that our cache gave; no requests.
        saved: USD that they had cost when they were asked, as far as it is known.
    """

    hour: int
    run: str
    provider: str
    model: str
    user: str = ""
    tags: str = ""
    requests: int = 0
    answered: int = 0
    failed: int = 0
    given_up: int = 0
    unpriced: int = 0
    cost: float = 0.0
    input_total: int = 0
    output_total: int = 0
    cache_read: int = 0
    cache_write: int = 0
    reasoning: int = 0
    cached: int = 0
    saved: float = 0.0


class Sums:
    """Sums over requests by hour, run, model, user and tags."""

    def __init__(self) -> None:
        """Begin with none."""
        self._rows: dict[Key, list[float]] = {}

    def __bool__(self) -> bool:
        """Whether there is anything."""
        return bool(self._rows)

    def _row(self, key: Key) -> list[float]:
        row = self._rows.get(key)
        if row is None:
            row = self._rows[key] = [0] * len(SUM_COLUMNS)
        return row

    def add(self, run: str, attempts: Iterable[Values], sign: int = 1) -> None:
        """Add requests, as they are written down.

        Args:
            run: the run's id; empty: no run.
            attempts: values by column.
            sign: -1 takes them off again.
        """
        for one in attempts:
            key = (int(one[_AT] // HOUR_SECONDS), run, one[_PROVIDER], one[_MODEL], one[_USER] or "", one[_TAGS] or "")
            row = self._row(key)
            row[0] += sign
            row[_PLACES.get(one[_OUTCOME], 3)] += sign
            if (cost := one[_COST]) is None:
                row[4] += sign
            else:
                row[5] += sign * cost
            if usage := one[_USAGE]:
                told = orjson.loads(usage)
                for place, name in enumerate(_TOKENS, 6):
                    if type(count := told.get(name)) is int and count:
                        row[place] += sign * count

    def take_back(self, run: str, attempt: Attempt) -> None:
        """Take a request off that another row stands for now."""
        self.add(run, [attempt_values(attempt)], sign=-1)

    def add_cached(self, key: Key, saved: float | None) -> None:
        """Add an answer that a cache gave.

        Args:
            key: the hour, and whose it is.
            saved: USD that it had cost; None: unknown.
        """
        row = self._row(key)
        row[11] += 1
        row[12] += saved or 0.0

    def take(self) -> list[Values]:
        """Return the rows, and begin anew."""
        rows, self._rows = self._rows, {}
        return [[*key, *row] for key, row in rows.items()]


def book(db: Any, run: str, attempts: Iterable[Values], replaced: Iterable[Attempt]) -> None:
    """Add requests of a run, and take those off that they stand for; inside the caller's transaction."""
    sums = Sums()
    sums.add(run, attempts)
    for attempt in replaced:
        sums.take_back(run, attempt)
    add_to(db, sums.take())


def add_to(db: Any, rows: Sequence[Values]) -> None:
    """Add rows as `Sums.take` gives them, inside the caller's transaction."""
    db.executemany(_ADD, rows)


def add_batch(db: Any, worker: str, batch: int, rows: Sequence[Values], now: float) -> bool:
    """Add the rows of a worker's batch, unless they are there, inside the caller's transaction.

    Who has not heard that they are written down tells them again, perhaps to a successor.

    Args:
        db: the journal.
        worker: the uid of its process.
        batch: from 1, growing.
        rows: as `Sums.take` gives them.
        now: seconds since 1970.

    Returns:
        Whether they were new.
    """
    added = db.execute(
        "INSERT INTO told VALUES (?, ?, ?) ON CONFLICT (worker) DO UPDATE SET batch = excluded.batch, "
        "at = excluded.at WHERE excluded.batch > told.batch",
        (worker, batch, now),
    )
    if not added.rowcount:
        return False
    if batch == 1:  # a new process: those of long ago have told all that they had
        db.execute("DELETE FROM told WHERE at < ?", (now - TOLD_SECONDS,))
    add_to(db, rows)
    return True


def spent(db: Any, since: int, columns: Sequence[str]) -> list[Spent]:
    """Return what was paid from an hour on, summed over the key's other columns.

    Args:
        db: the journal; one of before there was a table has none.
        since: the first hour that counts.
        columns: of `KEY_COLUMNS`, those that are told apart.
    """
    if version_of(db) < 4:
        return []
    shown = ", ".join(name if name in columns else ("0" if name == "hour" else "''") for name in KEY_COLUMNS)
    sums = ", ".join(f"sum({name})" for name in SUM_COLUMNS)
    group = f" GROUP BY {', '.join(columns)}" if columns else " HAVING count(*) > 0"
    rows = db.execute(f"SELECT {shown}, {sums} FROM spend WHERE hour >= ?{group}", (since,))
    return [Spent._make(row) for row in rows]
