"""One protected key: who may go, who waits, who is refused. Pure; time is a parameter.

A call draws from all its buckets, and from the pool, at once or not at all; who comes first is served first, and a
large one is not starved. The circuit is asked before a call stands in line and again when it is its turn.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Any

from dspex_actors.errors import CircuitOpen, ConfigError, DspexError, Overloaded, RateLimited
from dspex_actors.foundation import circuit as circuits
from dspex_actors.foundation.buckets import Buckets, Grant, Refusal, held, per
from dspex_actors.foundation.circuit import Change, Circuit
from dspex_actors.foundation.line import Line
from dspex_actors.protection.spec import USER, Protection

#: The bucket that the pool is; users' buckets cannot be called so.
POOL = ""
#: With so many buckets it is first looked for users who have gone.
MOST_NAMES = 256
#: A lease is over when its holder says so, or has died.
_FOR_EVER = 10 * 365 * 86_400.0


@dataclass(slots=True)
class Entry:
    """A call that goes on.

    Args:
        lease: of its buckets.
        holder: the process.
        probe: its number if it is the circuit's probe.
        epoch: of the circuit.
        cost: what it has drawn.
        at: when.
    """

    lease: int
    holder: Hashable
    probe: int | None
    epoch: int
    cost: Mapping[str, float]
    at: float


Answer = Entry | DspexError


class Guard:
    """What protects one key.

    Args:
        key: the key, for messages.
        protection: how.
        now: monotonic seconds.
    """

    def __init__(self, key: str, protection: Protection, now: float) -> None:
        """Begin with nothing used."""
        self.key = key
        self.protection = Protection()
        self.circuit: Circuit | None = None
        self.entries: dict[Hashable, Entry] = {}
        self._buckets = Buckets({}, now)
        self._line = Line()
        self._most_names = MOST_NAMES
        #: Who waits: holder and cost.
        self._waiting: dict[Hashable, tuple[Hashable, Mapping[str, float]]] = {}
        self._sent_away: list[tuple[Hashable, Answer]] = []
        self.configure(protection, now)

    def configure(self, protection: Protection, now: float) -> None:
        """Protect it otherwise from now on; what was used stays used, and who waits stays in line."""
        self.protection = protection
        settings = protection.circuit
        if settings is None:
            self.circuit = None
        elif self.circuit is None:
            self.circuit = Circuit(settings, probes=int(now * 1000))
        else:
            self.circuit.settings = settings
        wanted = {name: per(*pair, slack=0.0) for name, pair in protection.buckets.items() if not name.startswith(USER)}
        if protection.max_concurrent is not None:
            wanted[POOL] = held(protection.max_concurrent)
        for name in self._buckets.names():
            if name not in wanted and not (name.startswith(USER) and self._of_user(name) in protection.buckets):
                self._buckets.remove(name)
        for name, bucket in wanted.items():
            self._buckets.put(name, bucket, now)
        for name in self._buckets.names():
            if name.startswith(USER):
                self._buckets.put(name, per(*protection.buckets[self._of_user(name)], slack=0.0), now)

    @staticmethod
    def _of_user(name: str) -> str:
        """Return the bucket of which `user:NAME:BUCKET` is a user's own."""
        return USER + name.rpartition("\n")[2]

    def _forget_users(self, now: float, cost: Mapping[str, float]) -> None:
        """Let go of users' buckets that are not used, waited for or in a cost, each time they have doubled."""
        names = self._buckets.names()
        if len(names) < self._most_names:
            return
        wanted = self._line.names() | cost.keys()
        for name in names:
            if name.startswith(USER) and name not in wanted and self._buckets.is_idle(name, now):
                self._buckets.remove(name)
        self._most_names = max(MOST_NAMES, 2 * len(self._buckets.names()))

    def _cost(self, costs: Mapping[str, float] | None, user: str | None, now: float) -> dict[str, float] | ConfigError:
        known = {name.removeprefix(USER): name for name in self.protection.buckets}
        for name in costs or ():
            if name not in known and name not in self.protection.buckets:
                legal = ", ".join(sorted(known)) or "none: the key has no limits"
                return ConfigError(f"costs is invalid: got the bucket {name!r:.80}, expected {legal}")
        cost: dict[str, float] = {}
        for name, pair in self.protection.buckets.items():
            amount = 1.0 if costs is None else costs.get(name, costs.get(name.removeprefix(USER), 1.0))
            if not name.startswith(USER):
                cost[name] = amount
            elif user is not None:
                own = f"{USER}{user}\n{name.removeprefix(USER)}"
                if own not in self._buckets:
                    self._forget_users(now, cost)
                    self._buckets.put(own, per(*pair, slack=0.0), now)
                cost[own] = amount
        if self.protection.max_concurrent is not None:
            cost[POOL] = 1.0
        return cost

    def enter(
        self,
        call: Hashable,
        holder: Hashable,
        costs: Mapping[str, float] | None,
        user: str | None,
        now: float,
        until: float,
    ) -> Answer | None:
        """Let a call in, refuse it, or have it wait: then `serve` answers it.

        Args:
            call: its name; one that was let in already goes on.
            holder: its process.
            costs: bucket → amount; None, or a bucket that is not named: one of it.
            user: for whom; None: nobody said.
            now: monotonic seconds.
            until: it does not wait longer.
        """
        if (found := self.entries.get(call)) is not None:
            return found
        cost = self._cost(costs, user, now)
        if isinstance(cost, ConfigError):
            return cost
        if self.circuit is not None and self.circuit.wait(now) > 0:
            return self._is_open(now)
        if not self._line.is_wanted(cost):
            granted = self._buckets.reserve(cost, now, seconds=_FOR_EVER, holder=holder)
            if isinstance(granted, Grant):
                return self._admit(call, holder, cost, granted, now)
            if granted.retry_after == math.inf:
                return RateLimited(
                    f"{self.key}: the call needs more than {', '.join(granted.names)} lets through at all: raise the "
                    "limit, or lower its costs",
                    retryable=False,
                )
        if self.protection.queue is not None and len(self._line) >= self.protection.queue:
            return Overloaded(
                f"{self.key} is full: {len(self._line)} calls wait, and queue={self.protection.queue}", retryable=True
            )
        refused = self._line.add(self._buckets, call, cost, now, until=until, holder=holder)
        if refused is not None:
            return self._too_late(refused)
        self._waiting[call] = (holder, cost)
        return None

    def _no_more(self, call: Hashable) -> Mapping[str, float]:
        """Take a call out of the line; return its cost."""
        self._line.remove(call)
        return self._waiting.pop(call, (None, {}))[1]

    def _too_late(self, refused: Refusal) -> RateLimited:
        names = ", ".join("the pool" if name == POOL else name.replace("\n", " ") for name in refused.names)
        if refused.retry_after == math.inf:
            return RateLimited(f"{self.key}: the call needs more than {names} lets through at all", retryable=False)
        return RateLimited(
            f"{self.key}: its turn under {names} does not come in time", retry_after=refused.retry_after, retryable=True
        )

    def _is_open(self, now: float) -> CircuitOpen:
        circuit = self.circuit
        assert circuit is not None
        wait = circuit.wait(now)
        if circuit.probe is not None:  # it may be answered soon: nobody should wait until its time is over
            wait = min(wait, circuit.settings.recovery_time)
        return CircuitOpen(
            f"the circuit of {self.key} is open after {circuit.failures} failures in a row: "
            f"{circuit.reason or 'it fails'}; it is tried again in {wait:.1f} s",
            retry_after=wait,
        )

    def _admit(self, call: Hashable, holder: Hashable, cost: Mapping[str, float], grant: Grant, now: float) -> Answer:
        probe, epoch = None, 0
        if self.circuit is not None:
            admitted = self.circuit.admit(now)
            if isinstance(admitted, circuits.Refused):
                self._buckets.settle(grant.lease, {}, now)
                return self._is_open(now)
            probe, epoch = admitted.probe, self.circuit.epoch
        entry = self.entries[call] = Entry(grant.lease, holder, probe, epoch, cost, now)
        return entry

    def serve(self, now: float) -> tuple[list[tuple[Hashable, Answer]], float | None]:
        """Answer those who waited and whose turn it is, or whose time is over.

        Returns:
            Calls with their answers; and the seconds until it is worth to look again, None: when somebody leaves.
        """
        answers, self._sent_away = self._sent_away, []
        if not self._waiting:
            return answers, None
        served, gone, soonest = self._line.serve(self._buckets, now, seconds=_FOR_EVER)
        for call, holder, grant in served:
            answers.append((call, self._admit(call, holder, self._no_more(call), grant, now)))
        for call, _, refused in gone:
            self._no_more(call)
            answers.append((call, self._too_late(refused)))
        return answers, soonest

    def leave(
        self,
        call: Hashable,
        now: float,
        *,
        failed: bool | None,
        reason: str = "",
        used: Mapping[str, float] | None = None,
    ) -> bool:
        """Take note that a call has ended; return whether it was in.

        Args:
            call: which.
            now: monotonic seconds.
            failed: whether it failed; None: nobody will know.
            reason: why.
            used: bucket → what it really used; None: what it said.
        """
        entry = self.entries.pop(call, None)
        if entry is None:
            self._no_more(call)
            return False
        self._buckets.settle(entry.lease, used, now)
        if self.circuit is not None:
            if failed is None:
                if entry.probe is not None:
                    self.circuit.given_up(now, entry.probe)
            elif entry.probe is not None or entry.epoch == self.circuit.epoch:
                self.circuit.ended(now, failed=failed, probe=entry.probe, reason=reason)
            if self.circuit.state == "open":
                self._send_away(now)
        return True

    def _send_away(self, now: float) -> None:
        """Refuse who waits: the circuit is open."""
        assert self.circuit is not None
        for call in list(self._waiting):
            self._no_more(call)
            self._sent_away.append((call, self._is_open(now)))

    def gone(self, holder: Hashable, now: float) -> list[Hashable]:
        """Take note that a process has ended; return which of its calls were in."""
        for call in self._line.of(holder):
            self._no_more(call)
        mine = [call for call, entry in self.entries.items() if entry.holder == holder]
        for call in mine:
            self.leave(call, now, failed=None)
        return mine

    def forget(self, call: Hashable, now: float) -> None:
        """Take note of a call that has ended under another owner, who knew what that means for the circuit."""
        entry = self.entries.pop(call, None)
        if entry is not None:
            self._buckets.settle(entry.lease, None, now)

    @property
    def holders(self) -> set[Hashable]:
        """The processes that have calls in or in line."""
        waiting = {holder for holder, _ in self._waiting.values()}
        return waiting | {entry.holder for entry in self.entries.values()}

    def changes(self) -> list[Change]:
        """Return what has changed of the circuit since the last time."""
        return [] if self.circuit is None else self.circuit.changes()

    def stats(self, now: float) -> dict[str, Any]:
        """Return its state as plain data."""
        return {
            "in_flight": len(self.entries),
            "waiting": len(self._line),
            "free": {
                ("pool" if name == POOL else name.replace("\n", ":")): self._buckets.free(name, now)
                for name in self._buckets.names()
            },
            "circuit": None if self.circuit is None else self.circuit.state,
            "retry_after": 0.0 if self.circuit is None else self.circuit.wait(now),
        }

    # --- for a successor --------------------------------------------------------------------------------------------

    def kept(self) -> dict[str, Any]:
        """Return all of it as plain data, but who waits: they come again."""
        circuit = self.circuit
        return {
            "protection": self.protection.to_plain(),
            "used": self._buckets.kept(),
            "entries": [[call, one.holder, one.probe, one.epoch] for call, one in self.entries.items()],
            "circuit": None if circuit is None else circuit.kept(),
        }

    def restore(self, kept: Mapping[str, Any], now: float) -> None:
        """Go on where another one has ended.

        Args:
            kept: what `kept` returned.
            now: monotonic seconds.
        """
        for name in kept["used"]:
            if name.startswith(USER) and self._of_user(name) in self.protection.buckets:
                self._buckets.put(name, per(*self.protection.buckets[self._of_user(name)], slack=0.0), now)
        self._buckets.restore(kept["used"])
        for call, holder, probe, epoch in kept["entries"]:
            self.again(call, _hashable(holder), {}, probe, epoch, now)
        if self.circuit is not None and kept["circuit"] is not None:
            self.circuit.restore(kept["circuit"])

    def again(
        self, call: Hashable, holder: Hashable, cost: Mapping[str, float], probe: int | None, epoch: int, at: float
    ) -> None:
        """Take note of a call that another one has let in, at that time."""
        for name in cost:
            if name.startswith(USER) and name not in self._buckets and self._of_user(name) in self.protection.buckets:
                self._buckets.put(name, per(*self.protection.buckets[self._of_user(name)], slack=0.0), at)
        whole = {**cost, POOL: 1.0}
        grant = self._buckets.reserve(whole, at, ahead=_FOR_EVER, seconds=_FOR_EVER, holder=holder)
        if isinstance(grant, Refusal):  # limits that have become smaller meanwhile
            grant = Grant(-1, at)
        self.entries[call] = Entry(grant.lease, _hashable(holder), probe, epoch, whole, at)


def _hashable(holder: Any) -> Hashable:
    return tuple(holder) if isinstance(holder, list) else holder
