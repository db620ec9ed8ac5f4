"""Random trees and events for the comparison with OTP's model, and the pure cores wired up to a tree."""

from __future__ import annotations

import json
import os
from collections import deque
from pathlib import Path

from core_world import BOOM

from supervisors import IGNORE, Backoff, ChildSpec, GenServer, Ref, Stop, SupervisorSpec, errors
from supervisors.supervisor import events
from supervisors.supervisor.core import SupervisorCore
from supervisors.terms.reason import NORMAL, SHUTDOWN

REASONS = {"normal": NORMAL, "shutdown": SHUTDOWN, "error": BOOM}
#: Always one second, so that attempts are made in the order in which they were put off.
BACKOFF = Backoff(first=1.0, factor=1.0, limit=1.0, jitter=0.0)


class Scripted(GenServer):
    """Starts as its plan in the folder says, and writes down what happens to it."""

    def init(self, folder, label):
        self.path, self.label, self.leaving = Path(folder), label, False
        plan = self.path / f"{label}.json"
        outcomes = json.loads(plan.read_text()) if plan.exists() else []
        outcome = outcomes.pop(0) if outcomes else "ok"
        plan.write_text(json.dumps(outcomes))
        self.write({"ok": "+", "fail": "!", "ignore": "~"}[outcome])
        if outcome == "fail":
            raise ValueError("planned")
        return IGNORE if outcome == "ignore" else None

    def handle_cast(self, reason):
        self.leaving = True
        self.write("x")
        if reason == "error":
            raise ValueError("told to")
        raise Stop(reason)

    def terminate(self, reason):
        if not self.leaving:
            self.write("-")

    def write(self, sign):
        with open(self.path / "trace", "a") as file:
            file.write(f"{sign}{self.label} {os.getpid()}\n")


# --- random things ---------------------------------------------------------------------------------------------


class Maker:
    """Makes trees and events. `choose` picks from a list: hypothesis's or a random number generator's."""

    def __init__(self, choose, folder="", backoff=True):
        self.choose, self.folder, self.backoff, self.made = choose, folder, backoff, 0

    def label(self, letter):
        self.made += 1
        return f"{letter}{self.made}"

    def worker(self, significant=False, child_id=None):
        label = child_id or self.label("w")
        return self._child(label, Scripted, (self.folder, label), significant)

    def _child(self, label, start, args, significant):
        restart = self.choose(["permanent", "permanent", "transient", "temporary"])
        significant = significant and restart != "permanent" and self.choose([True, False])
        backoff = self.choose([None, None, BACKOFF]) if self.backoff else None
        return ChildSpec(label, start, args, restart=restart, significant=significant, backoff=backoff)

    def tree(self, depth=2):
        strategy = self.choose(["one_for_one", "one_for_all", "rest_for_one", "simple_one_for_one"])
        dynamic = strategy == "simple_one_for_one"
        rule = "never" if dynamic else self.choose(["never", "never", "any_significant", "all_significant"])
        if dynamic:
            restart = self.choose(["permanent", "transient", "temporary"])
            backoff = self.choose([None, BACKOFF]) if self.backoff else None
            kids = [ChildSpec(self.label("t"), Scripted, (self.folder,), restart=restart, backoff=backoff)]
        else:
            kids = []
            for _ in range(self.choose([1, 2, 3, 4])):
                if depth and self.choose([True, False, False]):
                    kids.append(self._child(self.label("s"), self.tree(depth - 1), (), rule != "never"))
                else:
                    kids.append(self.worker(rule != "never"))
        return SupervisorSpec(kids, strategy, self.choose([0, 1, 2, 3, 5]), 1e9, rule)

    def event(self, model):
        """Return something that can happen now: (kind, ...)."""
        supervisors = model.supervisors()
        path = self.choose([path for path, _ in supervisors])
        sup = dict(supervisors)[path]
        up = [(p, kid["label"]) for p, s in supervisors for kid in s["kids"]
              if kid["type"] == "worker" and kid["state"] == "up"]  # fmt: skip
        kinds = ["plan", "call", "call", *["exit"] * 4 * bool(up), *["tick"] * bool(self.backoff)]
        kind = self.choose(kinds)
        if kind == "exit":
            return (kind, *self.choose(up), self.choose(list(REASONS)))
        if kind == "plan":
            workers = [kid["label"] for _, s in supervisors for kid in s["kids"] if kid["type"] == "worker"] or ["w1"]
            return kind, self.choose(workers), self.choose([["fail"], ["fail", "fail"], ["ignore"]])
        if kind == "tick":
            return (kind,)
        name = self.choose(["start_child", "terminate_child", "restart_child", "delete_child"])
        known = [kid["label"] for kid in sup["kids"]] or ["nobody"]
        if name != "start_child":
            dynamic = sup["spec"].strategy == "simple_one_for_one"
            return kind, path, name, self.choose(known if dynamic else [*known, "nobody"])
        if sup["spec"].strategy == "simple_one_for_one":
            return kind, path, name, (self.label("d"),)
        again = [kid["label"] for kid in sup["kids"] if kid["type"] == "worker"]
        return kind, path, name, self.worker(child_id=self.choose([None, None, *again[:1]]))


