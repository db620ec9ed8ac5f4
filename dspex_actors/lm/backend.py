"""Where an LM call goes: the one seam between programs and the machinery that answers them.

A program never talks to a provider. `LM.acall` asks the *current backend*: inside an http worker that is the
worker's own sessions (no message, no hop); in a user's process it is the connection that `dspex.connect` made.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Protocol

from dspex_actors.errors import ConfigError
from dspex_actors.lm.reply import LMReply
from dspex_actors.lm.request import LMRequest
from dspex_actors.lm.stream import Source


class Backend(Protocol):
    """Answers LM calls."""

    async def acomplete(self, request: LMRequest) -> LMReply:
        """Answer one call from inside an event loop."""
        ...

    def complete(self, request: LMRequest) -> LMReply:
        """Answer one call from a thread that has no event loop; blocks it."""
        ...

    def stream(self, request: LMRequest) -> Source:
        """Return what reads the reply of one call as it comes; nothing is asked before its first piece is."""
        ...


class LoopBlocked(BaseException):
    """A sync LM call on the event loop that would have to answer it."""


_process: list[Backend] = []
_inside: ContextVar[Backend | None] = ContextVar("backend", default=None)


def set_process_backend(backend: Backend | None) -> None:
    """Make `backend` the one that every thread of this process uses (None: none)."""
    _process[:] = [backend] if backend is not None else []


@contextmanager
def through(backend: Backend) -> Iterator[None]:
    """Have another backend answer what is asked inside."""
    token = _inside.set(backend)
    try:
        yield
    finally:
        _inside.reset(token)


def current_backend() -> Backend:
    """Return the backend that answers here: that of `through`, else that of this process.

    Raises:
        ConfigError: none is connected yet.
    """
    if (inside := _inside.get()) is not None:
        return inside
    if not _process:
        raise ConfigError("no node is connected: call dspex.connect(lm=...) first")
    return _process[0]
