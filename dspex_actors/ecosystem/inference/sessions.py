"""The programs that ask a coordinator, and the answers on their way to them."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from dspex_actors.ecosystem.inference.inference import Asker
from dspex_actors.ecosystem.inference.messages import Answer, Answers
from dspex_actors.foundation.linger import Linger
from supervisors import Caller, GenServer

#: Answers in one reply have about so many bytes.
MOST_BYTES = 4 << 20
#: A program that is there has a call open, but for moments. One that has none for twice so many seconds is gone.
ALONE_SECONDS = 15.0


class _Session:
    __slots__ = ("is_alone", "is_due", "linger", "ready", "waiting")

    def __init__(self) -> None:
        #: Calls that wait for answers, and answers that wait for a call.
        self.waiting: deque[Caller] = deque()
        self.ready: list[tuple[int, Answer]] = []
        self.linger = Linger()
        self.is_due = False
        #: It had no call open when it was last looked at, and none has come since.
        self.is_alone = False


class Sessions:
    """Gives each program its answers, many at a time: with the reply to any of its calls that is open.

    Args:
        server: the coordinator.
        gone: told of a session that nobody is there for any more.
        going_on: how many inferences are under way.
    """

    def __init__(self, server: GenServer, gone: Callable[[str], None], going_on: Callable[[], int]) -> None:
        """Begin with none."""
        self._server, self._gone, self._going_on = server, gone, going_on
        self._loop = asyncio.get_running_loop()
        self._sessions: dict[str, _Session] = {}
        #: Those whose answers may go at once.
        self._now: list[_Session] = []
        self._loop.call_later(ALONE_SECONDS, self._look_again)

    def _look_again(self) -> None:
        self.look()
        self._loop.call_later(ALONE_SECONDS, self._look_again)

    def look(self) -> None:
        """Forget the sessions of programs that died just when none of their calls was open: no call tells of these."""
        for name, session in list(self._sessions.items()):
            if session.is_alone:
                del self._sessions[name]
                self._gone(name)
            else:
                session.is_alone = not session.waiting

    def wait(self, name: str, caller: Caller) -> None:
        """A call waits for answers of its session."""
        session = self._sessions.get(name)
        if session is None:
            session = self._sessions[name] = _Session()
        session.waiting.append(caller)
        session.is_alone = False
        self._server.when_given_up(caller, lambda: self._given_up(name, caller))
        if session.ready:
            self._due(session)

    def answer(self, asker: Asker, answer: Answer) -> None:
        """Give an answer."""
        session = self._sessions.get(asker[0])
        if session is not None:
            session.ready.append((asker[1], answer))
            self._due(session)

    def _due(self, session: _Session) -> None:
        if session.is_due or not session.waiting:
            return
        session.is_due = True
        wait = session.linger.wait(self._loop.time(), self._going_on())
        if wait:
            self._loop.call_later(wait, self._flush, session)
        else:
            self._now.append(session)  # with what else is answered in this turn of the loop

    def go(self) -> None:
        """Send the answers that may go now; the coordinator says so when it has dealt with all that came."""
        while self._now:
            self._flush(self._now.pop())

    def _flush(self, session: _Session) -> None:
        session.is_due = False
        while session.ready and session.waiting:
            session.linger.went(self._loop.time())
            rows = self._some(session)
            self._server.reply(
                session.waiting.popleft(), Answers([number for number, _ in rows], [answer for _, answer in rows])
            )

    @staticmethod
    def _some(session: _Session) -> list[tuple[int, Answer]]:
        size = count = 0
        for _, answer in session.ready:
            size += len(answer.prediction or b"") + 200
            if count and size > MOST_BYTES:
                break
            count += 1
        rows = session.ready[:count]
        del session.ready[:count]
        return rows

    def _given_up(self, name: str, caller: Caller) -> None:
        session = self._sessions.get(name)
        if session is None or caller not in session.waiting:
            return
        session.waiting.remove(caller)
        if not session.waiting:
            del self._sessions[name]
            self._gone(name)
