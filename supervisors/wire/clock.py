"""The clock of a node: what the counters of frames are read from, and ages and uptimes with them.

A wall clock can be set back, or forward by a day. So a node reads the wall clock once, when its daemon starts, and
counts from then on by the host's boot clock, which nothing sets. Every process of the node, and every program on its
host, counts alike. The clocks of two hosts differ by what their wall clocks differed by when their nodes were started.
"""

from __future__ import annotations

import time

_now = time.clock_gettime_ns
#: It goes on while the host sleeps, as clocks elsewhere do. Not everywhere is there one.
_BOOT = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


class Clock:
    """Nanoseconds since the epoch that never go back and never leap.

    Args:
        offset: what is added to the host's boot clock, in nanoseconds. None: as the wall clock says now.
    """

    __slots__ = ("offset",)

    def __init__(self, offset: int | None = None) -> None:
        """Begin to count, or join those that count with this offset."""
        self.offset = time.time_ns() - time.clock_gettime_ns(_BOOT) if offset is None else offset

    def __call__(self) -> int:
        """Return the time."""
        return _now(_BOOT) + self.offset

    def seconds(self) -> float:
        """Return the time in seconds."""
        return self() / 1e9


#: The clock of a process that belongs to no node.
OWN_CLOCK = Clock()
