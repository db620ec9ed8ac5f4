"""What a batch of results adds to its run's counters."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from dspex_actors.journal.records import AttemptRow, ResultRow
from dspex_actors.journal.schema import effective_score, from_json, to_json

_MAX_NODES = 1000


def merge_usage(total: dict[str, Any], more: Mapping[str, Any]) -> None:
    """Add the numbers in `more` to those in `total`, nested ones too; what is no number is left out.

    What is true in one of them (`estimated`) is true of the sum.
    """
    for name, value in more.items():
        if isinstance(value, Mapping):
            inner = total.setdefault(name, {})
            if isinstance(inner, dict):
                merge_usage(inner, value)
        elif isinstance(value, bool):
            if value:
                total[name] = True
        elif isinstance(value, (int, float)):
            before = total.get(name, 0)
            total[name] = before + value if isinstance(before, (int, float)) else value


@dataclass(slots=True)
class Tally:
    """Counts and sums over some results and requests."""

    done: int = 0
    failed: int = 0
    score_sum: float = 0.0
    scored: int = 0
    asked: int = 0
    cost: float = 0.0
    unpriced: int = 0
    last_at: float = 0.0
    usage: dict[str, Any] = field(default_factory=dict)
    nodes: set[str] = field(default_factory=set)

    @classmethod
    def of(cls, results: Iterable[ResultRow], attempts: Iterable[AttemptRow]) -> Tally:
        """Return the counts and scores of `results`, and what was paid for `attempts`."""
        tally = cls()
        for result in results:
            tally.done += 1
            if result.error is not None:
                tally.failed += 1
            score = effective_score(result)
            if score is not None:
                tally.score_sum += score
                tally.scored += 1
            if result.at > tally.last_at:
                tally.last_at = result.at
            tally.nodes.add(result.worker.partition("/")[0])
        tally.nodes.discard("")
        for attempt in attempts:
            tally.asked += 1
            if attempt.cost is None:
                tally.unpriced += 1
            else:
                tally.cost += attempt.cost
            if attempt.usage:
                merge_usage(tally.usage, attempt.usage)
        return tally

    def take_back(self, attempt: AttemptRow) -> None:
        """Take a request off again that is in the run's counters: another row stands for it now."""
        self.asked -= 1
        if attempt.cost is None:
            self.unpriced -= 1
        else:
            self.cost -= attempt.cost
        if attempt.usage:
            merge_usage(self.usage, _negative(attempt.usage))

    def add_to(self, db: sqlite3.Connection, number: int) -> None:
        """Add these counts to run `number`, inside the caller's transaction."""
        row = db.execute("SELECT usage, nodes FROM runs WHERE number = ?", (number,)).fetchone()
        usage, nodes = from_json(row[0]), set(from_json(row[1]))
        merge_usage(usage, self.usage)
        named = sorted(nodes | self.nodes)[:_MAX_NODES]
        db.execute(
            "UPDATE runs SET done = done + ?, succeeded = succeeded + ?, failed = failed + ?, "
            "score_sum = score_sum + ?, scored = scored + ?, asked = asked + ?, "
            "cost = cost + ?, unpriced = unpriced + ?, usage = ?, nodes = ?, "
            "last_result_at = nullif(max(coalesce(last_result_at, 0), ?), 0) WHERE number = ?",
            (self.done, self.done - self.failed, self.failed, self.score_sum, self.scored, self.asked, self.cost,
             self.unpriced, to_json(usage), to_json(named), self.last_at, number),
        )  # fmt: skip


def _negative(usage: Mapping[str, Any]) -> dict[str, Any]:
    """Return the numbers of a usage with the other sign."""
    found: dict[str, Any] = {}
    for name, value in usage.items():
        if isinstance(value, Mapping):
            found[name] = _negative(value)
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            found[name] = -value
    return found
