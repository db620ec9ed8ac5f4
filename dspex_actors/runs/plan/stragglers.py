"""The last examples of a slow worker, started a second time elsewhere: which, when, where. Pure: time is a parameter.

Only when all that is left of a run is with workers, and then what has been away for much longer than others were.
The first answer counts, wherever it comes from; the other sending is dropped. An example is started twice once in an
evaluator's life, and of all examples a small share. A worker that dies while the other sending goes on leaves the
example to that one.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Hashable, Iterator
from typing import NamedTuple

from dspex_actors.runs.plan.plan import RunPlan
from dspex_actors.runs.plan.types import Chunk

#: Away for too long is what is away for so many times as long as 95 % of all others were, and at least so many seconds.
TIMES, LEAST_SECONDS = 3.0, 2.0
#: So many answers have to be in before it is known how long that is; and it is that of the last so many.
KNOWN, REMEMBERED = 10, 512
#: At most this share of the examples is started twice; and one, however few there are.
SHARE = 0.05


class Sending(NamedTuple):
    """An example at a worker: since when, and the number of the sending."""

    worker: Hashable
    send: int
    at: float


class Stragglers:
    """What is under way since when, and what of it is under way twice.

    Args:
        deadline: seconds that an example may take; None: no limit.
    """

    def __init__(self, deadline: float | None = None) -> None:
        """Begin with nothing given out."""
        self._deadline = math.inf if deadline is None else deadline
        self._given: dict[int, Sending] = {}
        self._times: deque[float] = deque(maxlen=REMEMBERED)
        #: Of what workers were given before their first answer: they were still opening the program, or connecting.
        self._first_times: deque[float] = deque(maxlen=REMEMBERED)
        self._began: dict[Hashable, float] = {}
        #: Those that are under way a second time.
        self._seconds: dict[int, Sending] = {}
        self._ever: set[int] = set()

    @property
    def count(self) -> int:
        """How many examples were started twice."""
        return len(self._ever)

    def given(self, chunk: Chunk, now: float) -> None:
        """Take note of what a worker is given.

        Args:
            chunk: of the plan.
            now: seconds of any clock that only grows.
        """
        worker = chunk.worker
        for index, send, _ in chunk.items:
            self._given[index] = Sending(worker, send, now)

    def heard(self, index: int, send: int, now: float, *, good: bool) -> None:
        """Take in that a sending has ended; how long good ones take is what others are measured by."""
        sending = self._given.get(index)
        if sending is not None and sending.send == send:
            del self._given[index]
            if good:
                began = self._began.setdefault(sending.worker, now)
                (self._times if sending.at >= began else self._first_times).append(now - sending.at)
        elif self._seconds and (second := self._seconds.get(index)) is not None and second.send == send:
            del self._seconds[index]

    def is_second(self, index: int, send: int) -> bool:
        """Whether a sending is the second one of its example, and under way."""
        second = self._seconds.get(index)
        return second is not None and second.send == send

    def settled(self, index: int) -> list[Sending]:
        """Take in that an example has its result; return what is still under way of it, where it was started twice."""
        first, second = self._given.pop(index, None), self._seconds.pop(index, None)
        return [sending for sending in (first, second) if sending is not None] if index in self._ever else []

    def left(self, worker: Hashable) -> list[tuple[int, Sending]]:
        """Take in that a worker is gone; return what of its examples goes on elsewhere, and where."""
        self._began.pop(worker, None)
        for index in [index for index, second in self._seconds.items() if second.worker == worker]:
            del self._seconds[index]
        found = []
        for index in [index for index, first in self._given.items() if first.worker == worker]:
            del self._given[index]
            if (second := self.instead(index)) is not None:
                found.append((index, second))
        return found

    def instead(self, index: int) -> Sending | None:
        """Return the second sending of an example, if it is under way: from now on it is the only one."""
        second = self._seconds.pop(index, None)
        if second is not None:
            self._given[index] = second
        return second

    # --- what is late -----------------------------------------------------------------------------------------------

    @property
    def usual(self) -> float | None:
        """How long 95 % of the last examples were away at most, in seconds; None: not known yet.

        Where there are enough, without those that waited for their worker to begin.
        """
        times = self._times if len(self._times) >= KNOWN else [*self._first_times, *self._times]
        if len(times) < KNOWN:
            return None
        return sorted(times)[min(len(times) - 1, int(0.95 * len(times)))]

    def due(self, plan: RunPlan, now: float) -> Iterator[Chunk]:
        """Give what is to be started a second time now, the latest first, each as a chunk for the other worker.

        Args:
            plan: of the run.
            now: as above.
        """
        if not plan.is_at_its_end or (usual := self.usual) is None:
            return
        most = max(1, int(SHARE * (plan.finished_examples + plan.outstanding)))
        since = now - max(LEAST_SECONDS, TIMES * usual)
        # One that has no time left for it would fail before the second one ends.
        end = now + usual - self._deadline
        late = sorted((s.at, i) for i, s in self._given.items() if end < s.at < since and i not in self._ever)
        for _, index in late:
            if len(self._ever) >= most:
                return
            chunk = plan.start_twice(index, _node_of)
            if chunk is not None:
                self._seconds[index] = Sending(chunk.worker, chunk.items[0][1], now)
                self._ever.add(index)
                yield chunk


def _node_of(worker: Hashable) -> str:
    return str(worker).partition("/")[0]
