"""Small shared values, for a program outside: `DistributedState(node, "rollout")`."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from supervisors.cluster.leases.messages import LEASES, Delete, Put, Read
from supervisors.cluster.leases.outside import ensure_outside
from supervisors.cluster.leases.store import check_lease_name
from supervisors.cluster.telling import Telling
from supervisors.terms.checks import check_count, check_function
from supervisors.terms.errors import CallTimeout
from supervisors.terms.ports import Outside
from supervisors.wire.values import open_value, pack_value

#: What its value is called in the store of leases.
STATE = "state:"
ASK_SECONDS, WATCH_SECONDS, AGAIN_SECONDS = 10.0, 30.0, 0.5
_log = logging.getLogger(__name__)


class DistributedState:
    """A value that all nodes of the cluster share; on a majority's disks. Thread-safe.

    For what is small and changes now and then: each `put` is agreed upon, and a value has at most 64 KB.

    Args:
        node: one of the cluster, or a node alone.
        name: of the value, the same wherever it is used.

    Raises:
        SpecError: `name` is none.
    """

    def __init__(self, node: Outside, name: str) -> None:
        """Ask nothing yet."""
        self._node, self.name = node, check_lease_name(name)

    def __repr__(self) -> str:
        """Return it as it is made."""
        return f"DistributedState({self.name!r})"

    def get(self) -> tuple[Any, int]:
        """Return the value and its version: the newest that anybody was told of; (None, 0) before the first `put`.

        Raises:
            NoMajority: the cluster's store gives no answer.
        """
        return self._opened(self._ask(Read(STATE + self.name)))

    def put(self, value: Any, version: int | None = None) -> int:
        """Set the value; return its new version.

        Args:
            value: what can be sent.
            version: that the value must still have, as `get` returned it; 0: nobody has set it yet. None: any.

        Raises:
            VersionConflict: somebody else has set it meanwhile: read it, and try again.
            SpecError: it has more than 64 KB.
            CallFailed: all values and leases of the cluster have 32 MB.
            NoMajority: the cluster's store gives no answer; the value may have been set.
        """
        check_count("version", version, optional=True)
        return int(self._ask(Put(STATE + self.name, pack_value(value, "value"), version)))

    def delete(self, version: int | None = None) -> None:
        """Delete the value, which `get` then returns as (None, 0); nothing happens where there is none.

        It is kept by each voter until then. Set again, it has a greater version than it ever had.

        Args:
            version: that the value must still have, as `get` returned it. None: any.

        Raises:
            VersionConflict: somebody else has set it meanwhile.
            NoMajority: the cluster's store gives no answer; the value may have been deleted.
        """
        check_count("version", version, optional=True)
        self._ask(Delete(STATE + self.name, version))

    def watch(self, handler: Callable[[Any, int], Any]) -> StateWatch:
        """Have `handler(value, version)` called with each change from now on; several in short order may come as one.

        A value that was deleted is told as (None, 0).

        It is called in a thread of its own; one that is async, in the event loop in which this is called. What it
        raises is logged; after 10 failures in a row it is not called any more.

        Args:
            handler: a function.

        Returns:
            A watch with `cancel()` and `active`.
        """
        check_function("handler", handler)
        return StateWatch(self, handler)

    async def aget(self) -> tuple[Any, int]:
        """As `get`."""
        return await asyncio.to_thread(self.get)

    async def aput(self, value: Any, version: int | None = None) -> int:
        """As `put`."""
        return await asyncio.to_thread(self.put, value, version)

    async def adelete(self, version: int | None = None) -> None:
        """As `delete`."""
        await asyncio.to_thread(self.delete, version)

    def _ask(self, request: Any, timeout: float = ASK_SECONDS) -> Any:
        ensure_outside(self._node)
        return self._node.call(LEASES, request, timeout)

    def _opened(self, found: tuple[bytes | None, int]) -> tuple[Any, int]:
        data, version = found
        return (None if data is None else open_value(data, "value")), version

    def wait(self, version: int, timeout: float = WATCH_SECONDS) -> tuple[Any, int]:
        """Return value and version as soon as the version is another one than this, or the time is up."""
        try:
            return self._opened(self._ask(("wait", STATE + self.name, version, timeout), timeout + 5.0))
        except CallTimeout:
            return self.get()


class StateWatch(Telling):
    """A function that is told of each change of a value; made by `DistributedState.watch`."""

    again_seconds = AGAIN_SECONDS

    def __init__(self, state: DistributedState, handler: Callable[[Any, int], Any]) -> None:
        """Begin with the version as it is now."""
        super().__init__(handler, "the handler", _log, instead="call watch inside one")
        self._state, self._version = state, state.get()[1]
        self._start(f"watch {state.name}")

    def _news(self) -> list[tuple[str, Any, int]]:
        value, version = self._state.wait(self._version)
        if version == self._version:
            return []
        self._version = version
        return [(f"the state {self._state.name}", value, version)]
