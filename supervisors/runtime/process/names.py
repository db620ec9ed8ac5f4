"""How one process registers its own name and looks up those of others."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any

from supervisors.runtime.process.peers import Peers
from supervisors.terms.errors import AlreadyStarted, CallTimeout, NoProcess, ServerExited
from supervisors.terms.reason import NOPROC
from supervisors.terms.ref import Ref
from supervisors.terms.via import Via
from supervisors.wire.values import pack, packed, packed_key, unpack

#: How long a lookup waits for a registry that is being restarted, in seconds.
REGISTRY_SECONDS = 3.0
#: How long it waits for the answer of one that lives; a call's own timeout is over before that.
ANSWER_SECONDS = 30.0
#: A registry that a Via names is looked for so often while it is being restarted, in seconds.
AGAIN_SECONDS = 0.02

Ask = Callable[[Ref, bytes, float], Awaitable[bytes]]


class Names:
    """The registry's client.

    Args:
        registry: the registry as it was when this process began (None: there is none yet).
        ask: makes a packed call.
        peers: sees the holders of names end.
    """

    def __init__(self, registry: Ref | None, ask: Ask, peers: Peers) -> None:
        """Know no name yet."""
        self.registry = registry
        self._ask, self._peers = ask, peers
        self._known: dict[str, Ref] = {}
        self._reachable = asyncio.Event()
        if registry is not None:
            self._reachable.set()

    def known(self, name: str) -> Ref | None:
        """Return who held this name when it was last looked up, if that process lives."""
        return self._known.get(name)

    def moved(self, registry: Ref) -> bool:
        """Take note of where the registry is; return whether it is another one."""
        another = registry != self.registry
        self.registry = registry
        self._reachable.set()
        return another

    async def resolve(self, target: Ref | str | Via) -> Ref:
        """Return the ref of a name.

        Raises:
            NoProcess: nobody is registered under it.
        """
        if isinstance(target, Ref):
            return target
        ref = await self.whereis(target)
        if ref is None:
            raise NoProcess(f"nobody is registered as {str(target)!r}", reason=NOPROC)
        return ref

    async def whereis(self, name: str | Via) -> Ref | None:
        """Return who is registered under a name, from memory if that process still lives.

        Raises:
            NoProcess: a Via's own server is not there.
        """
        if isinstance(name, Via):
            return await self._ask_resolver(name, ("resolve", packed_key(name.key)))  # type: ignore[no-any-return]
        ref = self._known.get(name)
        if ref is None:
            ref = await self.ask(("whereis", name))
            if ref is not None and ref.host == self._peers.host:
                try:
                    self._peers.on_death(ref, lambda dead: self.forget(name, dead))
                except NoProcess:
                    return None
                self._known[name] = ref
        return ref

    async def _ask_resolver(self, via: Via, request: Any, patient: bool = False) -> Any:
        """Ask the server that a Via names; or its successor: these questions may be asked twice."""
        loop = asyncio.get_running_loop()
        give_up, question = loop.time() + ANSWER_SECONDS, pack(request)
        ended: Ref | None = None
        back_by = loop.time() + REGISTRY_SECONDS if patient else 0.0
        while True:
            server = await self.whereis(via.name)
            if server is None or server == ended:
                if loop.time() > back_by:
                    raise NoProcess(f"there is no registry {via.name!r} on this node", reason=NOPROC)
                await asyncio.sleep(AGAIN_SECONDS)
                continue
            try:
                return unpack(await self._ask(server, question, give_up - loop.time()))
            except CallTimeout:
                raise NoProcess(f"the registry {via.name!r} does not answer", reason=NOPROC) from None
            except (NoProcess, ServerExited) as error:
                _refuse_to_repeat(error)
                self.forget(via.name, server)
                ended, back_by = server, loop.time() + REGISTRY_SECONDS

    def forget(self, name: str | Via, ref: Ref) -> None:
        """Look this name up anew the next time, if it is `ref` that is remembered."""
        if isinstance(name, str) and self._known.get(name) == ref:
            del self._known[name]

    async def register(self, name: str | Via, ref: Ref) -> None:
        """Register this process.

        Raises:
            AlreadyStarted: somebody else has the name.
            NoProcess: a Via's own server is not there.
            NotAllowed: it does not register names (a registry with duplicate keys).
        """
        if isinstance(name, Via):
            request = ("register_via", packed_key(name.key), ref, packed(name.value))
            holder = await self._ask_resolver(name, request, patient=True)  # it may be just being restarted
        else:
            holder = await self.ask(("register", name, ref))
        if holder is not None:
            raise AlreadyStarted(f"the name {str(name)!r} is taken by {holder}", ref=holder)

    async def register_again(self, name: str, ref: Ref) -> None:
        """Register this process with a registry that was restarted, however long that takes to answer.

        Raises:
            AlreadyStarted: somebody else has the name by now.
        """
        while True:
            registry = self.registry
            with contextlib.suppress(NoProcess):
                await self.register(name, ref)
                return
            if self.registry != registry:
                return  # another registry yet: its own RegistryIs has begun this anew
            await asyncio.sleep(REGISTRY_SECONDS)

    async def ask(self, request: Any) -> Any:
        """Ask the registry; one that is being restarted is waited for.

        Raises:
            NoProcess: it does not answer.
        """
        loop = asyncio.get_running_loop()
        give_up, question = loop.time() + ANSWER_SECONDS, pack(request)
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(REGISTRY_SECONDS):
                    await self._reachable.wait()
            asked = self.registry
            if asked is None or not self._reachable.is_set() or loop.time() >= give_up:
                raise NoProcess("the registry of this node does not answer", reason=NOPROC)
            try:
                return unpack(await self._ask(asked, question, give_up - loop.time()))
            except CallTimeout:  # it lives: the next lookup may find it faster
                raise NoProcess("the registry of this node does not answer", reason=NOPROC) from None
            except (NoProcess, ServerExited) as error:
                _refuse_to_repeat(error)
                if self.registry == asked:
                    # Its supervisor is restarting it; RegistryIs comes when it is there.
                    self._reachable.clear()


def _refuse_to_repeat(error: NoProcess | ServerExited) -> None:
    """Give up on a question whose server crashed: it may have crashed on it, and its successor would as well.

    Raises:
        NoProcess: it did.
    """
    if isinstance(error, ServerExited) and error.reason is not None and error.reason.kind == "error":
        raise NoProcess(f"the registry crashed while it was asked: {error.reason}", reason=NOPROC) from None
