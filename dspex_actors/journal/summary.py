"""A run in figures: the keys of `runs show --json`, and the lines of `runs export`."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from typing import Any

from dspex_actors.data.fields import unpack_example
from dspex_actors.foundation.codec import CodecError, json_text, to_plain, unpack
from dspex_actors.journal.reader import JournalReader
from dspex_actors.journal.records import ResultRow, RunRow, StepRow
from dspex_actors.journal.sameness import HELD


def mean_of(row: RunRow) -> float | None:
    """Return the mean score, unrounded; None when nothing has a score.

    With `failure_score` among the run's settings, a failed example counts as that.
    """
    total, count = row.score_sum, row.scored
    instead = row.spec.settings.get("failure_score")
    if instead is not None:
        total += float(instead) * row.failed
        count += row.failed
    return total / count if count else None


def row_score(result: ResultRow, run: RunRow | None = None) -> float | None:
    """Return an example's score; of one that failed `failure_score`, where its run has that. None: it has none."""
    if result.error is None or run is None:
        return result.score
    instead = run.spec.settings.get("failure_score")
    return None if instead is None else float(instead)


def score_of(row: RunRow) -> float | None:
    """Return the mean score times 100 with two decimals, as DSPy gives it; None when nothing has a score."""
    mean = mean_of(row)
    return None if mean is None else round(100 * mean, 2)


def cost_of(row: RunRow) -> float | None:
    """Return the price of the run's LM calls; None where any of them has an unknown price."""
    return None if row.unpriced else row.cost


def duration_of(row: RunRow, now: float | None = None) -> float:
    """Return the seconds the run was running, pauses left out.

    Args:
        row: the run.
        now: wall-clock seconds, to count a run that is running up to now.
    """
    since = row.running_since
    return row.active_seconds + (max(0.0, now - since) if now is not None and since is not None else 0.0)


def run_summary(row: RunRow, now: float | None = None) -> dict[str, Any]:
    """Return the run as plain data: the keys of `dspex runs show --json`, and some more.

    Args:
        row: the run.
        now: wall-clock seconds, for the duration of a running run.
    """
    return {
        "run_id": row.run_id,
        "kind": row.spec.kind,
        "state": row.state,
        "reason": row.reason,
        "total": row.spec.total,
        "done": row.done,
        "succeeded": row.succeeded,
        "failed": row.failed,
        "score": score_of(row),
        "asked": row.asked,
        "usage": row.usage,
        "cost": cost_of(row),
        "spent": row.cost,
        "budget": row.spec.settings.get("budget"),
        "duration": round(duration_of(row, now), 3),
        "metric": row.spec.metric_name,
        "nodes": list(row.nodes),
        "created_at": _iso(row.created_at),
        "started_at": _iso(row.started_at),
        "ended_at": _iso(row.ended_at),
    }


def result_record(row: ResultRow, run: RunRow | None = None) -> dict[str, Any]:
    """Return a result as plain data: the keys of a line of `dspex runs export`.

    Args:
        row: the result.
        run: its run, whose `failure_score` a failed example has.
    """
    try:
        inputs, labels = unpack_example(row.example) if row.example else ({}, {})
        prediction = None if row.prediction is None else unpack(row.prediction)
    except CodecError as error:
        # One unreadable row must not keep the others from being exported.
        inputs, labels, prediction = {}, {}, None
        row_error: dict[str, Any] | None = row.error or {"type": "CodecError", "message": error.message}
    else:
        row_error = row.error
    return {
        "index": row.index,
        "inputs": to_plain(inputs),
        "labels": to_plain(labels),
        "prediction": to_plain(prediction),
        "score": row_score(row, run),
        "error": row_error,
        "attempts": row.attempts,
        "latency": row.latency,
        "usage": row.usage,
        "finish_reason": row.finish_reason,
        "cached": row.cached,
    } | _beside(row)


def _beside(row: ResultRow) -> dict[str, Any]:
    """Return the scores by name and the feedback of a result that has them."""
    try:
        extra = {} if row.extra is None else unpack(row.extra)
    except CodecError:
        return {}
    return {name: to_plain(extra[name]) for name in ("scores", "feedback") if name in extra}


def step_record(row: StepRow) -> dict[str, Any]:
    """Return a workflow's finished step as plain data: the keys of a line of `dspex runs export`."""
    try:
        gave = unpack(row.data)
    except CodecError:
        gave = None
    return {
        "step": row.step,
        "state": row.state,
        "attempts": row.attempts,
        "duration": row.duration,
        "ended_at": _iso(row.at),
        "error": row.error,
        "data": to_plain(gave),
    }


def export_lines(reader: JournalReader, run_id: str) -> Iterator[str]:
    """Give the run's results as JSON lines (no line ends), in input order, a page of them in memory.

    Of a workflow or an optimisation: what its steps gave, in the order in which they ended.
    """
    run = reader.get_run(run_id)
    if run is not None and run.spec.kind in HELD:
        yield from (json_text(step_record(step)) for step in reader.steps(run_id))
        return
    for row in reader.iter_results(run_id):
        yield json_text(result_record(row, run))


def _iso(seconds: float | None) -> str | None:
    if seconds is None:
        return None
    return dt.datetime.fromtimestamp(seconds, dt.UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
