"""LM calls of a program outside: through the node's http workers, one after the other in turn."""

from __future__ import annotations

import asyncio
import itertools
import time
from typing import Any

from dspex_actors.errors import DeadlineExceeded, Overloaded, from_record
from dspex_actors.lm.reply import LMReply
from dspex_actors.lm.request import Complete, LMRequest
from dspex_actors.names import WORKERS, worker_name
from supervisors import Node
from supervisors.errors import CallTimeout, NodeDown, NoProcess, ServerExited, SupervisorsError

#: A call whose worker died is given to another one so many times.
CALL_TRIES = 4
#: Before that it waits so many seconds: the worker is being restarted.
PAUSE_SECONDS = 0.05
#: A node that has fallen is waited for so many seconds: its daemon brings it back.
COME_BACK_SECONDS = 4.0
#: A worker keeps the call's deadline itself; so many seconds later nothing comes any more.
SLACK_SECONDS = 5.0


class NodeBackend:
    """Answers LM calls of this process through the node's http workers."""

    def __init__(self, node: Node) -> None:
        """Ask this node's workers in turn."""
        self._node = node
        self._turn = itertools.count()
        self._names: list[str] = []

    def _worker(self) -> str:
        # Without a lock: a child that is forked while somebody holds one would wait for ever.
        names = self._names
        if not names:
            rows = self._node.which_children(WORKERS)
            names = self._names = [worker_name(number) for number in range(1, max(1, len(rows)) + 1)]
        return names[next(self._turn) % len(names)]

    def complete(self, request: LMRequest) -> LMReply:
        """Answer one call; blocks the calling thread."""
        message, seconds = _message(request), request.lm.seconds + SLACK_SECONDS
        luck = _Luck()
        while True:
            try:
                return _reply(self._node.call(self._worker(), message, seconds))
            except SupervisorsError as error:
                luck.again(error)
                time.sleep(PAUSE_SECONDS)

    async def acomplete(self, request: LMRequest) -> LMReply:
        """Answer one call from an event loop."""
        message, seconds = _message(request), request.lm.seconds + SLACK_SECONDS
        luck = _Luck()
        while True:
            try:
                return _reply(await self._node.acall(self._worker(), message, seconds))
            except SupervisorsError as error:
                luck.again(error)
                await asyncio.sleep(PAUSE_SECONDS)


class _Luck:
    """Decides whether a call that met a dead worker or a fallen node is made again."""

    def __init__(self) -> None:
        self._died = 0
        self._since = time.monotonic()

    def again(self, error: SupervisorsError) -> None:
        """Return when it is worth it, raise when not."""
        if isinstance(error, CallTimeout):
            raise DeadlineExceeded("the worker did not answer within the call's deadline") from None
        if isinstance(error, ServerExited):
            self._died += 1
            if self._died < CALL_TRIES:
                return
            raise Overloaded(f"{CALL_TRIES} workers in a row died during the call: {error}") from None
        # Nobody was asked. A worker is back in milliseconds, a node in two seconds.
        if isinstance(error, NoProcess | NodeDown) and time.monotonic() - self._since < COME_BACK_SECONDS:
            return
        raise Overloaded(f"the node does not answer: {error}; see `dspex status`, or connect again") from None


def _message(request: LMRequest) -> Complete:
    return Complete(request.lm.settings, request.messages, request.given)


def _reply(answer: Any) -> LMReply:
    kind, value = answer
    if kind == "error":
        raise from_record(value)
    return LMReply.from_dict(value)
