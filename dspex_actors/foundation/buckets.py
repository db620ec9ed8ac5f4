"""Limits as buckets: so much of something within so many seconds. Pure: time is a parameter.

A request costs a vector of amounts, one for each bucket that it draws from. It gets all of them or none:

    buckets = Buckets({"rpm": per(60, 60.0), "tpm": per(6000, 60.0)}, now)
    match buckets.reserve({"rpm": 1, "tpm": 700}, now):
        case Grant(lease, at): ...          # it may start at `at`
        case Refusal(retry_after, names): ...
    buckets.settle(lease, {"rpm": 1, "tpm": 512}, now)      # what it did use; the rest comes back

What is promised: within *any* window of a bucket's seconds no more than its limit is granted, wherever the window
begins; so a provider that counts in fixed windows of that length sees no more either. Requests do not all travel
equally fast, so windows are counted a little longer than told (`Bucket.slack`). How it is counted stands in `windows`,
and in `days` for limits of calendar days.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dspex_actors.foundation.days import Day, Days
from dspex_actors.foundation.windows import SLACK_MOST, SLACK_SHARE, Amount, Paced, Used, Window

#: A lease that nobody settles is over after so many seconds: what it has reserved counts as used.
LEASE_SECONDS = 3600.0
#: Seconds that are floating-point dust: what was said to fit then does.
_DUST = 1e-9


@dataclass(frozen=True, slots=True)
class Bucket:
    """One limit. Made by `per`, `held`, `total` and `daily`.

    Args:
        limit: how much, above 0.
        seconds: within so many; infinite: what is used does not come back.
        burst: seconds' worth that may go at once where it is paced evenly; None: all of the limit may.
        slack: seconds by which a window is counted longer.
        is_held: what is drawn comes back when its lease is settled, as places do, and not with time.
        day: when a day of the provider's begins; with it the limit is one of calendar days.
    """

    limit: float
    seconds: float
    burst: float | None = None
    slack: float = 0.0
    is_held: bool = False
    day: Day | None = None

    def used(self, now: float) -> Used:
        """Return an account of it, with nothing used yet."""
        if self.day is not None:
            return Days(self.limit, self.day)
        if self.seconds == math.inf:
            return Amount(self.limit, is_held=self.is_held)
        seconds = self.seconds + self.slack
        return Window(self.limit, seconds) if self.burst is None else Paced(self.limit, seconds, self.burst, now)

    @property
    def rate(self) -> float:
        """How much of it comes back in a second; 0 where nothing does."""
        return 0.0 if self.seconds == math.inf else self.limit / (self.seconds + self.slack)


def per(limit: float, seconds: float, *, burst: float | None = None, slack: float | None = None) -> Bucket:
    """Return a bucket of so much within any window of so many seconds.

    Args:
        limit: how much.
        seconds: the window's length.
        burst: paced evenly, so many seconds' worth ahead; None: not paced.
        slack: seconds by which the window is counted longer; None: 2.5 % of it, at most a second.
    """
    return Bucket(limit, seconds, burst, min(SLACK_MOST, SLACK_SHARE * seconds) if slack is None else slack)


def held(limit: float) -> Bucket:
    """Return a bucket of what is in use at the same time: it comes back when its lease is settled."""
    return Bucket(limit, math.inf, is_held=True)


def total(limit: float) -> Bucket:
    """Return a bucket that is filled once: an amount of money for a run."""
    return Bucket(limit, math.inf)


def daily(limit: float, day: Day) -> Bucket:
    """Return a bucket of a calendar day of the provider's; `Buckets.clock` has to be told the time."""
    return Bucket(limit, 86_400.0, day=day)


@dataclass(frozen=True, slots=True)
class Grant:
    """A cost is reserved: under this lease, from this moment (monotonic seconds) on."""

    lease: int
    at: float


@dataclass(frozen=True, slots=True)
class Refusal:
    """A cost is not reserved.

    Args:
        retry_after: seconds after which it would fit if nobody else came; infinite: never; None: when others settle.
        names: the buckets it does not fit into now.
    """

    retry_after: float | None
    names: tuple[str, ...]


@dataclass(slots=True)
class _Lease:
    cost: Mapping[str, float]
    at: float
    expires: float
    holder: Any


