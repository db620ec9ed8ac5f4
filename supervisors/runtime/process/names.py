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

#: How long a lookup waits for a registry that is being restarted.
REGISTRY_SECONDS = 3.0

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

    async def _ask_resolver(self, via: Via, request: Any) -> Any:
        """Ask the server that a Via names; once more if it was being restarted."""
        give_up = asyncio.get_running_loop().time() + REGISTRY_SECONDS
        while True:
            try:
                server = await self.resolve(via.name)
            except NoProcess:
                raise NoProcess(f"there is no registry {via.name!r} on this node", reason=NOPROC) from None
            try:
                return unpack(await self._ask(server, pack(request), give_up - asyncio.get_running_loop().time()))
            except (NoProcess, ServerExited):  # both requests may be made twice
                self.forget(via.name, server)
                if await self.whereis(via.name) == server:
                    raise

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
            holder = await self._ask_resolver(name, ("register_via", packed_key(name.key), ref, packed(name.value)))
        else:
            holder = await self.ask(("register", name, ref))
        if holder is not None:
            raise AlreadyStarted(f"the name {str(name)!r} is taken by {holder}", ref=holder)

    async def ask(self, request: Any) -> Any:
        """Ask the registry; one that is being restarted is waited for.

        Raises:
            NoProcess: it does not answer.
        """
        loop = asyncio.get_running_loop()
        give_up = loop.time() + REGISTRY_SECONDS
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(give_up):
                    await self._reachable.wait()
            if loop.time() >= give_up or self.registry is None:
                raise NoProcess("the registry of this node does not answer", reason=NOPROC)
            asked = self.registry
            try:
                return unpack(await self._ask(asked, pack(request), give_up - loop.time()))
            except (NoProcess, ServerExited, CallTimeout):
                if self.registry == asked:
                    # Its supervisor is restarting it; RegistryIs comes when it is there.
                    self._reachable.clear()
