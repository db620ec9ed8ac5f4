"""How often Python's collector of cycles looks, in a process that holds many objects for a short time."""

from __future__ import annotations

import gc

#: It looks at young objects after so many new ones; with its 700 it finds nothing, very often.
THRESHOLDS = (20_000, 20, 20)


def expect_many() -> None:
    """Have the collector look seldom: thousands of examples are under way here, and hardly anything is a cycle.

    What is here now stays for ever, and is not looked at again.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*THRESHOLDS)
