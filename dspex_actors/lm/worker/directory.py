"""A worker's LMs: one session per deployment, its client actor, and the embedded LM's address."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine, Iterable
from dataclasses import replace
from typing import Any

from dspex_actors.errors import LMError, Overloaded
from dspex_actors.lm.control.client import client_spec
from dspex_actors.lm.control.messages import InForce, Pause
from dspex_actors.lm.deployment import Deployment, Limits
from dspex_actors.lm.reply import LMReply
from dspex_actors.lm.request import LMRequest
from dspex_actors.lm.worker.fallback import what_to_tell, worth_another
from dspex_actors.lm.worker.gate import WorkerGate
from dspex_actors.lm.worker.session import LMSession
from dspex_actors.names import CLIENTS
from supervisors import ChildSpec, GenServer, Ref
from supervisors.errors import AlreadyPresent, AlreadyStarted, NoProcess, ServerExited, SupervisorsError

EMBEDDED = "embedded"
#: How often, and how far apart in seconds, a child that is being restarted (or its whole branch) is looked for.
TRIES, TRY_SECONDS = 250, 0.02
#: A session that nobody has used for so many seconds is closed; it is looked for this often.
IDLE_SECONDS, SWEEP_SECONDS = 120.0, 30.0


class _Slot:
    """A deployment's session in this worker."""

    __slots__ = ("active", "gate", "opening", "spec", "used_at")

    def __init__(self, spec: ChildSpec, gate: WorkerGate, opening: asyncio.Task[LMSession]) -> None:
        #: Of its client actor.
        self.spec = spec
        self.gate = gate
        self.opening = opening
        #: Calls that are under way, and when the last one ended.
        self.active = 0
        self.used_at = 0.0

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

    def __init__(self, worker: GenServer, embedded: dict[str, Any]) -> None:
        """Serve this worker; `embedded` has the settings of the embedded LM, for when it is started."""
        self._embedded_settings = embedded
        self._worker = worker
        self._slots: dict[str, _Slot] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._embedded_ref: Ref | None = None
        self._sweep: asyncio.TimerHandle | None = None

    async def complete(self, request: LMRequest) -> LMReply:
        """Answer one call; when its LM cannot, its fallbacks are asked in order."""
        try:
            return await self._complete(request)
        except LMError as error:
            if not request.lm.fallbacks or not worth_another(error):
                raise
            return await self._fall_back(request, error)

    async def _fall_back(self, request: LMRequest, first: LMError) -> LMReply:
        errors = [first]
        for other in request.lm.fallbacks:
            try:
                reply = await self._complete(replace(request, lm=other))
            except LMError as error:
                errors.append(error)
                if not worth_another(error, fallback=True):
                    break
            else:
                return replace(reply, asked=reply.asked + _asked(errors))
        told = what_to_tell(errors)
        others = [f"{error.provider}/{error.model} {type(error).__name__}" for error in errors if error is not told]
        told.message = f"{told.message}; asked beside it: {', '.join(others)}" if others else told.message
        told.args = (told.message,)
        told.asked = _asked(errors)
        raise told

    async def _complete(self, request: LMRequest) -> LMReply:
        lm = request.lm
        slot = self._slots.get(lm.deployment.digest)
        if slot is None:
            slot = self._open_slot(lm.deployment)
        slot.active += 1
        try:
            if slot.gate.tell(lm.limits):
                slot.limited()
            opening = slot.opening
            session = opening.result() if opening.done() else await asyncio.shield(opening)
            return await session.complete(request.messages, request.params, options=lm.options)
        finally:
            slot.active -= 1
            slot.used_at = asyncio.get_running_loop().time()

    def _open_slot(self, deployment: Deployment) -> _Slot:
        loop = asyncio.get_running_loop()
        spec = client_spec(deployment)
        gate = WorkerGate(self._worker, deployment.digest, lambda: self._child(spec))
        slot = _Slot(spec, gate, loop.create_task(self._open(deployment, spec, gate)))
        self._slots[deployment.digest] = slot
        slot.opening.add_done_callback(lambda task: self._opened(deployment.digest, slot))
        if self._sweep is None:
            self._sweep = loop.call_later(SWEEP_SECONDS, self._sweep_idle)
        return slot

    def _opened(self, digest: str, slot: _Slot) -> None:
        if slot.session is not None:
            slot.gate.join()
            slot.limited()
        elif self._slots.get(digest) is slot:
            del self._slots[digest]  # the next call tries again

    async def _open(self, deployment: Deployment, spec: ChildSpec, gate: WorkerGate) -> LMSession:
        await self._child(spec)
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
                self._start(self._look_after(slot))
        self._sweep = loop.call_later(SWEEP_SECONDS, self._sweep_idle) if self._slots else None

    async def _look_after(self, slot: _Slot) -> None:
        """Have a session's client actor there, and let it know of the session.

        One that was restarted while nobody asked has heard of nobody, and has ended; where no limit is set nobody
        would miss it, and no worker would hear of another one's pauses.
        """
        with contextlib.suppress(LMError, SupervisorsError):
            await self._child(slot.spec)
            slot.gate.join()

    def _start(self, coroutine: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _embedded_url(self) -> str:
        from dspex_actors.embedded.actor import EmbeddedServer

        spec = ChildSpec(EMBEDDED, EmbeddedServer, kwargs=self._embedded_settings, name=EMBEDDED)
        for _ in range(TRIES):
            ref = await self._child(spec)
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

    async def _child(self, spec: ChildSpec) -> Ref:
        """Return a supervised child of the clients' branch, started on first use."""
        for _ in range(TRIES):
            ref = await self._worker.whereis(spec.id)
            if ref is not None:
                return ref
            try:
                ref = await self._worker.start_child(CLIENTS, spec)
            except AlreadyStarted as error:
                ref = error.ref
            except AlreadyPresent:
                # It ended since nobody needed it, or it is being restarted: then it cannot be deleted.
                with contextlib.suppress(SupervisorsError):
                    await self._worker.delete_child(CLIENTS, spec.id)
                    continue
            except (NoProcess, ServerExited):
                ref = None  # it or its branch is being restarted
            except SupervisorsError as error:
                raise Overloaded(f"{spec.id} did not start: {error}") from None
            if ref is not None:
                return ref
            await asyncio.sleep(TRY_SECONDS)
        raise Overloaded(f"{spec.id} did not start")

    def hear(self, message: Pause | InForce) -> None:
        """Take note of what a client actor tells: calls have to wait, or other limits hold."""
        slot = self._slots.get(message.deployment)
        if slot is None:
            return
        if isinstance(message, InForce):
            slot.gate.rule(Limits(*message.limits))
            slot.limited()
        elif slot.session is not None:
            slot.session.pause(message.seconds)

    def down(self, ref: Ref | None) -> None:
        """Take note that a process has ended: the embedded LM will be at another address."""
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
        if self._sweep is not None:
            self._sweep.cancel()
        for slot in self._slots.values():
            if slot.session is not None:
                await slot.session.aclose()


def _asked(errors: Iterable[LMError]) -> int:
    return sum(error.asked or 0 for error in errors)


def _is_embedded(deployment: Deployment) -> bool:
    """Whether a deployment is the node's own LM, at an address that only it knows."""
    return deployment.provider == EMBEDDED and deployment.base_url is None
