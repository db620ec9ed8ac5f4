"""Processes that are not there: a world in which a SupervisorCore can be tried out, in the notation of OTP.md.

`+A` A's init finished, `!A` an attempt to start A failed, `-A` A was stopped by its supervisor, `xA` A ended by itself.
"""

from __future__ import annotations

from collections import deque

from supervisors.errors import SupervisorsError
from supervisors.genserver import GenServer
from supervisors.supervisor import events
from supervisors.supervisor.core import SupervisorCore
from supervisors.terms.reason import KILLED, SHUTDOWN, ExitReason
from supervisors.terms.ref import Ref
from supervisors.terms.spec import ChildSpec, SupervisorSpec

BOOM = ExitReason("error", {"type": "ValueError", "message": "boom", "traceback": ""})


class Server(GenServer):
    pass


def specs(ids="ABC", **fields):
    return [ChildSpec(each, Server, **fields) for each in ids]


def supervisor(children="ABC", strategy="one_for_one", intensity=2, period=10.0, **fields):
    children = specs(children) if isinstance(children, str) else children
    return SupervisorSpec(children, strategy, intensity, period, **fields)


class World:
    """Carries out a core's effects at once, as `script` says: per id, the outcomes of its next starts."""

    def __init__(self, spec, script=None, alive=lambda ref: True, rng=None):
        self.core = SupervisorCore(spec, rng, alive)
        self.now = 100.0
        self.script = {key: deque(value) for key, value in (script or {}).items()}
        self.trace, self.told, self.answers, self.timers = [], [], {}, []
        self.live, self.asked = {}, set()
        self.ready = 0
        self.finished = None
        self.deaf = set()  # ids that do not end when they are asked to
        self._pending = deque()

    def start(self):
        self.do(self.core.start(self.now))
        return self

    def do(self, effects):
        self._pending.extend(effects)
        while self._pending:
            self._one(self._pending.popleft())

    def event(self, event):
        self.do(self.core.event(event, self.now))

    def _one(self, effect):
        match effect:
            case events.Spawn(key=key, generation=generation, spec=spec):
                self._spawn(key, generation, spec)
            case events.AskShutdown(key=key, generation=generation):
                self.asked.add(key)
                if self.live[key][1].id not in self.deaf:
                    self._ended(key, generation, "-", SHUTDOWN)
            case events.Kill(key=key, generation=generation):
                self._ended(key, generation, "-", KILLED)
            case events.SetTimer():
                self.timers.append((self.now + effect.seconds, effect))
            case events.Answer():
                assert effect.caller not in self.answers, "answered twice"
                self.answers[effect.caller] = effect.error if effect.error is not None else effect.value
            case events.Tell():
                self.told.append(effect)
            case events.Ready():
                self.ready += 1
            case events.Finished():
                assert self.finished is None
                assert not self.live
                self.finished = effect

    def _spawn(self, key, generation, spec):
        assert key not in self.live, "two processes of one child"
        self.live[key] = (generation, spec)
        plan = self.script.get(spec.id)
        outcome = plan.popleft() if plan else "ok"
        if outcome == "ok":
            self.trace.append(f"+{spec.id}")
            self.event(events.Started(key, generation, self.ref(key)))
        elif outcome == "hang":
            pass
        else:
            self.trace.append(f"!{spec.id}" if outcome != "ignore" else f"~{spec.id}")
            if outcome == "ignore":
                self.event(events.Ignored(key, generation))
            elif isinstance(outcome, SupervisorsError):
                self.event(events.StartFailed(key, generation, BOOM, outcome))
            elif outcome == "fail":
                self.event(events.StartFailed(key, generation, BOOM))
            self._ended(key, generation, "", KILLED if outcome == "die" else BOOM)

    def _ended(self, key, generation, sign, reason):
        if self.live.get(key, (None,))[0] == generation:
            spec = self.live.pop(key)[1]
            if sign:
                self.trace.append(f"{sign}{spec.id}")
            self.event(events.Exited(key, generation, reason))

    def ref(self, key):
        return Ref("h", 1000 + key, 5000 + key, self.live[key][0], f"{key}")

    def key(self, child_id):
        return next(key for key, (_, spec) in self.live.items() if spec.id == child_id)

    def end(self, which, reason=BOOM):
        """Let a process end by itself."""
        key = which if isinstance(which, int) else self.key(which)
        self._ended(key, self.live[key][0], "x", reason)
        return self

    def call(self, name, argument=None):
        caller = f"{name} {len(self.answers)} {self.now}"
        self.do(self.core.call(caller, name, argument, self.now))
        return self.answers.get(caller)

    def begin(self, caller, name, argument=None):
        self.do(self.core.call(caller, name, argument, self.now))

    def shutdown(self, reason=SHUTDOWN):
        self.do(self.core.shutdown(reason, self.now))

    def tick(self, seconds):
        """Let time pass."""
        end = self.now + seconds
        while due := sorted((at, index) for index, (at, _) in enumerate(self.timers) if at <= end):
            at, index = due[0]
            timer = self.timers.pop(index)[1]
            self.now = at
            self.event(events.Tick(timer.key, timer.generation, timer.what))
        self.now = end

    def take(self):
        """Return what happened since the last look."""
        done, self.trace = " ".join(self.trace), []
        return done

    def states(self):
        return {row.id: row.state for row in reversed(self.core.children.rows())}

    def counts(self):
        counts = self.core.children.counts()
        return counts.specs, counts.active, counts.supervisors, counts.workers
