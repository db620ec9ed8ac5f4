import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule, run_state_machine_as_test
from test_plan import Workers

from dspex_actors.errors import ConfigError
from dspex_actors.lm.attempts import SECOND
from dspex_actors.runs.hedge import hedging, is_hedged
from dspex_actors.runs.plan import stragglers
from dspex_actors.runs.plan.plan import RunPlan
from dspex_actors.runs.plan.stragglers import KNOWN, Stragglers
from dspex_actors.runs.plan.types import Chunk, PlanSettings


class Hedged(Workers):
    """The same workers, some of which take far too long; what they have is started a second time."""

    now = 0.0

    def pump(self):
        if not hasattr(self, "late_ones"):
            self.late_ones, self.seconds, self.dropped = Stragglers(), {}, 0
            self.take, self.decide, self.leave = self.plan.take, self.plan.result, self.plan.worker_left
            self.plan.take, self.plan.result, self.plan.worker_left = self.noted, self.decided, self.gone
            self.total = min(self.total, 12)
            for _ in range(2):
                self.names += 1
                self.workers[self.names] = {"window": 0, "queue": [], "asking": [], "gpu": True}
                self.plan.worker_joined(self.names, capabilities={"gpu"})
        super().pump()

    def noted(self):
        chunks = self.take()
        for chunk in chunks:
            self.late_ones.given(chunk, self.now)
        return chunks

    def decided(self, index, send, *, error=None, free=False):
        self.late_ones.heard(index, send, self.now, good=error is None)
        found = self.decide(index, send, error=error, free=free)
        if found.fate == "accept":
            self.drop(index)
        elif found.fate == "again" and (second := self.late_ones.instead(index)) is not None:
            self.plan.goes_on(index, second.worker, second.send)
        return found

    def gone(self, name, *, blameless=False):
        lost = self.leave(name, blameless=blameless)
        for one in lost:
            self.drop(one.index)
        for index, second in self.late_ones.left(name):
            self.plan.goes_on(index, second.worker, second.send)
        return lost

    def drop(self, index):
        for sending in self.late_ones.settled(index):
            worker = self.workers.get(sending.worker)
            if worker is None:
                continue  # it has just died
            for place in ("asking", "queue"):
                if (index, sending.send) in worker[place]:
                    worker[place].remove((index, sending.send))
                    self.dropped += 1
                    assert self.decided(index, sending.send, error="Cancelled", free=True).fate == "drop"

    @precondition(lambda self: self.workers)
    @rule(slow=st.integers(1, 3))
    def all_but_some_answer(self, slow):
        asking = [(worker, answer) for worker in self.workers.values() for answer in worker["asking"]]
        while len(asking) > slow:
            worker, answer = asking[0]
            worker["asking"].remove(answer)
            self.report(answer, "good")
            self.pump()
            asking = [(worker, answer) for worker in self.workers.values() for answer in worker["asking"]]

    @precondition(lambda self: hasattr(self, "late_ones"))
    @rule(seconds=st.sampled_from([1.0, 10.0]))
    def time_goes_by(self, seconds):
        self.now += seconds
        for chunk in self.late_ones.due(self.plan, self.now):
            ((index, send, payload),) = chunk.items
            worker = self.workers[chunk.worker]
            assert send & SECOND
            assert payload == b"x" * self.size
            assert index not in self.done
            assert index not in self.seconds, "started twice more than once"
            assert worker["gpu"]
            assert not worker.get("rests")
            # It is begun at once: whoever gets it has nothing else to do.
            assert len(worker["asking"]) < worker["window"] == chunk.window
            assert not any(index == other for other, _ in worker["asking"])
            worker["asking"].append((index, send))
            self.seconds[index] = send
        assert self.late_ones.count <= max(1, stragglers.SHARE * self.fed)


HEDGED = settings(stateful_step_count=60, deadline=None)


@pytest.mark.parametrize("rounds", [100, pytest.param(1000, marks=[pytest.mark.soak, pytest.mark.timeout(600)])])
def test_however_workers_answer_and_die_each_example_has_one_result_and_the_limit_holds(rounds, monkeypatch):
    monkeypatch.setattr(stragglers, "KNOWN", 1)
    monkeypatch.setattr(stragglers, "SHARE", 0.2)
    run_state_machine_as_test(Hedged, settings=settings(HEDGED, max_examples=rounds))


