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
import sqlite3
from collections.abc import Sequence
from typing import Any, cast

import orjson

from dspex_actors.journal.migrations import INDEX_BITS, MAX_INDEX, version_of
from dspex_actors.journal.records import AttemptRow, ResultRow, RunRow, RunSpec, RunState

RUN_COLUMNS = (
    "run_id", "kind", "program", "program_digest", "dataset", "dataset_digest", "metric", "metric_name",
    "metric_digest", "lm", "settings", "total", "state", "reason", "done", "succeeded", "failed", "score_sum", "scored",
    "asked", "usage", "cost", "unpriced", "created_at", "started_at", "ended_at", "last_result_at", "active_seconds",
    "running_since", "nodes", "parent_id", "lm_digest", "options_digest", "identity", "epoch", "labels",
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
    "finish_reason", "extra",
)  # fmt: skip
ATTEMPT_COLUMNS = (
    "key", "send", "n", "at", "provider", "model", "outcome", "error", "status", "usage", "cost", "latency",
    "finish_reason", "request_id",
)  # fmt: skip
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
}

INSERT_RUN = (
    f"INSERT INTO runs ({', '.join(_SPEC_COLUMNS)}, state, created_at, started_at, running_since) "
    f"VALUES ({', '.join('?' * (len(_SPEC_COLUMNS) + 4))})"
)
UPDATE_RUN = f"UPDATE runs SET {', '.join(f'{name} = ?' for name in _GOING_ON)} WHERE run_id = ?"
UPDATE_IDENTITY = f"UPDATE runs SET {', '.join(f'{name} = ?' for name in _IDENTITY)} WHERE run_id = ?"
INSERT_RESULT = (
    f"INSERT OR IGNORE INTO results ({', '.join(RESULT_COLUMNS)}) VALUES ({', '.join('?' * len(RESULT_COLUMNS))})"
)
INSERT_ATTEMPT = (
    f"INSERT OR IGNORE INTO attempts ({', '.join(ATTEMPT_COLUMNS)}) VALUES ({', '.join('?' * len(ATTEMPT_COLUMNS))})"
)
REPLACE_ATTEMPT = INSERT_ATTEMPT.replace("OR IGNORE", "OR REPLACE")


def columns(names: Sequence[str], db: sqlite3.Connection) -> str:
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


def run_row(row: sqlite3.Row) -> RunRow:
    """Return the run in a row of RUN_COLUMNS."""
    spec = RunSpec(
        run_id=row["run_id"], kind=row["kind"], program=row["program"], program_digest=row["program_digest"],
        dataset=from_json(row["dataset"]), dataset_digest=row["dataset_digest"], metric=row["metric"],
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
    )  # fmt: skip


def effective_score(result: ResultRow) -> float | None:
    """Return the score that counts: none for a failed example, none where it is no finite number."""
    score = result.score
    return None if score is None or result.error is not None or not math.isfinite(score) else float(score)


def result_values(base: int, result: ResultRow) -> tuple[Any, ...]:
    """Return the values of INSERT_RESULT."""
    if not 0 <= result.index <= MAX_INDEX:
        raise ValueError(f"a result's index is 0 to {MAX_INDEX:,}; got {result.index}")
    return (
        base | result.index, effective_score(result), result.attempts, result.latency, result.asked,
        result.cost, result.at, result.worker, to_json(result.usage) if result.usage else None,
        None if result.error is None else to_json(result.error), result.prediction, result.example,
        result.finish_reason, result.extra,
    )  # fmt: skip


def result_row(row: tuple[Any, ...]) -> ResultRow:
    """Return the result in a row of RESULT_COLUMNS."""
    key, score, attempts, latency, asked, cost, at, worker, usage, error, prediction, example, reason, extra = row
    return ResultRow(
        index=key & MAX_INDEX, score=score, attempts=attempts, latency=latency, asked=asked, cost=cost, at=at,
        worker=worker, usage=from_json(usage), error=from_json(error), prediction=prediction, example=example,
        finish_reason=reason, extra=extra,
    )  # fmt: skip


def attempt_values(base: int, attempt: AttemptRow) -> tuple[Any, ...]:
    """Return the values of INSERT_ATTEMPT."""
    if not 0 <= attempt.index <= MAX_INDEX:
        raise ValueError(f"an attempt's index is 0 to {MAX_INDEX:,}; got {attempt.index}")
    return (
        base | attempt.index, attempt.send, attempt.n, attempt.at, attempt.provider, attempt.model, attempt.outcome,
        attempt.error, attempt.status, to_json(attempt.usage) if attempt.usage else None, attempt.cost,
        attempt.latency, attempt.finish_reason, attempt.request_id,
    )  # fmt: skip


def attempt_row(row: tuple[Any, ...]) -> AttemptRow:
    """Return the attempt in a row of ATTEMPT_COLUMNS."""
    key, send, n, at, provider, model, outcome, error, status, usage, cost, latency, reason, request_id = row
    return AttemptRow(
        index=key & MAX_INDEX, send=send, n=n, at=at, provider=provider, model=model, outcome=outcome, error=error,
        status=status, usage=from_json(usage), cost=cost, latency=latency, finish_reason=reason,
        request_id=request_id,
    )  # fmt: skip
