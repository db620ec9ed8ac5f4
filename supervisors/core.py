"""A supervisor without processes: events in, effects out.

`SupervisorCore` decides everything that a supervisor does (supervisor.erl is its model) and does nothing itself:
no clock, no process, no socket. Its host (runtime/supervisor_host.py) turns what happens into events and what
comes back into deeds. Operations (start all, restart, stop, a call that changes something) run one at a time and
in the order in which they came; each is a generator that names the children it waits for. Calls that only read
are answered at once.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass, replace
from typing import Any

from supervisors.errors import (
    AlreadyPresent,
    AlreadyStarted,
    ChildNotFound,
    ChildRestarting,
    ChildRunning,
    NotAllowed,
    ServerExited,
    SpecError,
    StartError,
    SupervisorsError,
)
from supervisors.intensity import add_restart
from supervisors.reason import SHUTDOWN, ExitReason, Ref
from supervisors.spec import ChildSpec, SupervisorSpec, check_significant
from supervisors.strategy import ends_supervisor, expected_at_shutdown, restart_plan, restart_wanted
from supervisors.views import ChildCounts, ChildInfo

#: A child that failed to start, or was killed, has this long to be gone before it is killed again.
REAP_SECONDS = 2.0

# --- events -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Started:
    """A child's init has returned."""

    key: int
    generation: int
    ref: Ref


@dataclass(frozen=True)
class StartFailed:
    """A child's init failed; its process is ending. `error`: AlreadyStarted when its name was taken."""

    key: int
    generation: int
    reason: ExitReason
    error: SupervisorsError | None = None


@dataclass(frozen=True)
class Ignored:
    """A child's init returned IGNORE; its process is ending."""

    key: int
    generation: int


@dataclass(frozen=True)
class Exited:
    """A child's process has ended."""

    key: int
    generation: int
    reason: ExitReason


@dataclass(frozen=True)
class Tick:
    """A timer that the core has set is due."""

    key: int
    generation: int
    what: str


Event = Started | StartFailed | Ignored | Exited | Tick

# --- effects ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Spawn:
    """Start a process for this child."""

    key: int
    generation: int
    spec: ChildSpec


@dataclass(frozen=True)
class AskShutdown:
    """Ask a child to end."""

    key: int
    generation: int


@dataclass(frozen=True)
class Kill:
    """Kill a child's process."""

    key: int
    generation: int


@dataclass(frozen=True)
class SetTimer:
    """Send `Tick(key, generation, what)` in so many seconds."""

    seconds: float
    key: int
    generation: int
    what: str


@dataclass(frozen=True)
class Answer:
    """Answer a call: a value, or an error to raise at the caller."""

    caller: Any
    value: Any = None
    error: SupervisorsError | None = None


@dataclass(frozen=True)
class Tell:
    """Report to log and report store; `kind` is one of OTP's five."""

    kind: str
    id: str | None
    pid: int | None
    reason: ExitReason | None
    extra: dict[str, Any]


@dataclass(frozen=True)
class Ready:
    """Every child of the initial list has started."""


@dataclass(frozen=True)
class Finished:
    """The supervisor itself ends; all its children are gone."""

    reason: ExitReason
    error: StartError | None = None


Effect = Spawn | AskShutdown | Kill | SetTimer | Answer | Tell | Ready | Finished
Operation = Generator[frozenset[int], Event, None]


@dataclass
class Child:
    """One child as its supervisor knows it. `key` names it for ever, `generation` one process of it."""

    key: int
    spec: ChildSpec
    state: str = "stopped"
    generation: int = 0
    ref: Ref | None = None
    restarts: int = 0
    in_row: int = 0

    @property
    def live(self) -> bool:
        """Whether there is, or may be, a process."""
        return self.state in ("starting", "running", "stopping")


