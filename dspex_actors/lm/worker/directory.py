"""A worker's LMs: one session per deployment, its client actor, and the embedded LM's address."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine
from contextvars import Context
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dspex_actors.errors import LMError, Overloaded
from dspex_actors.foundation.operation import breadcrumb
from dspex_actors.lm.attempts import current_ledger
from dspex_actors.lm.batches.messages import BatchNews, InBatch
from dspex_actors.lm.control.circuit_messages import CircuitIs
from dspex_actors.lm.control.messages import InForce, Owned, Pause
from dspex_actors.lm.control.starting import TRIES, TRY_SECONDS, client_child
from dspex_actors.lm.deployment import Deployment
from dspex_actors.lm.reply import LMReply
from dspex_actors.lm.request import LMRequest
from dspex_actors.lm.told import tell_fallback
from dspex_actors.lm.worker.caching import AnswerCache
from dspex_actors.lm.worker.circuit import WorkerCircuit
from dspex_actors.lm.worker.fallback import Candidates
from dspex_actors.lm.worker.gate import WorkerGate
from dspex_actors.lm.worker.owner import Owner
from dspex_actors.lm.worker.session import LMSession
from supervisors import ChildSpec, GenServer, Ref
from supervisors.errors import NoProcess, ServerExited, SupervisorsError

if TYPE_CHECKING:
    from dspex_actors.lm.worker.batched import Batched

EMBEDDED = "embedded"
#: A session that nobody has used for so many seconds is closed; it is looked for this often.
IDLE_SECONDS, SWEEP_SECONDS = 120.0, 30.0


class _Slot:
    """A deployment's session in this worker."""

    __slots__ = ("active", "circuit", "gate", "is_unsure", "opening", "owner", "used_at")

    def __init__(
        self, owner: Owner, gate: WorkerGate, circuit: WorkerCircuit, opening: asyncio.Task[LMSession]
    ) -> None:
        #: Its client actor.
        self.owner = owner
        self.gate = gate
        self.circuit = circuit
        self.opening = opening
        #: Calls that are under way, and when the last one ended.
        self.active = 0
        self.used_at = 0.0
        #: Whether the client actor may be gone: it is looked for when there is a call again.
        self.is_unsure = False

    @property
    def session(self) -> LMSession | None:
        """The session; None while it is being opened, or if it could not be."""
        opening = self.opening
        ready = opening.done() and not opening.cancelled() and opening.exception() is None
        return opening.result() if ready else None

    def limited(self) -> None:
        """Let the session know how many requests may be under way."""
        session = self.session
        if session is not None:
            session.resize(self.gate.limits.max_in_flight)


