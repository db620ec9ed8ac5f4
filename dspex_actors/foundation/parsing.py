"""Python's parser, one thread at a time.

It counts how deep it is for all threads together (CPython before 3.13): of two that parse at once one gets a
SystemError.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

#: So often it is tried: others than we may parse, too.
_TRIES = 20
_one_at_a_time = threading.RLock()


def alone(function: Callable[[], T]) -> T:
    """Return what a function that parses returns."""
    with _one_at_a_time:
        for _ in range(_TRIES - 1):
            try:
                return function()
            except SystemError:
                continue
        return function()
