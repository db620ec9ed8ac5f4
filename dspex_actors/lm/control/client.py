"""The client actor of one LM deployment: the control plane. Owns its budget, pauses and counts for the whole node.

What it takes stands in `messages`; and the call "stats". It follows the limits of its provider and the idle time of
the configuration. No LM call passes through here: workers ask for leases (only
when a limit is set) and report in batches. It ends when no worker has had a session for a while.
"""

from __future__ import annotations

import secrets
import time
from typing import Any, ClassVar

from dspex_actors.foundation.following import ConfigChanged, follow
from dspex_actors.lm.control.budget import Budget, day_of_provider
from dspex_actors.lm.control.circuit_messages import AskProbe, CircuitTold, ProbeEnded
from dspex_actors.lm.control.circuits import CIRCUIT_BREAKERS, DeploymentCircuit
from dspex_actors.lm.control.desk import Desk
from dspex_actors.lm.control.learnt import Learnt
from dspex_actors.lm.control.memory import Memory, clock
from dspex_actors.lm.control.messages import (
    Ages,
    ForgetLearnt,
    HandOver,
    InForce,
    Join,
    Lease,
    Leased,
    Leave,
    Outcomes,
    Owned,
    Pause,
    Refused,
)
from dspex_actors.lm.control.ownership import Ownership
from dspex_actors.lm.control.told import Told
from dspex_actors.lm.deployment import Deployment, Limits
from dspex_actors.observe.reporting import report_from_actor
from supervisors import ChildSpec, Down, GenServer, Ref, Stop
from supervisors.cluster.leases.handle import LeaseEnded

#: The provider that is a node's own.
EMBEDDED = "embedded"
#: The setting that `idle_seconds` follows.
IDLE_TIME = "infrastructure.clients.idle_time"
#: The settings of how rates are kept, and of limits for each user and each tag.
RATE_LIMITERS = "infrastructure.rate_limiters"


def client_name(deployment: str) -> str:
    """Return the registered name of a deployment's client actor, by its digest."""
    return f"client:{deployment[:16]}"


def client_spec(deployment: Deployment) -> ChildSpec:
    """Return the child of the clients' branch that a deployment's client actor is."""
    return spec_of(deployment.model, deployment.digest)


def spec_of(model: str, digest: str) -> ChildSpec:
    """Return it for a deployment's model string and digest."""
    name = client_name(digest)
    return ChildSpec(name, LMClient, args=(model, digest), name=name, restart="transient")


