"""What a forked child of a program must not share with it: connections, their requests, and the node itself."""

from __future__ import annotations

import os
import weakref
from typing import Protocol


class Inherited(Protocol):
    """What belongs to one process."""

    def leave_to_parent(self) -> None:
        """Let go of it in a forked child, so that the parent notices nothing.

        No lock of before may be taken here: a thread that exists in the parent only may hold it.
        """


_all: weakref.WeakSet[Inherited] = weakref.WeakSet()


def keep_from_children(owned: Inherited) -> None:
    """Have every forked child let go of this at once."""
    _all.add(owned)


def _in_child() -> None:
    for each in list(_all):
        each.leave_to_parent()


os.register_at_fork(after_in_child=_in_child)
