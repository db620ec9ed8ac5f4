"""A supervisor without processes: events in, effects out.

`SupervisorCore` decides everything that a supervisor does (supervisor.erl is its model) and does nothing itself:
no clock, no process, no socket. Its host (runtime/thespian/supervisor.py) turns what happens into events and what
comes back into deeds. Operations (start all, restart, stop, a call that changes something) run one at a time and
in the order in which they came (operations.py); calls that only read are answered at once (administration.py); how
one child starts and stops is in lifecycle.py. Here is what happens when: the start, exits, restarts, the end.
"""

from __future__ import annotations

from supervisors.supervisor.administration import Administration
from supervisors.supervisor.children import Child
from supervisors.supervisor.events import Effect, Event, Exited, Finished, Ready, Tick
from supervisors.supervisor.intensity import add_restart
from supervisors.supervisor.operations import Operation
from supervisors.supervisor.strategy import ends_supervisor, restart_plan, restart_wanted
from supervisors.terms.errors import StartError, SupervisorsError
from supervisors.terms.reason import SHUTDOWN, ExitReason
from supervisors.terms.spec import ChildSpec


class SupervisorCore(Administration):
    """The state machine. Feed it with `start`, `event`, `call` and `shutdown`; carry out what they return.

    Args:
        spec: the supervisor's.
        rng: source of the back-off's jitter.
        alive: whether the process behind a ref that is no child here still runs.
    """

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
        alone = spec.strategy in ("one_for_one", "simple_one_for_one")  # with thousands of children a list is too much
        plan = restart_plan(spec.strategy, [child.key] if alone else self.children.keys(), child.key)
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
            error = yield from self._start_or_drop(other, again=True)
            if error is None:
                continue
            other.reason = error.reason
            self._tell("start_error", other, error.reason)
            if child.state == "restarting":
                child.state = "stopped"  # it comes after the one that failed: not attempted yet
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


def _of_child(spec: ChildSpec, error: SupervisorsError) -> StartError:
    """Return the error of a supervisor whose child did not start."""
    if isinstance(error, StartError) and error.id == spec.id:
        return error
    return StartError(f"child {spec.id!r} did not start: {error.message}", id=spec.id, reason=error.reason)