class LMClient(GenServer):
    """Control plane of one deployment. Arguments: its model string, for people, and its digest."""

    #: It looks after itself this often, in seconds: limits that nobody tells any more, and whether it is needed.
    look_seconds: ClassVar[float] = 5.0
    #: Without a worker it ends after so many seconds.
    idle_seconds: float = 60.0

    async def init(self, model: str, deployment: str) -> None:
        """Start without limits: whoever asks tells them. In a cluster one of all gives turns for all."""
        now = clock()
        self._model, self._deployment = model, deployment
        report_from_actor(self)
        self._told = Told()
        self._limits = Limits()
        #: What the configuration allows at most, whatever LMs tell.
        self._allowed = Limits()
        self._personal = {"user": Limits(), "tag": Limits()}
        provider = model.partition("/")[0]
        # Numbers of leases that no owner before this one has given, on whatever node.
        self._budget = Budget(now, secrets.randbits(44) << 18, day_of_provider(provider))
        self._desk = Desk(self._budget)
        self._memory = Memory(self.node["data_dir"], deployment, self.ref)
        for kept, shift in self._memory.used(now, time.time()):
            self._budget.restore(kept, shift)
        self._memory.tidy(time.time())
        self._learnt = Learnt(model, self._budget, self._memory, now, time.time())
        self._workers: set[Ref] = set()
        self._watched: set[Ref] = set()
        self._counts: dict[str, float] = {}
        self._needed = now
        self._warned = False
        self._ownership = Ownership(self, client_name(deployment), deployment, self._budget, self._owner_is)
        self._provider = f"providers.{provider}"
        self._circuit = DeploymentCircuit(self, model, deployment, lambda: self._workers)
        follow(self, self._provider, RATE_LIMITERS, IDLE_TIME, CIRCUIT_BREAKERS)
        self.send_after(self.look_seconds, "look")
        if provider != EMBEDDED:  # that one is each node's own, and free
            await self._ownership.open()

    def handle_call(self, request: Any, caller: Any) -> Any:
        """Answer a lease or show the counts."""
        match request:
            case Lease():
                return self._lease(request) if self._ownership.owns else self._sends_away(request)
            case HandOver():
                return self._ownership.hand_over(request)
            case AskProbe():
                self._join(request.worker)  # the owner before this one knew it: it waits to be told how the probe ends
                return self._circuit.ask(request)
            case "stats":
                return {
                    "model": self._model,
                    "workers": len(self._workers),
                    "limits": self._limits.told,
                    "used": self._budget.used(clock()),
                    "learnt": self._learnt.rate,
                    "waiting": len(self._desk.line),
                    "circuit": self._circuit.stats(),
                    **self._ownership.stats(),
                    **self._counts,
                }
        self._refuse(request)
        return None

    def _lease(self, request: Lease) -> Leased:
        """Give a worker the turns of those who wait with him; what is given is written down before he has it."""
        self._hear(request.told)
        now, wall = clock(), time.time()
        self._watch(request.worker)
        self._budget.buckets.clock(now, wall)
        self._desk.settle(request.settled, request.late, now)
        leased = self._desk.ask(request.worker, request.asks, request.spare, request.count, now)
        self._ownership.keep_days(self._desk.line.wanted, now, wall)
        self._tick(now, wall)
        if leased.turns or leased.spares:
            self._memory.keep_used(self._budget.kept(), now, wall)
        return leased

    def _sends_away(self, request: Lease) -> Owned:
        """Tell a worker who gives turns; what it was given here before is settled."""
        self._hear(request.told)
        self._desk.settle(request.settled, request.late, clock())
        self._join(request.worker)
        return self._ownership.elsewhere()

    def _owner_is(self) -> None:
        """Let the workers here know who gives turns now."""
        if not self._ownership.owns:
            for worker in self._workers:
                self.cast(worker, self._ownership.elsewhere())

    def _tick(self, now: float, wall: float) -> None:
        """Let what is learnt go on, and the workers know when it begins or ends."""
        before = self._learnt.rate
        if self._learnt.tick(now, wall, is_used_up=self._desk.had_to_wait):
            self._desk.had_to_wait = bool(len(self._desk.line))
            if (before is None) != (self._learnt.rate is None):
                self._tell(self._in_force())

    def handle_cast(self, message: Any) -> None:
        """Take in what workers tell."""
        match message:
            case Join(worker, told):
                self._hear(told)
                self._join(worker)
            case Leave(worker):
                self._workers.discard(worker)
            case Outcomes(worker, told, counts, settled, late, left):
                self._hear(told)
                self._join(worker)
                now = clock()
                self._desk.settle(settled, late, now)
                self._budget.correct(left, now)
                self._learnt.count(counts)
                self._tick(now, time.time())
                for name, value in counts.items():
                    self._counts[name] = self._counts.get(name, 0) + value
            case CircuitTold() | ProbeEnded():
                self._circuit.hear(message)
            case Refused(worker, admitted, retry_after):
                self._join(worker)
                if self._ownership.owns and self._learnt.refused(
                    admitted, retry_after, len(self._workers), clock(), time.time()
                ):
                    self._tell(self._in_force())
            case ForgetLearnt():
                self._learnt.forget(clock())
                self._tell(self._in_force())
            case Pause(_, _, origin):
                self._tell(message, origin)
            case _:
                self._refuse(message)

    def handle_info(self, message: Any) -> None:
        """Forget a worker that has ended; take over what the configuration says; look after oneself."""
        match message:
            case Down():
                self._workers.discard(message.ref)
                self._watched.discard(message.ref)
                self._circuit.down(message.ref)
                self._desk.drop(message.ref, clock())
                self._ownership.hear(message)
            case ConfigChanged(path, value):
                self._configure(path, value)
            case LeaseEnded():
                self._ownership.hear(message)
            case "look":
                self._hear(())
                now = clock()
                self._desk.forget(now)
                if self._workers:
                    self._needed = now
                elif now - self._needed > self.idle_seconds:
                    raise Stop("normal")
                self.send_after(self.look_seconds, "look")

    async def terminate(self, reason: Any) -> None:
        """Remember what was learnt last; let go of the limits."""
        self._learnt.close(clock(), time.time())
        await self._ownership.close()

    def _configure(self, path: str, value: Any) -> None:
        section, _, name = path.rpartition(".")
        if path == IDLE_TIME:
            self.idle_seconds = value
        elif section == CIRCUIT_BREAKERS:
            self._circuit.configure(name, value)
        elif section == self._provider and name in Limits._fields:
            self._allowed = self._allowed._replace(**{name: value})
            self._hear(())
        elif path == f"{RATE_LIMITERS}.burst_seconds":
            self._budget.burst(value, clock())
        elif section.rpartition(".")[0] == RATE_LIMITERS and name in Limits._fields:
            kind = section.rpartition(".")[2]
            self._personal[kind] = self._personal[kind]._replace(**{name: value})
            self._budget.personal(kind, self._personal[kind], clock())
            self._tell(self._in_force())

    def _refuse(self, message: Any) -> None:
        """Take note of what is not known here; it ends nobody."""
        self.log.error("an LM client does not know a message", model=self._model, message=repr(message)[:200])

    def _join(self, worker: Ref) -> None:
        self._needed = clock()
        if worker in self._workers:
            return
        self._workers.add(worker)
        self._watch(worker)
        if self._in_force() != InForce(self._deployment, Limits().plain):
            self.cast(worker, self._in_force())
        self._circuit.introduce(worker)
        if not self._ownership.owns and (elsewhere := self._ownership.elsewhere()).owner is not None:
            self.cast(worker, elsewhere)

    def _watch(self, worker: Ref) -> None:
        """Have word of a worker's end: what was reserved for it comes back then."""
        if worker not in self._watched:
            self._watched.add(worker)
            self.monitor(worker)

    def _in_force(self) -> InForce:
        return InForce(self._deployment, self._limits.plain, self._budget.kinds, self._learnt.rate)

    def _hear(self, told: Ages) -> None:
        """Take note of what LMs tell, and let the workers know when other limits hold."""
        now = clock()
        self._told.take(told, now)
        limits = Limits.smallest((self._told.in_force(now), self._allowed))
        if not self._warned and self._told.differ():
            self._warned = True
            self.log.warning(
                "LMs of one deployment tell different limits: the smallest of the last minute holds",
                model=self._model,
                **limits.told,
            )
        if limits == self._limits:
            return
        self._limits = limits
        self._budget.limit(limits, now)
        self._tell(self._in_force())

    def _tell(self, message: Pause | InForce, origin: Ref | None = None) -> None:
        for worker in self._workers:
            if worker != origin:
                self.cast(worker, message)
