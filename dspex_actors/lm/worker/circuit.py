"""A worker's side of a deployment's circuit: mirrors its state, holds calls back while it is open, tells failures.

Its owner is the deployment's client actor. No message is sent for a call that is answered, and at most twenty a second
for those that fail. While it is open, one call at a time asks the owner whether it may go: it is the probe.
"""

from __future__ import annotations

import asyncio
import contextlib

from dspex_actors.errors import CircuitOpen, LMError
from dspex_actors.foundation.circuit import counts
from dspex_actors.foundation.limits import Limit
from dspex_actors.foundation.operation import breadcrumb
from dspex_actors.lm.attempts import current_ledger
from dspex_actors.lm.control.circuit_messages import AskProbe, CircuitIs, CircuitTold, PlainSettings, ProbeEnded
from dspex_actors.lm.worker import retry
from dspex_actors.lm.worker.call import Call
from dspex_actors.lm.worker.owner import Owner
from supervisors import GenServer
from supervisors.errors import SupervisorsError

#: Failures are told this often, in seconds.
TELL_SECONDS = 0.05
#: A client actor that does not answer is asked again at this interval, in seconds.
LOOK_SECONDS = 0.05
#: A call that others can answer waits so many seconds at most to hear whether it is the probe.
MOVE_ON_SECONDS = 1.0


