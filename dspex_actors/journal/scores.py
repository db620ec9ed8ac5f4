"""The scores of a run: how many examples have which, their interval, and the means of those that have names."""

from __future__ import annotations

from collections import Counter
from typing import Any

from dspex_actors.foundation.codec import CodecError, unpack
from dspex_actors.foundation.noise import interval
from dspex_actors.journal.migrations import version_of
from dspex_actors.journal.queries import number_and_base
from dspex_actors.journal.reader import JournalReader
from dspex_actors.journal.records import RunRow
from dspex_actors.journal.schema import span

#: Where none of the first so many results has scores with names, no result has.
_FIRST = 100


def score_counts(reader: JournalReader, row: RunRow) -> Counter[float]:
    """Return score → how many examples have it; those that failed count as the run's `failure_score`, if it has one."""
    run_id = row.run_id
    none: list[tuple[float, int]] = []
    found = Counter(dict(reader.ask(lambda db: _counts(db, run_id), none)))
    instead = row.spec.settings.get("failure_score")
    if instead is not None and row.failed:
        found[float(instead)] += row.failed
    return found


def score_interval(reader: JournalReader, row: RunRow, confidence: float = 0.95) -> tuple[float, float] | None:
    """Return what the score lies between, times 100 with two decimals; None of fewer than two scores."""
    found = interval(score_counts(reader, row), confidence)
    return None if found is None else (round(100 * found[0], 2), round(100 * found[1], 2))


def named_scores(reader: JournalReader, row: RunRow) -> dict[str, float]:
    """Return the means of scores that have names, times 100 with two decimals; as of the score, failed ones count."""
    run_id = row.run_id
    none: dict[str, tuple[float, int]] = {}
    sums = reader.ask(lambda db: _named(db, run_id), none)
    instead = row.spec.settings.get("failure_score")
    failed, counted = (0.0, 0) if instead is None else (float(instead) * row.failed, row.failed)
    return {name: round(100 * (total + failed) / (count + counted), 2) for name, (total, count) in sums.items()}


def _counts(db: Any, run_id: str) -> list[tuple[float, int]]:
    number, _ = number_and_base(db, run_id)
    rows = db.execute(
        "SELECT score, count(*) FROM results WHERE key BETWEEN ? AND ? AND error IS NULL AND score IS NOT NULL "
        "GROUP BY score",
        span(number),
    )
    return [(score, count) for score, count in rows]


def _named(db: Any, run_id: str) -> dict[str, tuple[float, int]]:
    if version_of(db) < 2:
        return {}
    number, _ = number_and_base(db, run_id)
    asked = "SELECT extra FROM results WHERE key BETWEEN ? AND ? AND error IS NULL"
    first = db.execute(f"{asked} ORDER BY key LIMIT {_FIRST}", span(number))
    if not any(_scores(extra) for (extra,) in first):
        return {}
    sums: dict[str, tuple[float, int]] = {}
    for (extra,) in db.execute(f"{asked} AND extra IS NOT NULL ORDER BY key", span(number)):
        for name, score in _scores(extra).items():
            total, count = sums.get(name, (0.0, 0))
            sums[name] = (total + score, count + 1)
    return sums


def _scores(extra: bytes | None) -> dict[str, float]:
    try:
        found = {} if extra is None else unpack(extra, objects="show").get("scores") or {}
    except CodecError:
        return {}
    return dict(found)
