"""LM calls of a program outside: through the node's http workers, one after the other in turn."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import threading
import time
from typing import Any

from dspex_actors.errors import DeadlineExceeded, Overloaded, from_record
from dspex_actors.lm.node_stream import NodeSource
from dspex_actors.lm.reply import LMReply
from dspex_actors.lm.request import Complete, LMRequest, Unusable
from dspex_actors.lm.told_cache import packed_cache
from dspex_actors.names import WORKERS, worker_name
from supervisors import Node
from supervisors.errors import CallTimeout, NodeDown, NoProcess, ServerExited, SupervisorsError

#: A call whose worker died is given to another one so many times.
CALL_TRIES = 4
#: Before that it waits so many seconds: the worker is being restarted.
PAUSE_SECONDS = 0.05
#: A node that has fallen is waited for so many seconds: its daemon brings it back.
COME_BACK_SECONDS = 4.0
#: Who the workers are is looked up again after so many seconds.
LOOK_SECONDS = 5.0
#: A worker keeps the call's deadline itself; so many seconds later nothing comes any more.
SLACK_SECONDS = 5.0


class NodeBackend:
    """Answers LM calls of this process through the node's http workers."""

    def __init__(self, node: Node) -> None:
        """Ask this node's workers in turn."""
        self._node = node
        self._turn = itertools.count()
        self._names: list[str] = []
        self._looked = 0.0

    def workers(self) -> list[str]:
        """Return the registered names of the node's http workers, those too that are just being restarted.

        Raises:
            SupervisorsError: the node does not answer, and has not done so before.
        """
        # Without a lock: a child that is forked while somebody holds one would wait for ever.
        if not self._names:
            self._look()
        elif time.monotonic() - self._looked > LOOK_SECONDS:
            self._looked = time.monotonic()
            # Beside the calls: an event loop does not wait for it, and who comes meanwhile goes on with what is known.
            threading.Thread(target=self._look_again, name="dspex workers", daemon=True).start()
        return list(self._names)

    def _look(self) -> None:
        rows = self._node.which_children(WORKERS)
        names = [row.id for row in reversed(rows) if row.id is not None and row.state != "stopped"]
        self._names, self._looked = names or [worker_name(1)], time.monotonic()

    def _look_again(self) -> None:
        with contextlib.suppress(SupervisorsError):
            self._look()

    def _worker(self) -> str:
        names = self.workers()
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

    def stream(self, request: LMRequest) -> NodeSource:
        """Return what reads the reply of one call as it comes."""
        seconds = request.lm.seconds + SLACK_SECONDS
        return NodeSource(self._node, self._worker, _Luck().again, PAUSE_SECONDS, _message(request), seconds)

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

    def forget(self, request: LMRequest) -> None:
        """Have the cached answer to a call taken back, by whichever workers may have it."""
        if not request.lm.options.cache:
            return
        with contextlib.suppress(SupervisorsError):
            for name in self.workers():
                self._node.cast(name, Unusable(_message(request)))


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
    tags = None if request.tags is None else dict(request.tags)
    cache = packed_cache() if request.lm.options.cache else None
    return Complete(request.lm.settings, request.messages, request.given, request.user, tags, cache)


def _reply(answer: Any) -> LMReply:
    kind, value = answer
    if kind == "error":
        raise from_record(value)
    return LMReply.from_dict(value)
