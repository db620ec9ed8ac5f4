"""What a program calls of a partition supervisor."""

from __future__ import annotations

from supervisors.supervisor.routing import canonical
from supervisors.terms.errors import NoProcess
from supervisors.terms.reason import NOPROC
from supervisors.terms.ref import Ref
from supervisors.terms.via import Via


class PartitionSupervisor:
    """A partition supervisor, as a program outside sees it; made by `node.partitions(name)`."""

    def __init__(self, node: Node, target: Ref | str | Via) -> None:
        """Make it; nothing is asked yet."""
        self._node, self._target = node, target

    def ref(self, key: Any) -> Ref:
        """Return the process that a key belongs to.

        Raises:
            NoProcess: no such supervisor, it has 0 partitions, or the copy is being restarted.
            SpecError: the key is not plain data.
        """
        canonical(key)
        ref = self._node._supervisor(self._target, "resolve", key)
        if ref is None:
            raise NoProcess(f"the partition of key {key!r:.100} is not running: try again", reason=NOPROC)
        return ref  # type: ignore[no-any-return]

    def partitions(self) -> int:
        """Return how many there are now."""
        return self._node._supervisor(self._target, "partitions", None)  # type: ignore[no-any-return]

    def resize(self, partitions: int) -> int:
        """Stop or start copies until there are so many, and route by that number; return it.

        Args:
            partitions: from 0 to the number that it was started with.

        Raises:
            SpecError: another number.
            StartError: a copy did not start; those before it have.
        """
        return self._node._supervisor(self._target, "resize", partitions)  # type: ignore[no-any-return]
