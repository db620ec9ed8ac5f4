import pytest
from hypothesis import settings
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

from dspex_actors.errors import ConfigError
from dspex_actors.runs.plan.plan import RunPlan
from dspex_actors.runs.plan.stop_rule import StopRule
from dspex_actors.runs.plan.types import PlanSettings
from dspex_actors.runs.plan.windows import share


class Workers(RuleBasedStateMachine):
    """Workers that ask at most their window at once, in order, and die, fail and answer at any time."""

    @initialize(
        limit=st.integers(1, 12),
        total=st.integers(0, 60),
        attempts=st.integers(1, 4),
        chunk=st.integers(1, 8),
        size=st.integers(0, 40),
        policy=st.sampled_from(["retry", "skip"]),
        strategy=st.sampled_from(["round_robin", "load_balanced", "capability_aware"]),
    )
    def begin(self, limit, total, attempts, chunk, size, policy, strategy):
        self.limit, self.total, self.attempts = limit, total, attempts
        self.plan = RunPlan(
            PlanSettings(
                max_in_flight=limit,
                max_attempts=attempts,
                chunk_examples=chunk,
                chunk_bytes=100,
                failures=policy,
                strategy=strategy,
                requires=frozenset({"gpu"}),
            )
        )
        self.size, self.fed, self.names = size, 0, 0
        self.workers, self.done, self.late, self.ended = {}, {}, [], False
        self.sent = {}

    def pump(self):
        while count := self.plan.wanted():
            for _ in range(count):
                if self.fed == self.total:
                    self.plan.source_ended()
                    self.ended = True
                    break
                self.plan.feed(self.fed, b"x" * self.size)
                self.fed += 1
        given_back = []
        for chunk in self.plan.take():
            worker = self.workers[chunk.worker]
            worker["window"] = chunk.window
            worker["queue"] += [(index, send) for index, send, _ in chunk.items]
            assert sum(len(payload) for _, _, payload in chunk.items) <= 100 or len(chunk.items) == 1
            for index, _, _ in chunk.items:
                assert index not in self.done
                self.sent[index] = self.sent.get(index, 0) + 1
                assert not worker.get("rests")
            if not chunk.window:
                given_back += worker["queue"]
                worker["queue"] = []
        if given_back:
            for answer in given_back:
                self.report(answer, "free")
            self.pump()
        for worker in self.workers.values():
            while worker["queue"] and len(worker["asking"]) < worker["window"]:
                worker["asking"].append(worker["queue"].pop(0))

    @rule(most=st.none() | st.integers(1, 6), gpu=st.booleans())
    def join(self, most, gpu):
        if len(self.workers) < 5:
            self.names += 1
            self.workers[self.names] = {"window": 0, "queue": [], "asking": [], "gpu": gpu}
            self.plan.worker_joined(self.names, most=most, capabilities={"gpu"} if gpu else ())
            self.pump()

    @precondition(lambda self: self.workers)
    @rule(data=st.data(), blameless=st.booleans())
    def die(self, data, blameless):
        name = data.draw(st.sampled_from(sorted(self.workers)))
        gone = self.workers.pop(name)
        self.late += gone["asking"]
        for lost in self.plan.worker_left(name, blameless=blameless):
            assert not blameless
            self.settle(lost.index, "WorkerDied", lost.attempts)
        self.pump()

    @precondition(lambda self: self.workers)
    @rule(data=st.data(), rests=st.booleans())
    def rest_or_work_again(self, data, rests):
        name = data.draw(st.sampled_from(sorted(self.workers)))
        self.plan.worker_rests(name, rests=rests)
        self.workers[name]["rests"] = rests
        self.pump()

    @precondition(lambda self: any(worker["asking"] for worker in self.workers.values()))
    @rule(data=st.data(), kind=st.sampled_from(["good", "good", "good", "bad", "free"]))
    def answer(self, data, kind):
        name = data.draw(st.sampled_from(sorted(n for n, worker in self.workers.items() if worker["asking"])))
        asking = self.workers[name]["asking"]
        self.report(asking.pop(data.draw(st.integers(0, len(asking) - 1))), kind)
        self.pump()

    @precondition(lambda self: self.late)
    @rule(data=st.data(), kind=st.sampled_from(["good", "bad", "free"]), keep=st.booleans())
    def a_late_answer_comes_perhaps_twice(self, data, kind, keep):
        at = data.draw(st.integers(0, len(self.late) - 1))
        self.report(self.late[at] if keep else self.late.pop(at), kind)
        self.pump()

    def report(self, answer, kind):
        index, send = answer
        found = self.plan.result(index, send, error=None if kind == "good" else "Timeout", free=kind == "free")
        if found.fate == "accept":
            self.settle(index, kind, found.attempts)
            assert found.payload == b"x" * self.size

    def settle(self, index, how, attempts):
        assert index not in self.done
        assert 1 <= attempts <= self.attempts
        self.done[index] = how

    @invariant()
    def the_limit_holds_and_nothing_is_lost(self):
        if not hasattr(self, "plan"):
            return
        assert sum(len(worker["asking"]) for worker in self.workers.values()) <= self.limit
        assert self.plan.outstanding + self.plan.waiting + len(self.done) == self.fed
        assert self.plan.finished == (self.ended and len(self.done) == self.total)
        assert self.plan._bytes == self.size * (self.fed - len(self.done))
        for name, worker in self.workers.items():
            assert not worker["queue"] or len(worker["asking"]) >= worker["window"]
            if not worker["gpu"]:
                assert not worker["asking"], name

    def teardown(self):
        if not hasattr(self, "plan"):
            return
        if not any(worker["gpu"] for worker in self.workers.values()):
            self.names += 1
            self.workers[self.names] = {"window": 0, "queue": [], "asking": [], "gpu": True}
            self.plan.worker_joined(self.names, capabilities={"gpu"})
        for name, worker in self.workers.items():
            worker["rests"] = False
            self.plan.worker_rests(name, rests=False)
        self.pump()
        for _ in range(20 * (self.total + 5)):
            if self.plan.finished:
                break
            for worker in list(self.workers.values()):
                if worker["asking"]:
                    self.report(worker["asking"].pop(0), "good")
            self.pump()
        assert self.plan.finished
        assert sorted(self.done) == list(range(self.total))


