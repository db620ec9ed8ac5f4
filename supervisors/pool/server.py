"""The server of a pool: carries out what pool/core.py decides.

Requests: ("checkout", lease, block, timeout, work_timeout) → (worker, work timeout), or None when the pool is full;
("checkin", worker); ("timed_out", lease) → whether its worker was taken away; "status"; "stats"; "supervisor".
Casts: ("checkin", lease), ("checkin", worker, borrower), ("discard", lease, whether the work took too long).
"""

from __future__ import annotations

import contextlib
import time
from typing import Any

from supervisors.genserver import NO_REPLY
from supervisors.host import processes
from supervisors.pool.core import PoolCore
from supervisors.pool.effects import (
    CheckWorker,
    Demonitor,
    Effect,
    Grant,
    KillWorker,
    Monitor,
    PoolRules,
    Refuse,
    StartWorker,
    StopWorker,
)
from supervisors.system_server import SystemServer
from supervisors.terms.errors import CallTimeout, NoProcess, StartError, SupervisorsError
from supervisors.terms.ports import engine_of, supervise
from supervisors.terms.reason import NODEDOWN, SHUTDOWN, ExitReason
from supervisors.terms.ref import Caller, Down, Ref

#: The id of the workers' supervisor in the pool's tree.
WORKERS = "workers"
#: So many checkouts whose work took too long are remembered, until their borrowers ask why their worker is gone.
MAX_REMEMBERED = 1000

_TICK = "_pool tick"


