"""What a program calls of a registry: `RegistryHandle` outside, `AsyncRegistryHandle` inside a GenServer.

Both have the same methods; inside a server they are awaited, and the server is the owner unless another is given.
"""
# ruff: noqa: ASYNC109 - `timeout` is the name of the contract

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from supervisors.host import processes
from supervisors.registry.matching import Guard
from supervisors.terms.awaitable import maybe_await
from supervisors.terms.checks import check_ref
from supervisors.terms.errors import NoProcess, SupervisorsError
from supervisors.terms.handles import AsyncHandle, Handle
from supervisors.terms.reason import NOPROC
from supervisors.terms.ref import Ref

Entries = list[tuple[Ref, Any]]

_numbers = itertools.count(1)


class _Requests(ABC):
    """The methods that are one request each; what they return is awaited inside a GenServer."""

    @property
    def _self(self) -> Ref | None:
        """Who is the owner where none is given."""
        return None

    @abstractmethod
    def _ask(self, request: Any, timeout: float | None = 5.0) -> Any:
        """Make one request."""

    def _owner(self, owner: Ref | None) -> Ref:
        found: Any = self._self if owner is None else owner
        check_ref(found, "owner")
        return found  # type: ignore[no-any-return]

    def register(self, key: Any, value: Any = None, *, owner: Ref | None = None) -> Any:
        """Register a process under a key; return its Ref.

        Args:
            key: anything; 1, 1.0 and True are different keys.
            value: kept beside it.
            owner: whose entry it is, and with whom it goes.

        Raises:
            AlreadyRegistered: the keys are unique, and this one has an owner (`.ref`), maybe this one.
            NoProcess: the owner has ended, or there is no such registry.
        """
        return self._ask(("register", key, self._owner(owner), value))

    def unregister(self, key: Any, *, owner: Ref | None = None) -> Any:
        """Remove the owner's entries of a key, if it has any."""
        return self._ask(("unregister", key, self._owner(owner)))

    def unregister_match(
        self, key: Any, pattern: Any, guards: Iterable[Guard] = (), *, owner: Ref | None = None
    ) -> Any:
        """Remove those of the owner's entries of a key whose value fits a pattern (registry/matching.py)."""
        return self._ask(("unregister_match", key, self._owner(owner), pattern, list(guards)))

    def lookup(self, key: Any) -> Any:
        """Return (owner, value) of each entry of a key, oldest first."""
        return self._ask(("lookup", key))

    def keys(self, owner: Ref | None = None) -> Any:
        """Return the keys of an owner; one that it has n times comes n times."""
        return self._ask(("keys", self._owner(owner)))

    def values(self, key: Any, owner: Ref | None = None) -> Any:
        """Return the values of an owner's entries of a key."""
        return self._ask(("values", key, self._owner(owner)))

    def count(self) -> Any:
        """Return how many entries there are."""
        return self._ask(("count",))

    def match(self, key: Any, pattern: Any, guards: Iterable[Guard] = ()) -> Any:
        """Return (owner, value) of each entry of a key whose value fits a pattern (registry/matching.py)."""
        return self._ask(("match", key, pattern, list(guards)))

    def count_match(self, key: Any, pattern: Any, guards: Iterable[Guard] = ()) -> Any:
        """Return how many entries of a key have a value that fits a pattern."""
        return self._ask(("count_match", key, pattern, list(guards)))

    def select(self, pattern: Any, guards: Iterable[Guard] = (), body: Any = None) -> Any:
        """Return what fits among all entries.

        Args:
            pattern: of (key, owner, value).
            guards: narrow it down.
            body: what to return for each, with variables of the pattern; None: (key, owner, value).
        """
        return self._ask(("select", pattern, list(guards), body))


