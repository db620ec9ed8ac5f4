"""The calls of one process: those it has made and waits for, and those it has taken and not answered."""
# ruff: noqa: ASYNC109 - `timeout` is the name of the contract

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable

from supervisors.host import processes as fate
from supervisors.runtime.process.peers import Peers
from supervisors.terms.errors import CallFailed, CallTimeout, NoProcess, ServerExited, SupervisorsError
from supervisors.terms.reason import NOPROC, ExitReason
from supervisors.terms.ref import Caller, Ref
from supervisors.wire.messages import Abandon, Call, Message, Reply, System
from supervisors.wire.values import pack, pack_value, unpack

#: Dead callers are looked for when so many calls are open; then again when twice as many are open as were left.
SWEEP_AT = 256


class Calls:
    """The calls of the process `ref`.

    Args:
        ref: whose calls.
        loop: where it runs.
        ids: numbers the questions of the process.
        post: sends a message to a process.
        peers: sees the ends of the processes that are asked.
    """

    def __init__(
        self,
        ref: Ref,
        loop: asyncio.AbstractEventLoop,
        ids: itertools.count[int],
        post: Callable[[Ref, Message], None],
        peers: Peers,
    ) -> None:
        """Begin with none."""
        self._ref, self._loop, self._ids, self._post, self._peers = ref, loop, ids, post, peers
        self._pending: dict[int, tuple[asyncio.Future[bytes], Ref]] = {}
        self._open: dict[tuple[str, int], Caller] = {}
        self._sweep_at = SWEEP_AT

    # --- made by this process -----------------------------------------------------------------------------------

    async def call(self, ref: Ref, request: bytes, timeout: float | None) -> bytes:
        """Ask with a packed request; the reply is packed too.

        Raises:
            CallTimeout, NoProcess, ServerExited, CallFailed: as their names say.
        """
        if ref == self._ref:
            raise CallFailed("a server cannot call itself: it would wait for its own handler")
        number = next(self._ids)
        return await self.ask(ref, number, Call(ref.uid, number, self._ref, request), timeout)

    async def system(self, ref: Ref, name: str, argument: bytes, timeout: float | None) -> bytes:
        """Ask a server about itself."""
        if ref == self._ref:
            raise CallFailed(f"a server cannot ask {name} of itself: it would wait for its own handler")
        number = next(self._ids)
        return await self.ask(ref, number, System(ref.uid, number, self._ref, name, argument), timeout)

    async def ask(self, ref: Ref, number: int, message: Message, timeout: float | None) -> bytes:
        """Send a message and wait for the Reply with its number."""
        self._peers.watch(ref)
        future: asyncio.Future[bytes] = self._loop.create_future()
        self._pending[number] = (future, ref)
        timer = None if timeout is None else self._loop.call_later(timeout, _time_out, future, ref, timeout)
        try:
            self._post(ref, message)
            return await future
        except (CallTimeout, asyncio.CancelledError):
            # The server need not keep a place for an answer that nobody waits for.
            self._post(ref, Abandon(ref.uid, number, self._ref))
            raise
        finally:
            del self._pending[number]
            if timer is not None:
                timer.cancel()

    def replied(self, message: Reply) -> None:
        """Take an answer; a late or a second one finds nobody."""
        future, ref = self._pending.get(message.id, (None, None))
        if future is None or ref is None or future.done():
            return
        if message.ok:
            self._peers.met(ref)
            future.set_result(message.value)
        else:
            future.set_exception(unpack(message.value))

    def undelivered(self, number: int) -> None:
        """Fail a question that nobody took: it was not carried out."""
        future, ref = self._pending.get(number, (None, None))
        if future is not None and not future.done():
            future.set_exception(NoProcess(f"nobody answers at {ref}", reason=NOPROC))

    def asks(self, ref: Ref) -> bool:
        """Whether an answer of this process is waited for."""
        return any(callee == ref for _, callee in self._pending.values())

    def ended(self, ref: Ref, reason: ExitReason) -> None:
        """Fail what was asked of a process that has ended."""
        for future, callee in list(self._pending.values()):
            if callee == ref and not future.done():
                future.set_exception(ServerExited(f"{ref} ended during the call: {reason}", reason=reason))

    # --- made to this process -----------------------------------------------------------------------------------

    def opened(self, message: Call | System) -> None:
        """Remember that somebody waits for an answer."""
        self._open[message.sender.uid, message.id] = Caller(message.sender, message.id, self._ref)
        if len(self._open) >= self._sweep_at:
            self._sweep()

    def _sweep(self) -> None:
        callers = {caller.ref for caller in self._open.values() if caller.ref.host == self._ref.host}
        dead = {ref for ref in callers if fate.has_ended(ref.pid, ref.born)}
        self._open = {key: caller for key, caller in self._open.items() if caller.ref not in dead}
        self._sweep_at = max(SWEEP_AT, 2 * len(self._open))

    def abandoned(self, message: Abandon) -> None:
        """Forget a caller that does not wait any more."""
        self._open.pop((message.sender.uid, message.id), None)

    def waiting(self) -> int:
        """Return how many callers wait for an answer."""
        return len(self._open)

    def callers(self) -> set[Ref]:
        """Return the processes that wait for an answer."""
        return {caller.ref for caller in self._open.values()}

    def reply(self, caller: Caller, value: object) -> None:
        """Answer a call, this process's or one that another process was asked; only the first answer is taken."""
        try:
            packed = pack_value(value, "reply")
        except CallFailed as error:
            self.reply_error(caller, error)
        else:
            self._close(caller, True, packed)

    def reply_error(self, caller: Caller, error: Exception) -> None:
        """Answer a call by an error."""
        record = error if isinstance(error, SupervisorsError) else CallFailed(f"{type(error).__name__}: {error}")
        self._close(caller, False, pack(record))

    def _close(self, caller: Caller, ok: bool, value: bytes) -> None:
        mine = caller.server is None or caller.server == self._ref
        if mine and self._open.pop((caller.ref.uid, caller.id), None) is None:
            return
        self.answer(caller.ref, caller.id, ok, value)
        if not mine and caller.server is not None:
            self._post(caller.server, Abandon(caller.server.uid, caller.id, caller.ref))

    def answer(self, to: Ref, number: int, ok: bool, value: bytes) -> None:
        """Send a Reply."""
        self._post(to, Reply(to.uid, number, ok, value))


def _time_out(future: asyncio.Future[bytes], ref: Ref, seconds: float) -> None:
    if not future.done():
        late = "it goes on, and its late reply is dropped"
        future.set_exception(CallTimeout(f"no reply from {ref} within {seconds:g} s; {late}"))
