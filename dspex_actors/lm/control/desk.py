"""The desk of a deployment's owner: who of which worker waits, and whose turn it is. Pure: time is a parameter.

A worker says with each word all that waits with him, so that nothing is lost when either of the two begins anew; he
gets the turns that have come since, and when to ask again.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from typing import Any

from dspex_actors.foundation.buckets import Grant
from dspex_actors.foundation.line import Line
from dspex_actors.lm.control.budget import Budget
from dspex_actors.lm.control.messages import Ask, Leased, Settled

#: Turns of so many seconds to come are given already now: a worker asks again before they are over.
AHEAD_SECONDS = 0.25
#: A worker asks again after at least, and at most, so many seconds while somebody waits.
SOONEST, LATEST = 0.1, 1.0
#: A lease is over so many seconds after the last moment at which its call can end; that of a spare one, of which
#: nobody knows the call, after so many seconds in all.
LEASE_EXTRA, SPARE_SECONDS = 60.0, 900.0


class Desk:
    """The line of one deployment.

    Args:
        budget: what is waited for.
    """

    def __init__(self, budget: Budget) -> None:
        """Begin with nobody."""
        self.budget = budget
        self.line = Line()
        #: Worker → number of an ask → the turn it has got, or why it gets none; not fetched yet.
        self._ready: dict[Hashable, dict[int, tuple[int, float] | tuple[float | None, str]]] = {}
        #: Worker → number of an ask → the lease that he was told last. Who asks again under it has not heard it.
        self._told: dict[Hashable, dict[int, int]] = {}
        #: What those who wait have asked, by the limits of which version their costs are.
        self._asks: dict[Hashable, Ask] = {}
        self._version = budget.version
        #: Since the line was last looked at: whether somebody had to wait.
        self.had_to_wait = False

    def ask(self, worker: Hashable, asks: Iterable[Ask], spare: Ask | None, count: int, now: float) -> Leased:
        """Answer a worker.

        Args:
            worker: who.
            asks: all that waits with him.
            spare: a request as it may come soon; None: none is wanted.
            count: how many of them.
            now: monotonic seconds.
        """
        budget, buckets = self.budget, self.budget.buckets
        ready = self._ready.setdefault(worker, {})
        wanted = {ask[0]: ask for ask in asks}
        for number, lease in self._told.pop(worker, {}).items():
            if number in wanted:
                buckets.settle(lease, {}, now)  # our answer was lost, and nobody has it
        for key in self.line.of(worker):
            if key[1] not in wanted:  # type: ignore[index]
                self._leave(key)
        self._price(now)
        for number, (_, tokens_in, tokens_out, seconds, user, tags) in wanted.items():
            key = (worker, number)
            if key in self.line or number in ready:
                continue
            cost = budget.cost(tokens_in, tokens_out, user, tags, now)
            refused = self.line.add(buckets, key, cost, now, until=now + seconds, holder=worker)
            if refused is not None:
                ready[number] = refused.retry_after, _named(refused.names)
            else:
                self._asks[key] = wanted[number]
        soonest = self._serve(now)
        turns, refusals = [], []
        for number, found in ready.items():
            if isinstance(found[1], str):
                refusals.append((number, found[0], found[1]))
            elif number in wanted:
                turns.append((number, int(found[0] or 0), found[1] - now))
            else:
                buckets.settle(int(found[0] or 0), {}, now)  # who wanted it has given up
        ready.clear()
        self._told[worker] = {number: lease for number, lease, _ in turns}
        spares = []
        if spare is not None and not len(self.line):
            cost = budget.cost(spare[1], spare[2], None, None, now)
            for _ in range(count):
                grant = buckets.reserve(cost, now, seconds=SPARE_SECONDS, holder=worker)
                if not isinstance(grant, Grant):
                    break
                spares.append(grant.lease)
        again = LATEST if soonest is None else min(LATEST, max(SOONEST, soonest - AHEAD_SECONDS / 2))
        return Leased(turns, refusals, spares, again, budget.late)

    def _price(self, now: float) -> None:
        """Have those who wait want what limits count of them now: others may hold than when they came."""
        if self._version != self.budget.version:
            self._version = self.budget.version
            for key, (_, tokens_in, tokens_out, _, user, tags) in self._asks.items():
                self.line.change(key, self.budget.cost(tokens_in, tokens_out, user, tags, now))

    def _leave(self, key: Hashable) -> None:
        self.line.remove(key)
        self._asks.pop(key, None)

    def _serve(self, now: float) -> float | None:
        served, gone, soonest = self.line.serve(self.budget.buckets, now, ahead=AHEAD_SECONDS, extra=LEASE_EXTRA)
        for key, *_ in (*served, *gone):
            self._asks.pop(key, None)
        for key, worker, grant in served:
            self._ready.setdefault(worker, {})[key[1]] = grant.lease, grant.at  # type: ignore[index]
        for key, worker, refusal in gone:
            self._ready.setdefault(worker, {})[key[1]] = refusal.retry_after, _named(refusal.names)  # type: ignore[index]
        self.had_to_wait = self.had_to_wait or bool(len(self.line))
        return soonest

    def settle(self, settled: Iterable[Settled], late: Iterable[tuple[int, float]], now: float) -> None:
        """Take note of what was begun late, and of what was used under leases."""
        for lease, seconds in late:
            self.budget.buckets.move(lease, seconds)
        for lease, requests, tokens_in, tokens_out in settled:
            self.budget.settle(lease, requests, tokens_in, tokens_out, now)

    def forget(self, now: float) -> None:
        """Let go of leases and buckets that nobody has, uses or waits for."""
        self.budget.forget(now, self.line.names())

    def drop(self, worker: Hashable, now: float) -> None:
        """Forget a worker that has ended: what cannot have been begun comes back."""
        for key in self.line.of(worker):
            self._leave(key)
        self._ready.pop(worker, None)
        self._told.pop(worker, None)
        self.budget.buckets.drop(worker, now)


def _named(names: Iterable[Any]) -> str:
    """Return what is told of the buckets that somebody does not fit into."""
    return ", ".join(sorted(map(str, names)))
