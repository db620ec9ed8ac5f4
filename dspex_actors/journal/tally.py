"""What a batch of results adds to its run's counters."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from operator import itemgetter
from typing import Any

from dspex_actors.journal.records import RunRow
from dspex_actors.journal.schema import ATTEMPT_COLUMNS, RESULT_COLUMNS, Values, from_json, to_json
from dspex_actors.lm.attempts import Attempt

_MAX_NODES = 1000
_score, _at, _worker, _error = (itemgetter(RESULT_COLUMNS.index(name)) for name in ("score", "at", "worker", "error"))
_cost, _usage = (itemgetter(ATTEMPT_COLUMNS.index(name)) for name in ("cost", "usage"))


def merge_usage(total: dict[str, Any], more: Mapping[str, Any]) -> None:
    """Add the numbers in `more` to those in `total`, nested ones too; what is no number is left out.

    What is true in one of them (`estimated`) is true of the sum.
    """
    for name, value in more.items():
        if type(value) is int and type(total.get(name, 0)) is int:
            total[name] = total.get(name, 0) + value  # nearly all of them
        elif isinstance(value, Mapping):
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
    def of(cls, results: Sequence[Values], attempts: Sequence[Values]) -> Tally:
        """Return the counts and scores of `results`, and what was paid for `attempts`."""
        scores = [score for score in map(_score, results) if score is not None]
        costs = [cost for cost in map(_cost, attempts) if cost is not None]
        tally = cls(
            done=len(results),
            failed=len(results) - list(map(_error, results)).count(None),
            score_sum=sum(scores),
            scored=len(scores),
            asked=len(attempts),
            cost=sum(costs),
            unpriced=len(attempts) - len(costs),
            last_at=max(map(_at, results), default=0.0),
            nodes={worker.partition("/")[0] for worker in set(map(_worker, results))} - {""},
        )
        for usage in filter(None, map(_usage, attempts)):
            merge_usage(tally.usage, from_json(usage))
        return tally

    def take_back(self, *attempts: Attempt) -> None:
        """Take requests off again that are in the run's counters: other rows stand for them now."""
        for attempt in attempts:
            self.asked -= 1
            if attempt.cost is None:
                self.unpriced -= 1
            else:
                self.cost -= attempt.cost
            if attempt.tokens:
                merge_usage(self.usage, _negative(attempt.tokens))

    def add_to(self, db: Any, number: int, seq: int, batch: int) -> None:
        """Add these counts to run `number`, inside the caller's transaction.

        Args:
            db: the journal.
            number: the run.
            seq: the number of this change of it.
            batch: the last batch of its present opening.
        """
        row = db.execute("SELECT usage, nodes, last_result_at FROM runs WHERE number = ?", (number,)).fetchone()
        usage, nodes, last_at = from_json(row[0]), set(from_json(row[1])), max(row[2] or 0.0, self.last_at)
        merge_usage(usage, self.usage)
        named = sorted(nodes | self.nodes)[:_MAX_NODES]
        db.execute(
            "UPDATE runs SET done = done + ?, succeeded = succeeded + ?, failed = failed + ?, "
            "score_sum = score_sum + ?, scored = scored + ?, asked = asked + ?, "
            "cost = cost + ?, unpriced = unpriced + ?, usage = ?, nodes = ?, last_result_at = ?, seq = ?, batch = ? "
            "WHERE number = ?",
            (self.done, self.done - self.failed, self.failed, self.score_sum, self.scored, self.asked, self.cost,
             self.unpriced, to_json(usage), to_json(named), last_at or None, seq, batch, number),
        )  # fmt: skip

    def added_to(self, row: RunRow, seq: int) -> RunRow:
        """Return a run with these counts added, as `add_to` adds them."""
        usage = copy.deepcopy(row.usage)
        merge_usage(usage, self.usage)
        return replace(
            row,
            done=row.done + self.done,
            succeeded=row.succeeded + self.done - self.failed,
            failed=row.failed + self.failed,
            score_sum=row.score_sum + self.score_sum,
            scored=row.scored + self.scored,
            asked=row.asked + self.asked,
            cost=row.cost + self.cost,
            unpriced=row.unpriced + self.unpriced,
            usage=usage,
            nodes=tuple(sorted({*row.nodes, *self.nodes})[:_MAX_NODES]),
            last_result_at=max(row.last_result_at or 0.0, self.last_at) or None,
            seq=seq,
        )


def _negative(usage: Mapping[str, Any]) -> dict[str, Any]:
    """Return the numbers of a usage with the other sign."""
    found: dict[str, Any] = {}
    for name, value in usage.items():
        if isinstance(value, Mapping):
            found[name] = _negative(value)
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            found[name] = -value
    return found
