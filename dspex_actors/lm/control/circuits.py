"""The circuit of a deployment, as its client actor owns it: who tells it, who asks it, and who is told."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

from dspex_actors.foundation.circuit import Circuit, CircuitSettings, Grant
from dspex_actors.foundation.circuit_told import tell_change
from dspex_actors.lm.control.circuit_messages import AskProbe, CircuitIs, CircuitTold, PlainSettings, ProbeEnded
from supervisors import GenServer, Ref

#: The section of the configuration that says what holds where LMs say nothing.
CIRCUIT_BREAKERS = "infrastructure.circuit_breakers"
#: The same while the configuration has said nothing: its defaults.
DEFAULTS = CircuitSettings(failure_time=0.5)
#: A probe that nobody tells of is granted anew so many seconds after its request must have ended.
SLACK_SECONDS = 5.0


class DeploymentCircuit:
    """The circuit of one deployment.

    Args:
        server: its client actor.
        model: the model string, for people.
        deployment: its digest.
        workers: those that have a session.
    """

    def __init__(self, server: GenServer, model: str, deployment: str, workers: Callable[[], Iterable[Ref]]) -> None:
        """Begin closed."""
        self._server = server
        self._model, self._deployment = model, deployment
        self._workers = workers
        self._circuit = Circuit(DEFAULTS, probes=int(time.monotonic() * 1000))
        self._configured = DEFAULTS
        self._told: PlainSettings = None
        self._holders: dict[int, Ref] = {}
        self._was_answered = False

    def configure(self, name: str, value: Any) -> None:
        """Take over what the configuration says of a setting."""
        self._configured = replace(self._configured, **{name: value})
        self._settle()

    def hear(self, message: CircuitTold | ProbeEnded) -> None:
        """Take in what a worker tells."""
        now = time.monotonic()
        if isinstance(message, CircuitTold):
            self._take(message.settings)
            self._was_answered = self._was_answered or message.answered > 0
            self._circuit.told(
                now,
                message.answered,
                message.failed,
                in_row=message.in_row,
                reason=message.reason,
                epoch=message.epoch,
            )
        else:
            self._holders.pop(message.probe, None)
            if message.outcome == "given up":
                self._given_up(message.probe)
                return
            answered = message.outcome == "answered"
            self._was_answered = self._was_answered or answered
            self._circuit.ended(now, failed=not answered, probe=message.probe, reason=message.reason)
        self._tell()

    def ask(self, message: AskProbe) -> CircuitIs:
        """Say whether a call may go."""
        now = time.monotonic()
        self._take(message.settings)
        self._was_answered = self._was_answered or message.was_answered
        self._circuit.adopt(now, message.epoch, message.failures, message.reason)
        answer = self._circuit.admit(now, message.seconds + SLACK_SECONDS)
        probe = answer.probe if isinstance(answer, Grant) else None
        if probe is not None:
            self._holders[probe] = message.worker
        self._tell(message.worker)
        return replace(self._state(), probe=probe)

    def introduce(self, worker: Ref) -> None:
        """Let a worker know that it is open, if it is."""
        if self._circuit.state != "closed":
            self._server.cast(worker, self._state())

    def down(self, worker: Ref | None) -> None:
        """Take note that a worker has ended: a probe that it had is granted anew."""
        for probe, holder in list(self._holders.items()):
            if holder == worker:
                del self._holders[probe]
                self._given_up(probe)

    def stats(self) -> dict[str, Any]:
        """Return its state as plain data."""
        circuit, now = self._circuit, time.monotonic()
        return {
            "state": circuit.state,
            "failures": circuit.failures,
            "retry_after": circuit.wait(now),
            "reason": circuit.reason or None,
        }

    def _given_up(self, probe: int) -> None:
        if self._circuit.probe == probe:
            self._circuit.given_up(time.monotonic(), probe)
            self._tell_workers()

    def _take(self, told: PlainSettings) -> None:
        if told != self._told:
            self._told = told
            self._settle()

    def _settle(self) -> None:
        # What LMs tell was checked where it was written.
        self._circuit.settings = CircuitSettings.from_dict(self._told or {}, over=self._configured)

    def _state(self) -> CircuitIs:
        circuit = self._circuit
        return CircuitIs(
            self._deployment,
            circuit.state != "closed",
            circuit.epoch,
            circuit.wait(time.monotonic()),
            circuit.failures,
            circuit.reason,
            self._was_answered,
            circuit.probe is not None,
        )

    def _tell(self, origin: Ref | None = None) -> None:
        changes = self._circuit.changes()
        for change in changes:
            tell_change(self._model, change, deployment=self._deployment[:16])
            if change.state == "half_open":
                continue
            log = self._server.log.warning if change.state == "open" else self._server.log.info
            what = {
                "open": "a circuit is open: the deployment is not asked",
                "closed": "a circuit is closed: the deployment is asked again",
            }[change.state]
            log(what, model=self._model, seconds=change.seconds, failures=change.failures, reason=change.reason)
        if changes:
            self._tell_workers(origin)

    def _tell_workers(self, origin: Ref | None = None) -> None:
        state = self._state()
        for worker in self._workers():
            if worker != origin:
                self._server.cast(worker, state)
