# ruff: noqa: S608 - only constants of this package are put into SQL text; values are always bound
"""Rows of the journal's tables to objects and back; the tables themselves are in `migrations`.

A result's key is one integer, the run's number in the upper bits and the example's index in the lower 40:
SQLite then keeps the table itself in that order (no second index), "is it there already" and "page of results
in input order" are both range look-ups, and a batch appends to the end of the file. Against a table with
(run_id, idx) as primary key that is some 10 % fewer bytes and no slower. The view `result` shows both parts
for people with an sqlite3 shell. Short columns come first: statistics over a run do not read the long ones
behind them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from operator import attrgetter, itemgetter
from typing import Any, cast

import orjson

from dspex_actors.journal.migrations import INDEX_BITS, MAX_INDEX, version_of
from dspex_actors.journal.records import ResultRow, RunRow, RunSpec, RunState
from dspex_actors.lm.attempts import Attempt

RUN_COLUMNS = (
    "run_id", "kind", "program", "program_digest", "dataset", "dataset_digest", "metric", "metric_name",
    "metric_digest", "lm", "settings", "total", "state", "reason", "done", "succeeded", "failed", "score_sum", "scored",
    "asked", "usage", "cost", "unpriced", "created_at", "started_at", "ended_at", "last_result_at", "active_seconds",
    "running_since", "nodes", "parent_id", "lm_digest", "options_digest", "identity", "epoch", "labels",
    "owner", "claimed", "seq",
)  # fmt: skip
_SPEC_COLUMNS = (
    "run_id", "kind", "program", "program_digest", "dataset", "dataset_digest", "metric", "metric_name",
    "metric_digest", "lm", "settings", "total", "parent_id", "lm_digest", "options_digest", "identity", "labels",
)  # fmt: skip
#: What of a run's spec may change when it goes on: where things are, and how it is to be done.
_GOING_ON = ("program", "dataset", "metric", "lm", "settings")
#: What of it says which run it is; written anew when its user says so.
_IDENTITY = ("program_digest", "dataset_digest", "metric_digest", "lm_digest", "options_digest", "identity")
RESULT_COLUMNS = (
    "key", "score", "attempts", "latency", "asked", "cost", "at", "worker", "usage", "error", "prediction", "example",
    "finish_reason", "extra", "cached",
)  # fmt: skip
_ATTEMPT_FIELDS = tuple(item.name for item in fields(Attempt))
ATTEMPT_COLUMNS = ("key", *_ATTEMPT_FIELDS[1:])
#: Columns that came after the first version: the version, and what they are before it.
_LATER = {
    "parent_id": (2, "NULL"),
    "lm_digest": (2, "NULL"),
    "options_digest": (2, "NULL"),
    "identity": (2, "NULL"),
    "epoch": (2, "0"),
    "labels": (2, "'{}'"),
    "finish_reason": (2, "NULL"),
    "extra": (2, "NULL"),
    "cached": (4, "NULL"),
    "user": (4, "NULL"),
    "tags": (4, "NULL"),
    "owner": (5, "''"),
    "claimed": (5, "0"),
    "seq": (5, "0"),
}

INSERT_RUN = (
    f"INSERT INTO runs ({', '.join(_SPEC_COLUMNS)}, state, created_at, started_at, running_since, owner) "
    f"VALUES ({', '.join('?' * (len(_SPEC_COLUMNS) + 5))})"
)
UPDATE_RUN = f"UPDATE runs SET {', '.join(f'{name} = ?' for name in _GOING_ON)} WHERE run_id = ?"
UPDATE_IDENTITY = f"UPDATE runs SET {', '.join(f'{name} = ?' for name in _IDENTITY)} WHERE run_id = ?"

#: A row as it is written: the values of its columns, but for the first one, its key, the index of its example.
Values = list[Any]
_index = itemgetter(0)


def columns(names: Sequence[str], db: Any) -> str:
    """Return the list of columns for a SELECT, from a journal of whatever version: what it has not is as at first."""
    version = version_of(db)
    parts = []
    for name in names:
        since, before = _LATER.get(name, (1, ""))
        parts.append(name if version >= since else f"{before} AS {name}")
    return ", ".join(parts)


def span(number: int) -> tuple[int, int]:
    """Return the first and last key that results of run `number` can have."""
    return number << INDEX_BITS, (number << INDEX_BITS) | MAX_INDEX


def to_json(value: Any) -> str:
    """Return plain data as JSON text."""
    return orjson.dumps(value, option=orjson.OPT_NON_STR_KEYS).decode()


def from_json(text: str | None) -> Any:
    """Return the plain data in JSON text; None for none."""
    return None if text is None else orjson.loads(text)


def spec_values(spec: RunSpec) -> tuple[Any, ...]:
    """Return the spec's part of INSERT_RUN."""
    return _values(spec, _SPEC_COLUMNS)


def going_on_values(spec: RunSpec) -> tuple[Any, ...]:
    """Return the spec's part of UPDATE_RUN."""
    return _values(spec, _GOING_ON)


def identity_values(spec: RunSpec) -> tuple[Any, ...]:
    """Return the spec's part of UPDATE_IDENTITY."""
    return _values(spec, _IDENTITY)


