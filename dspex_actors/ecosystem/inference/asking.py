"""A program's end of a session with a coordinator: what its threads and tasks ask goes out and comes back together."""

from __future__ import annotations

import contextlib
import itertools
import os
import threading
import time
import uuid
from collections.abc import Iterable
from concurrent.futures import Future, InvalidStateError
from functools import partial
from weakref import WeakValueDictionary

from dspex_actors.ecosystem.inference.messages import Answer, Answers, Exchange, Infer
from dspex_actors.foundation.linger import Linger
from supervisors import Node, Request
from supervisors.errors import CallFailed, NoProcess, ServerExited, SupervisorsError

#: The thread that sends ends when there was nothing to send for so many seconds.
IDLE_SECONDS = 5.0
#: So many calls are open: the coordinator answers the oldest. What is asked beside them is sent as a cast.
OPEN = 2
#: One message has inputs of so many bytes, or one inference.
MOST_BYTES = 4 << 20


#: Process, connection and name → the session with that coordinator: one for all handles, as long as one is open.
_sessions: WeakValueDictionary[tuple[int, Node, str], Asking] = WeakValueDictionary()


def asking_of(node: Node, name: str) -> Asking:
    """Return this process's session with a coordinator.

    A session has a call open as long as its coordinator lives: one for each handle would be one for each request of a
    program that looks its ecosystem up whenever it needs it.
    """
    key = (os.getpid(), node, name)
    found = _sessions.get(key)
    if found is None:
        found = _sessions[key] = Asking(node, name)
    return found


class Asking:
    """Sends inferences to a coordinator and takes their answers. Thread-safe; a process that is forked makes its own.

    Args:
        node: where the coordinator is.
        name: under which it is registered.
    """

    def __init__(self, node: Node, name: str) -> None:
        """Begin without a thread."""
        self.pid = os.getpid()
        self._node, self._name = node, name
        self._new_session()
        self._numbers = itertools.count(1)
        self._news = threading.Condition()
        self._queue: list[Infer] = []
        self._given_up: list[int] = []
        #: Number → the future of its answer, and the session in which it was sent; empty: it was not.
        self._waiting: dict[int, tuple[Future[Answer], str]] = {}
        self._is_poll_due = False
        self._thread: threading.Thread | None = None

    def _new_session(self) -> None:
        """Begin another session: whoever has the old one may hear of its end any time later."""
        self._session, self._is_known, self._open = uuid.uuid4().hex, False, 0

    def ask(self, key: str, inputs: bytes, seconds: float, operation: bytes) -> tuple[int, Future[Answer]]:
        """Ask for an inference; return its number, and the future of its answer.

        The future raises an error of supervisors where the coordinator does not answer: NoProcess where nobody was
        asked.
        """
        future: Future[Answer] = Future()
        with self._news:
            number = next(self._numbers)
            self._waiting[number] = (future, "")
            self._queue.append(Infer(number, key, inputs, seconds, operation))
            self._tell()
        return number, future

    def give_up(self, number: int) -> None:
        """Wait for an answer no longer."""
        with self._news:
            if self._waiting.pop(number, None) is not None:
                self._given_up.append(number)
                self._tell()

    def _tell(self) -> None:
        """Let the thread know that there is something to send; with the lock held."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._send_all, name="dspex-ecosystem", daemon=True)
            self._thread.start()
        else:
            self._news.notify()

    # --- out --------------------------------------------------------------------------------------------------------

    def _send_all(self) -> None:
        linger = Linger()
        while True:
            with self._news:
                while not (self._queue or self._given_up or self._is_poll_due):
                    if not self._news.wait(IDLE_SECONDS):
                        self._thread = None
                        return
                going_on = len(self._waiting)
            wait = linger.wait(time.monotonic(), going_on)
            if wait:
                time.sleep(wait)
            linger.went(time.monotonic())
            with self._news:
                message = Exchange(self._session, self._batch(), self._given_up)
                self._given_up, self._is_poll_due = [], False
                # A cast is lost where nobody is there: not before the coordinator has answered to the session.
                is_call = self._open < OPEN or not self._is_known
                self._open += is_call
            self._send(message, is_call=is_call)

    def _batch(self) -> list[Infer]:
        # What was given up on its way here would be done for nobody.
        self._queue = [row for row in self._queue if row.number in self._waiting]
        size = count = 0
        for row in self._queue:
            size += len(row.inputs)
            if count and size > MOST_BYTES:
                break
            count += 1
        rows = self._queue[:count]
        del self._queue[:count]
        for row in rows:
            self._waiting[row.number] = (self._waiting[row.number][0], self._session)
        return rows

    def _send(self, message: Exchange, *, is_call: bool) -> None:
        numbers = [row.number for row in message.asked]
        try:
            if is_call:
                self._node.send_request(self._name, message).when_done(
                    partial(self._answered, message.session, numbers)
                )
            else:
                self._node.cast(self._name, message)
        except Exception as error:
            with self._news:
                if message.session == self._session:
                    self._open -= is_call
            self._fail(numbers, error if isinstance(error, SupervisorsError) else CallFailed(repr(error)))

    # --- in; in the thread that reads answers -----------------------------------------------------------------------

    def _answered(self, session: str, numbers: list[int], request: Request) -> None:
        try:
            reply = request.result()
            if not isinstance(reply, Answers):
                raise CallFailed(f"the ecosystem is of another version: expected Answers, got {reply!r:.100}")
        except SupervisorsError as error:
            self._unanswered(session, numbers, error)
            return
        with self._news:
            if session == self._session:
                self._is_known = True
                self._open -= 1
                if self._open == 0:
                    self._is_poll_due = True  # one call is always open: by it the coordinator knows who is here
                    self._tell()
            found = [self._waiting.pop(number, None) for number in reply.numbers]
        for waiting, answer in zip(found, reply.answers, strict=True):
            if waiting is not None:
                with contextlib.suppress(InvalidStateError):  # it was cancelled
                    waiting[0].set_result(answer)

    def _unanswered(self, session: str, numbers: list[int], error: SupervisorsError) -> None:
        """Nobody will answer a call of a session, in which these numbers were asked."""
        with self._news:
            is_over = not isinstance(error, NoProcess)  # then nobody was asked by this call
            if session == self._session:
                self._open -= 1
                is_over = is_over or self._open == 0
                if is_over:
                    self._new_session()
            mine = {number for number, (_, sent) in self._waiting.items() if is_over and sent == session}
        self._fail(numbers, error)
        # Asked by other calls, or casts: of whoever it was that is not there any more.
        gone = ServerExited("the coordinator ended during the inference", reason=None)
        self._fail(mine.difference(numbers), gone if isinstance(error, NoProcess) else error)

    def _fail(self, numbers: Iterable[int], error: SupervisorsError) -> None:
        with self._news:
            found = [self._waiting.pop(number, None) for number in numbers]
        for waiting in found:
            if waiting is not None:
                with contextlib.suppress(InvalidStateError):
                    waiting[0].set_exception(error)
