"""A function of the user's that a thread tells of changes: the base of all watches and subscriptions of this kind."""

from __future__ import annotations

import asyncio
import inspect
import logging
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from typing import Any

from supervisors.terms.errors import SpecError, SupervisorsError

#: A handler that fails so often in a row is detached.
MAX_FAILURES = 10


class Telling(ABC):
    """A handler and the thread that calls it, one change after another; what it raises is logged.

    A handler that is async is called in the event loop in which it was given, and waited for. To make one kind of it:
    call this `__init__`, take note of what holds now, then call `_start`; write `_news`.

    Args:
        handler: a function.
        whose: what the handler is called in the log, as "the handler of nodes".
        log: where its failures go.
        error: what is raised where an async handler is given outside of an event loop.
        instead: what to do then, as "subscribe inside one".
    """

    #: After an error of the node's, `_news` is asked again so many seconds later.
    again_seconds = 1.0

    def __init__(
        self,
        handler: Callable[..., Any],
        whose: str,
        log: logging.Logger,
        *,
        error: type[Exception] = SpecError,
        instead: str = "subscribe inside one",
    ) -> None:
        """Find the loop; tell nothing yet."""
        self._handler, self._whose, self._log = handler, whose, log
        self._loop: asyncio.AbstractEventLoop | None = None
        if inspect.iscoroutinefunction(handler):
            try:
                self._loop = asyncio.get_running_loop()
            except RuntimeError:
                raise error(f"an async handler needs a running event loop: {instead}") from None
        self._over = threading.Event()
        self._failures = 0

    @property
    def active(self) -> bool:
        """Whether it is told; False after `cancel`, or when it has failed too often."""
        return not self._over.is_set()

    def cancel(self) -> None:
        """End it; a call that is under way ends by itself."""
        self._over.set()

    def _start(self, name: str) -> None:
        threading.Thread(target=self._watch, name=name, daemon=True).start()

    @abstractmethod
    def _news(self) -> Iterable[tuple[Any, ...]]:
        """Wait for changes, for a while; return of each what it is called in the log, then what the handler gets.

        Raises:
            SupervisorsError: the node is away, or cannot tell just now: it is asked again.
        """

    def _watch(self) -> None:
        while self.active:
            try:
                news = self._news()
            except SupervisorsError:
                self._over.wait(self.again_seconds)
                continue
            for what, *values in news:
                if not self.active:
                    return
                self._tell(what, values)

    def _tell(self, what: str, values: list[Any]) -> None:
        try:
            if self._loop is not None:
                asyncio.run_coroutine_threadsafe(self._handler(*values), self._loop).result()
            else:
                self._handler(*values)
        except Exception as error:
            self._failures += 1
            self._log.error("a handler of %s failed: %s: %s", what, type(error).__name__, error)
            if self._failures >= MAX_FAILURES:
                self._log.error("%s has failed %d times and is detached", self._whose, MAX_FAILURES)
                self.cancel()
        else:
            self._failures = 0
