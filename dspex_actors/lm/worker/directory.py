"""A worker's LMs: one session per LM, its client actor, and the embedded LM's address."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

from dspex_actors.errors import LMError, Overloaded
from dspex_actors.lm.control.client import LMClient, client_name
from dspex_actors.lm.lm import LM
from dspex_actors.lm.reply import LMReply
from dspex_actors.lm.request import LMRequest
from dspex_actors.lm.worker.fallback import candidates, worth_another
from dspex_actors.lm.worker.gate import WorkerGate
from dspex_actors.lm.worker.session import LMSession
from dspex_actors.names import CLIENTS
from supervisors import ChildSpec, GenServer, Ref
from supervisors.errors import AlreadyPresent, AlreadyStarted, NoProcess, ServerExited, SupervisorsError

EMBEDDED = "embedded"
#: How often, and how far apart in seconds, a child that is being restarted (or its whole branch) is looked for.
TRIES, TRY_SECONDS = 250, 0.02


class Directory:
    """Finds or makes what an LM call needs; used by the worker's loop only."""

    def __init__(self, worker: GenServer, embedded: dict[str, Any]) -> None:
        """Serve this worker; `embedded` has the settings of the embedded LM, for when it is started."""
        self._embedded_settings = embedded
        self._worker = worker
        self._sessions: dict[str, asyncio.Task[LMSession]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._embedded_ref: Ref | None = None

    async def complete(self, request: LMRequest) -> LMReply:
        """Answer one call; when its LM cannot, its fallbacks are asked in order."""
        try:
            return await self._complete(request)
        except LMError as error:
            if not request.settings["fallbacks"]:
                raise
            return await self._fall_back(request, error)

    async def _fall_back(self, request: LMRequest, error: LMError) -> LMReply:
        asked = error.asked or 0
        for other in candidates(LM.from_dict(request.settings)):
            if not worth_another(error):
                break
            try:
                reply = await self._complete(other.request(request.messages, request.params))
            except LMError as next_error:
                error = next_error
                asked += error.asked or 0
            else:
                return replace(reply, asked=reply.asked + asked)
        error.asked = asked
        raise error

    async def _complete(self, request: LMRequest) -> LMReply:
        identity = request.identity
        opening = self._sessions.get(identity)
        if opening is None:
            opening = self._sessions[identity] = asyncio.get_running_loop().create_task(self._open(request.settings))
            opening.add_done_callback(lambda task: self._opened(identity, task))
        session = opening.result() if opening.done() else await asyncio.shield(opening)
        return await session.complete(request.messages, request.params)

    def _opened(self, identity: str, task: asyncio.Task[LMSession]) -> None:
        if task.cancelled() or task.exception() is not None:
            self._sessions.pop(identity, None)  # the next call tries again

    async def _open(self, settings: dict[str, Any]) -> LMSession:
        lm = LM.from_dict(settings)
        name = client_name(lm.identity())
        spec = ChildSpec(name, LMClient, args=(settings,), name=name)
        await self._child(spec)
        gate = WorkerGate(self._worker, lm, lambda: self._child(spec))
        url = await self._embedded_url() if _is_embedded(lm) else None
        return LMSession(lm, base_url_override=url, gate=gate)

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
            except (AlreadyPresent, NoProcess, ServerExited):
                ref = None  # it or its branch is being restarted
            except SupervisorsError as error:
                raise Overloaded(f"{spec.id} did not start: {error}") from None
            if ref is not None:
                return ref
            await asyncio.sleep(TRY_SECONDS)
        raise Overloaded(f"{spec.id} did not start")

    def pause(self, identity: str, seconds: float) -> None:
        """Hold back the calls to an LM, as its provider asked another worker to."""
        for known, session in self._ready():
            if known == identity:
                session.pause(seconds)

    def down(self, ref: Ref | None) -> None:
        """Take note that a process has ended: the embedded LM will be at another address."""
        if ref is not None and ref == self._embedded_ref:
            self._embedded_ref = None
            task = asyncio.get_running_loop().create_task(self._move_embedded())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _move_embedded(self) -> None:
        """Send the calls of the embedded LM, those under way too, to where it is now."""
        try:
            url = await self._embedded_url()
        except (LMError, SupervisorsError):
            # The sessions are opened anew by the next calls, which say why that is not possible.
            for identity, session in self._ready():
                if _is_embedded(session.lm):
                    del self._sessions[identity]
                    await session.aclose()
            return
        for _, session in self._ready():
            if _is_embedded(session.lm):
                session.move(url)

    def _ready(self) -> list[tuple[str, LMSession]]:
        return [
            (identity, opening.result())
            for identity, opening in self._sessions.items()
            if opening.done() and not opening.cancelled() and opening.exception() is None
        ]

    async def aclose(self) -> None:
        """Close all sessions."""
        for _, session in self._ready():
            await session.aclose()


def _is_embedded(lm: LM) -> bool:
    """Whether an LM is the node's own, at an address that only it knows."""
    return lm.provider == EMBEDDED and lm.base_url is None
