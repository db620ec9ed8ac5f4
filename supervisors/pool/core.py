"""A pool without processes: what happens goes in, what is to be done comes out.

poolboy is the model. There is no clock here (every event brings its time), no process and no socket; the server
that carries it out is pool/server.py. One rule takes the place of poolboy's bookkeeping of overflow: the overflow
is how many workers there are beyond `size`. A worker that becomes free goes to the first in the queue; with nobody
waiting it is stopped if there is overflow, and idle if not. A worker that is lost is replaced if somebody waits, or if
there are fewer than `size` left.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Hashable, Iterator
from typing import Any

from supervisors.host.alarms import Alarms
from supervisors.pool.borrowers import Borrowers
from supervisors.pool.effects import (
    CheckWorker,
    Effect,
    Grant,
    KillWorker,
    PoolRules,
    Refuse,
    StartWorker,
    StopWorker,
)
from supervisors.pool.entries import Checkout, Worker
from supervisors.pool.stats import PoolStats, PoolStatus, Waits

#: A start in the background that failed is tried again after so many seconds, then after twice as long, and so on.
RETRY_FIRST, RETRY_LIMIT = 0.5, 30.0


class PoolCore:
    """The state machine. Feed it with what happens, carry out what it returns, and call `tick` at `next_at`.

    Args:
        rules: sizes, strategy and times.
        alive: whether a worker's process still runs, asked before it is handed out.
    """

    def __init__(self, rules: PoolRules, alive: Callable[[Any], bool] = lambda worker: True) -> None:
        """Make one that has no worker yet."""
        self.rules = rules
        self.size = rules.size
        self.workers: dict[Any, Worker] = {}
        self.idle: dict[Any, None] = {}  # the longest idle first
        self.starting: set[int] = set()
        self.waiting: dict[str, Checkout] = {}  # the first to come first
        self.leases: dict[str, Checkout] = {}
        self.waits = Waits(rules.stats_window)
        self._alive = alive
        self._checking = 0
        self._borrowers = Borrowers()
        self._tickets = itertools.count(1)
        #: What is due when: a kind of alarm, and what it is about.
        self._alarms: Alarms[tuple[str, Any]] = Alarms(lambda at, alarm: self._matters(at, *alarm))
        self._failures, self._retry_at = 0, 0.0
        self._out: list[Effect] = []
        self._now = 0.0

    # --- what is asked ----------------------------------------------------------------------------------------------

    @property
    def total(self) -> int:
        """Workers that there are or soon will be."""
        return len(self.workers) + len(self.starting)

    @property
    def overflow(self) -> int:
        """How many of them are more than the pool keeps."""
        return max(0, self.total - self.size)

    @property
    def _room(self) -> int:
        return self.rules.max_size + self.rules.max_overflow - self.total

    @property
    def _incoming(self) -> int:
        """Workers that will be ready for somebody who waits."""
        return len(self.starting) + self._checking

    def knows(self, lease: str) -> bool:
        """Whether this checkout waits or has a worker."""
        return lease in self.waiting or lease in self.leases

    def lease_of(self, worker: Any, borrower: Hashable) -> str | None:
        """Return the lease under which this borrower has a worker; None if it does not have it."""
        entry = self.workers.get(worker)
        if entry is None or entry.lease is None or self.leases[entry.lease].borrower != borrower:
            return None
        return entry.lease

    def status(self) -> PoolStatus:
        """Return state, idle workers, overflow and workers that are out."""
        state = "ready" if self.idle else "overflow" if self._room > 0 else "full"
        return PoolStatus(state, len(self.idle), self.overflow, len(self.leases))

    def stats(self, now: float) -> PoolStats:
        """Return everything that is counted."""
        return PoolStats(
            size=self.size,
            workers=len(self.workers),
            starting=len(self.starting),
            idle=len(self.idle),
            in_use=len(self.leases),
            overflow=self.overflow,
            queue=len(self.waiting),
            **self.waits.shown(now),
        )

    # --- what happens -----------------------------------------------------------------------------------------------

    def start(self, now: float) -> list[Effect]:
        """Have the first workers started."""
        self._now = now
        self._refill()
        return self._take()

    def checkout(
        self,
        lease: str,
        borrower: Hashable,
        block: bool,
        timeout: float | None,
        work_timeout: float | None,
        now: float,
    ) -> list[Effect]:
        """Give a worker to `borrower` under the new name `lease`, now or when it is its turn.

        Args:
            lease: names this checkout for ever.
            borrower: whose end gives the worker back.
            block: False: refused ("full") if no worker is idle and none may be started.
            timeout: seconds it may wait; None: without end.
            work_timeout: seconds it may keep the worker; None: as long as it likes.
            now: the time in seconds.
        """
        self._now = now
        entry = self.waiting[lease] = Checkout(borrower, now, work_timeout)
        self._out += self._borrowers.add(borrower, lease)
        self._serve()
        if lease in self.waiting:
            if not block and len(self.waiting) > self._incoming:
                self.waits.counts["full"] += 1
                self._refuse(lease, "full")
            elif timeout is not None:
                entry.deadline = now + timeout
                self._alarm(entry.deadline, "wait", lease)
        return self._take()

    def checkin(self, lease: str, now: float) -> list[Effect]:
        """Take a worker back, or a checkout that still waits out of the queue; an unknown lease is ignored."""
        self._now = now
        self._release(lease)
        return self._take()

    def discard(self, lease: str, timed_out: bool, now: float) -> list[Effect]:
        """Take a worker away that is not fit for the next borrower, and kill it."""
        self._now = now
        if lease in self.leases:
            self._discard(lease, timed_out)
        else:
            self._release(lease)
        return self._take()

    def started(self, ticket: int, worker: Any, now: float) -> list[Effect]:
        """Take in a worker that was started."""
        self._now = now
        if ticket in self.starting:
            self.starting.discard(ticket)
            self._failures, self._retry_at = 0, 0.0
            self.workers[worker] = Worker("new", now, now)
            self._offer(worker, fresh=True)
        return self._take()

    def start_failed(self, ticket: int, error: Any, now: float) -> list[Effect]:
        """Note that a worker did not start: one checkout that counted on it fails, and no other."""
        self._now = now
        if ticket in self.starting:
            self.starting.discard(ticket)
            self.waits.counts["failed_starts"] += 1
            self._retry_at = now + min(RETRY_LIMIT, RETRY_FIRST * 2.0 ** min(self._failures, 10))
            self._failures += 1
            if self.total < self.size and self.size > self.rules.min_size:
                self.size -= 1
            if len(self.waiting) > self._incoming:
                self._refuse(next(iter(self.waiting)), "start", error)
            self._serve()
            self._refill()
        return self._take()

    def down(self, process: Any, now: float, unsure: bool = False) -> list[Effect]:
        """Note that a process ended: a worker, a borrower, or both. What the borrower has comes back.

        Args:
            process: which.
            now: the time in seconds.
            unsure: the borrower may live, and use its workers still: they are taken away and not lent again.
        """
        self._now = now
        if process in self.workers:
            self._lost(process)
        leases = self._borrowers.of(process)
        if unsure:
            for lease in [lease for lease in leases if lease in self.waiting]:
                self._release(lease)
            for lease in [lease for lease in leases if lease in self.leases]:
                self._discard(lease, timed_out=False)
        else:
            self._release_all(leases)
        return self._take()

    def checked(self, worker: Any, healthy: bool, now: float) -> list[Effect]:
        """Take in the outcome of a health check."""
        self._now = now
        entry = self.workers.get(worker)
        if entry is not None and entry.state == "checking":
            self._checking -= 1
            entry.state, entry.checked = "idle", now
            if healthy:
                self._offer(worker, fresh=True)
            else:
                self.waits.counts["unhealthy"] += 1
                self._out.append(StopWorker(worker))
                self._lost(worker)
        return self._take()

    def next_at(self) -> float | None:
        """Return when `tick` is due."""
        return self._alarms.next_at()

    def tick(self, now: float) -> list[Effect]:
        """Do what has become due."""
        self._now = now
        for what, about in self._alarms.due(now):
            self._ring(what, about)
        return self._take()

    # --- alarms -----------------------------------------------------------------------------------------------------

    def _alarm(self, at: float, what: str, about: Any) -> None:
        self._alarms.set(at, (what, about))

    def _matters(self, at: float, what: str, about: Any) -> bool:
        if what == "wait":
            return about in self.waiting
        if what == "work":
            return about in self.leases
        if what == "retry":
            return self.total < self.size and at >= self._retry_at
        entry = self.workers.get(about)
        if entry is None or entry.state != "idle":
            return False
        if what == "idle":
            return self.size > self.rules.min_size and entry.since + self.rules.idle_seconds <= at
        return entry.checked + (self.rules.health_interval or 0.0) <= at

    def _ring(self, what: str, about: Any) -> None:
        match what:
            case "wait":
                self.waits.counts["timed_out"] += 1
                self._refuse(about, "timeout")
            case "work":
                self._discard(about, timed_out=True)
            case "retry":
                self._refill()
            case "idle":
                self.size -= 1
                self._forget(about)
                self._out.append(StopWorker(about))
            case "check":
                self._check(about)

    # --- borrowers --------------------------------------------------------------------------------------------------

    def _unborrow(self, lease: str, borrower: Hashable) -> None:
        self._out += self._borrowers.drop(borrower, lease)

    def _release_all(self, leases: list[str]) -> None:
        # What waits first: else a worker that comes back would be handed to one who is gone.
        for lease in sorted(leases, key=lambda each: each not in self.waiting):
            self._release(lease)

    def _release(self, lease: str) -> None:
        waiting = self.waiting.pop(lease, None)
        if waiting is not None:
            self._unborrow(lease, waiting.borrower)
        entry = self.leases.pop(lease, None)
        if entry is not None:
            self._unborrow(lease, entry.borrower)
            worker = self.workers[entry.worker]
            worker.lease, worker.since = None, self._now
            self._offer(entry.worker)

    def _refuse(self, lease: str, why: str, error: Any = None) -> None:
        self._unborrow(lease, self.waiting.pop(lease).borrower)
        self._out.append(Refuse(lease, why, error))

    # --- workers ----------------------------------------------------------------------------------------------------

    def _offer(self, worker: Any, fresh: bool = False) -> None:
        """Find out what becomes of a worker that is free."""
        entry = self.workers[worker]
        if not self._alive(worker):
            self._lost(worker)
        elif self.waiting and (fresh or not self._due(entry)):
            self._give(worker, next(iter(self.waiting)))
        elif self.waiting:
            self._check(worker)
        elif self.total > self.size:
            self._forget(worker)
            self._out.append(StopWorker(worker))
        else:
            entry.state = "idle"
            self.idle[worker] = None
            if self.rules.health_interval is not None:  # one that was checked goes back to its place
                self.idle = dict.fromkeys(sorted(self.idle, key=lambda each: self.workers[each].since))
            if self.rules.max_size > self.rules.min_size:
                self._alarm(entry.since + self.rules.idle_seconds, "idle", worker)
            if self.rules.health_interval:
                self._alarm(entry.checked + self.rules.health_interval, "check", worker)

    def _give(self, worker: Any, lease: str) -> None:
        entry = self.leases[lease] = self.waiting.pop(lease)
        entry.worker = worker
        self.workers[worker].state, self.workers[worker].lease = "out", lease
        self.waits.add(self._now, self._now - entry.since)
        if entry.work_timeout is not None:
            self._alarm(self._now + entry.work_timeout, "work", lease)
        self._out.append(Grant(lease, worker))

    def _serve(self) -> None:
        """Give those who wait what there is: idle workers first, then new ones."""
        while self.waiting and self.idle:
            ready = next((each for each in self._in_turn() if not self._due(self.workers[each])), None)
            if ready is None:
                break
            del self.idle[ready]
            self._offer(ready, fresh=True)
        while self.idle and len(self.waiting) > self._incoming:
            self._check(next(self._in_turn()))
        while len(self.waiting) > self._incoming and self._room > 0:
            self._start_one()

    def _in_turn(self) -> Iterator[Any]:
        return reversed(self.idle) if self.rules.strategy == "lifo" else iter(self.idle)

    def _due(self, entry: Worker) -> bool:
        interval = self.rules.health_interval
        return interval is not None and self._now - entry.checked >= interval

    def _check(self, worker: Any) -> None:
        self.idle.pop(worker, None)
        self.workers[worker].state = "checking"
        self._checking += 1
        self._out.append(CheckWorker(worker))

    def _start_one(self) -> None:
        ticket = next(self._tickets)
        self.starting.add(ticket)
        # Grown for those who wait, the pool stays so until a worker has been idle for long.
        self.size = min(self.rules.max_size, max(self.size, self.total))
        self._out.append(StartWorker(ticket))

    def _refill(self) -> None:
        if self.total < self.size and self._now < self._retry_at:
            self._alarm(self._retry_at, "retry", None)
            return
        while self.total < self.size:
            self._start_one()

    def _discard(self, lease: str, timed_out: bool) -> None:
        if timed_out:
            self.waits.counts["work_timed_out"] += 1
        worker = self.leases[lease].worker
        self._out.append(KillWorker(worker, lease))
        self._lost(worker)

    def _forget(self, worker: Any) -> None:
        entry = self.workers.pop(worker)
        self.idle.pop(worker, None)
        if entry.state == "checking":
            self._checking -= 1
        if entry.lease is not None:
            self._unborrow(entry.lease, self.leases.pop(entry.lease).borrower)

    def _lost(self, worker: Any) -> None:
        """Do without a worker: replaced for those who wait, or when there are fewer than the pool keeps."""
        before = len(self.starting)
        self._forget(worker)
        self._serve()
        self._refill()
        self.waits.counts["replaced"] += max(0, len(self.starting) - before)

    def _take(self) -> list[Effect]:
        out, self._out = self._out, []
        return out
