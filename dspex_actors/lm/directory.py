"""A worker's LMs: one session per LM, its client actor, and the embedded LM's address."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

from dspex_actors.errors import LMError, Overloaded
from dspex_actors.lm.client import LMClient, client_name
from dspex_actors.lm.fallback import candidates, worth_another
from dspex_actors.lm.lm import LM
from dspex_actors.lm.reply import LMReply
from dspex_actors.lm.session import LMSession
from dspex_actors.lm.worker_gate import WorkerGate
from dspex_actors.tree_names import CLIENTS
from supervisors import ChildSpec, GenServer, Ref
from supervisors.errors import AlreadyPresent, AlreadyStarted, SupervisorsError

EMBEDDED = "embedded"


class Directory:
    """Finds or makes what an LM call needs; used by the worker's loop only."""

    def __init__(self, worker: GenServer, embedded: dict[str, Any]) -> None:
        """Serve this worker; `embedded` has the settings of the embedded LM, for when it is started."""
        self._embedded_settings = embedded
        self._worker = worker
        self._sessions: dict[str, asyncio.Task[LMSession]] = {}
        self._embedded: set[str] = set()
        self._embedded_ref: Ref | None = None

    async def complete(self, lm: LM, messages: list[dict[str, Any]], params: dict[str, Any]) -> LMReply:
        """Answer one call; when its LM cannot, its fallbacks are asked in order."""
        try:
            return await self._complete(lm, messages, params)
        except LMError as error:
            if not lm.fallbacks:
                raise
            return await self._fall_back(lm, messages, params, error)

    async def _fall_back(
        self, lm: LM, messages: list[dict[str, Any]], params: dict[str, Any], error: LMError
    ) -> LMReply:
        asked = error.asked or 0
        for other in candidates(lm):
            if not worth_another(error):
                break
            try:
                reply = await self._complete(other, messages, params)
            except LMError as next_error:
                error = next_error
                asked += error.asked or 0
            else:
                return replace(reply, asked=reply.asked + asked)
        error.asked = asked
        raise error

    async def _complete(self, lm: LM, messages: list[dict[str, Any]], params: dict[str, Any]) -> LMReply:
        identity = lm.identity()
        opening = self._sessions.get(identity)
        if opening is None:
            opening = self._sessions[identity] = asyncio.get_running_loop().create_task(self._open(lm))
            opening.add_done_callback(lambda task: self._opened(identity, task))
        session = opening.result() if opening.done() else await asyncio.shield(opening)
        return await session.complete(messages, params)

    def _opened(self, identity: str, task: asyncio.Task[LMSession]) -> None:
        if task.cancelled() or task.exception() is not None:
            self._sessions.pop(identity, None)  # the next call tries again

    async def _open(self, lm: LM) -> LMSession:
        identity = lm.identity()
        name = client_name(identity)
        await self._child(ChildSpec(name, LMClient, args=(lm.to_dict(),), name=name))
        gate = WorkerGate(self._worker, lm)
        url = None
        if lm.provider == EMBEDDED and lm.base_url is None:
            url = await self._embedded_url()
            self._embedded.add(identity)
        return LMSession(lm, base_url_override=url, gate=gate)

    async def _embedded_url(self) -> str:
        from dspex_actors.embedded.actor import EmbeddedServer

        ref = await self._child(ChildSpec(EMBEDDED, EmbeddedServer, kwargs=self._embedded_settings, name=EMBEDDED))
        if ref != self._embedded_ref:
            self._embedded_ref = ref
            self._worker.monitor(ref)
        return await self._worker.call(ref, "base_url")  # type: ignore[no-any-return]

    async def _child(self, spec: ChildSpec) -> Ref:
        """Return a supervised child of the clients' branch, started on first use."""
        for _ in range(50):
            ref = await self._worker.whereis(spec.id)
            if ref is not None:
                return ref
            try:
                ref = await self._worker.start_child(CLIENTS, spec)
            except AlreadyStarted as error:
                ref = error.ref
            except AlreadyPresent:
                ref = None  # being restarted
            except SupervisorsError as error:
                raise Overloaded(f"{spec.id} did not start: {error}") from None
            if ref is not None:
                return ref
            await asyncio.sleep(0.02)
        raise Overloaded(f"{spec.id} did not start")

    def pause(self, identity: str, seconds: float) -> None:
        """Hold back the calls to an LM, as its provider asked another worker to."""
        opening = self._sessions.get(identity)
        if opening is not None and opening.done():
            opening.result().pause(seconds)

    def down(self, ref: Ref | None) -> None:
        """Take note that a process has ended: the embedded LM's address is no longer good, a client will be another."""
        if ref is not None and ref == self._embedded_ref:
            self._embedded_ref = None
            for identity in self._embedded:
                self._sessions.pop(identity, None)
            self._embedded.clear()

    async def aclose(self) -> None:
        """Close all sessions."""
        for opening in list(self._sessions.values()):
            if opening.done() and not opening.cancelled() and opening.exception() is None:
                await opening.result().aclose()