class SupervisorCore:
    """The state machine. Feed it with `start`, `event`, `call` and `shutdown`; carry out what they return."""

    def __init__(self, spec: SupervisorSpec, rng: random.Random | None = None) -> None:
        """Make one that has not started anything yet."""
        self.spec = spec
        self.dynamic = spec.strategy == "simple_one_for_one"
        self.children: dict[int, Child] = {}
        self.stamps: tuple[float, ...] = ()
        self.finished = False
        self._next_key = 0
        self._rng = rng or random.Random()  # noqa: S311 - jitter
        self._now = 0.0
        self._out: list[Effect] = []
        self._queue: deque[tuple[Callable[[], Operation], Any]] = deque()
        self._operation: Operation | None = None
        self._caller: Any = None
        self._waiting: frozenset[int] = frozenset()
        self._ended: dict[int, ExitReason] = {}
        self._failure: StartError | None = None

    # --- what comes in --------------------------------------------------------------------------------------------

    def start(self, now: float) -> list[Effect]:
        """Start the children of the spec, one after the other."""
        if not self.dynamic:
            for spec in self.spec.children:
                self._add(spec)
        return self._enter(now, self._start_all)

    def event(self, event: Event, now: float) -> list[Effect]:
        """Take in what happened to a child; word of an older process of it is ignored."""
        self._now = now
        child = self.children.get(event.key)
        if self.finished or child is None or child.generation != event.generation:
            return []
        if self._operation is not None and event.key in self._waiting:
            self._advance(event)
        elif isinstance(event, Exited):
            self._ended[child.key] = event.reason
            self._queue.append((lambda: self._on_exit(child), None))
        elif isinstance(event, Tick) and event.what == "retry" and child.state == "restarting":
            self._queue.append((lambda: self._retry(child), None))
        return self._drain()

    def call(self, caller: Any, name: str, argument: Any, now: float) -> list[Effect]:
        """Answer a call now if it only reads; else queue it behind what is under way."""
        self._now = now
        reads: dict[str, Callable[[Any], Any]] = {
            "which_children": lambda _: self.which_children(),
            "count_children": lambda _: self.count_children(),
            "get_childspec": self.get_childspec,
        }
        writes: dict[str, Callable[[Any, Any], Operation]] = {
            "start_child": self._start_child,
            "terminate_child": self._terminate_child,
            "restart_child": self._restart_child,
            "delete_child": self._delete_child,
        }
        if name in reads:
            try:
                self._out.append(Answer(caller, reads[name](argument)))
            except SupervisorsError as error:
                self._out.append(Answer(caller, error=error))
        elif name in writes:
            self._queue.append((lambda: writes[name](caller, argument), caller))
        else:
            self._out.append(Answer(caller, error=NotAllowed(f"a supervisor has no call {name!r}")))
        return self._drain()

    def shutdown(self, reason: ExitReason, now: float) -> list[Effect]:
        """Stop all children, in reverse order, and end; what is under way is given up, what waits is refused."""
        self._now = now
        if self.finished:
            return []
        if self._operation is not None:
            self._operation.close()
            self._refuse(self._caller)
        for _, caller in self._queue:
            self._refuse(caller)
        self._queue.clear()
        self._operation = None
        return self._enter(now, lambda: self._terminate(reason))

    # --- what it shows --------------------------------------------------------------------------------------------

    def which_children(self) -> list[ChildInfo]:
        """Return a row per child, newest first."""
        return [
            ChildInfo(
                id=None if self.dynamic else child.spec.id,
                ref=child.ref if child.state == "running" else None,
                state={"running": "running", "stopping": "running", "restarting": "restarting"}.get(child.state, "stopped"),
                type=child.spec.type,
                pid=child.ref.pid if child.ref is not None and child.live else None,
                restarts=child.restarts,
                name=child.spec.name,
            )
            for child in reversed(self.children.values())
        ]

    def count_children(self) -> ChildCounts:
        """Return how many specs, live children, supervisors and workers there are."""
        children = self.children.values()
        supervisors = sum(child.spec.type == "supervisor" for child in children)
        return ChildCounts(
            specs=1 if self.dynamic else len(children),
            active=sum(child.state == "running" for child in children),
            supervisors=supervisors,
            workers=len(children) - supervisors,
        )

    def get_childspec(self, which: Any) -> ChildSpec:
        """Return a child's spec with its defaults filled in.

        Raises:
            ChildNotFound: no such child.
        """
        return self._find(which).spec.with_defaults()

    # --- the engine -----------------------------------------------------------------------------------------------

    def _enter(self, now: float, operation: Callable[[], Operation]) -> list[Effect]:
        self._now = now
        self._queue.appendleft((operation, None))
        return self._drain()

    def _drain(self) -> list[Effect]:
        while self._operation is None and self._queue and not self.finished:
            make, self._caller = self._queue.popleft()
            self._operation = make()
            self._advance(None)
        out, self._out = self._out, []
        return out

    def _advance(self, event: Event | None) -> None:
        assert self._operation is not None
        try:
            self._waiting = next(self._operation) if event is None else self._operation.send(event)
        except StopIteration:
            self._operation, self._waiting = None, frozenset()

    def _refuse(self, caller: Any) -> None:
        if caller is not None:
            self._out.append(Answer(caller, error=ServerExited("the supervisor is shutting down", reason=SHUTDOWN)))

    def _add(self, spec: ChildSpec) -> Child:
        self._next_key += 1
        child = self.children[self._next_key] = Child(self._next_key, spec)
        return child

    def _tell(self, kind: str, child: Child | None, reason: ExitReason | None = None, **extra: Any) -> None:
        about: dict[str, Any] = {}
        if child is not None:
            about = {"restart": child.spec.restart, "shutdown": child.spec.with_defaults().shutdown, "type": child.spec.type}
        self._out.append(Tell(kind, child.spec.id if child else None, child.ref.pid if child and child.ref else None, reason, about | extra))

    def _find(self, which: Any) -> Child:
        for child in self.children.values():
            if (isinstance(which, Ref) and child.ref == which) or (not self.dynamic and child.spec.id == which):
                return child
        raise ChildNotFound(f"no child {which!r}; known: {', '.join(sorted(c.spec.id for c in self.children.values())) or 'none'}", id=str(which))

    # --- one child ------------------------------------------------------------------------------------------------

    def _start(self, child: Child) -> Generator[frozenset[int], Event, StartError | SupervisorsError | None]:
        """Start one child and wait for its init; return None when it runs or chose not to, else the error."""
        child.generation += 1
        child.state, child.ref = "starting", None
        mine = frozenset({child.key})
        self._out.append(Spawn(child.key, child.generation, child.spec))
        self._out.append(SetTimer(child.spec.start_timeout, child.key, child.generation, "start"))
        outcome: Event | None = None
        timed_out = False
        while True:
            event = yield mine
            match event:
                case Started(ref=ref):
                    child.state, child.ref = "running", ref
                    self._tell("progress", child)
                    return None
                case Tick(what="start") if outcome is None:
                    timed_out = True
                    self._out.append(Kill(child.key, child.generation))
                case Tick(what="reap"):
                    self._out.append(Kill(child.key, child.generation))
                case StartFailed() | Ignored():
                    # The start is over when the process is gone: whoever tries again finds name and port free.
                    outcome = event
                    self._out.append(SetTimer(REAP_SECONDS, child.key, child.generation, "reap"))
                case Exited(reason=reason):
                    child.state = "stopped"
                    if isinstance(outcome, Ignored):
                        return None
                    if isinstance(outcome, StartFailed):
                        if isinstance(outcome.error, AlreadyStarted | StartError):
                            outcome.error.reason = outcome.error.reason or outcome.reason
                            return outcome.error
                        reason = outcome.reason
                    elif timed_out:
                        limit = child.spec.start_timeout
                        reason = ExitReason("error", {"type": "StartTimeout", "message": f"init took more than {limit:g} s", "traceback": ""})
                    return StartError(f"child {child.spec.id!r} did not start: {reason}", id=child.spec.id, reason=reason)

    def _stop(self, children: Iterable[Child], limit: float | None = None) -> Generator[frozenset[int], Event, None]:
        """Stop children at the same time, each by its own rule (or all by `limit`), and wait until they are gone."""
        left: dict[int, tuple[Child, bool]] = {}
        for child in children:
            if child.key in self._ended:
                self._after_stop(child, self._ended.pop(child.key), brutal=False)
                continue
            if not child.live:
                child.state = "stopped"
                continue
            seconds = child.spec.shutdown_limit if limit is None else limit
            brutal = child.spec.shutdown == "brutal_kill" or child.state == "starting"
            child.state = "stopping"
            left[child.key] = (child, brutal)
            if brutal:
                self._out.append(Kill(child.key, child.generation))
            else:
                self._out.append(AskShutdown(child.key, child.generation))
                if seconds is not None:
                    self._out.append(SetTimer(seconds, child.key, child.generation, "shutdown"))
        while left:
            event = yield frozenset(left)
            child, brutal = left[event.key]
            match event:
                case Tick(what="shutdown"):
                    self._out.append(Kill(child.key, child.generation))
                case Exited(reason=reason):
                    del left[event.key]
                    self._after_stop(child, reason, brutal)
                case _:
                    pass

    def _after_stop(self, child: Child, reason: ExitReason, brutal: bool) -> None:
        if not expected_at_shutdown(child.spec.restart, brutal, reason):
            self._tell("shutdown_error", child, reason)
        child.state, child.ref = "stopped", None

    def _forget(self, child: Child) -> None:
        self.children.pop(child.key, None)
        self._ended.pop(child.key, None)

    # --- operations -----------------------------------------------------------------------------------------------

    def _start_all(self) -> Operation:
        for child in list(self.children.values()):
            error = yield from self._start(child)
            if error is not None:
                self._tell("start_error", child, error.reason)
                detail = f"child {child.spec.id!r} did not start: {error.reason or error}"
                self._failure = StartError(detail, id=child.spec.id, reason=error.reason)
                yield from self._terminate(SHUTDOWN)
                return
            if child.state == "stopped" and child.spec.restart == "temporary":
                self._forget(child)
        self._out.append(Ready())

    def _on_exit(self, child: Child) -> Operation:
        reason = self._ended.pop(child.key, None)
        if reason is None or child.key not in self.children:
            return  # an operation that ran meanwhile has dealt with it
        child.state = "stopped"
        wanted = restart_wanted(child.spec.restart, reason)
        if wanted or reason.abnormal:
            self._tell("child_terminated", child, reason)
        child.ref = None if not self.dynamic else child.ref
        if wanted:
            yield from self._restart(child, reason)
            return
        if child.spec.restart == "temporary" or self.dynamic:
            self._forget(child)
        if child.spec.significant:
            running = sum(other.spec.significant and other.state == "running" for other in self.children.values())
            if ends_supervisor(self.spec.auto_shutdown, running):
                yield from self._terminate(SHUTDOWN)

    def _retry(self, child: Child) -> Operation:
        if child.key in self.children and child.state == "restarting":
            yield from self._restart(child, None)

    def _restart(self, child: Child, reason: ExitReason | None) -> Operation:
        """Count one restart, then do it by the strategy; `reason` is None for a further attempt."""
        delay = self._delay(child, first=reason is not None)
        if delay:
            child.state = "restarting"
            self._out.append(SetTimer(delay, child.key, child.generation, "retry"))
            return
        self.stamps, allowed = add_restart(self.stamps, self._now, self.spec.intensity, self.spec.period)
        if not allowed:
            self._tell("reached_max_restart_intensity", child, reason, count=len(self.stamps),
                       intensity=self.spec.intensity, period=self.spec.period)
            yield from self._terminate(SHUTDOWN)
            return
        plan = restart_plan(self.spec.strategy, list(self.children), child.key)
        child.state = "restarting"
        for key in plan.stop:
            other = self.children.get(key)  # type: ignore[call-overload]
            if other is not None:
                yield from self._stop([other])
                if other.spec.restart == "temporary":
                    self._forget(other)
        for key in plan.start:
            other = self.children.get(key)  # type: ignore[call-overload]
            if other is None:
                continue
            other.restarts += 1
            old_ref = other.ref
            error = yield from self._start(other)
            if error is not None:
                self._tell("start_error", other, error.reason)
                other.state = "restarting"
                other.ref = old_ref  # under simple_one_for_one the old ref still names it
                self._queue.append((lambda failed=other: self._retry(failed), None))  # type: ignore[misc]
                return
            if other.state == "stopped" and (self.dynamic or other.spec.restart == "temporary"):
                self._forget(other)

    def _delay(self, child: Child, first: bool) -> float:
        backoff = child.spec.backoff
        if backoff is None or child.state == "restarting":
            return 0.0
        child.in_row = child.in_row + 1 if first else 1
        seconds = min(backoff.limit, backoff.first * backoff.factor ** (child.in_row - 1))
        return float(seconds * (1 - backoff.jitter * self._rng.random()))

    def _terminate(self, reason: ExitReason) -> Operation:
        if self.dynamic:
            # One shared limit for all, as OTP: the total is at most the limit, not the sum.
            yield from self._stop(list(self.children.values()))
        else:
            for child in reversed(list(self.children.values())):
                yield from self._stop([child])
        for _, caller in self._queue:
            self._refuse(caller)
        self._queue.clear()
        self.finished = True
        self._out.append(Finished(reason, self._failure))

    # --- calls that change something ------------------------------------------------------------------------------

    def _answered(self, caller: Any, value: Any = None, error: SupervisorsError | None = None) -> None:
        self._caller = None
        self._out.append(Answer(caller, value, error))

    def _start_child(self, caller: Any, argument: Any) -> Operation:
        try:
            spec = self._new_spec(argument)
        except SupervisorsError as error:
            self._answered(caller, error=error)
            return
        child = self._add(spec)
        error = yield from self._start(child)
        if error is not None:
            self._forget(child)
            self._answered(caller, error=error)
            return
        ref = child.ref
        if child.state == "stopped" and (self.dynamic or spec.restart == "temporary"):
            self._forget(child)
        self._answered(caller, ref)

    def _new_spec(self, argument: Any) -> ChildSpec:
        if self.dynamic:
            if not isinstance(argument, tuple | list):
                raise SpecError(f"start_child got {argument!r}: expected a tuple of arguments, added to the template's")
            template = self.spec.children[0]
            return replace(template, args=(*template.args, *argument))
        if not isinstance(argument, ChildSpec):
            raise SpecError(f"start_child got {argument!r}: expected a ChildSpec")
        check_significant(argument, self.spec.auto_shutdown)
        for child in self.children.values():
            if child.spec.id == argument.id:
                if child.state == "running":
                    raise AlreadyStarted(f"child {argument.id!r} runs already", id=argument.id, ref=child.ref)
                raise AlreadyPresent(f"child {argument.id!r} is known and {child.state}: restart_child or delete_child", id=argument.id)
        return argument

    def _terminate_child(self, caller: Any, which: Any) -> Operation:
        if self.dynamic and not isinstance(which, Ref):
            self._answered(caller, error=NotAllowed("a simple_one_for_one supervisor's children go by Ref"))
            return
        try:
            child = self._find(which)
        except ChildNotFound as error:
            self._answered(caller, error=error)
            return
        yield from self._stop([child])
        if child.spec.restart == "temporary" or self.dynamic:
            self._forget(child)
        self._answered(caller)

    def _static(self, caller: Any, which: Any) -> Child | None:
        """Find the child for a call that a template's children refuse; answer the caller and return None if it cannot be."""
        error: SupervisorsError | None = None
        if self.dynamic:
            error = NotAllowed("a simple_one_for_one supervisor has only start_child and terminate_child")
        else:
            try:
                child = self._find(which)
            except ChildNotFound as missing:
                error = missing
            else:
                if child.state == "restarting":
                    error = ChildRestarting(f"child {which!r} is being restarted", id=child.spec.id)
                elif child.live:
                    error = ChildRunning(f"child {which!r} is running", id=child.spec.id, ref=child.ref)
                else:
                    return child
        self._answered(caller, error=error)
        return None

    def _restart_child(self, caller: Any, which: Any) -> Operation:
        child = self._static(caller, which)
        if child is None:
            return
        error = yield from self._start(child)
        if error is not None:
            child.state, child.ref = "stopped", None
        self._answered(caller, None if error else child.ref, error)

    def _delete_child(self, caller: Any, which: Any) -> Operation:
        child = self._static(caller, which)
        if child is not None:
            self._forget(child)
            self._answered(caller)
        return
        yield frozenset()  # a generator, as the other operations are