class WorkerCircuit:
    """The circuit of one deployment in one worker.

    Args:
        worker: whose it is.
        model: the model string, for people.
        deployment: digest of the deployment.
        owner: where the client actor is.
    """

    def __init__(self, worker: GenServer, model: str, deployment: str, owner: Owner) -> None:
        """Begin closed."""
        self._worker = worker
        self._model = model
        self._deployment = deployment
        self._owner = owner
        self.settings: PlainSettings = None
        #: Whether calls may not go.
        self.is_open = False
        #: Changes whenever the circuit opens or closes; what was sent in another says nothing of this one.
        self.epoch = 0
        self._until = 0.0
        self._failures = 0
        self._reason = ""
        self._is_tested = False
        self._was_answered = False
        self._answered = self._failed = self._in_row = 0
        self._last = ""
        self._timer: asyncio.TimerHandle | None = None
        self._changed: asyncio.Future[None] | None = None
        self._waiting = 0
        self._asking: asyncio.Task[None] | None = None
        self._granted: int | None = None

    # --- how requests end -------------------------------------------------------------------------------------------

    def ended(self, error: LMError | None, *, answered: bool, probe: int | None, epoch: int) -> None:
        """Take in how a request ended.

        Args:
            error: what it failed with.
            answered: whether it was; neither: it was given up.
            probe: its number if it was the probe.
            epoch: what `epoch` was when it was sent.
        """
        failed = counts(error)
        if probe is not None:
            reason = error.message if error is not None and failed else ""
            outcome = "failed" if failed else "answered" if answered or _has_answered(error) else "given up"
            self._worker.cast(self._owner.target, ProbeEnded(self._worker.ref, probe, outcome, reason))
        elif failed:
            if epoch == self.epoch and not self.is_open:
                self._failed += 1
                self._in_row += 1
                self._last = "" if error is None else error.message
                self._tell_soon()
        elif answered or _has_answered(error):
            self._answered += 1
            self._in_row = 0
            self._was_answered = True

    def _tell_soon(self) -> None:
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(TELL_SECONDS, self._tell)

    def _tell(self) -> None:
        self._timer = None
        if self._failed and not self.is_open:
            told = CircuitTold(
                self._worker.ref, self.settings, self.epoch, self._answered, self._failed, self._in_row, self._last
            )
            self._worker.cast(self._owner.target, told)
        self._answered = self._failed = self._in_row = 0

    # --- what the owner says ----------------------------------------------------------------------------------------

    def hear(self, state: CircuitIs) -> None:
        """Take over the state that the owner tells."""
        self._was_answered = self._was_answered or state.was_answered
        if state.epoch < self.epoch and state.is_open:
            return  # of an owner that has died
        if state.epoch != self.epoch:
            self._answered = self._failed = self._in_row = 0
        self.is_open, self.epoch = state.is_open, state.epoch
        self._until = asyncio.get_running_loop().time() + state.seconds
        self._failures, self._reason, self._is_tested = state.failures, state.reason, state.is_tested
        self._wake()

    def _wake(self) -> None:
        if self._changed is not None and not self._changed.done():
            self._changed.set_result(None)
        self._changed = None

    # --- who waits --------------------------------------------------------------------------------------------------

    def holds(self, error: LMError) -> bool:
        """Tell whether a call that failed so waits for the circuit, and does not count what failed."""
        return self.is_open and counts(error)

    async def enter(self, call: Call, left: float) -> int | None:
        """Wait until a call may go; return its number if it is the probe.

        A call of a run waits as long as its deadline lets it. One of nobody's run waits for one probe's outcome, and
        only if its deadline lets it; so does one of a run whose LM has never answered anybody: its address may be
        wrong.

        Args:
            call: the call; one that does not wait is told at once that it may not go: others are asked.
            left: seconds that it has left.

        Raises:
            CircuitOpen: it may not go, and when to come again.
            DeadlineExceeded: its time is over.
        """
        loop = asyncio.get_running_loop()
        ledger = current_ledger()
        in_run = ledger is not None
        if ledger is not None:
            ledger.waits_for = f"circuit open: {self._model}"
        if call.held is None:
            call.held = self.epoch
            breadcrumb(f"circuit open: {self._model}", failures=self._failures, reason=self._reason)
        waits = call.waits
        end = loop.time() + (left if waits else min(left, MOVE_ON_SECONDS))
        self._waiting += 1
        try:
            while self.is_open:
                if self._granted is not None:
                    probe, self._granted = self._granted, None
                    return probe
                now = loop.time()
                wait = self._until - now
                if not self._may_wait(call, wait, end - now, waits=waits, in_run=in_run):
                    raise self.refusal()
                if end <= now:
                    raise retry.out_of_time(call.deadline, call.last or self.refusal())
                if wait <= 0 and self._asking is None:
                    self._asking = self._worker.spawn(self._ask(call.timeout))
                await self._change(min(end - now, wait if wait > 0 else end - now))
            call.held = None
            return None
        finally:
            if ledger is not None:
                ledger.waits_for = None
            self._waiting -= 1
            if self._granted is not None and not self._waiting:
                probe, self._granted = self._granted, None  # nobody is there who could be it
                self._worker.cast(self._owner.target, ProbeEnded(self._worker.ref, probe, "given up", ""))

    def _may_wait(self, call: Call, wait: float, left: float, *, waits: bool, in_run: bool) -> bool:
        if not waits:
            return wait <= 0 and left > 0
        has_failed_since = self.epoch != call.held
        if in_run and self._was_answered:
            return True
        return (wait < left or self._is_tested) and not has_failed_since

    def refusal(self) -> CircuitOpen:
        """Return the error of a call that may not go."""
        wait = max(0.0, self._until - asyncio.get_running_loop().time())
        if self._is_tested:
            wait = min(wait, MOVE_ON_SECONDS)
        again = "it is being tried" if self._is_tested else f"it is tried again in {wait:.1f} s"
        return CircuitOpen(
            f"the circuit of {self._model} is open after {self._failures} failures in a row: "
            f"{self._reason or 'it does not answer'}; {again}",
            retry_after=wait,
        )

    async def _change(self, seconds: float) -> None:
        """Wait until something is new, so long at most."""
        if self._changed is None:
            self._changed = asyncio.get_running_loop().create_future()
        limit = Limit(seconds)
        try:
            await asyncio.shield(self._changed)
        except asyncio.CancelledError:
            if not limit.has_ended_it():
                raise
        finally:
            limit.lift()

    async def _ask(self, seconds: float) -> None:
        """Ask the owner for the probe; what it says holds for all who wait."""
        try:
            while True:
                request = AskProbe(
                    self._worker.ref,
                    self.settings,
                    self.epoch,
                    self._failures,
                    self._reason,
                    seconds,
                    self._was_answered,
                )
                with contextlib.suppress(SupervisorsError):
                    answer = await self._worker.call(self._owner.target, request)
                    if isinstance(answer, CircuitIs):
                        break
                if not self._waiting:
                    return  # nobody wants to know any more
                await asyncio.sleep(LOOK_SECONDS)  # the client actor is being restarted
                with contextlib.suppress(LMError, SupervisorsError):
                    await self._owner.find_anew()
        finally:
            self._asking = None
        self._granted = answer.probe
        self.hear(answer)
        if answer.probe is not None and not self._waiting:
            self._granted = None
            self._worker.cast(self._owner.target, ProbeEnded(self._worker.ref, answer.probe, "given up", ""))


def _has_answered(error: LMError | None) -> bool:
    """Tell whether a request that failed shows that the server is well."""
    return error is not None and error.was_sent and error.status is not None and not counts(error)
