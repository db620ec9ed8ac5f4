"""How many calls each worker may have in flight, so that all together never have more than the run may. Pure.

A worker's *window* is how many of its examples it may be asking at once; more wait in its queue. Windows add
up to at most `max_in_flight`. When a worker joins, the others' windows shrink, but calls already made cannot
be
taken back: until a worker *holds* no more examples than its smaller window, its *ceiling*, what it might
still be asking, stays at the old one, and the newcomer gets only what is free under the limit.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from dspex_actors.runs.plan.types import Strategy

#: A worker's queue lasts for about so many seconds.
_AHEAD_SECONDS = 0.5


@dataclass(slots=True)
class Seat:
    """A worker as the plan sees it.

    Args:
        worker: its name.
        capabilities: what it can do.
        most: the most calls it wants to have in flight; None: no limit of its own.
    """

    worker: Hashable
    capabilities: frozenset[str] = frozenset()
    most: int | None = None
    #: calls it may have in flight, and what it was last told.
    window: int = 0
    told: int = -1
    #: calls that it may still have in flight by what it was told before.
    ceiling: int = 0
    #: examples it was given and has not answered, by index.
    held: dict[int, Any] = field(default_factory=dict)
    #: those that it was given a second time, which another worker holds.
    seconds: set[int] = field(default_factory=set)
    #: it holds suspects, and gets nothing else meanwhile, see `RunPlan`.
    apart: bool = False
    order: int = 0

    @property
    def load(self) -> int:
        """How many examples it may be asking, or have in its queue."""
        return len(self.held) + len(self.seconds)


def share(limit: int, wants: Mapping[Hashable, int | None]) -> dict[Hashable, int]:
    """Split `limit` evenly over workers, in the order given; what one cannot use goes to the others.

    Args:
        limit: calls in flight of the whole run.
        wants: per worker the most it can use; None: no limit.
    """
    shares = dict.fromkeys(wants, 0)
    open_ = list(wants)
    left = limit
    while open_ and left > 0:
        each, extra = divmod(left, len(open_))
        still = []
        for place, worker in enumerate(open_):
            want = wants[worker]
            more = each + (place < extra)
            if want is not None:
                more = min(more, want - shares[worker])
            shares[worker] += more
            left -= more
            if want is None or shares[worker] < want:
                still.append(worker)
        if still == open_:
            break
        open_ = still
    return shares


def resettle(seats: Mapping[Hashable, Seat], targets: Mapping[Hashable, int], limit: int) -> None:
    """Move windows towards their targets without letting the sum of ceilings pass `limit`."""
    free = limit
    for name, seat in seats.items():
        seat.window = min(seat.window, targets[name])
        if seat.load <= seat.window:
            # It cannot be asking more than it has, told of its new window or not.
            seat.ceiling = seat.window
        free -= seat.ceiling
    for name, seat in seats.items():
        if free <= 0:
            return
        if seat.ceiling == seat.window and targets[name] > seat.window:
            more = min(free, targets[name] - seat.window)
            seat.window += more
            seat.ceiling = seat.window
            free -= more


def pick(open_: Sequence[tuple[int, Seat]], strategy: Strategy, turn: int) -> Seat:
    """Return the one to fill next.

    Args:
        open_: those that have room, each with its room.
        strategy: round_robin: the one that joined next after the last; else the one with most room for its size,
            under capability_aware of those that can do least: who can do more is kept free for what needs it.
        turn: the order of the one that was filled last.
    """
    if strategy == "round_robin":
        behind = [seat for _, seat in open_ if seat.order > turn]
        return min(behind or [seat for _, seat in open_], key=lambda one: one.order)
    if strategy == "capability_aware":
        least = min(len(seat.capabilities) for _, seat in open_)
        open_ = [each for each in open_ if len(each[1].capabilities) == least]
    return max(open_, key=lambda one: (one[0] / max(1, one[1].window), -one[1].order))[1]


def prefetch(window: int, latency: float | None) -> int:
    """Return how many examples wait in a worker's queue beyond its window: as many as it gets through in a short time.

    Args:
        window: the worker's.
        latency: seconds that an example takes; None: not known yet.
    """
    if latency is None:
        return window
    ahead = window * _AHEAD_SECONDS / max(latency, 1e-6)
    return int(min(2 * window, max(8, ahead)))
