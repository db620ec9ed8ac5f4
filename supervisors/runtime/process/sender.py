"""What one sender sends to others: casts, messages and questions, each in its turn."""
# ruff: noqa: ASYNC109 - `timeout` is the name of the contract

from __future__ import annotations

import asyncio
from collections.abc import Callable

from supervisors.runtime.process.calls import Answered, Calls
from supervisors.runtime.process.names import Names
from supervisors.runtime.process.post_room import Failed, PostRoom
from supervisors.terms.checks import Target
from supervisors.terms.errors import NoProcess
from supervisors.terms.ref import Ref
from supervisors.wire.messages import Call, Cast, Info, Message, System

#: Makes the message of a question: of whom it is for, its number, and who asks.
Question = Callable[[Ref, int, Ref], Message]


class Sender:
    """A sender: the server of a process, or a program outside.

    Args:
        ref: who sends; replies come to it.
        loop: where it runs.
        names: looks targets up.
        calls: the questions of the process.
        post: sends a message to a process.
    """

    def __init__(
        self,
        ref: Ref,
        loop: asyncio.AbstractEventLoop,
        names: Names,
        calls: Calls,
        post: Callable[[Ref, Message], None],
    ) -> None:
        """Begin with nothing to send."""
        self.ref = ref
        self.room = PostRoom(loop, names)
        self._loop, self._names, self._calls, self._post = loop, names, calls, post

    def tell(self, target: Target, kind: type[Cast | Info], message: bytes) -> None:
        """Send a packed message; nothing happens where there is no such process."""
        ref = self.room.known(target)
        if ref is not None:
            self._post(ref, kind(ref.uid, message))
        else:
            self.room.put(target, lambda ref: self._post(ref, kind(ref.uid, message)))

    def reach(self, target: Target, send: Callable[[Ref], None], failed: Failed = lambda error: None) -> None:
        """Call `send` with the process of a target in its turn: now, if nothing waits and the target is known."""
        ref = self.room.known(target)
        if ref is not None:
            send(ref)
        else:
            self.room.put(target, send, failed)

    # --- questions --------------------------------------------------------------------------------------------------

    def begin_call(self, target: Target, request: bytes, timeout: float | None, answered: Answered) -> int:
        """Call with a packed request, and do not wait; as `begin`."""
        return self.begin(target, lambda ref, number, sender: Call(ref.uid, number, sender, request), timeout, answered)

    def begin_system(self, target: Target, name: str, value: bytes, timeout: float | None, answered: Answered) -> int:
        """Ask a server about itself, and do not wait; as `begin`."""
        return self.begin(
            target, lambda ref, number, sender: System(ref.uid, number, sender, name, value), timeout, answered
        )

    def begin(self, target: Target, question: Question, timeout: float | None, answered: Answered) -> int:
        """Ask, and do not wait.

        A name whose holder has ended, and has not carried this out, is looked up once more, for a successor.

        Args:
            target: who is asked.
            question: makes the message.
            timeout: seconds from now, the lookup included; None: without end.
            answered: called once, and not before this has returned: with the packed reply, or why there is none.

        Returns:
            The number that `Calls.give_up` takes.
        """
        calls, number = self._calls, self._calls.new_number()
        if isinstance(target, Ref):
            calls.open(number, self.ref, timeout, answered)
            self._ask(target, number, question)
            return number
        until = None if timeout is None else self._loop.time() + timeout
        name, asked = target, list[Ref]()

        def once(ref: Ref, number: int, sender: Ref) -> Message:
            asked.append(ref)
            return question(ref, number, sender)

        def heard(value: bytes, error: Exception | None) -> None:
            if not asked or not isinstance(error, NoProcess):
                answered(value, error)
                return
            self._names.forget(name, asked[0])
            calls.open(number, self.ref, None if until is None else until - self._loop.time(), answered)
            self._ask(target, number, question, lambda ref: error if ref == asked[0] else None)

        calls.open(number, self.ref, timeout, heard)
        try:
            self._ask(target, number, once)
        except BaseException:  # the key of a Via that cannot be sent: nobody will answer
            calls.give_up(number)
            raise
        return number

    def _ask(
        self,
        target: Target,
        number: int,
        question: Question,
        wrong: Callable[[Ref], Exception | None] = lambda ref: None,
    ) -> None:
        def send(ref: Ref) -> None:
            error = wrong(ref)
            if error is None:
                self._calls.send(number, ref, question(ref, number, self.ref))
            else:
                self._calls.fail(number, error)

        self.reach(target, send, lambda error: self._calls.fail(number, error))

    async def call(self, target: Target, request: bytes, timeout: float | None) -> bytes:
        """Call with a packed request; the reply is packed too.

        Raises:
            CallTimeout, NoProcess, ServerExited, CallFailed: as their names say.
        """
        return await self._calls.waited(lambda answered: self.begin_call(target, request, timeout, answered))
