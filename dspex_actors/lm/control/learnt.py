"""What the owner of a deployment's limits does with what it learns: puts it in force, and remembers it."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping

from dspex_actors.lm.control.budget import Budget
from dspex_actors.lm.control.learning import Learner
from dspex_actors.lm.control.memory import Memory

#: What was learnt is written so many seconds apart at least.
WRITE_SECONDS = 2.0
#: So many requests a second are no limit that anybody has to keep to.
NO_LIMIT = 5000.0
#: Outcomes that stop growth and cut nothing.
_FAILED = ("Overloaded", "Timeout", "StreamTruncated")


class Learnt:
    """The rate of one deployment that nobody has told.

    Args:
        model: for people who look at what was learnt.
        budget: keeps to it.
        memory: what was learnt before, and where it is written.
        now: seconds of the owner's clock.
        wall: seconds since the epoch.
    """

    def __init__(self, model: str, budget: Budget, memory: Memory, now: float, wall: float) -> None:
        """Go on from what was learnt before, if anything was."""
        self._model, self._budget, self._memory = model, budget, memory
        self._learner: Learner | None = None
        self._written_at = now
        self._is_unwritten = False
        found = memory.learnt(wall)
        if found is not None:
            with contextlib.suppress(LookupError, TypeError, ValueError):
                self._learner = Learner.from_dict(found, now)
                budget.learnt(self.rate, now)

    @property
    def rate(self) -> float | None:
        """Requests per second; None: nothing was learnt."""
        return None if self._learner is None else self._learner.rate

    def refused(self, admitted: int, retry_after: float | None, workers: int, now: float, wall: float) -> bool:
        """Take note that a worker sees many refusals; return whether learning begins with it.

        Args:
            admitted: what was admitted of its requests in the last second.
            retry_after: seconds that the provider asks to wait.
            workers: how many ask: all alike.
            now: seconds of the owner's clock.
            wall: seconds since the epoch.
        """
        if self._learner is not None:
            return False
        self._learner = Learner.first(admitted * max(1, workers), 1.0, retry_after, now)
        self._put(now, wall)
        return True

    def count(self, counts: Mapping[str, float]) -> None:
        """Take in how requests have ended."""
        if self._learner is not None:
            failed = sum(int(counts.get(name, 0)) for name in _FAILED)
            self._learner.count(int(counts.get("answered", 0)), int(counts.get("RateLimited", 0)), failed)

    def tick(self, now: float, wall: float, *, is_used_up: bool) -> bool:
        """Let time go on; return whether the rate has changed."""
        learner = self._learner
        if learner is None:
            return False
        changed = learner.tick(now, is_used_up=is_used_up)
        if changed and learner.rate > NO_LIMIT:
            self.forget(now)
        elif changed:
            self._put(now, wall)
        elif self._is_unwritten:
            self._write(now, wall)
        return changed

    def forget(self, now: float) -> None:
        """Know nothing any more."""
        self._learner = None
        self._is_unwritten = False
        self._budget.learnt(None, now)
        self._memory.keep_learnt(None)

    def close(self, now: float, wall: float) -> None:
        """Write what was learnt last."""
        if self._is_unwritten:
            self._written_at = now - WRITE_SECONDS
            self._write(now, wall)

    def _put(self, now: float, wall: float) -> None:
        self._budget.learnt(self.rate, now)
        self._is_unwritten = True
        self._write(now, wall)

    def _write(self, now: float, wall: float) -> None:
        # Before a limit was seen there is nothing to remember but a guess.
        if self._learner is None or self._learner.limit is None or now - self._written_at < WRITE_SECONDS:
            return
        self._written_at, self._is_unwritten = now, False
        self._memory.keep_learnt({"model": self._model, "at": wall, **self._learner.to_dict()})
