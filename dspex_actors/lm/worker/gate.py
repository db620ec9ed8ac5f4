"""A worker's side of a deployment's budget: asks the client actor for turns, tells it of pauses and outcomes.

Nobody is asked where nothing is limited. Else at most ten messages a second go to the client actor, with all that waits
here; and where the limits are far away, a few leases are kept for the requests that come next.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections.abc import Mapping

from dspex_actors.errors import LMError, RateLimited
from dspex_actors.lm.control.messages import (
    Ages,
    Ask,
    InForce,
    Join,
    Lease,
    Leased,
    Leave,
    Outcomes,
    Owned,
    Pause,
    Refused,
    Settled,
)
from dspex_actors.lm.control.tenure import FAR_SECONDS
from dspex_actors.lm.control.told import Told
from dspex_actors.lm.deployment import Limits
from dspex_actors.lm.wire.remaining import FIRST, remaining
from dspex_actors.lm.worker import refused_turns as told
from dspex_actors.lm.worker.outcome import Outcome
from dspex_actors.lm.worker.owner import Owner
from dspex_actors.lm.worker.ramp import Noticed
from dspex_actors.lm.worker.sizes import check_size
from dspex_actors.lm.worker.spares import Spares
from dspex_actors.lm.worker.turn import Turn, Waiting
from supervisors import GenServer
from supervisors.errors import SupervisorsError

#: Two leases are asked for so many seconds apart at least.
ASK_SECONDS = 0.1
#: A client actor that does not answer is looked after again at this interval, in seconds.
LOOK_SECONDS = 0.05
#: What is begun later than its turn by more than so many seconds is told to the client actor.
LATE_SECONDS = 0.005
#: Outcomes are told this often, in seconds.
TELL_SECONDS = 0.5
#: What is begun with a spare lease that is older than so many seconds is told, too.
OLD_SECONDS = 0.25


class WorkerGate:
    """The gate of one deployment in one worker (see `session.Gate`).

    Args:
        worker: whose gate it is.
        deployment: digest of the deployment.
        owner: finds the client actor, and starts it: nobody else does if the whole branch has fallen.
        model: what it is called, for people.
    """

    def __init__(self, worker: GenServer, deployment: str, owner: Owner, model: str = "the model") -> None:
        """Begin without limits: the LMs that ask tell them, and the client actor what others have told."""
        self._worker = worker
        self._deployment, self._model = deployment, model
        self._owner = owner
        self._told = Told()
        self._ruled = Limits()
        #: The limits that hold here.
        self.limits = Limits()
        self._kinds: tuple[str, ...] = ()
        self._learnt: float | None = None
        #: Whether everybody has to wait for a turn, and whether some have to: those for whom there are limits.
        self._all, self._some = False, False
        self._last = 0
        self._waiting: dict[int, Waiting] = {}
        self._leasing: asyncio.Task[None] | None = None
        self._woken = asyncio.Event()
        self._asked_at = -math.inf
        self._late = math.inf
        #: Leases that nobody has asked for yet, and when they are looked at.
        self._spares = Spares()
        self._spares_timer: asyncio.TimerHandle | None = None
        self._counts: dict[str, float] = {}
        self._settled: list[Settled] = []
        #: Leases whose requests were begun after their turn, and by how much.
        self._begun_late: list[tuple[int, float]] = []
        self._timer: asyncio.TimerHandle | None = None
        self._noticed = Noticed()
        #: Since when the client actor knows of refusals; and what the provider says is left.
        self._told_refused_at = -math.inf
        self._left: dict[str, tuple[float, float]] = {}

    # --- limits -----------------------------------------------------------------------------------------------------

    def tell(self, limits: Limits) -> bool:
        """Take note of the limits that an LM tells with a call; return whether they are new.

        New ones hold at once, here and soon elsewhere.
        """
        if not self._told.tell(limits, asyncio.get_running_loop().time()):
            return False
        self.join()
        self._settle_limits()
        return True

    def rule(self, message: InForce) -> None:
        """Take over what the client actor says to hold."""
        self._ruled = Limits._make(message.limits)
        self._kinds, self._learnt = message.kinds, message.learnt
        self._settle_limits()

    def leave(self) -> None:
        """Let the client actor know that there is no session here any more."""
        self._give_back(*self._spares.given_up())
        if self._timer is not None or self._settled:
            self._tell()
        self._worker.cast(self._owner.target, Leave(self._worker.ref))

    def _settle_limits(self) -> None:
        self.limits = Limits.smallest((self._ruled, self._told.in_force(asyncio.get_running_loop().time())))
        self._all = self.limits.paced or self._learnt is not None
        self._some = bool(self._kinds)

    def _ages(self) -> Ages:
        now = asyncio.get_running_loop().time()
        self._told.in_force(now)  # forgets the old ones
        return self._told.ages(now)

    def join(self) -> None:
        """Let the client actor know that there is a session here, and what its LMs tell."""
        self._worker.cast(self._owner.target, Join(self._worker.ref, self._ages()))

    def paces(self, user: str | None, tags: Mapping[str, str] | None) -> bool:
        """Tell whether a request has to wait for its turn."""
        return self._all or (self._some and self._is_limited(user, tags))

    def _is_limited(self, user: str | None, tags: Mapping[str, str] | None) -> bool:
        """Tell whether there are limits of one's own for a request."""
        return (user is not None and "user" in self._kinds) or (bool(tags) and "tag" in self._kinds)

    # --- turns ------------------------------------------------------------------------------------------------------

    async def acquire(
        self,
        tokens_in: int,
        tokens_out: int,
        deadline: float,
        user: str | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> int:
        """Wait for this request's turn; return its lease, 0 where nothing is limited.

        Raises:
            RateLimited: the turn comes after the deadline; nothing was asked, nothing is taken from the budget
                but what cannot be given back. Or the request is larger than what a limit ever lets through: it is
                final.
        """
        if not self.paces(user, tags):
            return 0
        loop = asyncio.get_running_loop()
        end = loop.time() + deadline
        check_size(self._model, self.limits, tokens_in, tokens_out)
        self._spares.want(tokens_in, tokens_out)
        if not self._is_limited(user, tags) and (spare := self._spare_lease(tokens_in, tokens_out, end - deadline)):
            return spare
        ask: Ask = (0, tokens_in, tokens_out, 0.0, user, dict(tags) if tags else None)
        while True:
            lease, start, doubt = await self._turn(ask, end)
            passed = False
            try:
                if start > end:
                    raise self._too_late(deadline, start - loop.time())
                if start > loop.time():
                    await asyncio.sleep(start - loop.time())
                late = loop.time() - start
                if late <= self._late:
                    passed = True
                    if late + doubt > LATE_SECONDS:
                        self._begun_late.append((lease, late + doubt))
                    return lease
                # This process was busy: what is sent now would be in another window than the one that was reserved.
            finally:
                if not passed:
                    self._give_back(lease)

    async def _turn(self, ask: Ask, end: float) -> Turn:
        """Return the turn of a request."""
        loop = asyncio.get_running_loop()
        self._last += 1
        number = self._last
        waiting = self._waiting[number] = Waiting(ask, end)
        self._woken.set()
        if self._leasing is None:
            self._leasing = self._worker.spawn(self._lease())
        begun = loop.time()
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(end - begun):
                    await waiting.turn
            if not waiting.has_turn:
                raise self._too_late(end - begun, None)
            return waiting.turn.result()
        except BaseException:
            if waiting.has_turn and waiting.turn.exception() is None:
                self._give_back(waiting.turn.result()[0])
            raise
        finally:
            self._waiting.pop(number, None)
            if waiting.waits:
                waiting.waits_for(None)

    def _too_late(self, seconds: float, retry_after: float | None) -> RateLimited:
        why = self._owner.why
        return told.too_late(self._model, self.limits, self._learnt, seconds, retry_after, why)

    def _spare_lease(self, tokens_in: int, tokens_out: int, now: float) -> int:
        """Return a spare lease for a request; 0: there is none."""
        found = self._spares.take(tokens_in, tokens_out, now)
        if found is None:
            return 0
        lease, age = found
        if age > OLD_SECONDS:
            self._begun_late.append((lease, age))
        if self._leasing is None and self._spares.run_low:
            self._leasing = self._worker.spawn(self._lease())
        return lease

    def _look_at_spares(self) -> None:
        """Give those back that are over, and look again when the next ones are."""
        loop = asyncio.get_running_loop()
        self._give_back(*self._spares.over(loop.time()))
        end, self._spares_timer = self._spares.end, None
        if end < math.inf:
            self._spares_timer = loop.call_at(end + LATE_SECONDS, self._look_at_spares)

    def _give_back(self, *leases: int) -> None:
        if leases:
            self._settled += [(lease, 0, 0, 0) for lease in leases]
            self._tell_soon()

    async def _lease(self) -> None:
        try:
            await self._lease_all()
        finally:
            self._leasing = None

    async def _lease_all(self) -> None:
        loop = asyncio.get_running_loop()
        while self._waiting or self._spares.run_low:
            if (early := self._asked_at + ASK_SECONDS - loop.time()) > 0:
                await asyncio.sleep(early)
            self._woken.clear()
            waiting = dict(self._waiting)
            if not waiting and not self._spares.run_low:
                return
            leased, asked_at = await self._ask(waiting)
            self._late = leased.late
            # When it was that an owner on another node looked at its clock is known no better than that.
            doubt = asked_at - self._asked_at if self._owner.is_far else 0.0
            for number, lease, delay in leased.turns:
                found = waiting.get(number)
                if found is None or found.turn.done() or doubt > FAR_SECONDS:  # who waited has given up, or asks again
                    self._give_back(lease)
                else:
                    found.turn.set_result((lease, asked_at + delay, doubt))
                    self._waiting.pop(number, None)
            for number, retry_after, names in leased.refusals:
                found = waiting.get(number)
                if found is not None and not found.turn.done():
                    found.turn.set_exception(self._refused(retry_after, names))
                    self._waiting.pop(number, None)
            self._spares.fill(leased.spares, self._asked_at, asked_at, leased.late)
            if self._spares_timer is None:
                self._look_at_spares()
            if self._waiting:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(leased.again):
                        await self._woken.wait()

    def _refused(self, retry_after: float | None, names: str) -> RateLimited:
        return told.refused(self._model, self.limits, self._learnt, names, retry_after)

    async def _ask(self, waiting: Mapping[int, Waiting]) -> tuple[Leased, float]:
        loop = asyncio.get_running_loop()
        while True:
            now = self._asked_at = loop.time()
            asks = [
                (number, tokens_in, tokens_out, max(0.0, one.until - now), user, tags)
                for number, one in waiting.items()
                if not one.turn.done()
                for _, tokens_in, tokens_out, _, user, tags in (one.ask,)
            ]
            spare, count, left = self._spares.wanted(self.limits, now, is_learnt=self._learnt is not None)
            self._give_back(*left)
            settled, self._settled = self._settled, []
            late, self._begun_late = self._begun_late, []
            with contextlib.suppress(SupervisorsError):
                lease = Lease(self._worker.ref, self._ages(), asks, settled, late, spare, count)
                asked = self._owner.target
                leased = await self._worker.call(asked, lease)
                if isinstance(leased, Owned):
                    for one in waiting.values() if leased.owner is None else ():
                        one.waits_for(f"a turn of {self._model}: {leased.why}")
                    if await self._owner.heed(leased, asked):
                        self.join()
                    continue
                if leased is not None:  # it has understood
                    return leased, loop.time()
            # What was settled may have been heard: to say it twice does no harm.
            self._settled = settled + self._settled
            await asyncio.sleep(LOOK_SECONDS)  # the client actor is being restarted
            with contextlib.suppress(LMError, SupervisorsError):
                await self._owner.find_anew()

    # --- outcomes ---------------------------------------------------------------------------------------------------

    def report(self, outcome: Outcome) -> None:
        """Count an outcome; that everybody has to wait is told to the other workers at once."""
        kind = "cancelled" if outcome.cancelled else type(outcome.error).__name__ if outcome.error else "answered"
        self._counts[kind] = self._counts.get(kind, 0) + 1
        usage = outcome.usage
        if usage is not None:
            self._counts["tokens"] = self._counts.get("tokens", 0) + usage.total
        if outcome.lease:
            if not outcome.was_made or (outcome.error is not None and not outcome.error.was_sent):
                self._settled.append((outcome.lease, 0, 0, 0))
            elif usage is not None:
                self._settled.append((outcome.lease, 1, usage.input_total, usage.output_total))
            elif isinstance(outcome.error, RateLimited):  # refused: its tokens are not counted there
                self._settled.append((outcome.lease, 1, 0, 0))
            else:
                self._settled.append((outcome.lease, 1, -1, -1))
        if outcome.was_made:
            self._notice(outcome)
        if outcome.pause is not None:
            self._worker.cast(self._owner.target, Pause(self._deployment, outcome.pause, self._worker.ref))
        self._tell_soon()

    def _notice(self, outcome: Outcome) -> None:
        """See whether the provider refuses for speed, and what it says is left."""
        error, headers = outcome.error, outcome.headers
        if headers is not None and (FIRST[0] in headers or FIRST[1] in headers):
            left = remaining(headers, time.time())
            if self._all:
                self._left = left
            elif left.get("requests", (1.0, 0.0))[0] < 1:
                self._refuses(left["requests"][1], 1)
        if error is None:
            if outcome.usage is not None:
                self._noticed.answered(asyncio.get_running_loop().time() - outcome.latency)
        elif self._learnt is None and isinstance(error, RateLimited) and error.retryable is not False:
            now = asyncio.get_running_loop().time()
            if self._noticed.refused(now):
                self._refuses(error.retry_after, outcome.under_way)

    def _refuses(self, retry_after: float | None, under_way: int) -> None:
        """Let the client actor know, once, that the provider refuses for speed: it learns then what it lets through."""
        now = asyncio.get_running_loop().time()
        if self._learnt is None and now - self._told_refused_at > TELL_SECONDS:
            self._told_refused_at = now
            admitted = under_way + self._noticed.admitted(now)
            self._worker.cast(self._owner.target, Refused(self._worker.ref, admitted, retry_after))

    def _tell_soon(self) -> None:
        if self._timer is None:
            seconds = TELL_SECONDS if self._learnt is None else TELL_SECONDS / 2
            self._timer = asyncio.get_running_loop().call_later(seconds, self._tell)

    def _tell(self) -> None:
        if self._timer is not None:  # who leaves does not wait for it
            self._timer.cancel()
            self._timer = None
        counts, self._counts = self._counts, {}
        settled, self._settled = self._settled, []
        late, self._begun_late = self._begun_late, []
        left, self._left = self._left, {}
        self._worker.cast(self._owner.target, Outcomes(self._worker.ref, self._ages(), counts, settled, late, left))
