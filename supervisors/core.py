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
from dataclasses import replace
from typing import Any

from supervisors.children import Child, Children
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
from supervisors.events import (
    Answer,
    AskShutdown,
    Effect,
    Event,
    Exited,
    Finished,
    Ignored,
    Kill,
    Ready,
    SetTimer,
    Spawn,
    Started,
    StartFailed,
    Tell,
    Tick,
)
from supervisors.intensity import add_restart
from supervisors.reason import SHUTDOWN, ExitReason, Ref
from supervisors.spec import ChildSpec, SupervisorSpec, check_significant
from supervisors.strategy import ends_supervisor, expected_at_shutdown, restart_plan, restart_wanted

#: A process whose init failed has this long to be gone before it is killed.
REAP_SECONDS = 2.0

#: Yields the keys of the children whose events it waits for.
Operation = Generator[frozenset[int], Event, None]


class SupervisorCore:
    """The state machine. Feed it with `start`, `event`, `call` and `shutdown`; carry out what they return.

    Args:
        spec: the supervisor's.
        rng: source of the back-off's jitter.
        alive: whether the process behind a ref that is no child here still runs.
    """

    def __init__(
        self,
        spec: SupervisorSpec,
        rng: random.Random | None = None,
        alive: Callable[[Ref], bool] = lambda ref: True,
    ) -> None:
        """Make one that has not started anything yet."""
        self.spec = spec
        self.dynamic = spec.strategy == "simple_one_for_one"
        self.children = Children(self.dynamic)
        self.stamps: tuple[float, ...] = ()
        self.finished = False
        self._rng = rng or random.Random()  # noqa: S311 - jitter
        self._alive = alive
        self._now = 0.0
        self._out: list[Effect] = []
        self._queue: deque[tuple[Callable[[], Operation], Any]] = deque()
        self._operation: Operation | None = None
        self._caller: Any = None
        self._waiting: frozenset[int] = frozenset()
        self._ended: dict[int, ExitReason] = {}
        self._ending = False
        self._failure: StartError | None = None

    # --- what comes in --------------------------------------------------------------------------------------------

    def start(self, now: float) -> list[Effect]:
        """Start the children of the spec, one after the other."""
        self._now = now
        if not self.dynamic:
            for spec in self.spec.children:
                self.children.add(spec)
        self._queue.append((self._start_all, None))
        return self._drain()

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
        elif isinstance(event, Tick) and event.what == "retry":
            self._queue.append((lambda: self._retry(child, event.generation), None))
        return self._drain()

    def call(self, caller: Any, name: str, argument: Any, now: float) -> list[Effect]:
        """Answer a call now if it only reads; else queue it behind what is under way."""
        self._now = now
        reads: dict[str, Callable[[Any], Any]] = {
            "which_children": lambda _: self.children.rows(),
            "count_children": lambda _: self.children.counts(),
            "get_childspec": lambda which: self.children.find(which).spec.with_defaults(),
        }
        writes: dict[str, Callable[[Any, Any], Operation]] = {
            "start_child": self._start_child,
            "terminate_child": self._terminate_child,
            "restart_child": self._restart_child,
            "delete_child": self._delete_child,
        }
        if self.finished:
            self._refuse(caller)
        elif name in reads:
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
        """Stop all children, in reverse order, and end; what is under way is given up, what waits is refused.

        A supervisor that is ending already goes on as it is: asking twice does not prolong anybody's time.
        """
        self._now = now
        if self.finished or self._ending:
            return []
        if self._operation is not None:
            self._operation.close()
            self._refuse(self._caller)
        self._operation = None
        self._refuse_queue()
        self._queue.append((lambda: self._terminate(reason), None))
        return self._drain()

    # --- the engine -----------------------------------------------------------------------------------------------

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
            error = ServerExited("the supervisor is shutting down", reason=SHUTDOWN)
            self._out.append(Answer(caller, error=error))

    def _refuse_queue(self) -> None:
        for _, caller in self._queue:
            self._refuse(caller)
        self._queue.clear()

    def _tell(self, kind: str, child: Child, reason: ExitReason | None = None, **extra: Any) -> None:
        spec = child.spec.with_defaults()
        about = {"restart": spec.restart, "shutdown": spec.shutdown, "type": spec.type, **extra}
        self._out.append(Tell(kind, spec.id, child.ref.pid if child.ref else None, reason, about))

    def _timer(self, seconds: float, child: Child, what: str) -> None:
        self._out.append(SetTimer(seconds, child.key, child.generation, what))

    # --- one child ------------------------------------------------------------------------------------------------

    def _start(self, child: Child) -> Generator[frozenset[int], Event, SupervisorsError | None]:
        """Start one child and wait for its init; return None when it runs or chose not to, else the error."""
        child.generation += 1
        child.state, child.ref = "starting", None
        self._out.append(Spawn(child.key, child.generation, child.spec))
        self._timer(child.spec.start_timeout, child, "start")
        outcome: StartFailed | Ignored | None = None
        timed_out = False
        while True:
            event = yield frozenset({child.key})
            match event:
                case Started(ref=ref) if not timed_out:
                    child.state, child.ref, child.since = "running", ref, self._now
                    self._tell("progress", child)
                    return None
                case Tick(what="start") if outcome is None:
                    timed_out = True
                    self._out.append(Kill(child.key, child.generation))
                case Tick(what="reap"):
                    self._out.append(Kill(child.key, child.generation))
                case StartFailed() | Ignored() if not timed_out:
                    # The start is over when the process is gone: whoever tries again finds name and port free.
                    outcome = event
                    self._timer(REAP_SECONDS, child, "reap")
                case Exited(reason=reason):
                    child.state = "stopped"
                    if isinstance(outcome, Ignored):
                        return None
                    return _start_error(child.spec, outcome, timed_out, reason)

    def _start_or_drop(self, child: Child) -> Generator[frozenset[int], Event, SupervisorsError | None]:
        """Start a child, and forget it if it chose not to run and leaves nothing to restart."""
        error = yield from self._start(child)
        if error is None and child.state == "stopped" and self._leaves_nothing(child):
            self._forget(child)
        return error

    def _stop(self, children: Iterable[Child]) -> Generator[frozenset[int], Event, None]:
        """Stop children at the same time, each by its own rule, and wait until they are gone."""
        left: dict[int, tuple[Child, bool]] = {}
        for child in children:
            if child.key in self._ended:
                self._after_stop(child, self._ended.pop(child.key), brutal=False)
                continue
            if not child.live:
                child.state = "stopped"
                continue
            # A worker that is still in its init has nothing to clean up; a supervisor has children to stop.
            starting = child.state == "starting" and child.spec.type == "worker"
            brutal = child.spec.shutdown == "brutal_kill" or starting
            child.state = "stopping"
            left[child.key] = (child, brutal)
            if brutal:
                self._out.append(Kill(child.key, child.generation))
                continue
            self._out.append(AskShutdown(child.key, child.generation))
            limit = child.spec.shutdown_limit
            if limit is not None:
                self._timer(limit, child, "shutdown")
        while left:
            event = yield frozenset(left)
            child, brutal = left[event.key]
            match event:
                case Tick(what="shutdown"):
                    self._out.append(Kill(child.key, child.generation))
                case Exited(reason=reason):
                    del left[event.key]
                    self._after_stop(child, reason, brutal)

    def _after_stop(self, child: Child, reason: ExitReason, brutal: bool) -> None:
        if not expected_at_shutdown(child.spec.restart, brutal, reason):
            self._tell("shutdown_error", child, reason)
        child.state, child.ref = "stopped", None

    def _leaves_nothing(self, child: Child) -> bool:
        """Whether nothing is kept of this child once it has no process."""
        return self.dynamic or child.spec.restart == "temporary"

    def _forget(self, child: Child) -> None:
        self.children.forget(child)
        self._ended.pop(child.key, None)

    # --- operations -----------------------------------------------------------------------------------------------

    def _start_all(self) -> Operation:
        for child in self.children:
            error = yield from self._start_or_drop(child)
            if error is not None:
                self._tell("start_error", child, error.reason)
                self._failure = _of_child(child.spec, error)
                yield from self._terminate(SHUTDOWN)
                return
        self._out.append(Ready())

    def _on_exit(self, child: Child) -> Operation:
        reason = self._ended.pop(child.key, None)
        if reason is None or self.children.get(child.key) is None:
            return  # an operation that ran meanwhile has dealt with it
        child.state, child.reason = "stopped", reason
        wanted = restart_wanted(child.spec.restart, reason)
        if wanted or reason.abnormal:
            self._tell("child_terminated", child, reason)
        if not self.dynamic:
            child.ref = None
        if wanted:
            backoff = child.spec.backoff
            if backoff is None:
                yield from self._restart(child)
                return
            if self._now - child.since >= backoff.limit:
                child.in_row = 0
            self._restart_later(child)
            return
        if self._leaves_nothing(child):
            self._forget(child)
        if child.spec.significant:
            left = sum(
                other.spec.significant and (other.ready or other.state == "restarting") for other in self.children
            )
            if ends_supervisor(self.spec.auto_shutdown, left):
                yield from self._terminate(SHUTDOWN)

    def _restart_later(self, child: Child) -> None:
        """Have another attempt made: behind what waits already, or after the child's back-off."""
        child.state = "restarting"
        generation = child.generation
        if child.spec.backoff is None:
            self._queue.append((lambda: self._retry(child, generation), None))
            return
        self._timer(child.spec.backoff.delay(child.in_row, self._rng.random()), child, "retry")
        child.in_row += 1

    def _retry(self, child: Child, generation: int) -> Operation:
        current = self.children.get(child.key) is child and child.generation == generation
        if current and child.state == "restarting":
            yield from self._restart(child)

    def _restart(self, child: Child) -> Operation:
        """Count one restart, then do it by the strategy."""
        spec = self.spec
        self.stamps, allowed = add_restart(self.stamps, self._now, spec.intensity, spec.period)
        if not allowed:
            about = {"count": len(self.stamps), "intensity": spec.intensity, "period": spec.period}
            self._tell("reached_max_restart_intensity", child, child.reason, **about)
            yield from self._terminate(SHUTDOWN)
            return
        plan = restart_plan(spec.strategy, [other.key for other in self.children], child.key)
        child.state = "restarting"
        for key in plan.stop:
            other = self.children.get(key)
            if other is not None:
                yield from self._stop([other])
                if self._leaves_nothing(other):
                    self._forget(other)
        for key in plan.start:
            other = self.children.get(key)
            if other is None:
                continue
            other.restarts += 1
            old_ref = other.ref
            error = yield from self._start_or_drop(other)
            if error is None:
                continue
            other.reason = error.reason
            self._tell("start_error", other, error.reason)
            if child.state == "restarting":
                child.state = "stopped"  # it comes after the one that failed: not attempted yet
            other.ref = old_ref  # under simple_one_for_one the old ref still names it
            self._restart_later(other)
            return

    def _terminate(self, reason: ExitReason) -> Operation:
        self._ending = True
        if self.dynamic:
            # All at once, as OTP: the total is at most the template's limit, not the sum.
            yield from self._stop(self.children)
        else:
            for child in reversed(list(self.children)):
                yield from self._stop([child])
        self._refuse_queue()
        self.finished = True
        self._out.append(Finished(reason, self._failure))

    # --- calls that change something ------------------------------------------------------------------------------

    def _answer(self, caller: Any, value: Any = None, error: SupervisorsError | None = None) -> None:
        self._caller = None
        self._out.append(Answer(caller, value, error))

    def _start_child(self, caller: Any, argument: Any) -> Operation:
        try:
            spec = self._new_spec(argument)
        except SupervisorsError as error:
            self._answer(caller, error=error)
            return
        child = self.children.add(spec)
        failure = yield from self._start_or_drop(child)
        if failure is not None:
            self._forget(child)
        self._answer(caller, child.ref, failure)

    def _new_spec(self, argument: Any) -> ChildSpec:
        if self.dynamic:
            if not isinstance(argument, tuple | list):
                raise SpecError(f"start_child got {argument!r}: expected a tuple of arguments, added to the template's")
            template = self.spec.children[0]
            return replace(template, args=(*template.args, *argument))
        if not isinstance(argument, ChildSpec):
            raise SpecError(f"start_child got {argument!r}: expected a ChildSpec")
        check_significant(argument, self.spec.auto_shutdown)
        known = self.children.with_id(argument.id)
        if known is None:
            return argument
        if known.ready:
            raise AlreadyStarted(f"child {known.spec.id!r} runs already", id=known.spec.id, ref=known.ref)
        raise AlreadyPresent(
            f"child {known.spec.id!r} is known and {known.state}: restart_child or delete_child",
            id=known.spec.id,
        )

    def _terminate_child(self, caller: Any, which: Any) -> Operation:
        if self.dynamic and not isinstance(which, Ref):
            error = NotAllowed("under simple_one_for_one a child is named by its Ref")
            self._answer(caller, error=error)
            return
        try:
            child = self.children.find(which)
        except ChildNotFound as missing:
            gone = isinstance(which, Ref) and self.dynamic and not self._alive(which)
            self._answer(caller, error=None if gone else missing)
            return
        yield from self._stop([child])
        if self._leaves_nothing(child):
            self._forget(child)
        self._answer(caller)

    def _stopped(self, which: Any) -> Child:
        """Return the child that a call is about which only a stopped one can get.

        Raises:
            NotAllowed, ChildNotFound, ChildRestarting, ChildRunning: it cannot be done.
        """
        if self.dynamic:
            raise NotAllowed("a simple_one_for_one supervisor has no restart_child and no delete_child")
        child = self.children.find(which)
        if child.state == "restarting":
            raise ChildRestarting(f"child {which!r} is being restarted", id=child.spec.id)
        if child.live:
            raise ChildRunning(f"child {which!r} is running", id=child.spec.id, ref=child.ref)
        return child

    def _restart_child(self, caller: Any, which: Any) -> Operation:
        try:
            child = self._stopped(which)
        except SupervisorsError as error:
            self._answer(caller, error=error)
            return
        failure = yield from self._start(child)
        self._answer(caller, child.ref, failure)

    def _delete_child(self, caller: Any, which: Any) -> Operation:
        try:
            self._forget(self._stopped(which))
        except SupervisorsError as error:
            self._answer(caller, error=error)
        else:
            self._answer(caller)
        return
        yield frozenset()  # a generator, as the other operations are


def _start_error(spec: ChildSpec, outcome: Event | None, timed_out: bool, reason: ExitReason) -> SupervisorsError:
    if timed_out:
        message = f"init took more than {spec.start_timeout:g} s"
        reason = ExitReason("error", {"type": "StartTimeout", "message": message, "traceback": ""})
    elif isinstance(outcome, StartFailed):
        reason = outcome.reason
        if isinstance(outcome.error, AlreadyStarted | StartError):
            outcome.error.reason = outcome.error.reason or reason
            return outcome.error
    return StartError(f"child {spec.id!r} did not start: {reason}", id=spec.id, reason=reason)


def _of_child(spec: ChildSpec, error: SupervisorsError) -> StartError:
    """Return the error of a supervisor whose child did not start."""
    if isinstance(error, StartError) and error.id == spec.id:
        return error
    return StartError(f"child {spec.id!r} did not start: {error.message}", id=spec.id, reason=error.reason)