Workers.TestCase.settings = settings(
    max_examples=examples(60), stateful_step_count=40, deadline=None, report_multiple_bugs=False
)
TestWorkers = Workers.TestCase


@pytest.mark.soak
def test_workers_for_long(rounds):
    for _ in rounds:
        run_state_machine_as_test(Workers, settings=settings(Workers.TestCase.settings, database=None))


def run(plan, total, answer, *, workers=("a", "b")):
    """Drive a plan to its end: every worker answers what it has, in order; return the order of asking."""
    for worker in workers:
        plan.worker_joined(worker)
    fed, asked, flying = 0, [], []
    while not plan.finished:
        while count := plan.wanted():
            for _ in range(count):
                if fed == total:
                    plan.source_ended()
                    break
                plan.feed(fed, b"x")
                fed += 1
        for chunk in plan.take():
            flying += [(chunk.worker, index, send) for index, send, _ in chunk.items]
        asked += flying
        now, flying = flying, []
        if not now:
            return asked
        for worker, index, send in now:
            plan.result(index, send, **answer(index, worker))
    return asked


def test_a_worker_is_given_more_than_its_window_so_that_it_never_waits():
    plan = RunPlan(PlanSettings(max_in_flight=64))
    plan.worker_joined("a")
    for _ in range(10):
        for _ in range(plan.wanted()):
            plan.feed(plan._next_index, b"x")
    (chunk,) = plan.take()
    assert (chunk.window, len(chunk.items)) == (64, 128)
    plan.result(0, 1)
    plan.note_latency(10.0)
    assert plan.take() == []