class Buckets:
    """Reserves costs, whole or not at all, and takes back what was not used.

    A bucket that a cost names and that is not there limits nothing.

    Args:
        buckets: by name.
        now: monotonic seconds.
        first: numbers of leases begin above it.
    """

    def __init__(self, buckets: Mapping[str, Bucket], now: float, first: int = 0) -> None:
        """Begin with nothing used, and without a burst where it is paced."""
        self._buckets: dict[str, Bucket] = {}
        self._used: dict[str, Used] = {}
        self._leases: dict[int, _Lease] = {}
        self._last = first
        for name, bucket in buckets.items():
            self.put(name, bucket, now)

    def put(self, name: str, bucket: Bucket, now: float) -> None:
        """Add a bucket, or give one another limit: what was used of it stays used."""
        before = self._buckets.get(name)
        if before == bucket:
            return
        used = bucket.used(now)
        if before is not None and type(used) is type(self._used[name]):
            used.restore(self._used[name].kept())
        if bucket.is_held:  # who is in is in, whether it was there when he came or not
            used.take(sum(lease.cost.get(name, 0.0) for lease in self._leases.values()), now)
        self._buckets[name], self._used[name] = bucket, used

    def remove(self, name: str) -> None:
        """Take a bucket away; what was used of it is forgotten, but what leases hold of places."""
        self._buckets.pop(name, None)
        self._used.pop(name, None)

    def __contains__(self, name: str) -> bool:
        """Tell whether there is a bucket of this name."""
        return name in self._buckets

    def names(self) -> list[str]:
        """Return the names of all buckets."""
        return list(self._buckets)

    def bucket(self, name: str) -> Bucket:
        """Return a bucket."""
        return self._buckets[name]

    def days(self, name: str) -> Days | None:
        """Return a limit of calendar days; None: it is another kind, or not there."""
        used = self._used.get(name)
        return used if isinstance(used, Days) else None

    def clock(self, now: float, wall: float) -> None:
        """Say what the clocks say, before anything else is asked, where there are limits of calendar days.

        Args:
            now: monotonic seconds.
            wall: seconds since the epoch.
        """
        for used in self._used.values():
            if isinstance(used, Days):
                used.clock(now, wall)

    def check(self, cost: Mapping[str, float], now: float) -> Refusal | None:
        """Return None if a cost would be granted now, else why not; nothing is reserved."""
        found = self._earliest(cost, now, now)
        return found if isinstance(found, Refusal) else None

    def _earliest(self, cost: Mapping[str, float], now: float, until: float) -> float | Refusal:
        at: float | None = now
        late: list[str] = []
        for name, amount in cost.items():
            used = self._used.get(name)
            if used is None or amount <= 0:
                continue
            mine = used.earliest(amount, now)
            if mine is None or mine > until + _DUST:
                late.append(name)
            at = None if mine is None or at is None else max(at, mine)
        if late:
            return Refusal(None if at is None else at - now, tuple(late))
        assert at is not None
        return at

    def reserve(
        self,
        cost: Mapping[str, float],
        now: float,
        *,
        ahead: float = 0.0,
        seconds: float = LEASE_SECONDS,
        holder: Any = None,
    ) -> Grant | Refusal:
        """Reserve a cost, all of it or nothing.

        Args:
            cost: bucket → amount.
            now: monotonic seconds.
            ahead: it may also start so many seconds from now.
            seconds: the lease is over after so many, and what it holds then counts as used.
            holder: whose it is, for `drop`.
        """
        at = self._earliest(cost, now, now + ahead)
        if isinstance(at, Refusal):
            return at
        for name, amount in cost.items():
            used = self._used.get(name)
            if used is not None and amount > 0:
                used.take(amount, at)
        self._last += 1
        self._leases[self._last] = _Lease(cost, at, at + seconds, holder)
        return Grant(self._last, at)

    def settle(self, lease: int, actual: Mapping[str, float] | None, now: float) -> bool:
        """Say what was used under a lease; the rest comes back, and what was used beyond it is taken.

        Args:
            lease: its number.
            actual: bucket → amount; one that is missing was not used; None: all of it was.
            now: monotonic seconds.

        Returns:
            Whether there was such a lease: a second word on the same one changes nothing.
        """
        found = self._leases.pop(lease, None)
        if found is None:
            return False
        for name, amount in found.cost.items():
            used, bucket = self._used.get(name), self._buckets.get(name)
            if used is None or bucket is None or amount <= 0:
                continue
            back = amount if bucket.is_held else 0.0 if actual is None else amount - actual.get(name, 0.0)
            if back:
                used.give_back(back, found.at, now)
        return True

    def move(self, lease: int, seconds: float) -> None:
        """Take note that what a lease is for was begun so many seconds after its moment."""
        found = self._leases.get(lease)
        if found is None:
            return
        to = found.at + seconds
        for name, amount in found.cost.items():
            used = self._used.get(name)
            if used is not None and amount > 0:
                used.move(amount, found.at, to)
        found.at = to

    def cost_of(self, lease: int) -> Mapping[str, float] | None:
        """Return what a lease has reserved; None: there is none, or it is settled."""
        found = self._leases.get(lease)
        return None if found is None else found.cost

    def drop(self, holder: Any, now: float) -> int:
        """Settle the leases of one who is gone: what cannot have been begun comes back, the rest was used.

        Returns:
            How many there were.
        """
        mine = [(number, lease) for number, lease in self._leases.items() if lease.holder == holder]
        for number, lease in mine:
            self.settle(number, {} if lease.at > now else None, now)
        return len(mine)

    def expire(self, now: float) -> None:
        """End the leases that nobody has settled in time."""
        for number in [number for number, lease in self._leases.items() if lease.expires <= now]:
            self.settle(number, None, now)

    def correct(self, name: str, remaining: float, seconds: float, now: float) -> None:
        """Heed a provider that says less is left than we think; that there is more is not heard.

        Args:
            name: of the bucket.
            remaining: what is left, as the provider says.
            seconds: for so long that holds at most.
            now: monotonic seconds.
        """
        used = self._used.get(name)
        if used is not None and remaining >= 0 and seconds > 0:
            used.correct(remaining, seconds, now)

    def waits(self, ahead: Mapping[str, float], cost: Mapping[str, float], now: float) -> dict[str, float | None]:
        """Return the least seconds that a cost waits for each bucket if all that is `ahead` goes first.

        None: nobody can tell; infinite: it never fits.
        """
        found: dict[str, float | None] = {}
        for name, amount in cost.items():
            used, bucket = self._used.get(name), self._buckets.get(name)
            if used is None or bucket is None or amount <= 0:
                continue
            at = used.earliest(amount, now)
            wait = found[name] = None if at is None else at - now
            if isinstance(used, Days):
                if wait is not None and ahead.get(name, 0.0) + amount > used.free(now):
                    found[name] = max(wait, used.next_at(now) - now)
            elif wait is not None and bucket.rate:
                before = ahead.get(name, 0.0)
                # All of a window may come back at once, of what is paced a burst.
                more = before + amount - used.free(now) - bucket.limit
                if bucket.burst is not None:
                    more = max(more, before - bucket.rate * bucket.burst)
                found[name] = max(wait, more / bucket.rate)
        return found

    def free(self, name: str, now: float) -> float:
        """Return how much of a bucket is free."""
        return self._used[name].free(now)

    def is_idle(self, name: str, now: float) -> bool:
        """Tell whether nothing of a bucket is used."""
        return self._used[name].is_idle(now)

    @property
    def open_leases(self) -> int:
        """How many leases are not settled."""
        return len(self._leases)

    def kept(self) -> dict[str, Any]:
        """Return what is used as plain data, for whoever takes over: with it nothing is granted twice.

        Leases that are open count as used.
        """
        return {name: [type(used).__name__, used.kept()] for name, used in self._used.items()}

    def restore(self, kept: Mapping[str, Any]) -> None:
        """Take over what another one has kept, in buckets of the same names and kinds."""
        for name, (kind, value) in kept.items():
            used = self._used.get(name)
            if used is not None and type(used).__name__ == kind:
                used.restore(value)


def shifted(kept: Any, seconds: float) -> Any:
    """Return what `Buckets.kept` says of one bucket by a clock that is ahead by so many seconds."""
    kind, value = kept
    match kind:
        case "Window":
            value = [[at + seconds, amount] for at, amount in value]
        case "Paced":
            value = [value[0] + seconds, [[at + seconds, amount] for at, amount in value[1]]]
        case "Days" if value is not None:
            value = [*value[:2], value[2] + seconds]
    return [kind, value]
