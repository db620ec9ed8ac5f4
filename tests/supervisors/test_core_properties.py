"""Whatever happens in whatever order, a supervisor keeps a few promises (hypothesis tries to break them)."""

import pytest
from core_world import BOOM, Server
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from property_kit import examples

from supervisors.supervisor import events
from supervisors.supervisor.core import SupervisorCore
from supervisors.supervisor.intensity import add_restart
from supervisors.supervisor.strategy import restart_plan
from supervisors.terms.reason import KILLED, NORMAL, SHUTDOWN
from supervisors.terms.ref import Ref
from supervisors.terms.spec import RESTARTS, STRATEGIES, Backoff, ChildSpec, SupervisorSpec

REASONS = st.sampled_from([NORMAL, SHUTDOWN, BOOM, KILLED])
BACKOFFS = st.sampled_from([None, None, Backoff(first=0.5, limit=4.0)])
SHUTDOWNS = st.sampled_from([1.0, 0, "brutal_kill", "infinity"])


def child_spec(draw, child_id, significant):
    restart = draw(st.sampled_from(RESTARTS))
    return ChildSpec(child_id, Server, restart=restart, shutdown=draw(SHUTDOWNS), backoff=draw(BACKOFFS),
                     significant=significant and restart != "permanent", start_timeout=5.0)  # fmt: skip


@st.composite
def supervisor_specs(draw):
    strategy = draw(st.sampled_from(STRATEGIES))
    dynamic = strategy == "simple_one_for_one"
    rule = "never" if dynamic else draw(st.sampled_from(["never", "never", "any_significant", "all_significant"]))
    children = [child_spec(draw, f"c{n}", rule != "never") for n in range(1 if dynamic else draw(st.integers(0, 4)))]
    return SupervisorSpec(children, strategy, draw(st.integers(0, 4)), 5.0, rule)


