"""Every request is in a book: what an example's LM calls asked, answered or not, and until when they may ask.

A run opens a `Ledger` around each example. Whoever makes a request enters it before it is sent and again when it has
ended. Code outside of a run (a single call) has no ledger, and nothing is entered.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, Protocol

import orjson

from dspex_actors.errors import BudgetExceeded, DeadlineExceeded
from dspex_actors.foundation.ownership import Ownership
from dspex_actors.settings import settings

#: This bit of a sending's number says that it is a second start of an example that is under way elsewhere.
SECOND = 1 << 19


@dataclass(slots=True)
class Attempt:
    """One request to a provider: a row of the journal, in the order of its columns.

    (index, send, n) is its identity in its run. It is not frozen, and nobody changes it: frozen it would take three
    times as long to make, at three places for every request.

    Args:
        index: its example's place in the dataset, from 0.
        send: the number of the example's sending, another one for each sending of whichever of the run's evaluators;
            with `SECOND` in it, where the example was under way elsewhere.
        n: its number within the sending, from 1.
        at: wall-clock seconds since 1970 when it was sent.
        provider: openai, anthropic, gemini, cohere or embedded; a name of the user's for an LM of their own.
        model: the model's name as the provider knows it.
        outcome: answered, failed (an error of the server or on the way), cancelled (given up by us) or lost (its worker
            died before it could tell; such a row is replaced when its outcome is told after all).
        error: the error's type; None where there is none.
        status: HTTP status, if there was one.
        cost: USD; None: unknown.
        latency: seconds; None: it never ended.
        finish_reason: why the answer ended; None: not told.
        request_id: the provider's id of the request, for its support.
        usage: tokens by kind as JSON, as they are written down, told or estimated (`estimated`: true); None: unknown.
        user: for whom it was made; None: nobody said.
        tags: what it was for, as `tags_text` writes it; None: nobody said.
    """

    VERSION: ClassVar[int] = 3

    index: int
    send: int
    n: int
    at: float
    provider: str
    model: str
    outcome: str
    error: str | None = None
    status: int | None = None
    cost: float | None = None
    latency: float | None = None
    finish_reason: str | None = None
    request_id: str | None = None
    usage: str | None = None
    user: str | None = None
    tags: str | None = None

    @property
    def tokens(self) -> dict[str, Any] | None:
        """The usage as plain data."""
        return None if self.usage is None else orjson.loads(self.usage)


def tags_text(tags: Mapping[str, str] | None) -> str | None:
    """Return tags as they are written down: JSON, the same for the same tags; None for none."""
    return orjson.dumps(dict(tags), option=orjson.OPT_SORT_KEYS).decode() if tags else None


#: What is cancelled when its example has its result has ended after so many seconds.
CLOSE_SECONDS = 1.0

#: Writes down, before a request is sent: its example, sending and number, the wall clock, tokens of its prompt,
#: provider and model.
Note = Callable[[int, int, int, float, int, str, str], None]


class RunBudget(NamedTuple):
    """What a run may cost.

    Args:
        account: its name, the limit, and what was spent when nobody counted yet; in the units of `foundation.purses`.
            None: its dollars have no limit.
        unknown_price: what becomes of a request whose price is not known: "refuse" or "warn".
        above: accounts of what the run is a part of, in the same way: each of its requests counts for them, too.
        calls: the account of requests, in the same way: each takes one, whatever becomes of it. None: no limit.
    """

    account: tuple[str, int, int] | None
    unknown_price: str = "refuse"
    above: tuple[tuple[str, int, int], ...] = ()
    calls: tuple[str, int, int] | None = None


class Ledger:
    """The requests of one sending of one example, in the order in which they ended.

    Args:
        index: the example's place in the dataset, from 0.
        send: the number of the sending.
        seconds: how long the example may take; None: without end.
        note: writes a request down where it outlives this process; None: nowhere.
        budget: what its run may cost; None: no limit.
        run: the run's id; empty: it is none that is kept.
        batch: how its requests go through batches (`lm.batches.settings.BatchSettings`); None: they are made at once.
        mine: whether the example is still this process's, which may be another's after it stood still; None: it is.
        clock: monotonic seconds.
    """

    __slots__ = (
        "_clock", "_note", "attempts", "batch", "budget", "calls", "count", "deadline", "end", "index",
        "is_closed", "mine", "refused", "run", "same", "send", "waits_for",
    )  # fmt: skip

    def __init__(
        self,
        index: int = 0,
        send: int = 1,
        *,
        seconds: float | None = None,
        note: Note | None = None,
        budget: RunBudget | None = None,
        run: str = "",
        batch: tuple[float, float] | None = None,
        mine: Ownership | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Begin with nothing entered."""
        self.index = index
        self.send = send
        self.attempts: list[Attempt] = []
        #: LM calls that are under way.
        self.calls: set[asyncio.Task[Any] | None] = set()
        #: Requests begun so far.
        self.count = 0
        self.budget = budget
        self.run = run
        self.batch = batch
        self.mine = mine
        #: Why a request was not made that there was not enough money for: the example has no result then.
        self.refused: BudgetExceeded | None = None
        self.deadline = seconds
        self.end = None if seconds is None else clock() + seconds
        #: The example has its result: nothing more is asked for it.
        self.is_closed = False
        #: Why nothing is asked for it at the moment; None: there is no such reason.
        self.waits_for: str | None = None
        #: How often the same was asked in batches, by what it is.
        self.same: dict[bytes, int] = {}
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
            self._note(self.index, self.send, number, at, tokens, provider, model)
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

    async def may_ask(self) -> None:
        """Return when a request may be sent for the example.

        Raises:
            DeadlineExceeded: as `left`.
            asyncio.CancelledError: the example is another process's by now.
        """
        if self.mine is not None and not self.mine.is_sure():
            await self.mine.settled()
        self.left()

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
        is_counted: somebody else makes it, and takes nothing more from an account of calls.
    """

    ledger: Ledger
    number: int
    is_taken: bool = False
    is_counted: bool = False


def out_of_time(seconds: float | None) -> DeadlineExceeded:
    """Return the error for an example that took too long."""
    limit = "" if seconds is None else f" within deadline={seconds:g} s"
    return DeadlineExceeded(f"the example was not done{limit}; nothing more is asked for it", retryable=False)


_ledger: ContextVar[Ledger | None] = ContextVar("dspex_ledger", default=None)
_handed: ContextVar[Handed | None] = ContextVar("dspex_handed", default=None)


def is_counted(ledger: Ledger) -> bool:
    """Tell whether the request that is about to be made is one that an LM of the user's own has counted as its own."""
    handed = _handed.get()
    if handed is None or handed.ledger is not ledger or handed.is_counted or handed.is_taken:
        return False
    handed.is_counted = True
    return True


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


