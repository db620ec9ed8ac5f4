"""LM calls of a program outside: through the node's http workers, one after the other in turn."""

from __future__ import annotations

import asyncio
import itertools
import threading
import time
from typing import Any

from dspex_actors.errors import Overloaded, from_record
from dspex_actors.lm.lm import LM
from dspex_actors.lm.reply import LMReply
from dspex_actors.tree_names import WORKERS, worker_name
from supervisors import Node
from supervisors.errors import NoProcess, ServerExited, SupervisorsError

#: A call whose worker died is given to another one so many times.
CALL_TRIES = 4
#: After that it waits so many seconds: the worker is being restarted.
PAUSE_SECONDS = 0.05


class NodeBackend:
    """Answers LM calls of this process through the node's http workers."""

    def __init__(self, node: Node) -> None:
        """Ask this node's workers in turn."""
        self._node = node
        self._turn = itertools.count()
        self._names: list[str] = []
        self._lock = threading.Lock()

    def _worker(self) -> str:
        with self._lock:
            if not self._names:
                rows = self._node.which_children(WORKERS)
                self._names = [row.name or worker_name(1) for row in reversed(rows)]
            return self._names[next(self._turn) % len(self._names)]

    def complete(self, lm: LM, messages: list[dict[str, Any]], params: dict[str, Any]) -> LMReply:
        """Answer one call; blocks the calling thread."""
        request = ("lm", lm.to_dict(), messages, params)
        for attempt in range(CALL_TRIES):
            try:
                return _reply(self._node.call(self._worker(), request, lm.deadline + 5.0))
            except (NoProcess, ServerExited) as error:
                _again(attempt, error)
                time.sleep(PAUSE_SECONDS)
        raise AssertionError("unreachable")

    async def acomplete(self, lm: LM, messages: list[dict[str, Any]], params: dict[str, Any]) -> LMReply:
        """Answer one call from an event loop."""
        request = ("lm", lm.to_dict(), messages, params)
        for attempt in range(CALL_TRIES):
            try:
                return _reply(await self._node.acall(self._worker(), request, lm.deadline + 5.0))
            except (NoProcess, ServerExited) as error:
                _again(attempt, error)
                await asyncio.sleep(PAUSE_SECONDS)
        raise AssertionError("unreachable")


def _again(attempt: int, error: SupervisorsError) -> None:
    if attempt == CALL_TRIES - 1:
        raise Overloaded(f"{CALL_TRIES} workers in a row died during the call: {error}") from None


def _reply(answer: Any) -> LMReply:
    kind, value = answer
    if kind == "error":
        raise from_record(value)
    return LMReply.from_dict(value)
