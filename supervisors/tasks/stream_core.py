"""async_stream without processes: which item is started when, what is late, what comes out in which order.

`StreamCore` decides and knows no clock; `StreamPump` feeds it from an iterator and asks a `Port` for processes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from supervisors.terms.checks import check_choice, check_count, check_flag, check_timeout
from supervisors.terms.errors import CallTimeout, ServerExited
from supervisors.terms.reason import ExitReason
from supervisors.terms.ref import Ref

#: What became of an item: ("ok", value) or ("exit", reason).
Outcome = tuple[str, Any]


@dataclass(frozen=True)
class StreamOptions:
    """How a stream runs.

    Args:
        max_concurrency: tasks at the same time, at most.
        ordered: results come in the order of the items; else as they are done.
        timeout: seconds for each task, from when it has started; None - no limit.
        on_timeout: "exit" - CallTimeout is raised and the stream ends; "kill_task" - that item is an exit.
        zip_input_on_exit: an exit is ("exit", (item, reason)).
        reuse: keep the processes for further items, instead of one process per item.
        linked: a task's crash is raised, and ends the stream; else it is an exit.

    Raises:
        SpecError: names the option, the value and what is legal.
    """

    max_concurrency: int
    ordered: bool = True
    timeout: float | None = 5.0
    on_timeout: str = "exit"
    zip_input_on_exit: bool = False
    reuse: bool = False
    linked: bool = True

    def __post_init__(self) -> None:
        """Refuse what is not legal, before anything is started."""
        check_count("max_concurrency", self.max_concurrency, least=1)
        object.__setattr__(self, "timeout", check_timeout(self.timeout))
        check_choice("on_timeout", self.on_timeout, ("exit", "kill_task"))
        for name in ("ordered", "zip_input_on_exit", "reuse"):
            check_flag(name, getattr(self, name))


def timeout_reason(seconds: float) -> ExitReason:
    """Return the reason of an item whose time was up."""
    return ExitReason("error", {"type": "timeout", "message": f"the task took over {seconds:g} s", "traceback": ""})


class StreamCore:
    """The state of one stream. Times are monotonic seconds, and given."""

    def __init__(self, options: StreamOptions) -> None:
        """Begin with no item."""
        self.options = options
        self._count = 0
        self._turn = 0
        self._running: dict[int, float | None] = {}
        self._inputs: dict[int, Any] = {}
        self._ready: dict[int, Outcome] = {}
        self._order: deque[int] = deque()

    @property
    def running(self) -> int:
        """How many items are under way."""
        return len(self._running)

    @property
    def has_slot(self) -> bool:
        """Whether another item may be begun."""
        return len(self._running) < self.options.max_concurrency

    @property
    def idle(self) -> bool:
        """Whether nothing is under way and nothing waits to be taken."""
        return not self._running and not self._ready

    def begin(self, item: Any) -> int:
        """Take in an item; return its number. Its time begins with `started`."""
        number, self._count = self._count, self._count + 1
        self._running[number] = None
        if self.options.zip_input_on_exit:
            self._inputs[number] = item
        return number

    def started(self, number: int, now: float) -> None:
        """Note that the task of an item runs since `now`."""
        if number in self._running and self.options.timeout is not None:
            self._running[number] = now + self.options.timeout

    def ended(self, number: int, outcome: Outcome, at: float) -> bool:
        """Note that the task of an item has ended at `at`; return False where that was too late, and is a timeout."""
        if number not in self._running:
            return False
        due = self._running[number]
        in_time = due is None or at <= due
        if in_time:
            self._put(number, outcome)
        return in_time

    def expired(self, now: float) -> list[int]:
        """Return the items whose time is up; from now on they are exits."""
        late = [number for number, due in self._running.items() if due is not None and due <= now]
        for number in late:
            self._put(number, ("exit", timeout_reason(self.options.timeout or 0.0)))
        return late

    def next_due(self) -> float | None:
        """Return when the next item's time is up."""
        return min((due for due in self._running.values() if due is not None), default=None)

    def take(self) -> Outcome | None:
        """Return the next result, if it is there."""
        if self.options.ordered:
            outcome = self._ready.pop(self._turn, None)
            self._turn += outcome is not None
            return outcome
        return self._ready.pop(self._order.popleft()) if self._order else None

    def _put(self, number: int, outcome: Outcome) -> None:
        del self._running[number]
        item = self._inputs.pop(number, None)
        if outcome[0] == "exit" and self.options.zip_input_on_exit:
            outcome = ("exit", (item, outcome[1]))
        self._ready[number] = outcome
        if not self.options.ordered:
            self._order.append(number)


