# ruff: noqa: S608 - only constants of this package are put into SQL text; values are always bound
"""The journal's tables, and rows to objects.

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
from typing import Any, cast

import orjson

from dspex_actors.journal.records import ResultRow, RunRow, RunSpec, RunState

VERSION = 1
INDEX_BITS = 40
MAX_INDEX = (1 << INDEX_BITS) - 1

DDL = (
    """CREATE TABLE runs (
        number INTEGER PRIMARY KEY, run_id TEXT NOT NULL UNIQUE, kind TEXT NOT NULL,
        state TEXT NOT NULL, reason TEXT, total INTEGER,
        done INTEGER NOT NULL DEFAULT 0, succeeded INTEGER NOT NULL DEFAULT 0,
        failed INTEGER NOT NULL DEFAULT 0,
        score_sum REAL NOT NULL DEFAULT 0, scored INTEGER NOT NULL DEFAULT 0,
        asked INTEGER NOT NULL DEFAULT 0,
        usage TEXT NOT NULL DEFAULT '{}', cost REAL NOT NULL DEFAULT 0, unpriced INTEGER NOT NULL DEFAULT 0,
        nodes TEXT NOT NULL DEFAULT '[]',
        created_at REAL NOT NULL, started_at REAL, ended_at REAL, last_result_at REAL,
        active_seconds REAL NOT NULL DEFAULT 0, running_since REAL,
        program_digest TEXT NOT NULL, dataset_digest TEXT,
        metric_name TEXT NOT NULL, metric_digest TEXT NOT NULL,
        lm TEXT, settings TEXT NOT NULL, dataset TEXT NOT NULL, program BLOB NOT NULL, metric BLOB NOT
        NULL)""",
    """CREATE TABLE results (
        key INTEGER PRIMARY KEY, score REAL, attempts INTEGER NOT NULL, latency REAL, asked INTEGER NOT NULL,
        cost REAL, at REAL NOT NULL, worker TEXT NOT NULL, usage TEXT, error TEXT,
        prediction BLOB, example BLOB NOT NULL)""",
    "CREATE INDEX results_failed ON results (key) WHERE error IS NOT NULL",
    """CREATE TABLE events (
        number INTEGER PRIMARY KEY, at REAL NOT NULL, kind TEXT NOT NULL, data TEXT NOT NULL)""",
    f"""CREATE VIEW result AS
        SELECT runs.run_id, results.key & {MAX_INDEX} AS idx, results.score, results.error, results.attempts,
               results.latency, results.usage, results.asked, results.cost, results.worker, results.at
        FROM results JOIN runs ON runs.number = results.key >> {INDEX_BITS}""",
    f"PRAGMA user_version = {VERSION}",
)

RUN_COLUMNS = (
    "run_id, kind, program, program_digest, dataset, dataset_digest, metric, metric_name, metric_digest, lm, "
    "settings, total, state, reason, done, succeeded, failed, score_sum, scored, asked, usage, cost, "
    "unpriced, "
    "created_at, started_at, ended_at, last_result_at, active_seconds, running_since, nodes"
)
INSERT_RUN = (
    "INSERT INTO runs (run_id, kind, program, program_digest, dataset, dataset_digest, metric, metric_name, "
    "metric_digest, lm, settings, total, state, created_at, started_at, running_since) "
    "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
UPDATE_RUN = "UPDATE runs SET program = ?, dataset = ?, metric = ?, lm = ?, settings = ? WHERE run_id = ?"
RESULT_COLUMNS = "key, score, attempts, latency, asked, cost, at, worker, usage, error, prediction, example"
INSERT_RESULT = f"INSERT OR IGNORE INTO results ({RESULT_COLUMNS}) VALUES ({', '.join('?' * 12)})"


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
    return (
        spec.run_id, spec.kind, spec.program, spec.program_digest, to_json(spec.dataset), spec.dataset_digest,
        spec.metric, spec.metric_name, spec.metric_digest, None if spec.lm is None else to_json(spec.lm),
        to_json(spec.settings), spec.total,
    )  # fmt: skip


def going_on_values(spec: RunSpec) -> tuple[Any, ...]:
    """Return the spec's part of UPDATE_RUN."""
    lm = None if spec.lm is None else to_json(spec.lm)
    return spec.program, to_json(spec.dataset), spec.metric, lm, to_json(spec.settings)


def run_row(row: sqlite3.Row) -> RunRow:
    """Return the run in a row of RUN_COLUMNS."""
    spec = RunSpec(
        run_id=row["run_id"], kind=row["kind"], program=row["program"], program_digest=row["program_digest"],
        dataset=from_json(row["dataset"]), dataset_digest=row["dataset_digest"], metric=row["metric"],
        metric_name=row["metric_name"], metric_digest=row["metric_digest"], lm=from_json(row["lm"]),
        settings=from_json(row["settings"]), total=row["total"],
    )  # fmt: skip
    return RunRow(
        spec=spec, state=cast("RunState", row["state"]), reason=row["reason"], done=row["done"],
        succeeded=row["succeeded"], failed=row["failed"], score_sum=row["score_sum"], scored=row["scored"],
        asked=row["asked"], usage=from_json(row["usage"]), cost=row["cost"], unpriced=row["unpriced"],
        created_at=row["created_at"], started_at=row["started_at"], ended_at=row["ended_at"],
        last_result_at=row["last_result_at"], active_seconds=row["active_seconds"],
        running_since=row["running_since"], nodes=tuple(from_json(row["nodes"])),
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
        result.cost,
        result.at, result.worker, to_json(result.usage) if result.usage else None,
        None if result.error is None else to_json(result.error), result.prediction, result.example,
    )  # fmt: skip


def result_row(row: tuple[Any, ...]) -> ResultRow:
    """Return the result in a row of RESULT_COLUMNS."""
    key, score, attempts, latency, asked, cost, at, worker, usage, error, prediction, example = row
    return ResultRow(
        index=key & MAX_INDEX, score=score, attempts=attempts, latency=latency, asked=asked, cost=cost, at=at,
        worker=worker, usage=from_json(usage), error=from_json(error), prediction=prediction, example=example,
    )  # fmt: skip