class Directory:
    """Finds or makes what an LM call needs; used by the worker's loop only."""

    def __init__(self, worker: GenServer, embedded: dict[str, Any], workers: int = 1) -> None:
        """Serve this worker, one of so many; `embedded` has the settings of the embedded LM, for when it is started."""
        #: The answers that are known here.
        self.cache = AnswerCache(Path(worker.node["data_dir"]), workers)
        #: Runs that are coordinated on another node and work here → their evaluators.
        self.coordinators: dict[str, Ref] = {}
        self._embedded_settings = embedded
        self._worker = worker
        self._slots: dict[str, _Slot] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._embedded_ref: Ref | None = None
        self._batched: Batched | None = None
        self._sweep: asyncio.TimerHandle | None = None

    async def complete(self, request: LMRequest) -> LMReply:
        """Answer one call; when its LM cannot, its fallbacks are asked in order."""
        if not request.lm.others:
            return await self._complete(request)
        try:
            return await self._complete(request, waits=False)
        except LMError as error:
            if _is_seen(request):
                raise
            return await self._fall_back(request, error)

    async def _fall_back(self, request: LMRequest, first: LMError) -> LMReply:
        candidates = Candidates(request.lm, first)
        while not _is_seen(request) and (other := candidates.next()) is not None:
            failed = candidates.errors[-1]
            breadcrumb(
                f"fallback: {other.deployment.provider}/{other.deployment.model_name} is asked",
                instead_of=f"{failed.provider}/{failed.model}",
                error=type(failed).__name__,
            )
            try:
                reply = await self._complete(replace(request, lm=other), waits=candidates.is_last_hope)
            except LMError as error:
                candidates.failed(error)
            else:
                asked = reply.asked + candidates.asked
                if other is request.lm:
                    return replace(reply, asked=asked)
                tell_fallback(request.lm.deployment.model, other.deployment.model, first)
                return replace(reply, asked=asked, fallback=candidates.why)
        raise candidates.what_to_tell()

    async def _complete(self, request: LMRequest, *, waits: bool = True) -> LMReply:
        ledger = current_ledger()
        if ledger is not None and ledger.batch is not None and request.lm.model_type != "embeddings":
            return await self._in_batches().complete(request, ledger)
        ask = self._ask if waits else self._ask_unless_away
        if request.lm.options.cache and not _is_embedded(request.lm.deployment):  # that one learns, and is free
            return await self.cache.complete(request, ask)
        return await ask(request)

    def _in_batches(self) -> Batched:
        if self._batched is None:
            from dspex_actors.lm.worker.batched import Batched

            self._batched = Batched(self._worker, self.cache)
        return self._batched

    async def _ask_unless_away(self, request: LMRequest) -> LMReply:
        return await self._ask(request, waits=False)

    async def _ask(self, request: LMRequest, *, waits: bool = True) -> LMReply:
        lm = request.lm
        slot = self._slots.get(lm.deployment.digest)
        if slot is None:
            slot = self._open_slot(lm.deployment)
        slot.active += 1
        if slot.is_unsure:
            self._find_owner(slot)
        try:
            if slot.gate.tell(lm.limits):
                slot.limited()
            opening = slot.opening
            session = opening.result() if opening.done() else await asyncio.shield(opening)
            whose, sink = (request.user, request.tags), request.sink
            circuit = None
            if lm.circuit is not False and not _is_embedded(
                lm.deployment
            ):  # that one is the node's: it is back at once
                circuit = slot.circuit
                circuit.settings = lm.circuit
            return await session.complete(
                request.messages,
                request.params,
                options=lm.options,
                whose=whose,
                model_type=lm.model_type,
                sink=sink,
                circuit=circuit,
                waits=waits,
            )
        finally:
            slot.active -= 1
            slot.used_at = asyncio.get_running_loop().time()

    def _open_slot(self, deployment: Deployment) -> _Slot:
        loop = asyncio.get_running_loop()
        owner = Owner(self._worker, deployment, self.coordinators)
        gate = WorkerGate(self._worker, deployment.digest, owner, deployment.model)
        circuit = WorkerCircuit(self._worker, deployment.model, deployment.digest, owner)
        slot = _Slot(owner, gate, circuit, loop.create_task(self._open(deployment, owner, gate)))
        self._slots[deployment.digest] = slot
        slot.opening.add_done_callback(lambda task: self._opened(deployment.digest, slot))
        if self._sweep is None:
            self._sweep = loop.call_later(SWEEP_SECONDS, self._sweep_idle, context=Context())
        return slot

    def _opened(self, digest: str, slot: _Slot) -> None:
        if slot.session is not None:
            slot.gate.join()
            slot.limited()
        elif self._slots.get(digest) is slot:
            del self._slots[digest]  # the next call tries again

    async def _open(self, deployment: Deployment, owner: Owner, gate: WorkerGate) -> LMSession:
        await owner.find()
        url = await self._embedded_url() if _is_embedded(deployment) else None
        return LMSession(deployment, base_url_override=url, gate=gate)

    def _sweep_idle(self) -> None:
        """Close the sessions that nobody has used for a while; see to the client actors of the others."""
        loop = asyncio.get_running_loop()
        for digest, slot in list(self._slots.items()):
            session = slot.session
            if session is not None and not slot.active and loop.time() - slot.used_at > IDLE_SECONDS:
                del self._slots[digest]
                slot.gate.leave()
                self._start(session.aclose())
            elif session is not None:
                self._find_owner(slot)
        self._sweep = loop.call_later(SWEEP_SECONDS, self._sweep_idle, context=Context()) if self._slots else None

    def _find_owner(self, slot: _Slot) -> None:
        """Look after a session's client actor; after one of another node once there are calls.

        Else a hundred nodes would each start one, and a server of leases, when a run that they worked for is over.
        """
        slot.is_unsure = slot.owner.is_far and not slot.active
        if not slot.is_unsure:
            self._start(self._look_after(slot))

    async def _look_after(self, slot: _Slot) -> None:
        """Have a session's client actor there, and let it know of the session.

        One that was restarted while nobody asked has heard of nobody, and has ended; where no limit is set nobody
        would miss it, and no worker would hear of another one's pauses.
        """
        with contextlib.suppress(LMError, SupervisorsError):
            await slot.owner.find()
            slot.gate.join()

    def _start(self, coroutine: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _embedded_url(self) -> str:
        from dspex_actors.embedded.actor import EmbeddedServer

        spec = ChildSpec(EMBEDDED, EmbeddedServer, kwargs=self._embedded_settings, name=EMBEDDED)
        for _ in range(TRIES):
            ref = await client_child(self._worker, spec)
            try:
                url: str = await self._worker.call(ref, "base_url")
            except (NoProcess, ServerExited):
                await asyncio.sleep(TRY_SECONDS)  # it has just died
                continue
            if ref != self._embedded_ref:
                self._embedded_ref = ref
                self._worker.monitor(ref)
            return url
        raise Overloaded("the embedded LM dies again and again: see `dspex logs`")

    def hear(self, message: Pause | InForce | Owned | CircuitIs | InBatch | BatchNews) -> None:
        """Take note of what a client actor tells: calls have to wait, or other limits hold; or of how batches stand."""
        if isinstance(message, InBatch | BatchNews):
            self._in_batches().hear(message)
            return
        slot = self._slots.get(message.deployment)
        if slot is None:
            return
        if isinstance(message, InForce):
            slot.gate.rule(message)
            slot.limited()
        elif isinstance(message, Owned):
            if slot.owner.moved(message):
                slot.gate.join()
        elif isinstance(message, CircuitIs):
            slot.circuit.hear(message)
        elif slot.session is not None:
            slot.session.pause(message.seconds)

    def in_flight(self) -> dict[str, int]:
        """Return how many requests are under way, by the first 16 characters of the deployment's digest."""
        found = {digest[:16]: slot.session for digest, slot in self._slots.items()}
        return {digest: session.in_flight for digest, session in found.items() if session is not None}

    def down(self, ref: Ref | None) -> None:
        """Take note that a process has ended: the embedded LM will be at another address, or an owner elsewhere."""
        for slot in self._slots.values():
            if slot.owner.was(ref):
                self._find_owner(slot)
        if ref is not None and ref == self._embedded_ref:
            self._embedded_ref = None
            self._start(self._move_embedded())

    async def _move_embedded(self) -> None:
        """Send the calls of the embedded LM, those under way too, to where it is now."""
        try:
            url = await self._embedded_url()
        except (LMError, SupervisorsError):
            # The session is opened anew by the next call, which says why that is not possible.
            for digest, session in self._embedded():
                del self._slots[digest]
                await session.aclose()
            return
        for _, session in self._embedded():
            session.move(url)

    def _embedded(self) -> list[tuple[str, LMSession]]:
        found = [(digest, slot.session) for digest, slot in self._slots.items()]
        return [(digest, session) for digest, session in found if session and _is_embedded(session.deployment)]

    async def aclose(self) -> None:
        """Close all sessions."""
        self.cache.close()
        if self._sweep is not None:
            self._sweep.cancel()
        for slot in self._slots.values():
            if slot.session is not None:
                await slot.session.aclose()


def _is_seen(request: LMRequest) -> bool:
    """Whether pieces of an answer were given: what was seen is not said again by another."""
    return request.sink is not None and request.sink.has_given


def _is_embedded(deployment: Deployment) -> bool:
    """Whether a deployment is the node's own LM, at an address that only it knows."""
    return deployment.provider == EMBEDDED and deployment.base_url is None
