"""How a call that has its slot gets its turn under the limits."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from dspex_actors.foundation.telemetry.recorded import LMRequests
from dspex_actors.lm.usage import Usage, longest_reply, prompt_tokens
from dspex_actors.lm.worker.call import Call
from dspex_actors.lm.worker.outcome import Gate, Outcome
from dspex_actors.lm.worker.pauses import Pauses
from dspex_actors.lm.worker.ramp import Ramp

_NOTHING = Usage()


def not_made(lease: int) -> Outcome:
    """Return the outcome of a request that was given up before it began: what was reserved for it goes back."""
    return Outcome(lease, usage=_NOTHING, cancelled=True, was_made=False)


class Turns:
    """The turns of one session's calls.

    Args:
        gate: the limits; None: there are none.
        ramp: spreads the first requests where nothing is limited.
        meter: counts who waited.
        pauses: one that begins while a call waits holds for the call too.
        clock: monotonic seconds.
        sleep: waits so many seconds.
        left: the seconds that a call has left; raises when there are none.
    """

    def __init__(
        self,
        gate: Gate | None,
        ramp: Ramp,
        meter: LMRequests,
        pauses: Pauses,
        clock: Callable[[], float],
        sleep: Callable[[float], Awaitable[object]],
        left: Callable[[Call], float],
    ) -> None:
        """Begin without anybody."""
        self._gate, self._ramp, self._meter, self._pauses = gate, ramp, meter, pauses
        self._clock, self._sleep, self._left = clock, sleep, left

    async def take(self, call: Call) -> int:
        """Wait until a call may make a request; return the lease of what is reserved for it, 0: nothing is."""
        ramp = self._ramp
        while (gate := self._gate) is None or not gate.paces(call.user, call.tags):
            wait = 0.0 if ramp.is_over else ramp.wait(self._clock())
            if wait:
                await self._sleep(min(wait, self._left(call)))
            if not wait or (
                self._clock() >= ramp.held_until and (gate is None or not gate.paces(call.user, call.tags))
            ):
                return 0
        return await self._leased(gate, call)

    async def _leased(self, gate: Gate, call: Call) -> int:
        tokens = prompt_tokens(call.messages), longest_reply(call.params)
        while True:
            lease: int = await self._meter.turn(gate.acquire(*tokens, self._left(call), call.user, call.tags))
            if self._pauses.until <= self._clock():
                return lease
            # Its turn is over when the pause is: it needs another one.
            gate.report(not_made(lease))
            await self._pauses.wait_out(lambda: self._left(call))
