"""The deaths of a supervisor's children, seen through one descriptor.

Thespian registers every descriptor that it watches anew each time it waits, so with a hundred children a hundred of
them would be most of what a supervisor does. An epoll of their pidfds is one, however many children there are.
"""

from __future__ import annotations

import os
import select
import weakref


class Deaths:
    """Which of the watched pidfds have become readable. Nothing of it exists before the first is added."""

    def __init__(self) -> None:
        """Watch none yet."""
        self._epoll: select.epoll | None = None

    def descriptors(self) -> list[int]:
        """Return what to wait for: one descriptor, or none while there is no child."""
        return [] if self._epoll is None else [self._epoll.fileno()]

    def add(self, pidfd: int) -> None:
        """Watch a pidfd."""
        if self._epoll is None:
            self._epoll = select.epoll()
            _inherited.add(self)
        self._epoll.register(pidfd, select.EPOLLIN)

    def remove(self, pidfd: int) -> None:
        """Watch it no more; before it is closed, since a copy in a child that is just being forked keeps it alive."""
        if self._epoll is not None:
            self._epoll.unregister(pidfd)

    def ready(self) -> set[int]:
        """Return the pidfds of the children that have ended."""
        return set() if self._epoll is None else {pidfd for pidfd, _ in self._epoll.poll(0)}

    def let_go(self) -> None:
        """Close it in a child that was just forked: what is registered there is shared with the parent, and stays."""
        if self._epoll is not None:
            self._epoll.close()
            self._epoll = None


_inherited: weakref.WeakSet[Deaths] = weakref.WeakSet()


def _close_inherited() -> None:
    for deaths in list(_inherited):
        deaths.let_go()
    _inherited.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_close_inherited)
