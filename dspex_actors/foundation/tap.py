"""Whoever watches a program at work: what streams a program hangs itself in here, and the program tells it."""

from __future__ import annotations

from contextvars import ContextVar
from typing import Any, Protocol


class Tap(Protocol):
    """Told of what a program does; see `programs/streaming/tap.py`."""

    def ask(self, predictor: Any, request: Any) -> Any:
        """Ask an LM in a predictor's place, and return its reply."""
        ...

    async def aask(self, predictor: Any, request: Any) -> Any:
        """Ask an LM, from an event loop."""
        ...

    def was_shown(self, reply: Any) -> bool:
        """Tell whether somebody has seen some of this reply already."""
        ...

    def status(self, what: str, *about: Any) -> None:
        """Take note that something has started or ended: `what` names the method of a StatusMessageProvider."""
        ...


#: The one that is open here.
tap: ContextVar[Tap | None] = ContextVar("dspex_tap", default=None)
current_tap = tap.get
