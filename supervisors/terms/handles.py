"""The base of every handle: an object with the methods of one behaviour, made from where one stands and whom one means.

Outside, from a node: `Pool(node, "db")`. Inside a GenServer, from the server: `AsyncPool(self, "db")`. Both have the
same methods with the same arguments; inside, what has an answer is awaited. To make one asks nobody anything.
"""

from __future__ import annotations

from supervisors.terms.checks import Target, check_target
from supervisors.terms.ports import Inside, Outside


class Handle:
    """A handle of a program outside; as thread-safe as its node is.

    Args:
        node: on which the server runs.
        target: its Ref, its name, or a Via.

    Raises:
        SpecError: `target` is none of these.
    """

    def __init__(self, node: Outside, target: Target) -> None:
        """Make it; nothing is asked yet."""
        check_target(target)
        self._node, self._target = node, target

    def __repr__(self) -> str:
        """Return it as it is made."""
        return f"{type(self).__name__}({self._target!s})"


class AsyncHandle:
    """A handle of a GenServer; of use in that server's process only.

    Args:
        server: in which it is used: `self`.
        target: Ref, name or Via of the server that it speaks to.

    Raises:
        SpecError: `target` is none of these.
    """

    def __init__(self, server: Inside, target: Target) -> None:
        """Make it; nothing is asked yet."""
        check_target(target)
        self._server, self._target = server, target

    def __repr__(self) -> str:
        """Return it as it is made."""
        return f"{type(self).__name__}({self._target!s})"
