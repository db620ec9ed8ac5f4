"""Who waits for buckets: first come first served, and nobody starves. Pure: time is a parameter.

Whoever does not fit closes the buckets that he waits for to all behind him: a small request does not overtake a large
one that needs the same tokens, while one that waits for a limit of his own holds up nobody else.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Any

from dspex_actors.foundation.buckets import LEASE_SECONDS, Buckets, Grant, Refusal


@dataclass(slots=True)
class _Waiting:
    cost: Mapping[str, float]
    until: float
    holder: Any


class Line:
    """Those who wait, in the order in which they came."""

    def __init__(self) -> None:
        """Begin with nobody."""
        self._waiting: dict[Hashable, _Waiting] = {}
        #: What all who wait want together, and of how many each bucket is wanted.
        self._wanted: dict[str, float] = {}
        self._wants: dict[str, int] = {}
        #: Until when each waits, the soonest first; who has left stands here until then.
        self._ends: list[tuple[float, int, Hashable]] = []
        self._last = 0

    def __len__(self) -> int:
        """Return how many wait."""
        return len(self._waiting)

    def __contains__(self, key: Hashable) -> bool:
        """Tell whether somebody waits."""
        return key in self._waiting

    def of(self, holder: Any) -> list[Hashable]:
        """Return the keys of those who wait for a holder, in order."""
        return [key for key, one in self._waiting.items() if one.holder == holder]

    def names(self) -> set[str]:
        """Return the buckets that those who wait want."""
        return set(self._wants)

    @property
    def wanted(self) -> Mapping[str, float]:
        """What all who wait want together, by bucket."""
        return self._wanted

    def is_wanted(self, cost: Mapping[str, float]) -> bool:
        """Tell whether somebody waits who wants one of the buckets of a cost."""
        return not self._wants.keys().isdisjoint(cost)

    def add(
        self,
        buckets: Buckets,
        key: Hashable,
        cost: Mapping[str, float],
        now: float,
        *,
        until: float,
        holder: Any = None,
    ) -> Refusal | None:
        """Stand in line.

        Args:
            buckets: what is waited for.
            key: of this one.
            cost: bucket → amount.
            now: monotonic seconds.
            until: he does not wait longer.
            holder: for whom.

        Returns:
            None; or, if it is sure already that his turn comes too late, a refusal with the least seconds until then.
        """
        waits = buckets.waits(self._wanted, cost, now)
        late = {name: wait for name, wait in waits.items() if wait is not None and now + wait > until}
        if late:
            return Refusal(max(late.values()), tuple(late))
        self._waiting[key] = _Waiting(cost, until, holder)
        self._count(cost, 1)
        if until < math.inf:
            self._last += 1
            heapq.heappush(self._ends, (until, self._last, key))
            if len(self._ends) > 64 + 2 * len(self._waiting):  # most of them have left
                self._ends = [end for end in self._ends if end[2] in self._waiting]
                heapq.heapify(self._ends)
        return None

    def change(self, key: Hashable, cost: Mapping[str, float]) -> None:
        """Have somebody who waits want something else; he keeps his place."""
        found = self._waiting[key]
        self._count(found.cost, -1)
        found.cost = cost
        self._count(cost, 1)

    def remove(self, key: Hashable) -> None:
        """Leave the line."""
        found = self._waiting.pop(key, None)
        if found is not None:
            self._count(found.cost, -1)

    def _count(self, cost: Mapping[str, float], sign: int) -> None:
        for name, amount in cost.items():
            count = self._wants.get(name, 0) + sign
            if count:
                self._wants[name], self._wanted[name] = count, self._wanted.get(name, 0.0) + sign * amount
            else:
                del self._wants[name], self._wanted[name]

    def serve(
        self,
        buckets: Buckets,
        now: float,
        *,
        ahead: float = 0.0,
        seconds: float = LEASE_SECONDS,
        extra: float | None = None,
    ) -> tuple[list[tuple[Hashable, Any, Grant]], list[tuple[Hashable, Any, Refusal]], float | None]:
        """Serve whose turn it is.

        Args:
            buckets: what is waited for.
            now: monotonic seconds.
            ahead: turns of so many seconds to come are given already now.
            seconds: how long a lease is.
            extra: instead of that, how long it is beyond the moment until which its holder would have waited.

        Returns:
            Who is served: key, holder, grant. Who waits no longer, since his time is over or will be: key, holder,
            refusal. And the seconds until the next may have his turn; None: nobody waits, or nobody can tell.
        """
        served: list[tuple[Hashable, Any, Grant]] = []
        gone: list[tuple[Hashable, Any, Refusal]] = []
        closed: set[str] = set()
        soonest: float | None = None
        while self._ends and self._ends[0][0] < now:
            _, _, key = heapq.heappop(self._ends)
            late = self._waiting.get(key)
            if late is not None and late.until < now:  # else he has come again
                self.remove(key)
                gone.append((key, late.holder, Refusal(None, tuple(late.cost))))
        for key, one in self._waiting.items():
            if not closed.isdisjoint(one.cost):
                continue
            length = seconds if extra is None else one.until - now + extra
            found = buckets.reserve(one.cost, now, ahead=ahead, seconds=length, holder=one.holder)
            if isinstance(found, Grant):
                served.append((key, one.holder, found))
                continue
            if found.retry_after is not None and now + found.retry_after > one.until:
                gone.append((key, one.holder, found))  # nobody has to wait for what is sure
                continue
            closed.update(found.names)
            if found.retry_after is not None and found.retry_after < math.inf:
                soonest = found.retry_after if soonest is None else min(soonest, found.retry_after)
            if any(self._wants.get(name) == len(self._waiting) for name in found.names):
                break  # all behind him want it, too
        for key, _, _ in (*served, *gone):
            self.remove(key)
        return served, gone, soonest