class RegistryHandle(Handle, _Requests):
    """A registry, for a program outside: `RegistryHandle(node, "reg")`. Thread-safe."""

    def _ask(self, request: Any, timeout: float | None = 5.0) -> Any:
        try:
            return self._node.call(self._target, request, timeout=timeout)
        except NoProcess:
            if isinstance(self._target, Ref) or self._node.whereis(self._target) is not None:
                raise
            raise _unknown(self._target) from None

    def update_value(self, key: Any, function: Callable[[Any], Any], *, owner: Ref | None = None) -> tuple[Any, Any]:
        """Fail, since an entry is changed by its owner alone, which is a server: `AsyncRegistryHandle.update_value`.

        Raises:
            NotAllowed: always; a program outside owns nothing.
        """
        old = self._ask(("value", key, self._owner(owner)))
        new = function(old)
        self._ask(("update_value", key, self._owner(owner), new))
        return new, old

    def dispatch(self, key: Any, function: Callable[[Entries], Any], *, parallel: bool = False) -> None:
        """Call `function` here with the entries of a key; not at all when there are none.

        Args:
            key: whose entries.
            function: gets a list of (owner, value).
            parallel: call it once per entry, in threads, instead of once with all.
        """
        entries: Entries = self.lookup(key)
        if parallel and len(entries) > 1:
            with ThreadPoolExecutor() as threads:
                list(threads.map(function, [[entry] for entry in entries]))
        elif entries:
            function(entries)

    @contextlib.contextmanager
    def lock(self, key: Any, timeout: float | None = None) -> Iterator[None]:
        """Hold the lock of a key in a `with` block; it is free again when this program dies.

        Args:
            key: which lock; it need not be registered.
            timeout: seconds to wait for it; None waits without end.

        Raises:
            CallTimeout: it was not free in time.
        """
        # This program as the registry can watch it: a process of its host that has no mailbox.
        holder = Ref(
            self._node.info["address"].rpartition(":")[0], 0, os.getpid(), processes.born(os.getpid()), "program"
        )
        number = (os.urandom(8), next(_numbers))
        try:
            self._ask(("lock", key, holder, number), timeout)
            yield
        except BaseException:
            with contextlib.suppress(SupervisorsError):  # the first error is the one to be seen
                self._node.cast(self._target, ("unlock", key, holder, number))
            raise
        self._node.cast(self._target, ("unlock", key, holder, number))


class AsyncRegistryHandle(AsyncHandle, _Requests):
    """A registry, inside a GenServer: `AsyncRegistryHandle(self, "reg")`."""

    @property
    def _self(self) -> Ref:
        return self._server.ref

    async def _ask(self, request: Any, timeout: float | None = 5.0) -> Any:
        try:
            return await self._server.call(self._target, request, timeout=timeout)
        except NoProcess:
            if isinstance(self._target, Ref) or await self._server.whereis(self._target) is not None:
                raise
            raise _unknown(self._target) from None

    async def update_value(
        self, key: Any, function: Callable[[Any], Any], *, owner: Ref | None = None
    ) -> tuple[Any, Any]:
        """Replace this server's value by `function(value)`, which runs here; return (new, old).

        Raises:
            NotAllowed: another owner is given, this server does not own the key, or keys are not unique.
        """
        old = await self._ask(("value", key, self._owner(owner)))
        new = function(old)
        await self._ask(("update_value", key, self._owner(owner), new))
        return new, old

    async def dispatch(self, key: Any, function: Callable[[Entries], Any], *, parallel: bool = False) -> None:
        """Call `function`, which may be async, here; `parallel` runs it for all entries at once."""
        entries: Entries = await self.lookup(key)
        if parallel:
            await asyncio.gather(*(maybe_await(function([entry])) for entry in entries))
        elif entries:
            await maybe_await(function(entries))

    @contextlib.asynccontextmanager
    async def lock(self, key: Any, timeout: float | None = None) -> AsyncIterator[None]:
        """Hold the lock of a key in an `async with` block; it is free again when this server dies."""
        number = (0, next(_numbers))
        try:
            await self._ask(("lock", key, self._self, number), timeout)
            yield
        finally:
            self._server.cast(self._target, ("unlock", key, self._self, number))


def _unknown(name: Any) -> NoProcess:
    return NoProcess(f"there is no registry {str(name)!r} on this node", reason=NOPROC)
