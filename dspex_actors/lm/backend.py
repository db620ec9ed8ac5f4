"""Where an LM call goes: the one seam between programs and the machinery that answers them.

A program never talks to a provider. `LM.acall` asks the *current backend*: inside an http worker that is the
worker's own sessions (no message, no hop); in a user's process it is the connection that `dspex.connect` made.
"""

from __future__ import annotations

from typing import Protocol

from dspex_actors.errors import ConfigError
from dspex_actors.lm.reply import LMReply
from dspex_actors.lm.request import LMRequest


class Backend(Protocol):
    """Answers LM calls."""

    async def acomplete(self, request: LMRequest) -> LMReply:
        """Answer one call from inside an event loop."""
        ...

    def complete(self, request: LMRequest) -> LMReply:
        """Answer one call from a thread that has no event loop; blocks it."""
        ...


class LoopBlocked(BaseException):
    """A sync LM call on the event loop that would have to answer it."""


_process: list[Backend] = []


def set_process_backend(backend: Backend | None) -> None:
    """Make `backend` the one that every thread of this process uses (None: none)."""
    _process[:] = [backend] if backend is not None else []


def current_backend() -> Backend:
    """Return the backend of this process.

    Raises:
        ConfigError: none is connected yet.
    """
    if not _process:
        raise ConfigError("no node is connected: call dspex.connect(lm=...) first")
    return _process[0]
