"""Threads of a program, whatever it has set for them: how long they can wait, and the room that they have."""

from __future__ import annotations

import threading

#: To open an answer takes 40 KB of stack for each of its first levels.
STACK_BYTES = 1 << 20


def start_with_room(thread: threading.Thread) -> None:
    """Start a thread with a stack of STACK_BYTES at least, whatever the program gives its own threads."""
    usual = threading.stack_size()
    threading.stack_size(max(usual, STACK_BYTES))
    try:
        thread.start()
    finally:
        threading.stack_size(usual)


def capped(seconds: float | None) -> float | None:
    """Return what a lock can wait for: nobody lives to see the difference."""
    return None if seconds is None else min(seconds, threading.TIMEOUT_MAX)