class Run:
    """A plan with workers that have a window of four each, its answers, and a clock."""

    def __init__(self, count, *workers, deadline=None, requires=(), **more):
        self.plan = RunPlan(PlanSettings(max_in_flight=4 * len(workers), requires=frozenset(requires), **more))
        self.late, self.now = Stragglers(deadline), 0.0
        for name in workers:
            self.plan.worker_joined(name, capabilities={"gpu"} if "gpu" in name else ())
        self.held = {}
        self.left = iter([(index, b"p") for index in range(count)])
        self.pump()

    def pump(self):
        while wanted := self.plan.wanted():
            for _ in range(wanted):
                if (item := next(self.left, None)) is None:
                    self.plan.source_ended()
                    break
                self.plan.feed(*item)
        for chunk in self.plan.take():
            self.late.given(chunk, self.now)
            for index, send, _ in chunk.items:
                self.held[index] = chunk.worker, send

    def answer(self, index, **how):
        self.late.heard(index, self.held[index][1], self.now, good=not how)
        return self.plan.result(index, self.held[index][1], **how).fate

    def answer_all_but(self, *late, took=0.1):
        """Have everything answered but these."""
        while set(self.held) - set(late):
            self.now += took
            for index in sorted(set(self.held) - set(late)):
                assert self.answer(index) == "accept"
                self.late.settled(index)
                del self.held[index]
            self.pump()

    def due(self, after):
        self.now += after
        return [(chunk.items[0][0], chunk.worker) for chunk in self.late.due(self.plan, self.now)]


def test_what_is_away_far_longer_than_usual_is_started_elsewhere_once_all_else_is_given_out():
    run = Run(100, "a/1", "b/1")
    slow = next(index for index, (worker, _) in run.held.items() if worker == "a/1")
    assert run.due(60.0) == []  # nobody knows yet how long they take, and others wait
    run.now = 0.0
    run.answer_all_but(slow)
    assert run.due(1.5 - run.now) == []  # 2 s at least
    assert run.due(1.0) == [(slow, "b/1")]
    assert run.due(60.0) == []  # it is under way
    assert run.plan.result(slow, run.held[slow][1] | SECOND).fate == "accept"
    assert next((one.worker, one.send) for one in run.late.settled(slow)) == ("a/1", run.held[slow][1])
    assert run.plan.finished
    assert run.answer(slow) == "drop"


@pytest.mark.parametrize(
    ("workers", "more", "elsewhere"),
    [
        (("a/1",), {}, None),  # alone
        (("a/1", "a/2"), {}, "a/2"),
        (("a/1", "a/2", "b/1"), {}, "b/1"),  # of another node first
        (("a/gpu1", "b/1"), {"requires": {"gpu"}}, None),  # the other one cannot
        (("a/gpu1", "b/1", "c/gpu1"), {"requires": {"gpu"}}, "c/gpu1"),
        (("a/1", "b/1"), {"deadline": 5.0}, None),  # it has no time left
        (("a/1", "b/1"), {"deadline": 20.0}, "b/1"),
    ],
)
def test_where_it_is_started(workers, more, elsewhere):
    run = Run(60, *workers, **more)
    slow = next(index for index, (worker, _) in run.held.items() if worker == workers[0])
    run.answer_all_but(slow)
    assert run.due(10.0 - run.now) == ([] if elsewhere is None else [(slow, elsewhere)])


def test_all_takes_long_where_nothing_is_late():
    run = Run(60, "a/1", "b/1")
    slow = next(iter(run.held))
    run.answer_all_but(slow, took=8.0)
    assert run.due(0.0) == [(slow, "b/1")]
    run = Run(60, "a/1", "b/1")
    first = sorted(run.held)[:1]
    for _ in range(KNOWN):
        run.late.given(Chunk("x", 1, ((10_000, 1, b""),)), run.now)
        run.now += 30.0
        run.late.heard(10_000, 1, run.now, good=True)
    run.now = 0.0
    run.answer_all_but(*first, took=0.1)
    assert run.due(80.0) == []  # 95 % took up to 30 s