def _values(spec: RunSpec, names: Sequence[str]) -> tuple[Any, ...]:
    found = (getattr(spec, name) for name in names)
    return tuple(to_json(value) if isinstance(value, dict) else value for value in found)


def run_row(row: Mapping[str, Any]) -> RunRow:
    """Return the run in a row of RUN_COLUMNS, by name."""
    spec = RunSpec(
        run_id=row["run_id"], kind=row["kind"], program=row["program"] or b"", program_digest=row["program_digest"],
        dataset=from_json(row["dataset"]), dataset_digest=row["dataset_digest"], metric=row["metric"] or b"",
        metric_name=row["metric_name"], metric_digest=row["metric_digest"], lm=from_json(row["lm"]),
        settings=from_json(row["settings"]), total=row["total"], parent_id=row["parent_id"],
        lm_digest=row["lm_digest"], options_digest=row["options_digest"], identity=from_json(row["identity"]),
        labels=from_json(row["labels"]),
    )  # fmt: skip
    return RunRow(
        spec=spec, state=cast("RunState", row["state"]), reason=row["reason"], done=row["done"],
        succeeded=row["succeeded"], failed=row["failed"], score_sum=row["score_sum"], scored=row["scored"],
        asked=row["asked"], usage=from_json(row["usage"]), cost=row["cost"], unpriced=row["unpriced"],
        created_at=row["created_at"], started_at=row["started_at"], ended_at=row["ended_at"],
        last_result_at=row["last_result_at"], active_seconds=row["active_seconds"],
        running_since=row["running_since"], nodes=tuple(from_json(row["nodes"])), epoch=row["epoch"],
        owner=row["owner"], claimed=row["claimed"], seq=row["seq"],
    )  # fmt: skip


def effective_score(score: float | None, error: dict[str, Any] | None) -> float | None:
    """Return the score that counts: none for a failed example, none where it is no finite number."""
    return None if score is None or error is not None or not math.isfinite(score) else float(score)


def insert(table: str, names: Sequence[str], base: int, *, instead: str = "IGNORE") -> str:
    """Return the statement that puts rows into a table.

    Args:
        table: results or attempts.
        names: its columns.
        base: the key of the run's index 0.
        instead: what becomes of a row that is there: IGNORE the new one, or REPLACE the old one.
    """
    marks = ", ".join("?" * (len(names) - 1))
    there = "NOTHING" if instead == "IGNORE" else f"UPDATE SET {', '.join(f'{n} = excluded.{n}' for n in names[3:])}"
    keys = "key" if table == "results" else "key, send, n"
    return f"INSERT INTO {table} ({', '.join(names)}) VALUES ({base} | ?, {marks}) ON CONFLICT ({keys}) DO {there}"


def check_indices(rows: Iterable[Values]) -> None:
    """Refuse rows whose index has no place in a key.

    Raises:
        ValueError: an index is negative, or too large.
    """
    indices = list(map(_index, rows))
    for index in (min(indices, default=0), max(indices, default=0)):
        if not 0 <= index <= MAX_INDEX:
            raise ValueError(f"an example's index is invalid: got {index}, expected 0 to {MAX_INDEX:,}")


def result_values(
    *, index: int, example: bytes, prediction: bytes | None, score: float | None, error: dict[str, Any] | None,
    attempts: int, latency: float | None, usage: str | None, asked: int, cost: float | None, worker: str,
    at: float, finish_reason: str | None, extra: bytes | None, cached: str | None = None,
) -> Values:  # fmt: skip
    """Return a result as it is written; the arguments are the fields of a `ResultRow`, `usage` as JSON."""
    return [
        index, effective_score(score, error), attempts, latency, asked, cost, at, worker,
        usage, None if error is None else to_json(error), prediction, example,
        finish_reason, extra, cached,
    ]  # fmt: skip


_RESULT_FIELDS = tuple(item.name for item in fields(ResultRow))
_result_fields = attrgetter(*_RESULT_FIELDS)


def values_of_result(row: ResultRow) -> Values:
    """Return a result as it is written."""
    values = dict(zip(_RESULT_FIELDS, _result_fields(row), strict=True))
    return result_values(**{**values, "usage": to_json(row.usage) if row.usage else None})


def result_row(row: tuple[Any, ...]) -> ResultRow:
    """Return the result in a row of RESULT_COLUMNS."""
    key, score, attempts, latency, asked, cost, at, worker, usage, error, prediction, example, reason, *rest = row
    extra, cached = rest
    return ResultRow(
        index=key & MAX_INDEX, score=score, attempts=attempts, latency=latency, asked=asked, cost=cost, at=at,
        worker=worker, usage=from_json(usage), error=from_json(error), prediction=prediction, example=example,
        finish_reason=reason, extra=extra, cached=cached,
    )  # fmt: skip


_attempt_fields = attrgetter(*_ATTEMPT_FIELDS)


def attempt_values(attempt: Attempt) -> Values:
    """Return a request as it is written."""
    return list(_attempt_fields(attempt))


def attempt_row(row: tuple[Any, ...]) -> Attempt:
    """Return the request in a row of ATTEMPT_COLUMNS."""
    key, *values = row
    return Attempt(key & MAX_INDEX, *values)