def test_few_examples_are_split_over_all_workers():
    plan = RunPlan(PlanSettings(max_in_flight=64))
    for worker in "abcd":
        plan.worker_joined(worker)
    for index in range(8):
        plan.feed(index, b"x")
    assert [len(chunk.items) for chunk in plan.take()] == [2, 2, 2, 2]


def test_a_failed_example_is_tried_elsewhere():
    plan, failed_at = RunPlan(PlanSettings(max_in_flight=4)), []

    def answer(index, worker):
        if index == 7 and not failed_at:
            failed_at.append(worker)
            return {"error": "Timeout"}
        return {}

    asked = run(plan, 20, answer)
    workers = [worker for worker, index, _ in asked if index == 7]
    assert len(workers) == 2
    assert workers[0] == failed_at[0] != workers[1]
    assert plan.failed == 0


@pytest.mark.parametrize(
    ("settings_", "asked_of_bad", "failed", "why"),
    [
        ({"failures": "retry", "max_attempts": 3}, 3, 1, None),
        ({"failures": "retry", "max_attempts": 1}, 1, 1, None),
        ({"failures": "skip"}, 1, 1, None),
        ({"failures": "stop"}, 1, 1, "failure"),
        ({"failures": "skip", "max_failures": 0}, 1, 1, "max_failures"),
        ({"failures": "skip", "max_failures": 1}, 1, 1, None),
    ],
)
def test_failures_are_dealt_with_as_the_settings_say(settings_, asked_of_bad, failed, why):
    plan = RunPlan(PlanSettings(max_in_flight=4, **settings_))
    asked = run(plan, 12, lambda index, _: {"error": "Timeout" if index == 5 else None})
    assert sum(index == 5 for _, index, _ in asked) == asked_of_bad
    assert (plan.failed, plan.stopped) == (failed, why)


def test_a_refusal_for_now_is_no_attempt():
    plan = RunPlan(PlanSettings(max_in_flight=2, max_attempts=1))
    left = [5]

    def answer(index, _):
        if index == 1 and left[0]:
            left[0] -= 1
            return {"error": "RateLimited", "free": True}
        return {}

    run(plan, 3, answer)
    assert (plan.failed, plan.finished_examples, left) == (0, 3, [0])


def test_one_deadly_example_fails_alone():
    """Its worker dies whenever it is asked, with all the others that worker held."""
    plan = RunPlan(PlanSettings(max_in_flight=32, max_attempts=3))
    plan.worker_joined(0)
    fed, lost, deaths, flying = 0, [], 0, []
    while not plan.finished:
        while count := plan.wanted():
            for _ in range(count):
                if fed == 200:
                    plan.source_ended()
                    break
                plan.feed(fed, b"x")
                fed += 1
        for chunk in plan.take():
            flying += chunk.items
        if any(index == 20 for index, _, _ in flying):
            lost += plan.worker_left(deaths)
            deaths += 1
            flying = []
            plan.worker_joined(deaths)
            continue
        now, flying = flying, []
        for index, send, _ in now:
            plan.result(index, send)
    assert [gone.index for gone in lost] == [20]
    assert lost[0].error["type"] == "WorkerDied"
    assert (deaths, plan.finished_examples) == (3, 200)


def test_what_a_dead_node_held_is_no_suspect_and_goes_to_the_others_at_once_in_its_order():
    plan = RunPlan(PlanSettings(max_in_flight=8, prefetch=4, max_attempts=1))
    for name in "ab":
        plan.worker_joined(name)
    for index in range(40):
        plan.feed(index, b"x")
    given = {chunk.worker: [index for index, _, _ in chunk.items] for chunk in plan.take()}
    for index in given["a"]:
        plan.result(index, 1)
    assert plan.worker_left("b", blameless=True) == []
    again = [index for chunk in plan.take() for index, _, _ in chunk.items]
    assert again[: len(given["b"])] == given["b"]
    assert plan.result(given["b"][0], 2).attempts == 1


