"""When enough is enough: stop a run at the row where a sequential pass would have stopped.

Pure. Results come in any order; the rule looks at them in input order only, as far as there is no gap. A run
with 64 calls in flight then ends with the very results that one call after the other would have given.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

Verdict = Literal["successes", "errors"]

#: The share of what a sequential pass comes to that may be asked for in vain.
IN_VAIN = 0.03
#: Where little passes, more is asked for at a time than is sure to be needed: half of what it takes yet on average,
#: were so many more of those looked at to have passed. So a run of bad luck at the beginning is not believed.
DOUBT, HALF = 12, 0.5


@dataclass(slots=True)
class StopRule:
    """Stop as soon as the results from `start` on, without a gap, hold enough successes or errors.

    Args:
        successes: stop with the result that is the so-many-th success; None: never for this.
        max_errors: stop with the result that is the so-many-th error; None: never for this.
        start: index of the first result.
    """

    successes: int | None = None
    max_errors: int | None = None
    start: int = 0
    #: "successes" or "errors" once it is time to stop.
    verdict: Verdict | None = field(default=None, init=False)
    #: One past the last result that was looked at: after a stop, the number of results needed (with start 0).
    prefix: int = field(default=0, init=False)
    succeeded: int = field(default=0, init=False)
    errors: int = field(default=0, init=False)
    _early: dict[int, tuple[bool, bool]] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        """Begin at `start`; wanting no success at all is fulfilled at once."""
        self.prefix = self.start
        if self.successes is not None and self.successes <= 0:
            self.verdict = "successes"

    def observe(self, index: int, *, success: bool, error: bool = False) -> Verdict | None:
        """Take in a result and return the verdict so far.

        Args:
            index: its place in the dataset. One seen before, or behind a stop, changes nothing.
            success: it counts as a success.
            error: it failed.
        """
        if self.verdict is None and index >= self.prefix and index not in self._early:
            self._early[index] = (success, error)
            self._advance()
        return self.verdict

    @property
    def still_to_try(self) -> int | None:
        """How many results it may take until there are enough successes, by what has passed so far; None: all.

        Before the first one each is taken to succeed: it begins with few, and tries more the rarer a success is.
        """
        if self.successes is None:
            return None
        looked_at = self.prefix - self.start
        return -(-(self.successes - self.succeeded) * (looked_at + 1) // (self.succeeded + 1))

    def room(self, first: int, most: int, spare: int | None) -> int:
        """How many results may be asked for now.

        With `spare` hardly any are in vain, at most 5 % as long as luck is even: a sequential pass comes to the next
        result for sure as long as there would not be enough successes without it, were all before it that are not known
        yet to succeed. Errors are not foreseen.

        Args:
            first: index of the first one that is not asked for.
            most: how far ahead of what is known without a gap.
            spare: so many may be in vain besides; None: all may.
        """
        ahead = self.prefix + most - first
        if self.successes is None or spare is None:
            return ahead
        looked_at, succeeded, reach = self.prefix - self.start, self.succeeded, self.prefix
        passing = (succeeded + DOUBT) / (looked_at + DOUBT)
        likely = self.prefix + int(HALF * (self.successes - succeeded) / passing)
        while succeeded < self.successes:
            succeeded += self._early.get(reach, (True, False))[0]
            reach += 1
        reach = max(reach, likely)
        reach += int(IN_VAIN * (reach - self.start)) + spare
        first = max(first, self.prefix)
        reach = min(reach, first + max(0, ahead) + len(self._early))  # more is not looked at: it may be a large dataset
        return min(ahead, sum(index not in self._early for index in range(first, reach)))

    def _advance(self) -> None:
        while self.verdict is None and self.prefix in self._early:
            success, error = self._early.pop(self.prefix)
            self.prefix += 1
            self.succeeded += success
            self.errors += error
            if success and self.successes is not None and self.succeeded >= self.successes:
                self.verdict = "successes"
            elif error and self.max_errors is not None and self.errors >= self.max_errors:
                self.verdict = "errors"
        if self.verdict is not None:
            self._early.clear()
