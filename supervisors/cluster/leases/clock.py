"""The clock by which leases are counted: monotonic, and it goes on while the machine sleeps."""

from __future__ import annotations

import time

_BOOTTIME = getattr(time, "CLOCK_BOOTTIME", None)


def now() -> float:
    """Return seconds since some moment of this host's; nobody may compare them with another host's.

    A holder whose machine was suspended must not believe that no time has passed.
    """
    return time.monotonic() if _BOOTTIME is None else time.clock_gettime(_BOOTTIME)
