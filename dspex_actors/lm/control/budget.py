"""The budget of one LM deployment: which buckets there are, and what a request costs of each. Pure.

The deployment's own limits are buckets under their own names ("rpm"); each user's and each tag's have the name of
whose they are before it ("user:ann:rpm", "tag:team=search:tpm"), are made when he first asks, and go when nothing of
them is in use. A rate that was learnt is the bucket "learnt".
"""

from __future__ import annotations

from collections.abc import Container, Mapping
from typing import Any

from dspex_actors.foundation.buckets import Bucket, Buckets, daily, per, shifted
from dspex_actors.foundation.days import Day, day_of
from dspex_actors.lm.control.written import Written
from dspex_actors.lm.deployment import Limits

#: Limit → what of a request it counts, and the seconds of its window.
COUNTED: dict[str, tuple[str, float]] = {
    "rps": ("requests", 1.0),
    "rpm": ("requests", 60.0),
    "rpd": ("requests", 86_400.0),
    "tpm": ("tokens", 60.0),
    "itpm": ("input", 60.0),
    "otpm": ("output", 60.0),
    "tpd": ("tokens", 86_400.0),
}
LEARNT = "learnt"
#: Of windows that are longer than so many seconds an owner does not take all to be used when it follows another.
MOST_USED_SECONDS = 3600.0
#: What may have been given before is taken to have been given evenly, in so many parts of a window.
EVEN_PARTS = 64
#: A rate per second is paced with a burst of so many seconds' worth.
BURST_OF_SECOND = 0.05
#: A rate that was learnt is kept over any so many seconds, with so small a burst.
LEARNT_SECONDS, LEARNT_BURST = 10.0, 0.05
#: A request that is late for its turn by more than this share of the shortest window gets another one.
LATE_SHARE, LATE_MOST = 0.1, 1.0


def bucket_of(name: str, limit: float, burst: float, day: Day | None) -> Bucket:
    """Return the bucket of a limit.

    Args:
        name: of `COUNTED`.
        limit: how much.
        burst: seconds' worth of a rate per minute that may go at once.
        day: when a day begins; None: any 24 hours are one.
    """
    what, seconds = COUNTED[name]
    if what == "requests" and limit < 1:
        # Less than one request in it: one in a longer time.
        return per(1.0, seconds / limit, burst=min(burst, seconds))
    if seconds > 3600:
        return per(limit, seconds) if day is None else daily(limit, day)
    return per(limit, seconds, burst=min(burst, BURST_OF_SECOND * seconds))


#: Where days begin that are not UTC's.
_ZONES = {"gemini": "America/Los_Angeles"}


def day_of_provider(provider: str) -> Day | None:
    """Return when a provider's days begin; None where this host does not know: any 24 hours are one then."""
    return day_of(_ZONES.get(provider, "UTC"))


def as_given(rate: float, seconds: float, burst: float, at: float) -> list[Any]:
    """Return the most requests that others may have been given before a moment, as a paced bucket keeps them.

    They were given evenly, at most a burst and one request ahead of that; so whoever goes on after a burst's time
    exceeds no window. Of tokens this is not so: one request may be as large as a limit.

    Args:
        rate: requests a second.
        seconds: of a window.
        burst: seconds' worth.
        at: the moment.
    """
    step = seconds / EVEN_PARTS
    log = [[at - part * step, rate * step] for part in range(EVEN_PARTS)]
    return [at + burst, [*log, [at, rate * burst + 1.0]]]


