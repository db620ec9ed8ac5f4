"""The client actor of one LM deployment: the control plane. Owns its budget, pauses and counts for the whole node.

What it takes stands in `messages`; and the call "stats". No LM call passes through here: workers ask for leases (only
when a limit is set) and report in batches. It ends when no worker has had a session for a while.
"""

from __future__ import annotations

import time
from typing import Any, ClassVar

from dspex_actors.lm.control.budget import Budget
from dspex_actors.lm.control.messages import Ages, InForce, Join, Lease, Leave, Outcomes, Pause
from dspex_actors.lm.control.told import Told
from dspex_actors.lm.deployment import Deployment, Limits
from supervisors import ChildSpec, Down, GenServer, Ref, Stop


def client_name(deployment: str) -> str:
    """Return the registered name of a deployment's client actor, by its digest."""
    return f"client:{deployment[:16]}"


def client_spec(deployment: Deployment) -> ChildSpec:
    """Return the child of the clients' branch that a deployment's client actor is."""
    name = client_name(deployment.digest)
    return ChildSpec(name, LMClient, args=(deployment.model, deployment.digest), name=name, restart="transient")


class LMClient(GenServer):
    """Control plane of one deployment. Arguments: its model string, for people, and its digest."""

    #: It looks after itself this often, in seconds: limits that nobody tells any more, and whether it is needed.
    look_seconds: ClassVar[float] = 5.0
    #: Without a worker it ends after so many seconds.
    idle_seconds: ClassVar[float] = 60.0

    def init(self, model: str, deployment: str) -> None:
        """Start without limits: whoever asks tells them."""
        now = time.monotonic()
        self._model, self._deployment = model, deployment
        self._told = Told()
        self._limits = Limits()
        self._budget = Budget(None, None, now)
        self._workers: set[Ref] = set()
        self._watched: set[Ref] = set()
        self._counts: dict[str, float] = {}
        self._needed = now
        self._warned = False
        self.send_after(self.look_seconds, "look")

    def handle_call(self, request: Any, caller: Any) -> Any:
        """Answer a lease or show the counts."""
        match request:
            case Lease(tokens, told):
                self._hear(told)
                return self._budget.reserve(tokens, time.monotonic())
            case "stats":
                return {
                    "model": self._model,
                    "workers": len(self._workers),
                    "limits": self._limits._asdict(),
                    **self._counts,
                }
        self._refuse(request)
        return None

    def handle_cast(self, message: Any) -> None:
        """Take in what workers tell."""
        match message:
            case Join(worker, told):
                self._hear(told)
                self._join(worker)
            case Leave(worker):
                self._workers.discard(worker)
            case Outcomes(worker, told, counts, unused):
                self._hear(told)
                self._join(worker)
                self._budget.refund_tokens(unused, time.monotonic())
                for name, value in counts.items():
                    self._counts[name] = self._counts.get(name, 0) + value
            case Pause(_, _, origin):
                self._tell(message, origin)
            case _:
                self._refuse(message)

    def handle_info(self, message: Any) -> None:
        """Forget a worker that has ended; look after oneself."""
        if isinstance(message, Down):
            self._workers.discard(message.ref)
            self._watched.discard(message.ref)
        elif message == "look":
            self._hear(())
            now = time.monotonic()
            if self._workers:
                self._needed = now
            elif now - self._needed > self.idle_seconds:
                raise Stop("normal")
            self.send_after(self.look_seconds, "look")

    def _refuse(self, message: Any) -> None:
        """Take note of what is not known here; it ends nobody."""
        self.log.error("an LM client does not know a message", model=self._model, message=repr(message)[:200])

    def _join(self, worker: Ref) -> None:
        self._needed = time.monotonic()
        if worker in self._workers:
            return
        self._workers.add(worker)
        if worker not in self._watched:
            self._watched.add(worker)
            self.monitor(worker)
        if self._limits != Limits():
            self.cast(worker, InForce(self._deployment, self._limits.plain))

    def _hear(self, told: Ages) -> None:
        """Take note of what LMs tell, and let the workers know when other limits hold."""
        now = time.monotonic()
        self._told.take(told, now)
        limits = self._told.in_force(now)
        if not self._warned and self._told.differ():
            self._warned = True
            self.log.warning(
                "LMs of one deployment tell different limits: the smallest of the last minute holds",
                model=self._model,
                rpm=limits.rpm,
                tpm=limits.tpm,
                max_in_flight=limits.max_in_flight,
            )
        if limits == self._limits:
            return
        self._limits = limits
        self._budget.limit(limits.rpm, limits.tpm, now)
        self._tell(InForce(self._deployment, limits.plain))

    def _tell(self, message: Pause | InForce, origin: Ref | None = None) -> None:
        for worker in self._workers:
            if worker != origin:
                self.cast(worker, message)
