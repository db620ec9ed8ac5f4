"""A supervisor's decisions, step by step, without a process."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from random import Random
from typing import Any

from supervisors.supervisor import events
from supervisors.supervisor.core import SupervisorCore
from supervisors.terms.errors import SupervisorsError
from supervisors.terms.reason import KILLED, NORMAL, SHUTDOWN, ExitReason
from supervisors.terms.ref import Ref
from supervisors.terms.spec import ChildSpec, SupervisorSpec
from supervisors.terms.views import ChildCounts, ChildInfo

#: The reason of a child that has failed or crashed, where none is given.
CRASH = ExitReason("error", {"type": "Crash", "message": "as the test says", "traceback": ""})


class CoreStepper:
    """A supervisor whose children start, fail and end when the test says so.

    Children are named by their ids. What the supervisor wants done is kept in `effects`, in order, and nothing of it
    happens by itself: a child that is being started waits for `started` or `fail`, one that is being stopped for
    `exit`.

    ::

        step = CoreStepper(SupervisorSpec([ChildSpec("a", A), ChildSpec("b", B)], strategy="one_for_all"))
        step.started("a").started("b")
        step.exit("a")                                  # a crashes: b is asked to end
        assert step.stopping == ["b"]
        step.exit("b", "shutdown")
        assert step.starting == ["a"]                   # one at a time, in order

    Args:
        spec: the supervisor's.
        now: its clock at the beginning, in seconds; only `wait` moves it.
        rng: source of the back-off's jitter.
        alive: whether the process behind a Ref that is no child here runs.

    Attributes:
        effects: what the supervisor wanted done since `take` was last called.
        answers: what `call` was answered, a value or an error, by the caller's number.
        told: its reports.
        ready: whether every child of the initial list has started.
        finished: the Finished with which it ended, or None.
    """

    #: What is stepped; a subclass may put another core here.
    core_class: type[SupervisorCore] = SupervisorCore

    def __init__(
        self,
        spec: SupervisorSpec,
        now: float = 0.0,
        rng: Random | None = None,
        alive: Callable[[Ref], bool] = lambda ref: True,
    ) -> None:
        """Make the supervisor and have it start its first child."""
        self.core = self.core_class(spec, rng, alive)
        self.now = now
        self.effects: list[events.Effect] = []
        self.answers: dict[int, Any] = {}
        self.told: list[events.Tell] = []
        self.ready = False
        self.finished: events.Finished | None = None
        self._callers = 0
        self._timers: list[tuple[float, int, events.Tick]] = []
        self._set = 0
        #: key → (generation, spec, starting, stopping) of what would be a process.
        self._live: dict[int, _Live] = {}
        self._take_in(self.core.start(now))

    # --- what happens -----------------------------------------------------------------------------------------------

    def started(self, child: str) -> CoreStepper:
        """Let the init of a child that is being started return."""
        key, live = self._find(child, starting=True)
        live.starting = False
        self._event(events.Started(key, live.generation, self._ref(key)))
        return self

    def ignore(self, child: str) -> CoreStepper:
        """Let the init of a child that is being started return IGNORE; its process ends."""
        key, live = self._find(child, starting=True)
        self._event(events.Ignored(key, live.generation))
        return self._gone(key, live, NORMAL)

    def fail(self, child: str, reason: Any = CRASH, error: SupervisorsError | None = None) -> CoreStepper:
        """Let the init of a child that is being started raise; its process ends.

        Args:
            child: its id.
            reason: as `raise Stop(reason)` takes it.
            error: what was raised, if it is one of this library's (AlreadyStarted, StartError).
        """
        key, live = self._find(child, starting=True)
        self._event(events.StartFailed(key, live.generation, ExitReason.of(reason), error))
        return self._gone(key, live, ExitReason.of(reason))

    def exit(self, child: str, reason: Any = CRASH) -> CoreStepper:
        """Let the process of a child end, by itself or because it was asked to.

        Args:
            child: its id.
            reason: as `raise Stop(reason)` takes it, or "killed".
        """
        key, live = self._find(child)
        return self._gone(key, live, KILLED if reason == "killed" else ExitReason.of(reason))

    def call(self, name: str, argument: Any = None) -> int:
        """Make an administration call; its answer is, now or later, in `answers` under the number returned.

        Args:
            name: start_child, terminate_child, which_children, ...
            argument: as the Node method of that name takes it after the supervisor.
        """
        self._callers += 1
        self._take_in(self.core.call(self._callers, name, argument, self.now))
        return self._callers

    def shutdown(self, reason: Any = SHUTDOWN) -> CoreStepper:
        """Ask the supervisor to end."""
        self._take_in(self.core.shutdown(ExitReason.of(reason), self.now))
        return self

    def wait(self, seconds: float) -> CoreStepper:
        """Let time pass: timers that the supervisor has set become due, in order."""
        end = self.now + seconds
        while due := sorted(timer for timer in self._timers if timer[0] <= end):
            self._timers.remove(due[0])
            self.now = due[0][0]
            self._event(due[0][2])
        self.now = end
        return self

    # --- what is to be seen -----------------------------------------------------------------------------------------

    @property
    def starting(self) -> list[str]:
        """Ids of the children whose init has not returned."""
        return [live.spec.id for live in self._live.values() if live.starting]

    @property
    def running(self) -> list[str]:
        """Ids of the children that run and have not been asked to end."""
        return [live.spec.id for live in self._live.values() if not live.starting and not live.stopping]

    @property
    def stopping(self) -> list[str]:
        """Ids of the children that were asked to end, or killed, and have not ended."""
        return [live.spec.id for live in self._live.values() if live.stopping]

    @property
    def view(self) -> list[ChildInfo]:
        """What `which_children` shows, newest first."""
        return self.core.children.rows()

    @property
    def counts(self) -> ChildCounts:
        """What `count_children` shows."""
        return self.core.children.counts()

    def take(self) -> list[events.Effect]:
        """Return what the supervisor wanted done since the last look."""
        taken, self.effects = self.effects, []
        return taken

    # --- inside -----------------------------------------------------------------------------------------------------

    def _find(self, child: str, starting: bool = False) -> tuple[int, _Live]:
        for key, live in self._live.items():
            if live.spec.id == child and (live.starting or not starting):
                return key, live
        what = "being started" if starting else "with a process"
        raise LookupError(f"no child {child!r} {what}: starting {self.starting}, running {self.running}")

    def _ref(self, key: int) -> Ref:
        return Ref("stepper", key, 1000 + key, self._live[key].generation, f"{key}.{self._live[key].generation}")

    def _gone(self, key: int, live: _Live, reason: ExitReason) -> CoreStepper:
        if self._live.get(key) is live:
            del self._live[key]
            self._event(events.Exited(key, live.generation, reason))
        return self

    def _event(self, event: events.Event) -> None:
        self._take_in(self.core.event(event, self.now))

    def _take_in(self, effects: list[events.Effect]) -> None:
        pending = deque(effects)
        self.effects.extend(effects)
        while pending:
            match pending.popleft():
                case events.Spawn(key=key, generation=generation, spec=spec):
                    assert key not in self._live, f"two processes of child {spec.id!r}"
                    self._live[key] = _Live(generation, spec)
                case events.AskShutdown(key=key) | events.Kill(key=key):
                    if key in self._live:
                        self._live[key].stopping = True
                case events.SetTimer(seconds=seconds, key=key, generation=generation, what=what):
                    self._set += 1
                    self._timers.append((self.now + seconds, self._set, events.Tick(key, generation, what)))
                case events.Answer(caller=caller, value=value, error=error):
                    assert caller not in self.answers, "answered twice"
                    self.answers[caller] = value if error is None else error
                case events.Tell() as tell:
                    self.told.append(tell)
                case events.Ready():
                    self.ready = True
                case events.Finished() as finished:
                    self.finished = finished


class _Live:
    """A child that would have a process."""

    def __init__(self, generation: int, spec: ChildSpec) -> None:
        self.generation, self.spec = generation, spec
        self.starting, self.stopping = True, False