class Promises(RuleBasedStateMachine):
    """Processes do what they like, when they like; the supervisor's effects are checked as they come."""

    @initialize(spec=supervisor_specs())
    def begin(self, spec):
        self.core = SupervisorCore(spec)
        self.now = 0.0
        self.live = {}  # key -> (generation, "starting" | "ending" | "running" | "asked" | "killed")
        self.order = []  # keys of live processes of the initial list, as they were started
        self.timers, self.callers, self.answered = [], 0, set()
        self.ready = 0
        self.stopping = False
        self.finished = None
        self.stamps = []
        self.do(self.core.start(self.now))

    def do(self, effects):
        for effect in effects:
            assert self.finished is None or isinstance(effect, events.Answer)
            match effect:
                case events.Spawn(key=key, generation=generation):
                    assert not self.stopping, "a start after shutdown"
                    assert key not in self.live, "two processes of one child"
                    assert "starting" not in [state for _, state in self.live.values()], "two starts at a time"
                    self.live[key] = (generation, "starting")
                case events.AskShutdown(key=key, generation=generation):
                    self._end(key, generation, "asked")
                case events.Kill(key=key, generation=generation):
                    if key in self.live:  # a kill may come when the process is gone already
                        self._end(key, generation, "killed")
                case events.SetTimer():
                    self.timers.append((self.now + effect.seconds, effect))
                case events.Answer(caller=caller):
                    assert caller not in self.answered, "answered twice"
                    self.answered.add(caller)
                case events.Tell(kind="reached_max_restart_intensity"):
                    self.stopping = True
                case events.Ready():
                    self.ready += 1
                    assert self.ready == 1
                case events.Finished():
                    assert not self.live, "it ended before its children"
                    self.finished = effect

    def _end(self, key, generation, state):
        assert self.live[key][0] == generation
        if self.stopping and not self.core.dynamic and state == "asked":
            after = [other for other in self.live if other > key]
            assert not after, "stopped out of order"
        self.live[key] = (generation, state)

    def event(self, event):
        self.do(self.core.event(event, self.now))

    def pick(self, data, *states):
        return data.draw(st.sampled_from(sorted(key for key, (_, state) in self.live.items() if state in states)))

    def any(self, *states):
        return any(state in states for _, state in self.live.values())

    @precondition(lambda self: self.any("starting"))
    @rule(data=st.data(), outcome=st.sampled_from(["ok", "ok", "ok", "fail", "ignore", "die"]))
    def init_ends(self, data, outcome):
        key = self.pick(data, "starting")
        generation, _ = self.live[key]
        if outcome == "ok":
            self.live[key] = (generation, "running")
            self.event(events.Started(key, generation, Ref("h", 1, key, generation, str(key))))
        elif outcome == "die":
            del self.live[key]
            self.event(events.Exited(key, generation, KILLED))
        else:
            self.live[key] = (generation, "ending")
            failed = events.StartFailed(key, generation, BOOM)
            self.event(failed if outcome == "fail" else events.Ignored(key, generation))

    @precondition(lambda self: self.live)
    @rule(data=st.data(), reason=REASONS)
    def process_ends(self, data, reason):
        key = (
            self.pick(data, "ending", "running", "asked", "killed")
            if self.any("ending", "running", "asked", "killed")
            else None
        )
        if key is not None:
            generation, _ = self.live.pop(key)
            self.event(events.Exited(key, generation, reason))

    @rule(seconds=st.sampled_from([0.0, 0.3, 1.0, 5.0, 6.0]))
    def time_passes(self, seconds):
        self.now += seconds
        due = [timer for at, timer in self.timers if at <= self.now]
        self.timers = [(at, timer) for at, timer in self.timers if at > self.now]
        for timer in due:
            self.event(events.Tick(timer.key, timer.generation, timer.what))

    @rule(data=st.data(), name=st.sampled_from(["start_child", "terminate_child", "restart_child", "delete_child",
                                                "which_children", "count_children", "get_childspec"]))  # fmt: skip
    def somebody_calls(self, data, name):
        rows = self.core.children.rows()
        which = data.draw(st.sampled_from([*[row.ref or row.id for row in rows], "c0", "c1"]))
        if name == "start_child":
            which = () if self.core.dynamic else child_spec(data.draw, f"c{data.draw(st.integers(0, 6))}", False)
        self.callers += 1
        self.do(self.core.call(self.callers, name, which, self.now))

    @rule()
    def is_told_to_stop(self):
        self.stopping = True
        self.do(self.core.shutdown(SHUTDOWN, self.now))

    @invariant()
    def knows_its_processes(self):
        assert len(self.core.stamps) <= self.core.spec.intensity + 1
        assert len(self.core.stamps) <= self.core.spec.intensity or self.core._ending
        if self.finished is None:
            counts = self.core.children.counts()
            assert counts.active <= len(self.live) + len(self.core._ended)

    def teardown(self):
        if not hasattr(self, "core"):
            return
        self.stopping = True
        self.do(self.core.shutdown(SHUTDOWN, self.now))
        while self.live:
            key = max(self.live)
            generation, _ = self.live.pop(key)
            self.event(events.Exited(key, generation, SHUTDOWN))
        assert self.finished is not None, "it does not end"
        assert len(self.answered) == self.callers, "a call was never answered"


TestPromises = Promises.TestCase
TestPromises.settings = settings(max_examples=examples(75), stateful_step_count=40, deadline=None)


@pytest.mark.soak
def test_a_supervisor_keeps_its_promises_for_long(rounds):
    for _ in rounds:
        run_state_machine_as_test(Promises, settings=settings(Promises.TestCase.settings, database=None))


# rows: 33, 34
@given(st.lists(st.floats(0, 3)), st.integers(0, 5), st.floats(0.1, 8))
def test_the_window_admits_exactly_so_many_restarts(gaps, intensity, period):
    now, stamps, times = 0.0, (), []
    for gap in gaps:
        now += gap
        stamps, allowed = add_restart(stamps, now, intensity, period)
        times.append(now)
        assert allowed == (sum(now - each < period for each in times) <= intensity)


# rows: 25, 26, 27
@given(st.sampled_from(STRATEGIES), st.lists(st.integers(), unique=True, min_size=1), st.data())
def test_a_plan_stops_backwards_what_it_starts_forwards(strategy, order, data):
    ended = data.draw(st.sampled_from(order))
    plan = restart_plan(strategy, order, ended)
    assert [key for key in order if key in plan.start] == list(plan.start)
    assert [key for key in reversed(plan.start) if key != ended] == list(plan.stop)
    first = {"one_for_all": 0, "rest_for_one": order.index(ended)}.get(strategy)
    assert list(plan.start) == ([ended] if first is None else order[first:])


@given(st.integers(0, 5000), st.floats(0, 1))
def test_a_backoff_stays_within_its_limit(in_row, luck):
    backoff = Backoff(first=0.1, factor=3.0, limit=7.0, jitter=0.5)
    assert 0.05 <= backoff.delay(in_row, luck) <= 7.0