class PoolServer(SystemServer):
    """One pool; `PoolSpec` makes its arguments."""

    WHAT = "a pool"

    async def init(
        self,
        rules: dict[str, Any],
        work_timeout: float | None,
        health_check: Any,
        health_timeout: float,
        shutdown_limit: float | None,
    ) -> None:
        """Start the first workers, one after the other."""
        self._work_timeout, self._shutdown_limit = work_timeout, shutdown_limit
        self._health_check, self._health_timeout = health_check, health_timeout
        parent = engine_of(self).boot.parent
        assert parent is not None
        self._parent = parent
        rows = await self.which_children(parent)
        workers = next((row.ref for row in rows if row.id == WORKERS), None)
        if workers is None:
            raise StartError("a pool's server runs beside its workers' supervisor: start it by PoolSpec", id="pool")
        self._workers: Ref = workers
        self._callers: dict[str, tuple[Any, float | None, float | None]] = {}
        self._monitors: dict[Ref, int] = {}
        self._borrowers: dict[Ref, int] = {}
        self._late: dict[str, None] = {}
        self._timer: tuple[float, Any] | None = None
        self._core = PoolCore(PoolRules(**rules), alive=lambda ref: not processes.has_ended(ref.pid, ref.born))
        for effect in self._core.start(time.monotonic()):
            assert isinstance(effect, StartWorker)
            worker = await self._start_worker()
            self._do(self._core.started(effect.ticket, worker, time.monotonic()))

    # --- what comes in ----------------------------------------------------------------------------------------------

    def answer(self, request: Any, caller: Caller) -> Any:
        """Answer a borrower: a process, or a program outside."""
        match request:
            case ("checkout", str() as lease, bool() as block, (None | int() | float()) as timeout,
                  (None | int() | float()) as work_timeout) if not self._core.knows(lease):  # fmt: skip
                limit = self._work_timeout if work_timeout is None else work_timeout
                self._callers[lease] = (caller, limit, timeout)
                self._do(self._core.checkout(lease, caller.ref, block, timeout, limit, time.monotonic()))
                return NO_REPLY
            case ("checkin", Ref() as worker):
                self._checkin(worker, caller.ref)
                return None
            case ("timed_out", lease):
                return lease in self._late
            case "status":
                return tuple(self._core.status())
            case "stats":
                return tuple(self._core.stats(time.monotonic()))
            case "supervisor":
                return self._parent
        raise self.unknown(request)

    def take_cast(self, message: Any) -> None:
        """Take a worker back."""
        now = time.monotonic()
        match message:
            case ("checkin", str() as lease):
                self._do(self._core.checkin(lease, now))
            case ("checkin", Ref() as worker, Ref() as borrower):
                self._checkin(worker, borrower)
            case ("discard", str() as lease, bool() as timed_out):
                self._do(self._core.discard(lease, timed_out, now))
            case _:
                super().take_cast(message)

    def take_info(self, message: Any) -> None:
        """Take in that a worker or a borrower ended, or that something is due."""
        match message:
            case Down(ref=Ref() as ref, reason=ExitReason() as reason):
                self._monitors.pop(ref, None)
                # A program outside whose door was killed lives, for all that is known here.
                unsure = ref.outside and reason != NODEDOWN
                self._do(self._core.down(ref, time.monotonic(), unsure))
            case (what, at) if what == _TICK:
                if self._timer is not None and self._timer[0] == at:
                    self._timer = None
                    self._do(self._core.tick(time.monotonic()))
            case _:
                super().take_info(message)

    def _checkin(self, worker: Ref, borrower: Ref) -> None:
        lease = self._core.lease_of(worker, borrower)
        if lease is not None:
            self._do(self._core.checkin(lease, time.monotonic()))

    # --- effects ----------------------------------------------------------------------------------------------------

    def _do(self, effects: list[Effect]) -> None:
        for effect in effects:
            match effect:
                case Grant(lease, worker):
                    caller, limit, _ = self._callers.pop(lease)
                    self.reply(caller, (worker, limit))
                case Refuse(lease, why, error):
                    self._refuse(lease, why, error)
                case StartWorker(ticket):
                    self.spawn(self._start(ticket))
                case StopWorker(worker):
                    self._forget(worker)
                    engine_of(self).stop_process(worker, SHUTDOWN)
                    if self._shutdown_limit is not None:
                        engine_of(self).loop.call_later(self._shutdown_limit, _kill, worker)
                case KillWorker(worker, lease):
                    self._late[lease] = None
                    if len(self._late) > MAX_REMEMBERED:
                        del self._late[next(iter(self._late))]
                    self._forget(worker)
                    _kill(worker)
                case CheckWorker(worker):
                    self.spawn(self._check(worker))
                case Monitor(process):
                    self._borrowers[process] = self.monitor(process)
                case Demonitor(process):
                    self.demonitor(self._borrowers.pop(process))
        self._set_timer()

    def _refuse(self, lease: str, why: str, error: Any) -> None:
        caller, _, timeout = self._callers.pop(lease)
        if why == "full":
            self.reply(caller, None)
        elif why == "timeout":
            status = self._core.status()
            what = f"no worker of pool {self.name!r} was free within {timeout:g} s: {status.checked_out} are out"
            self.reply_error(caller, CallTimeout(f"{what}, {len(self._core.waiting)} others wait"))
        else:
            self.reply_error(caller, error)

    def _forget(self, worker: Ref) -> None:
        monitor = self._monitors.pop(worker, None)
        if monitor is not None:
            self.demonitor(monitor)

    def _set_timer(self) -> None:
        at = self._core.next_at()
        if self._timer is not None:
            if self._timer[0] == at:
                return
            self._timer[1].cancel()
            self._timer = None
        if at is not None:
            self._timer = at, self.send_after(max(0.0, at - time.monotonic()), (_TICK, at))

    async def _start(self, ticket: int) -> None:
        try:
            worker = await self._start_worker()
        except SupervisorsError as error:
            self.log.error("a worker did not start", error=str(error))
            self._do(self._core.start_failed(ticket, error, time.monotonic()))
        else:
            self._do(self._core.started(ticket, worker, time.monotonic()))

    async def _start_worker(self) -> Ref:
        outcome = await supervise(self, self._workers, "start_child", ())
        worker = outcome[0] if isinstance(outcome, tuple) else outcome  # init may have returned Extra
        if worker is None:
            reason = ExitReason.of("ignore")
            raise StartError("a worker's init returned IGNORE: a pool needs its workers", id=WORKERS, reason=reason)
        self._monitors[worker] = self.monitor(worker)
        return worker  # type: ignore[no-any-return]

    async def _check(self, worker: Ref) -> None:
        healthy = False
        with contextlib.suppress(SupervisorsError):
            healthy = await self.call(worker, self._health_check, self._health_timeout) is not False
        if not healthy:
            self.log.warning("a worker failed its health check", worker=str(worker))
        self._do(self._core.checked(worker, healthy, time.monotonic()))


def _kill(worker: Ref) -> None:
    with contextlib.suppress(ProcessLookupError, NoProcess):
        pidfd = processes.open_pidfd(worker.pid, worker.born)  # of this very process, not of one with a reused pid
        processes.kill(worker.pid, pidfd)
        if pidfd is not None:
            processes.close_pidfd(pidfd)
