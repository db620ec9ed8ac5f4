"""What one thread waits for, over a bare lock."""

from __future__ import annotations

import threading
from typing import Any


class Answer:
    """What one thread waits for: a Future's few methods that are needed for that, over a bare lock.

    A Future wakes its thread through a condition, which takes twice as long as the lock.
    """

    __slots__ = ("_arrived", "_error", "_is_done", "_value", "request_id")

    def __init__(self) -> None:
        """Wait to be answered."""
        self._arrived = threading.Lock()
        self._arrived.acquire()
        self._is_done = False
        self._value: Any = None
        self._error: Exception | None = None
        self.request_id = 0

    def set_running_or_notify_cancel(self) -> bool:
        """Return True: it is not cancelled, but abandoned."""
        return True

    def set_result(self, value: Any) -> None:
        """Answer it."""
        self._value, self._is_done = value, True
        self._arrived.release()

    def set_exception(self, error: Exception) -> None:
        """Answer it by an error."""
        self._error, self._is_done = error, True
        self._arrived.release()

    def done(self) -> bool:
        """Whether it is answered."""
        return self._is_done

    def result(self, timeout: float | None = None) -> Any:
        """Return the answer; for one thread, once.

        Raises:
            TimeoutError: it did not come within `timeout` seconds.
            Exception: what it was answered by.
        """
        if not self._arrived.acquire(timeout=-1 if timeout is None else min(timeout, threading.TIMEOUT_MAX)):
            raise TimeoutError
        if self._error is not None:
            raise self._error
        return self._value
