"""Identifiers of operations and events: unique everywhere, in the order in which a process made them."""

from __future__ import annotations

import itertools
import os
import time

_count = itertools.count()
_process = os.urandom(5).hex()


def _renew() -> None:
    """Be another process than the one this was forked from."""
    global _process  # noqa: PLW0603
    _process = os.urandom(5).hex()


os.register_at_fork(after_in_child=_renew)


def new_id() -> str:
    """Return a new identifier: 27 characters, the wall clock's milliseconds first, so that they sort by time."""
    return f"{time.time_ns() // 1_000_000:011x}{_process}{next(_count) & 0xFFFFFF:06x}"