#: Take the requests of calls that belong to no run; the last one does. A worker has one, a program one per connection.
_outside: list[Callable[[Attempt], None]] = []


def book_outside_with(taker: Callable[[Attempt], None]) -> None:
    """Have the requests of calls that belong to no run entered by `taker`, in this process."""
    _outside.append(taker)


def book_outside_no_more(taker: Callable[[Attempt], None]) -> None:
    """Have `taker` enter nothing more: the one before it does again."""
    if taker in _outside:
        _outside.remove(taker)


def book_outside(attempt: Attempt) -> None:
    """Enter how a request of a call ended that belongs to no run."""
    if _outside:
        _outside[-1](attempt)


def book_reply(reply: Any) -> None:
    """Enter an answer of an LM that is none of ours, and makes its requests itself: one, as far as is known."""
    ledger = _ledger.get()
    if ledger is None:
        return
    at, provider, model = time.time(), "own", str(getattr(reply, "model", None) or "")
    user, tags = settings.whose()
    usage = getattr(reply, "usage", None)
    if usage is not None:
        usage = orjson.dumps(
            usage if isinstance(usage, dict) else usage.to_dict(), option=orjson.OPT_NON_STR_KEYS
        ).decode()
    ledger.book(
        Attempt(
            ledger.index,
            ledger.send,
            ledger.begin(at, provider, model, 0),
            at,
            provider,
            model,
            "answered",
            usage=usage,
            cost=getattr(reply, "cost", None),
            latency=getattr(reply, "latency", None),
            finish_reason=getattr(reply, "finish_reason", None),
            user=user,
            tags=tags_text(tags),
        )
    )


class OwnMoney(Protocol):
    """Takes what LMs of the user's own have cost off the limits that somebody has set; one in each worker."""

    def check(self, ledger: Ledger | None, tags: Mapping[str, str] | None) -> None:
        """Refuse a call, by BudgetExceeded, where a limit that it counts for is used up."""

    def count(self, ledger: Ledger) -> Future[None] | None:
        """Take a call of its own off the limit of calls, from any thread; return what is done then. None: no limit."""

    def charge(self, ledger: Ledger | None, tags: Mapping[str, str] | None, cost: float) -> Future[None] | None:
        """Take off what a call has cost, in dollars, from any thread; return what is done then. None: no limit."""


_own_money: list[OwnMoney] = []


def own_money_with(money: OwnMoney) -> None:
    """Have the calls of the user's own LMs counted by `money` in this process."""
    _own_money[:] = [money]


def check_own(ledger: Ledger | None, tags: Mapping[str, str] | None) -> None:
    """Refuse a call of a user's own LM where a limit of money is used up; see `OwnMoney`."""
    for money in _own_money:
        money.check(ledger, tags)


def count_own() -> Future[None] | None:
    """Take a call of a user's own LM off the limit of calls that holds here, before it is made; see `OwnMoney`."""
    ledger = _ledger.get()
    if not _own_money or ledger is None or ledger.budget is None or ledger.budget.calls is None or is_counted(ledger):
        return None
    check_own(ledger, settings.whose()[1])  # first: what is refused for its money is no call
    return _own_money[0].count(ledger)


def charge_own(ledger: Ledger | None, tags: Mapping[str, str] | None, cost: float | None) -> Future[None] | None:
    """Take off what a call of a user's own LM has cost; None: nobody knows. See `OwnMoney`."""
    return _own_money[0].charge(ledger, tags, cost) if cost and _own_money else None