def happen(model, event):
    """Let an event happen to the model; return what a call answers."""
    kind, *rest = event
    if kind == "plan":
        model.script.setdefault(rest[0], []).extend(rest[1])
    elif kind == "tick":
        model.tick()
    else:
        path, *rest = rest
        sup = dict(model.supervisors())[path]
        if kind == "exit":
            kid = next(kid for kid in sup["kids"] if kid["label"] == rest[0])
            model.exit(sup, kid, rest[1])
        else:
            return model.call(sup, *rest)
    return None


def outcome(answer):
    """Return what a call answered in the model's words."""
    if isinstance(answer, errors.SupervisorsError):
        return type(answer).__name__
    return "ok" if isinstance(answer, Ref) else answer


# --- cores as a tree -------------------------------------------------------------------------------------------


class Branch:
    """One supervisor: its core and its processes, key -> [generation, spec, label, branch or None]."""

    def __init__(self, spec, parent=None):
        self.core, self.parent, self.live, self.labels = SupervisorCore(spec), parent, {}, {}
        self.ready = False


class Cores:
    """A tree of pure cores whose effects are carried out at once, with the model's trace."""

    def __init__(self, spec, script):
        self.trace, self.script, self.now, self.timers, self.answer = [], script, 0.0, [], None
        self._pending = deque()
        self.top = Branch(spec)
        self.do(self.top, self.top.core.start(self.now))

    def do(self, branch, effects):
        self._pending.extend((branch, effect) for effect in effects)
        while self._pending:
            self.carry_out(*self._pending.popleft())

    def event(self, branch, event):
        self.do(branch, branch.core.event(event, self.now))

    def carry_out(self, branch, effect):
        match effect:
            case events.Spawn(key=key, generation=generation, spec=spec):
                self.spawn(branch, key, generation, spec)
            case events.AskShutdown(key=key):
                _, _, label, below = branch.live[key]
                if below is not None:
                    self.do(below, below.core.shutdown(SHUTDOWN, self.now))
                else:
                    self.trace.append("-" + label)
                    self.gone(branch, key, SHUTDOWN)
            case events.SetTimer(what="retry"):
                self.timers.append((branch, effect))
            case events.Answer():
                self.answer = effect
            case events.Ready():
                branch.ready = True
                if branch.parent is not None:
                    up, key, generation = branch.parent
                    self.event(up, events.Started(key, generation, ref(key, generation)))
            case events.Finished():
                assert not branch.live, "it ended before its children"
                if branch.parent is not None:
                    up, key, generation = branch.parent
                    if not branch.ready:
                        self.event(up, events.StartFailed(key, generation, BOOM, effect.error))
                    self.gone(up, key, effect.reason if branch.ready else BOOM)

    def spawn(self, branch, key, generation, spec):
        if spec.type == "supervisor":
            below = Branch(spec.start, (branch, key, generation))
            branch.live[key] = [generation, spec, spec.id, below]
            branch.labels[key] = spec.id
            self.do(below, below.core.start(self.now))
            return
        label = spec.args[-1]
        branch.live[key] = [generation, spec, label, None]
        branch.labels[key] = label
        plan = self.script.get(label)
        come_to = plan.pop(0) if plan else "ok"
        self.trace.append({"ok": "+", "fail": "!", "ignore": "~"}[come_to] + label)
        if come_to == "ok":
            self.event(branch, events.Started(key, generation, ref(key, generation)))
            return
        ended = events.Ignored(key, generation) if come_to == "ignore" else events.StartFailed(key, generation, BOOM)
        self.event(branch, ended)
        self.gone(branch, key, NORMAL if come_to == "ignore" else BOOM)

    def gone(self, branch, key, reason):
        generation = branch.live.pop(key)[0]
        self.event(branch, events.Exited(key, generation, reason))

    def happen(self, event):
        """Let an event happen; return what a call answers."""
        kind, *rest = event
        if kind == "plan":
            self.script.setdefault(rest[0], []).extend(rest[1])
        elif kind == "tick":
            self.now += 1.0
            due, self.timers = self.timers, []
            for branch, timer in due:
                self.event(branch, events.Tick(timer.key, timer.generation, "retry"))
        else:
            path, *rest = rest
            branch = self.top
            for label in path:
                branch = next(below for _, _, name, below in branch.live.values() if name == label)
            if kind == "exit":
                key = next(key for key, (_, _, label, _) in branch.live.items() if label == rest[0])
                self.trace.append("x" + rest[0])
                self.gone(branch, key, REASONS[rest[1]])
            else:
                return self.call(branch, *rest)
        return None

    def call(self, branch, name, argument):
        if branch.core.dynamic and name == "terminate_child":
            child = next((c for c in branch.core.children if branch.labels[c.key] == argument), None)
            argument = child.ref if child is not None else Ref("h", 1, 1, 1, "nobody")
        elif branch.core.dynamic and name == "start_child":
            argument = tuple(argument)
        self.answer = None
        self.do(branch, branch.core.call("caller", name, argument, self.now))
        assert self.answer is not None, "not answered"
        return self.answer.error or self.answer.value

    def picture(self, branch=None):
        branch = branch or self.top
        if branch.core.finished:
            return None
        found = []
        for child, row in zip(branch.core.children, reversed(branch.core.children.rows()), strict=True):
            below = branch.live[child.key][3] if child.key in branch.live else None
            found.append((branch.labels.get(child.key, child.spec.id), row.state,
                          self.picture(below) if below is not None and row.state == "running" else None))  # fmt: skip
        return found


def ref(key, generation):
    return Ref("h", 1, key, generation, f"{key}.{generation}")