class Budget:
    """The buckets of one deployment.

    Args:
        now: monotonic seconds.
        first: numbers of leases begin above it: no two owners give the same.
        day: when a day of the provider's begins.
    """

    def __init__(self, now: float, first: int = 0, day: Day | None = None) -> None:
        """Begin without limits."""
        self.buckets = Buckets({}, now, first)
        #: Another number whenever other limits hold: what a request costs is another thing then.
        self.version = 0
        self._day = day
        self._limits = Limits()
        self._burst = 1.0
        #: "user" and "tag" → limits of each.
        self._personal: dict[str, Limits] = {"user": Limits(), "tag": Limits()}
        self._learnt: float | None = None
        #: When another owner may have given turns last; None: there was none.
        self._used_at: float | None = None
        #: What is written down of days, for whoever follows this owner; None: nobody has to know.
        self.written: Written | None = None
        # Buckets that limit nobody now.
        self._resting: set[str] = set()
        # What another owner has kept of buckets that are not there yet.
        self._kept: dict[str, list[Any]] = {}

    def limit(self, limits: Limits, now: float) -> None:
        """Go on under these limits of the deployment; what was used stays used."""
        self._limits = limits
        self.version += 1
        self._put("", limits, now)

    def burst(self, seconds: float, now: float) -> None:
        """Let so many seconds' worth of a rate per minute go at once."""
        self._burst = seconds
        for name in self.buckets.names():
            prefix, _, limit = name.rpartition(":")
            if limit in COUNTED and name not in self._resting:
                whose = self._limits if not prefix else self._personal[prefix.partition(":")[0]]
                self._add(name, limit, whose.told[limit], now)

    def personal(self, kind: str, limits: Limits, now: float) -> None:
        """Have other limits for each "user" or each "tag"."""
        self._personal[kind] = limits
        self.version += 1
        for prefix in {name.rpartition(":")[0] for name in self.buckets.names() if name.startswith(f"{kind}:")}:
            self._put(f"{prefix}:", limits, now)

    def learnt(self, rate: float | None, now: float) -> None:
        """Keep to a rate that was learnt, in requests per second; None: to none."""
        self.version += (rate is None) != (self._learnt is None)
        self._learnt = rate
        if rate is None:
            self.buckets.remove(LEARNT)
        else:
            # However low it is, one fits.
            seconds = max(LEARNT_SECONDS, 1.0 / rate)
            self._place(LEARNT, per(max(1.0, rate * seconds), seconds, burst=LEARNT_BURST, slack=0.0), now)

    def use_all(self, now: float) -> None:
        """Take all to be used that another owner may have given, in windows of at most an hour.

        Of days it is written down how much that is (`written`).
        """
        self._used_at = now
        for name in self.buckets.names():
            self._use(name, now)

    def _use(self, name: str, now: float) -> None:
        """Take what may have been used of a bucket before this owner began to be used now."""
        bucket, at = self.buckets.bucket(name), self._used_at
        if at is None or bucket.seconds > MOST_USED_SECONDS or now >= at + bucket.seconds + bucket.slack:
            return
        what = COUNTED.get(name.rpartition(":")[2], ("requests", 0.0))[0]
        if what == "requests" and bucket.burst is not None:
            self.buckets.restore({name: ["Paced", as_given(bucket.rate, bucket.seconds, bucket.burst, at)]})
        else:
            self.buckets.correct(name, 0.0, at + bucket.seconds - now, now)

    def is_sure(self, now: float) -> bool:
        """Whether all that may be used is in `kept`: what another owner may have given is not."""
        return self._used_at is None or now > self._used_at + MOST_USED_SECONDS

    def write_down(self, written: Written) -> None:
        """Give of days only what is written down before, from now on."""
        self.written = written
        for name in self.buckets.names():
            if (days := self.buckets.days(name)) is not None:
                written.bound(name, days)

    def to_write(self, wanted: Mapping[str, float], now: float, wall: float) -> dict[str, list[Any]] | None:
        """Return what is to be written down before more of days can be given; None: enough is.

        Args:
            wanted: bucket → what those who wait want of it.
            now: monotonic seconds.
            wall: seconds since the epoch.
        """
        if self.written is None:
            return None
        days = {name: found for name in self.buckets.names() if (found := self.buckets.days(name)) is not None}
        return self.written.next(days, wanted, now, wall) if days else None

    def has_written(self, told: Mapping[str, list[Any]], now: float, wall: float) -> None:
        """Take note that this is written down."""
        if self.written is not None:
            self.written.wrote(told, now, wall)
            self.write_down(self.written)

    @property
    def kinds(self) -> tuple[str, ...]:
        """For whom there are limits of his own: "user", "tag"."""
        return tuple(kind for kind, limits in self._personal.items() if limits.paced)

    @property
    def late(self) -> float:
        """By how many seconds a request may be begun later than its turn."""
        names = [name for name in self.buckets.names() if name not in self._resting]
        return min([LATE_MOST, *(LATE_SHARE * self.buckets.bucket(name).seconds for name in names)])

    def _put(self, prefix: str, limits: Limits, now: float) -> None:
        for name in COUNTED:
            limit = getattr(limits, name)
            if limit is None:
                # What was used of it is not forgotten: somebody may tell it again.
                self._resting.add(prefix + name)
            else:
                self._add(prefix + name, name, limit, now)

    def _add(self, name: str, limit: str, amount: float, now: float) -> None:
        self._resting.discard(name)
        self._place(name, bucket_of(limit, amount, self._burst, self._day), now)

    def _place(self, name: str, bucket: Bucket, now: float) -> None:
        is_new = name not in self.buckets
        self.buckets.put(name, bucket, now)
        for value in self._kept.pop(name, ()) if is_new else ():
            self.buckets.restore({name: value})
        if is_new:
            self._use(name, now)
        if self.written is not None and (days := self.buckets.days(name)) is not None:
            self.written.bound(name, days)

    def cost(
        self, tokens_in: float, tokens_out: float, user: str | None, tags: Mapping[str, str] | None, now: float
    ) -> dict[str, float]:
        """Return what a request costs.

        Args:
            tokens_in: of its prompt.
            tokens_out: of its longest reply.
            user: for whom it is.
            tags: what it is for.
            now: monotonic seconds.
        """
        units = units_of(1.0, tokens_in, tokens_out)
        cost = {LEARNT: 1.0} if self._learnt is not None else {}
        whose = [("", self._limits)]
        if user is not None and self._personal["user"].paced:
            whose.append((f"user:{user}:", self._personal["user"]))
        if tags and self._personal["tag"].paced:
            whose += [(f"tag:{name}={text}:", self._personal["tag"]) for name, text in tags.items()]
        for prefix, limits in whose:
            for name, (what, _) in COUNTED.items():
                limit = getattr(limits, name)
                if limit is not None:
                    if prefix and prefix + name not in self.buckets:
                        self._add(prefix + name, name, limit, now)
                    cost[prefix + name] = units[what]
        return cost

    def settle(self, lease: int, requests: float, tokens_in: float, tokens_out: float, now: float) -> None:
        """Say what was used under a lease.

        Args:
            lease: its number.
            requests: 1, or 0 where none was made.
            tokens_in: of the prompt; negative: as reserved.
            tokens_out: of the reply; negative: as reserved.
            now: monotonic seconds.
        """
        cost = self.buckets.cost_of(lease)
        if cost is None:
            return
        units = units_of(requests, tokens_in, tokens_out)
        actual = {}
        for name, reserved in cost.items():
            what = COUNTED.get(name.rpartition(":")[2], ("requests", 0.0))[0]
            is_told = what == "requests" or (tokens_in >= 0 and tokens_out >= 0)
            actual[name] = units[what] if is_told else reserved
        self.buckets.settle(lease, actual, now)

    def correct(self, left: Mapping[str, tuple[float, float]], now: float) -> None:
        """Heed a provider that says less is left than we think.

        Args:
            left: what limits count → how much is left of it, and for how many seconds that holds.
            now: monotonic seconds.
        """
        for name, (what, _) in (*COUNTED.items(), (LEARNT, ("requests", 0.0))):
            if what in left and name in self.buckets:
                self.buckets.correct(name, *left[what], now)

    def forget(self, now: float, wanted: Container[str] = ()) -> None:
        """Let go of leases that nobody settles, and of buckets of users and tags that are not in use.

        Args:
            now: monotonic seconds.
            wanted: what somebody waits for: it stays, or he would be counted by nobody.
        """
        self.buckets.expire(now)
        for name in self.buckets.names():
            if (":" in name or name in self._resting) and name not in wanted and self.buckets.is_idle(name, now):
                self.buckets.remove(name)
                self._resting.discard(name)

    def kept(self) -> dict[str, list[Any]]:
        """Return what is used, as plain data."""
        return {**self._kept, **{name: [value] for name, value in self.buckets.kept().items()}}

    def restore(self, kept: Mapping[str, list[Any]], shift: float) -> None:
        """Take over what another owner has kept; buckets that are not there yet get theirs when they come.

        Args:
            kept: what `kept` has returned.
            shift: seconds by which the clock here is ahead of the other's.
        """
        for name, values in kept.items():
            for value in values:
                if name in self.buckets:
                    self.buckets.restore({name: shifted(value, shift)})
                else:
                    self._kept.setdefault(name, []).append(shifted(value, shift))

    def used(self, now: float) -> dict[str, dict[str, float]]:
        """Return limit and what is free of each bucket, by name."""
        found = {}
        for name in self.buckets.names():
            if name in self._resting:
                continue
            bucket = self.buckets.bucket(name)
            found[name] = {"limit": bucket.limit, "seconds": bucket.seconds, "free": self.buckets.free(name, now)}
        return found


def units_of(requests: float, tokens_in: float, tokens_out: float) -> dict[str, float]:
    """Return a request by what limits count of it."""
    return {"requests": requests, "input": tokens_in, "output": tokens_out, "tokens": tokens_in + tokens_out}
