"""One child: how it is started, and how it is stopped (supervisor.erl, do_start_child and shutdown)."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from dataclasses import replace

from supervisors.supervisor.children import Child
from supervisors.supervisor.events import AskShutdown, Event, Exited, Ignored, Kill, Spawn, Started, StartFailed, Tick
from supervisors.supervisor.operations import Machine
from supervisors.supervisor.strategy import expected_at_shutdown
from supervisors.terms.errors import AlreadyStarted, StartError, SupervisorsError
from supervisors.terms.reason import ExitReason
from supervisors.terms.spec import ChildSpec

#: A process whose init failed has this long to be gone before it is killed.
REAP_SECONDS = 2.0


class Lifecycle(Machine):
    """The start and the stop of children, as parts of operations."""

    def _start(self, child: Child, again: bool = False) -> Generator[frozenset[int], Event, SupervisorsError | None]:
        """Start one child and wait for its init; return None when it runs or chose not to, else the error.

        Args:
            child: the one.
            again: it is a restart; until it is over the child shows as restarting.
        """
        child.generation += 1
        child.state, child.again, child.info = "starting", again, None
        if not self.dynamic:
            child.ref = None
        self._out.append(Spawn(child.key, child.generation, child.spec))
        self._timer(child.spec.start_timeout, child, "start")
        outcome: StartFailed | Ignored | None = None
        timed_out = False
        while True:
            event = yield frozenset({child.key})
            match event:
                case Started(ref=ref, info=info) if not timed_out:
                    self.children.has_started(child, ref)
                    child.state, child.since, child.info = "running", self._now, info
                    if child.spec.restart == "temporary":
                        # Never started again: what it was started with is not kept.
                        child.spec = replace(child.spec, args=(), kwargs={})
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

    def _start_or_drop(
        self, child: Child, again: bool = False
    ) -> Generator[frozenset[int], Event, SupervisorsError | None]:
        """Start a child, and forget it if it chose not to run and leaves nothing to restart."""
        error = yield from self._start(child, again)
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
        child.state = "stopped"
        if not self.dynamic:
            child.ref = None

    def _leaves_nothing(self, child: Child) -> bool:
        """Whether nothing is kept of this child once it has no process."""
        return self.dynamic or child.spec.restart == "temporary"

    def _forget(self, child: Child) -> None:
        self.children.forget(child)
        self._ended.pop(child.key, None)


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