def test_a_newcomer_gets_its_share_only_as_the_others_calls_end():
    plan = RunPlan(PlanSettings(max_in_flight=8, prefetch=0))
    plan.worker_joined("a")
    for index in range(30):
        plan.feed(index, b"x")
    assert [(c.worker, c.window, len(c.items)) for c in plan.take()] == [("a", 8, 8)]
    plan.worker_joined("b")
    assert [(c.worker, c.window, len(c.items)) for c in plan.take()] == [("b", 0, 0), ("a", 4, 0)][::-1]
    for index in range(4):
        plan.result(index, 1)
    assert [(c.worker, c.window, len(c.items)) for c in plan.take()] == [("b", 4, 4)]


def test_a_plan_without_a_fit_worker_says_that_it_starves():
    plan = RunPlan(PlanSettings(strategy="capability_aware", requires=frozenset({"gpu"})))
    plan.worker_joined("a")
    plan.feed(0, b"x")
    assert plan.starved
    plan.worker_joined("b", capabilities=["gpu", "more"])
    assert not plan.starved
    assert [chunk.worker for chunk in plan.take() if chunk.items] == ["b"]


def test_large_examples_are_not_all_held_in_memory():
    plan = RunPlan(PlanSettings(max_in_flight=512, memory_bytes=10_000_000))
    plan.worker_joined("a")
    while count := plan.wanted():
        for _ in range(count):
            plan.feed(plan._next_index, b"x" * 1_000_00)
    assert plan.waiting == 100


@pytest.mark.parametrize(
    ("limit", "wants", "shares"),
    [
        (10, {"a": None, "b": None, "c": None}, [4, 3, 3]),
        (10, {"a": 2, "b": None, "c": None}, [2, 4, 4]),
        (10, {"a": 2, "b": 3}, [2, 3]),
        (1, {"a": None, "b": None}, [1, 0]),
        (5, {}, []),
    ],
)
def test_a_limit_is_shared_evenly_and_nothing_is_left_unused(limit, wants, shares):
    assert list(share(limit, wants).values()) == shares


@pytest.mark.parametrize(
    "bad",
    [
        {"max_in_flight": 0},
        {"max_in_flight": "5"},
        {"max_attempts": 1.5},
        {"failures": "no"},
        {"strategy": "x"},
        {"max_failures": -1},
        {"max_failures": "3"},
        {"least_in_flight": 0},
        {"least_in_flight": 257},
        {"spare": -1},
    ],
)
def test_settings_that_make_no_sense_are_refused_by_name(bad):
    with pytest.raises(ConfigError, match=f"{next(iter(bad))} is "):
        PlanSettings(**bad)


@pytest.mark.parametrize(
    ("limit", "least", "spare"),
    [
        *(
            (1, None, None),
            (4, None, None),
            (16, None, None),
            (1, 1, None),
            (4, 2, None),
            (16, 1, None),
            (16, 16, None),
        ),
        *((1, None, 0), (16, None, 0), (16, None, 5)),
    ],
)
def test_a_run_with_a_rule_stops_where_a_sequential_one_would(limit, least, spare):
    good = {3, 8, 9, 15, 40}
    rule = StopRule(successes=4)
    plan = RunPlan(PlanSettings(max_in_flight=limit, least_in_flight=least, spare=spare), rule=rule)
    asked = run(plan, 100, lambda index, _: {"success": index in good})
    assert (plan.stopped, rule.prefix) == ("successes", 16)
    assert len(asked) <= 16 + limit


def test_a_rule_counts_errors_in_the_prefix_only():
    rule = StopRule(successes=9, max_errors=2)
    assert rule.observe(5, success=False, error=True) is None
    assert rule.observe(4, success=False, error=True) is None
    for index in (3, 1, 2, 2):
        assert rule.observe(index, success=True) is None
    assert rule.observe(0, success=True) == "errors"
    assert (rule.prefix, rule.succeeded, rule.errors) == (6, 4, 2)
    assert StopRule(successes=0).verdict == "successes"