def test_what_waited_for_its_worker_to_begin_is_no_measure():
    late = Stragglers()
    for index in range(20):
        late.given(Chunk("a/1", 4, ((index, 1, b""),)), 0.0)
    for index in range(20):
        late.heard(index, 1, 30.0, good=True)
    assert late.usual == 30.0  # nothing else is known
    for index in range(20, 20 + KNOWN):
        late.given(Chunk("a/1", 4, ((index, 1, b""),)), 30.0)
        late.heard(index, 1, 31.0, good=True)
    assert late.usual == 1.0
    late.left("a/1")
    late.given(Chunk("a/1", 4, ((90, 1, b""),)), 40.0)
    late.heard(90, 1, 60.0, good=True)
    assert late.usual == 1.0


def test_only_a_small_share_is_started_twice_the_latest_first():
    run = Run(100, "a/1", "b/1")
    run.answer_all_but(96, 97, 98, 99)
    for index in range(96, 100):
        worker, send = run.held[index]
        run.late.given(Chunk(worker, 4, ((index, send, b"p"),)), index - 96.0)
    run.now = 20.0
    twice = run.due(0.0)
    assert [index for index, _ in twice] == [96, 97, 98, 99][: len(twice)]
    few = Run(20, "a/1", "b/1")
    few.answer_all_but(17, 18, 19)
    assert len(few.due(20.0)) == 1


def test_what_a_dead_worker_held_is_left_to_its_second_start():
    run = Run(40, "a/1", "b/1", "c/1")
    slow = next(index for index, (worker, _) in run.held.items() if worker == "a/1")
    run.answer_all_but(slow)
    ((_, other),) = run.due(10.0)
    run.plan.worker_left("a/1")
    for index, second in run.late.left("a/1"):
        run.plan.goes_on(index, second.worker, second.send)
    assert (run.plan.waiting, run.plan.outstanding) == (0, 1)
    assert [chunk.items for chunk in run.plan.take() if chunk.items] == []
    assert run.plan.holds(other)
    # Should that fail, the example is tried again, by a sending that is no second start.
    send = run.held[slow][1] | SECOND
    assert run.plan.result(slow, send, error="Timeout").fate == "again"
    run.pump()
    assert run.held[slow][1] == run.held[slow][1] & ~SECOND > send & ~SECOND


def test_a_suspect_is_not_given_to_a_second_worker():
    run = Run(1, "a/1", "b/1")
    for took in range(KNOWN):
        run.late.given(Chunk("x", 1, ((10_000, 1, b""),)), float(took))
        run.late.heard(10_000, 1, took + 0.1, good=True)
    worker = run.held[0][0]
    run.plan.worker_left(worker)
    run.late.left(worker)
    run.plan.worker_joined("c/1")
    run.pump()
    assert run.due(60.0) == []


def test_a_failure_of_the_second_start_says_nothing():
    run = Run(40, "a/1", "b/1")
    slow = next(iter(run.held))
    run.answer_all_but(slow)
    run.due(10.0)
    send = run.held[slow][1] | SECOND
    assert run.late.is_second(slow, send)
    assert run.plan.result(slow, send, error="Timeout").fate == "drop"
    assert run.answer(slow) == "accept"


@pytest.mark.parametrize(
    ("given", "is_so"),
    [
        ({}, True),
        ({"batch": None, "budget": None}, True),
        ({"hedge": False}, False),
        ({"budget": 1.0}, False),
        ({"batch": {"poll": 1.0}}, False),
        ({"rule": {"successes": 1}}, False),
    ],
)
def test_which_runs_are_hedged(given, is_so):
    assert is_hedged(given) is is_so


def test_what_is_no_yes_or_no_is_refused():
    assert (hedging(True), hedging(False)) == ({}, {"hedge": False})
    for bad in (None, 1, "yes", 0.05):
        with pytest.raises(ConfigError, match=r"hedge is invalid: got .*, expected True or False"):
            hedging(bad)
