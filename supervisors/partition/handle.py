"""What a program calls of a partition supervisor: `PartitionSupervisor` outside, `AsyncPartitionSupervisor` inside."""

from __future__ import annotations

from typing import Any

from supervisors.supervisor.routing import canonical
from supervisors.terms.checks import check_count
from supervisors.terms.errors import NoProcess
from supervisors.terms.handles import AsyncHandle, Handle
from supervisors.terms.ports import supervise
from supervisors.terms.reason import NOPROC
from supervisors.terms.ref import Ref
from supervisors.terms.showing import shown


class PartitionSupervisor(Handle):
    """A partition supervisor, for a program outside: `PartitionSupervisor(node, "shards")`. Thread-safe."""

    def ref(self, key: Any) -> Ref:
        """Return the process that a key belongs to.

        Raises:
            NoProcess: no such supervisor, it has 0 partitions, or the copy is being restarted.
            SpecError: the key is not plain data.
        """
        canonical(key)
        return _found(self._node.supervise(self._target, "resolve", key), key)

    def partitions(self) -> int:
        """Return how many there are now."""
        return self._node.supervise(self._target, "partitions", None)  # type: ignore[no-any-return]

    def resize(self, partitions: int) -> int:
        """Stop or start copies until there are so many, and route by that number; return it.

        Args:
            partitions: from 0 to the number that it was started with.

        Raises:
            SpecError: another number.
            StartError: a copy did not start; those before it have.
        """
        return self._node.supervise(self._target, "resize", _counted(partitions))  # type: ignore[no-any-return]


class AsyncPartitionSupervisor(AsyncHandle):
    """A partition supervisor, inside a GenServer: `AsyncPartitionSupervisor(self, "shards")`."""

    async def ref(self, key: Any) -> Ref:
        """Return the process that a key belongs to; as `PartitionSupervisor.ref`."""
        canonical(key)
        return _found(await supervise(self._server, self._target, "resolve", key), key)

    async def partitions(self) -> int:
        """Return how many there are now."""
        return await supervise(self._server, self._target, "partitions", None)  # type: ignore[no-any-return]

    async def resize(self, partitions: int) -> int:
        """Stop or start copies until there are so many; as `PartitionSupervisor.resize`."""
        return await supervise(self._server, self._target, "resize", _counted(partitions))  # type: ignore[no-any-return]


def _counted(partitions: int) -> int:
    check_count("partitions", partitions)
    return partitions


def _found(ref: Ref | None, key: Any) -> Ref:
    if ref is None:
        raise NoProcess(f"the partition of key {shown(key, 100)} is not running: try again", reason=NOPROC)
    return ref
