"""Every request is in a book: what an example's LM calls asked, answered or not, and until when they may ask.

A run opens a `Ledger` around each example. Whoever makes a request enters it before it is sent and again when it has
ended. Code outside of a run (a single call) has no ledger, and nothing is entered.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from dspex_actors.errors import DeadlineExceeded


@dataclass(frozen=True, slots=True)
class Attempt:
    """One request to a provider.

    Args:
        n: its number within the sending of its example, from 1.
        at: wall-clock seconds since 1970 when it was sent.
        provider: openai, anthropic, gemini, cohere or embedded; a name of the user's for an LM of their own.
        model: the model's name as the provider knows it.
        outcome: answered, failed, cancelled (given up by us) or lost (its worker died before it could tell).
        error: the error's type; None where there is none.
        status: HTTP status, if there was one.
        usage: tokens by kind, told or estimated (`estimated`: true); None: unknown.
        cost: USD; None: unknown.
        latency: seconds; None: it never ended.
        finish_reason: why the answer ended; None: not told.
        request_id: the provider's id of the request.
    """

    n: int
    at: float
    provider: str
    model: str
    outcome: str
    error: str | None = None
    status: int | None = None
    usage: dict[str, Any] | None = None
    cost: float | None = None
    latency: float | None = None
    finish_reason: str | None = None
    request_id: str | None = None


#: What is cancelled when its example has its result has ended after so many seconds.
CLOSE_SECONDS = 1.0

#: Writes down, before a request is sent: its number, the wall clock, provider, model, and tokens of its prompt.
Note = Callable[[int, float, str, str, int], None]


class Ledger:
    """The requests of one sending of one example, in the order in which they ended.

    Args:
        seconds: how long the example may take; None: without end.
        note: writes a request down where it outlives this process; None: nowhere.
        clock: monotonic seconds.
    """

    __slots__ = ("_clock", "_note", "attempts", "calls", "count", "deadline", "end", "is_closed")

    def __init__(
        self, *, seconds: float | None = None, note: Note | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Begin with nothing entered."""
        self.attempts: list[Attempt] = []
        #: LM calls that are under way.
        self.calls: set[asyncio.Task[Any] | None] = set()
        #: Requests begun so far.
        self.count = 0
        self.deadline = seconds
        self.end = None if seconds is None else clock() + seconds
        #: The example has its result: nothing more is asked for it.
        self.is_closed = False
        self._clock = clock
        self._note = note

    def begin(self, at: float, provider: str, model: str, tokens: int) -> int:
        """Enter a request that is about to be sent; return its number."""
        handed = _handed.get()
        if handed is not None and handed.ledger is self and not handed.is_taken:
            handed.is_taken = True
            number = handed.number
        else:
            self.count += 1
            number = self.count
        if self._note is not None:
            self._note(number, at, provider, model, tokens)
        return number

    @contextmanager
    def handing_on(self, number: int) -> Iterator[Handed]:
        """Let the next request that is begun inside the `with` take over a number: it is that request.

        An LM of the user's own may ask another LM. That is one request, and paid once.

        Yields:
            Whether the number was taken.
        """
        handed = Handed(self, number)
        token = _handed.set(handed)
        try:
            yield handed
        finally:
            _handed.reset(token)

    def book(self, attempt: Attempt) -> None:
        """Enter how a request ended."""
        self.attempts.append(attempt)

    def left(self) -> float | None:
        """Return the seconds that the example has left; None: without end.

        Raises:
            DeadlineExceeded: there are none, or the example has its result already.
        """
        left = None if self.end is None else self.end - self._clock()
        if self.is_closed or (left is not None and left <= 0):
            raise out_of_time(self.deadline)
        return left

    async def close(self) -> None:
        """Let nothing more be asked, and end the LM calls that nobody waits for; they enter what they have cost."""
        self.is_closed = True
        if not self.calls:
            return
        left = [call for call in self.calls if call is not None and call is not asyncio.current_task()]
        for call in left:
            call.cancel()
        if left:
            await asyncio.wait(left, timeout=CLOSE_SECONDS)


@dataclass(slots=True)
class Handed:
    """The number of a request that was begun, and that another LM may make.

    Args:
        ledger: where it was begun.
        number: its number.
        is_taken: somebody else makes it, and enters how it ends.
    """

    ledger: Ledger
    number: int
    is_taken: bool = False


def out_of_time(seconds: float | None) -> DeadlineExceeded:
    """Return the error for an example that took too long."""
    limit = "" if seconds is None else f" within deadline={seconds:g} s"
    return DeadlineExceeded(f"the example was not done{limit}; nothing more is asked for it", retryable=False)


_ledger: ContextVar[Ledger | None] = ContextVar("dspex_ledger", default=None)
_handed: ContextVar[Handed | None] = ContextVar("dspex_handed", default=None)


def current_ledger() -> Ledger | None:
    """Return the ledger that is open here, None outside of a run."""
    return _ledger.get()


class opened:  # noqa: N801 - used as a function, and made for every example
    """Have the requests of what runs inside the `async with` entered in a ledger, which is closed at its end."""

    __slots__ = ("_ledger", "_token")

    def __init__(self, ledger: Ledger) -> None:
        """Take it."""
        self._ledger = ledger

    async def __aenter__(self) -> Ledger:
        """Open it, and return it."""
        self._token = _ledger.set(self._ledger)
        return self._ledger

    async def __aexit__(self, *error: object) -> None:
        """Close it."""
        _ledger.reset(self._token)
        await self._ledger.close()


def book_reply(reply: Any) -> None:
    """Enter an answer of an LM that is none of ours, and makes its requests itself: one, as far as is known."""
    ledger = _ledger.get()
    if ledger is None:
        return
    at, provider, model = time.time(), "own", str(getattr(reply, "model", None) or "")
    usage = getattr(reply, "usage", None)
    ledger.book(
        Attempt(
            ledger.begin(at, provider, model, 0),
            at,
            provider,
            model,
            "answered",
            usage=usage if usage is None or isinstance(usage, dict) else usage.to_dict(),
            cost=getattr(reply, "cost", None),
            latency=getattr(reply, "latency", None),
            finish_reason=getattr(reply, "finish_reason", None),
        )
    )
