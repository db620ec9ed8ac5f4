"""The calls of one process: those it has made and waits for, and those it has taken and not answered."""
# ruff: noqa: ASYNC109 - `timeout` is the name of the contract

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable

from supervisors.host import processes
from supervisors.runtime.process.futures import refuse, settle
from supervisors.runtime.process.peers import Peers
from supervisors.terms.errors import CallFailed, CallTimeout, NoProcess, ServerExited, SupervisorsError
from supervisors.terms.reason import NOPROC, ExitReason
from supervisors.terms.ref import Caller, Ref
from supervisors.terms.showing import shown_error
from supervisors.wire.messages import Abandon, Call, Message, Reply, System
from supervisors.wire.values import pack, pack_value, unpack

#: Dead callers are looked for when so many calls are open; then again when twice as many are open as were left.
SWEEP_AT = 256


#: Told the packed reply, or why there is none.
Answered = Callable[[bytes, Exception | None], None]


class _Question:
    __slots__ = ("answered", "ref", "sender", "timer")

    def __init__(self, sender: Ref, answered: Answered, timer: asyncio.TimerHandle | None) -> None:
        self.sender, self.answered, self.timer = sender, answered, timer
        #: Who was asked; None: that is being looked up.
        self.ref: Ref | None = None

    def end(self) -> None:
        if self.timer is not None:
            self.timer.cancel()


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
        self._pending: dict[int, _Question] = {}
        self._open: dict[tuple[str, int], Caller] = {}
        self._given_up: dict[tuple[str, int], Callable[[], object]] = {}
        self._sweep_at = SWEEP_AT
        #: Whether no handler of this server waits for an answer, so that it can ask itself.
        self.may_ask_itself = False

    # --- made by this process -----------------------------------------------------------------------------------

    def new_number(self) -> int:
        """Return the number of a question that is about to be asked."""
        return next(self._ids)

    def open(self, number: int, sender: Ref, timeout: float | None, answered: Answered) -> None:
        """Begin to wait for the answer to a question; `send` sends it, or `fail` tells why it is not sent.

        Args:
            number: from `new_number`.
            sender: who asks: this process, or whom it asks for.
            timeout: seconds from now; None: without end.
            answered: called once: with the packed reply, or with why there is none.
        """
        timer = None if timeout is None else self._loop.call_later(timeout, self._time_out, number, timeout)
        self._pending[number] = _Question(sender, answered, timer)

    def send(self, number: int, ref: Ref, message: Message) -> None:
        """Send a question that was opened, unless nobody waits for its answer any more."""
        question = self._pending.get(number)
        if question is None:
            return
        if ref == question.sender and isinstance(message, Call | System) and not self.may_ask_itself:
            self.fail(number, CallFailed("a server cannot call itself: it would wait for its own handler"))
            return
        try:
            self._peers.watch(ref)
        except NoProcess as error:
            self.fail(number, error)
            return
        question.ref = ref
        self._post(ref, message)

    def fail(self, number: int, error: Exception) -> None:
        """Answer a question by an error, in the next turn of the loop."""
        self._loop.call_soon(self._fail, number, error)

    def _fail(self, number: int, error: Exception) -> None:
        if number in self._pending:
            self._answered(number, b"", error)

    async def call(self, ref: Ref, request: bytes, timeout: float | None) -> bytes:
        """Ask a process with a packed request, ahead of all that waits; the reply is packed too.

        Raises:
            CallTimeout, NoProcess, ServerExited, CallFailed: as their names say.
        """
        number = next(self._ids)
        return await self.ask(ref, number, Call(ref.uid, number, self._ref, request), timeout)

    async def ask(self, ref: Ref, number: int, message: Message, timeout: float | None) -> bytes:
        """Send a question to a process, ahead of all that waits, and wait for the Reply with its number."""

        def begin(answered: Answered) -> int:
            self.open(number, self._ref, timeout, answered)
            self.send(number, ref, message)
            return number

        return await self.waited(begin)

    async def waited(self, begin: Callable[[Answered], int]) -> bytes:
        """Wait for the answer to the question that `begin` asks; it returns the question's number."""
        future: asyncio.Future[bytes] = self._loop.create_future()

        def answered(value: bytes, error: Exception | None) -> None:
            if error is None:
                settle(future, value)
            else:
                refuse(future, error)

        number = begin(answered)
        try:
            return await future
        except asyncio.CancelledError:
            self.give_up(number)
            raise

    def give_up(self, number: int) -> None:
        """Wait for an answer no longer; nobody is told of it, and the server need not keep a place for it."""
        question = self._pending.pop(number, None)
        if question is None:
            return
        question.end()
        if question.ref is not None:
            self._post(question.ref, Abandon(question.ref.uid, number, question.sender))

    def _time_out(self, number: int, seconds: float) -> None:
        question = self._pending[number]
        self.give_up(number)
        if question.ref is None:
            late = f"no answer within {seconds:g} s: its target was still being looked up, and nothing was sent"
        else:
            late = f"no reply from {question.ref} within {seconds:g} s; it goes on, and its late reply is dropped"
        question.answered(b"", CallTimeout(late))

    def _answered(self, number: int, value: bytes, error: Exception | None) -> None:
        question = self._pending.pop(number)
        question.end()
        question.answered(value, error)

    def replied(self, message: Reply) -> None:
        """Take an answer; a late or a second one finds nobody."""
        question = self._pending.get(message.id)
        if question is None:
            return
        if message.ok:
            if question.ref is not None:
                self._peers.met(question.ref)
            self._answered(message.id, message.value, None)
        else:
            self._answered(message.id, b"", unpack(message.value))

    def undelivered(self, number: int) -> None:
        """Fail a question that nobody took: it was not carried out."""
        if number in self._pending:
            nobody = NoProcess(f"nobody answers at {self._pending[number].ref}", reason=NOPROC)
            self._answered(number, b"", nobody)

    def asks(self, ref: Ref) -> bool:
        """Whether an answer of this process is waited for."""
        return any(question.ref == ref for question in self._pending.values())

    def ended(self, ref: Ref, reason: ExitReason) -> None:
        """Fail what was asked of a process that has ended."""
        for number in [number for number, question in self._pending.items() if question.ref == ref]:
            if number in self._pending:  # what is told of one may give up another
                self._answered(number, b"", ServerExited(f"{ref} ended during the call: {reason}", reason=reason))

    # --- made to this process -----------------------------------------------------------------------------------

    def opened(self, message: Call | System) -> None:
        """Remember that somebody waits for an answer."""
        self._open[message.sender.uid, message.id] = Caller(message.sender, message.id, self._ref)
        if len(self._open) >= self._sweep_at:
            self._sweep()

    def _sweep(self) -> None:
        callers = {caller.ref for caller in self._open.values() if caller.ref.host == self._ref.host}
        dead = {ref for ref in callers if processes.has_ended(ref.pid, ref.born)}
        for key in [key for key, caller in self._open.items() if caller.ref in dead]:
            self._forget(key)
        self._sweep_at = max(SWEEP_AT, 2 * len(self._open))

    def abandoned(self, message: Abandon) -> None:
        """Forget a caller that does not wait any more."""
        self._forget((message.sender.uid, message.id))

    def _forget(self, key: tuple[str, int]) -> None:
        self._open.pop(key, None)
        tell = self._given_up.pop(key, None)
        if tell is not None:
            self._loop.call_soon(tell)  # what it raises must not cost the messages that are being taken in

    def when_given_up(self, caller: Caller, tell: Callable[[], object]) -> None:
        """Call `tell` as soon as the caller waits no more, at once if that is so; never after it was answered."""
        key = (caller.ref.uid, caller.id)
        if key in self._open:
            self._given_up[key] = tell
        else:
            tell()

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
        record = error if isinstance(error, SupervisorsError) else CallFailed(shown_error(error))
        self._close(caller, False, pack(record))

    def _close(self, caller: Caller, ok: bool, value: bytes) -> None:
        mine = caller.server is None or caller.server == self._ref
        self._given_up.pop((caller.ref.uid, caller.id), None)
        if mine and self._open.pop((caller.ref.uid, caller.id), None) is None:
            return
        self.answer(caller.ref, caller.id, ok, value)
        if not mine and caller.server is not None:
            self._post(caller.server, Abandon(caller.server.uid, caller.id, caller.ref))

    def answer(self, to: Ref, number: int, ok: bool, value: bytes) -> None:
        """Send a Reply."""
        self._post(to, Reply(to.uid, number, ok, value))