# --- events from a port: about item `number`, at monotonic seconds `at` ---------------------------------------------


@dataclass(frozen=True)
class Began:
    """The task of an item runs as `ref`. `ref` is None where it could not be started; `error` says why."""

    number: int
    at: float
    ref: Ref | None
    error: Exception | None = None


@dataclass(frozen=True)
class Ended:
    """The task of an item has answered, or ended."""

    number: int
    at: float
    outcome: Outcome


Event = Began | Ended


class Port(Protocol):
    """What starts and kills the processes of a stream. No method waits; what happens comes back as events."""

    def launch(self, number: int, item: Any) -> None:
        """Start a task for an item, and claim its result: Began, then Ended."""

    def again(self, number: int, item: Any, ref: Ref) -> None:
        """Give an item to a process that is idle: Ended."""

    def kill(self, refs: list[Ref]) -> None:
        """Kill tasks."""


@dataclass(frozen=True)
class Emit:
    """The next result of the stream."""

    outcome: Outcome


@dataclass(frozen=True)
class Wait:
    """There is nothing to do before the next event, or before `until` (monotonic seconds)."""

    until: float | None


class StreamPump:
    """Items in, results out, lazily: an item is taken only when a result is asked for and a slot is free."""

    def __init__(self, options: StreamOptions, items: Iterator[Any], port: Port, clock: Callable[[], float]) -> None:
        """Take nothing yet."""
        self._options, self._items, self._port, self._clock = options, items, port, clock
        self._core = StreamCore(options)
        self._exhausted = False
        self._idle: list[Ref] = []
        self._dying: list[Ref] = []  # the last that were killed; a supervisor stops them in the order asked for
        self.starting: set[int] = set()
        self.refs: dict[int, Ref] = {}

    @property
    def live(self) -> list[Ref]:
        """The processes that this stream has, those included that may not be gone yet."""
        return [*self.refs.values(), *self._idle, *self._dying]

    def take(self, event: Event) -> None:
        """Take in what happened.

        Raises:
            SupervisorsError: a task could not be started (the supervisor is full, or gone).
            ServerExited: a linked task has crashed.
        """
        if isinstance(event, Began):
            self._began(event)
            return
        ref = self.refs.pop(event.number, None)
        if ref is None:
            return  # killed meanwhile
        kind, reason = event.outcome
        if kind == "ok" and self._options.reuse:
            self._idle.append(ref)
        elif self._options.reuse:
            self._kill([ref])  # it lives on where only its answer could not be sent
        in_time = self._core.ended(event.number, event.outcome, event.at)
        if kind == "exit" and self._options.linked and in_time:
            raise ServerExited(f"the task of item {event.number} ended: {reason}", reason=reason, ref=ref)

    def _began(self, event: Began) -> None:
        self.starting.discard(event.number)
        if event.error is not None:
            raise event.error
        assert event.ref is not None
        self.refs[event.number] = event.ref
        self._core.started(event.number, event.at)

    def step(self) -> Emit | Wait | None:
        """Return what comes out, or how long to wait for an event; None: it is over.

        Raises:
            CallTimeout: a task took too long, and on_timeout is "exit".
            Exception: what the input raises.
        """
        core, options = self._core, self._options
        late = core.expired(self._clock())
        if late and options.on_timeout == "exit":
            raise CallTimeout(f"the task of item {late[0]} took over {options.timeout:g} s; the stream ends")
        killed = [self.refs.pop(number) for number in late if number in self.refs]
        if killed:
            self._kill(killed)
        while not self._exhausted and core.has_slot:
            try:
                item = next(self._items)
            except StopIteration:
                self._exhausted = True
                break
            self._begin(item)
        outcome = core.take()
        if outcome is not None:
            return Emit(outcome)
        return None if self._exhausted and core.idle else Wait(core.next_due())

    def _kill(self, refs: list[Ref]) -> None:
        self._dying = refs
        self._port.kill(refs)

    def _begin(self, item: Any) -> None:
        number = self._core.begin(item)
        if self._idle:
            ref = self._idle.pop()
            self.refs[number] = ref
            self._core.started(number, self._clock())
            self._port.again(number, item, ref)
        else:
            self._port.launch(number, item)
            self.starting.add(number)
