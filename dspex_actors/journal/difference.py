"""What is another outcome in one run than in another, example by example."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

from dspex_actors.foundation.noise import Paired, paired
from dspex_actors.journal.records import ResultRow, RunRow
from dspex_actors.journal.sameness import differences
from dspex_actors.journal.summary import cost_of, row_score, score_of

#: So many examples are named.
LISTED = 20


@dataclass(slots=True)
class Difference:
    """Two runs compared.

    Args:
        parts: what the second is another run by: names, with what changed where that is known.
        better: examples with a higher score in the second run; `worse` a lower one, `same` the same.
        only_first: examples that have a result in the first run alone; `only_second` in the second.
        changed: the first 20 of those with another score: index, score in the first run, score in the second.
        changes: score in the second run minus score in the first → how many examples; those with a score in both.
    """

    parts: list[str]
    better: int = 0
    worse: int = 0
    same: int = 0
    only_first: int = 0
    only_second: int = 0
    changed: list[tuple[int, float | None, float | None]] = field(default_factory=list)
    changes: Counter[float] = field(default_factory=Counter)

    def note(self, index: int, one: float | None, other: float | None) -> None:
        """Count an example that both have; no score is below every score."""
        if one is not None and other is not None:
            self.changes[other - one] += 1
        if one == other:
            self.same += 1
            return
        if other is None or (one is not None and other < one):
            self.worse += 1
        else:
            self.better += 1
        if len(self.changed) < LISTED:
            self.changed.append((index, one, other))

    def test(self) -> Paired:
        """Test whether the two differ by more than chance."""
        return paired(self.changes)


def compare(one: RunRow, ones: Iterable[ResultRow], other: RunRow, others: Iterable[ResultRow]) -> Difference:
    """Compare two runs, a page of results of each in memory.

    Args:
        one: the first run.
        ones: its results in input order.
        other: the second run.
        others: its results in input order.
    """
    found = Difference(differences(one.spec, other.spec))
    left, right = _scores(one, ones), _scores(other, others)
    first, second = next(left, None), next(right, None)
    while first is not None or second is not None:
        if second is None or (first is not None and first[0] < second[0]):
            found.only_first += 1
            first = next(left, None)
        elif first is None or second[0] < first[0]:
            found.only_second += 1
            second = next(right, None)
        else:
            found.note(first[0], first[1], second[1])
            first, second = next(left, None), next(right, None)
    return found


def difference_record(one: RunRow, other: RunRow, found: Difference) -> dict[str, Any]:
    """Return a comparison as plain data: the keys of `dspex runs diff --json`."""
    return {
        "runs": [one.run_id, other.run_id],
        "scores": [score_of(one), score_of(other)],
        "costs": [cost_of(one), cost_of(other)],
        "failed": [one.failed, other.failed],
        "parts": found.parts,
        "better": found.better,
        "worse": found.worse,
        "same": found.same,
        "only_first": found.only_first,
        "only_second": found.only_second,
        "paired": {**asdict(test := found.test()), "is_noise": test.is_noise},
        "changed": [{"index": index, "scores": [first, second]} for index, first, second in found.changed],
    }


def _scores(run: RunRow, rows: Iterable[ResultRow]) -> Iterator[tuple[int, float | None]]:
    return ((row.index, row_score(row, run)) for row in rows)
