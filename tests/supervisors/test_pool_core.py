"""The pool's core without processes: poolboy's rows, what is better here, and what hypothesis tries to break."""

import itertools

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

from supervisors.pool.core import PoolCore
from supervisors.pool.effects import (
    CheckWorker,
    Demonitor,
    Grant,
    KillWorker,
    Monitor,
    PoolRules,
    Refuse,
    StartWorker,
    StopWorker,
)
from supervisors.pool.stats import Waits


class World:
    """A core, and workers that start when the test says so (`ready=False`) or at once."""

    def __init__(self, size=2, max_overflow=0, ready=True, **rules):
        rules.setdefault("min_size", size)
        rules.setdefault("max_size", size)
        self.dead, self.now, self.ready = set(), 0.0, ready
        self.core = PoolCore(PoolRules(size, max_overflow, **rules), alive=lambda worker: worker not in self.dead)
        self.starts, self.workers, self.leases = [], itertools.count(1), itertools.count(1)
        self.run(self.core.start(0.0))

    def run(self, effects):
        """Start workers as they are asked for; return all effects in order."""
        seen = list(effects)
        for effect in effects:
            if isinstance(effect, StartWorker):
                self.starts.append(effect.ticket)
        while self.ready and self.starts:
            seen += self.start_one()
        return seen

    def start_one(self, error=None):
        ticket = self.starts.pop(0)
        if error is not None:
            return self.run(self.core.start_failed(ticket, error, self.now))
        return self.run(self.core.started(ticket, f"w{next(self.workers)}", self.now))

    def out(self, who="p", block=True, timeout=None, work_timeout=None):
        """Check out; return the lease and the effects."""
        lease = f"L{next(self.leases)}"
        asked = self.core.checkout(lease, who, block, timeout, work_timeout, self.now)
        return lease, self.run(asked)

    def got(self, who="p", **options):
        """Check out and return lease and worker."""
        lease, effects = self.out(who, **options)
        return lease, granted(effects)[lease]

    def back(self, lease):
        return self.run(self.core.checkin(lease, self.now))

    def die(self, process):
        self.dead.add(process)
        return self.run(self.core.down(process, self.now))

    def at(self, now):
        self.now = now
        return self.run(self.core.tick(now))


def granted(effects):
    return {effect.lease: effect.worker for effect in effects if isinstance(effect, Grant)}


def kinds(effects, kind):
    return [effect for effect in effects if isinstance(effect, kind)]


# rows: B1
def test_defaults_are_poolboys():
    rules = PoolRules()
    assert (rules.size, rules.max_overflow, rules.strategy) == (5, 10, "lifo")


# rows: B2
@pytest.mark.parametrize("size", [0, 1, 3])
def test_size_workers_are_started_at_the_start(size):
    world = World(size, 1)
    assert len(world.core.idle) == len(world.core.workers) == size


# rows: B3
def test_idle_worker_first_then_overflow_then_full_or_the_queue():
    world = World(1, 1)
    assert world.got()[1] == "w1"
    assert world.got()[1] == "w2"  # overflow
    lease, effects = world.out(block=False)
    assert kinds(effects, Refuse) == [Refuse(lease, "full")]
    lease, effects = world.out()
    assert not kinds(effects, Refuse)
    assert list(world.core.waiting) == [lease]


# rows: B3
def test_checkout_that_does_not_queue_waits_for_the_overflow_worker_that_it_has_started():
    world = World(0, 1, ready=False)
    lease, effects = world.out(block=False)
    assert kinds(effects, StartWorker)
    assert not kinds(effects, Refuse)
    assert granted(world.start_one()) == {lease: "w1"}


# rows: B4
@pytest.mark.parametrize(("strategy", "order"), [("lifo", ["w2", "w3", "w1"]), ("fifo", ["w1", "w3", "w2"])])
def test_strategy_says_which_idle_worker_is_next(strategy, order):
    world = World(3, strategy=strategy)
    leases = {worker: lease for lease, worker in (world.got() for _ in range(3))}
    for worker in ("w1", "w3", "w2"):
        world.back(leases[worker])
    assert [world.got()[1] for _ in range(3)] == (order if strategy == "fifo" else ["w2", "w3", "w1"])


# rows: B5
def test_waiters_are_served_first_come_first_served_and_before_overflow_is_dismissed():
    world = World(1, 1)
    first, second = world.got()[0], world.got()[0]
    waiting = [world.out()[0] for _ in range(2)]
    effects = world.back(second) + world.back(first)
    assert list(granted(effects)) == waiting
    assert not kinds(effects, StopWorker)
    assert world.core.overflow == 1


# rows: B6
def test_checkout_that_has_waited_too_long_is_refused_and_leaves_the_queue():
    world = World(1)
    held, worker = world.got()
    late, _ = world.out(timeout=5.0)
    assert world.core.next_at() == 5.0
    assert world.at(4.9) == []
    assert kinds(world.at(5.0), Refuse) == [Refuse(late, "timeout")]
    assert granted(world.back(held)) == {}
    assert list(world.core.idle) == [worker]
    assert world.core.next_at() is None


# rows: B7
def test_checkout_given_up_in_the_moment_of_its_grant_gives_the_worker_back():
    world = World(1)
    held, worker = world.got()
    waiting, _ = world.out()
    assert granted(world.back(held)) == {waiting: worker}
    world.back(waiting)  # its caller had given up: the cancel comes behind the grant
    assert list(world.core.idle) == [worker]


# rows: B7
def test_checkout_given_up_while_it_waits_leaves_the_queue():
    world = World(1)
    held, worker = world.got()
    waiting, _ = world.out("q")
    assert kinds(world.back(waiting), Demonitor) == [Demonitor("q")]
    world.back(held)
    assert list(world.core.idle) == [worker]


# rows: B8
def test_worker_of_a_borrower_that_died_comes_back_alive():
    world = World(1, 1)
    world.got("p")
    world.got("q")
    effects = world.die("p")
    assert len(kinds(effects, StopWorker)) == 1
    assert not kinds(effects, KillWorker)
    assert world.die("q")
    assert len(world.core.idle) == 1
    assert world.core.overflow == 0


# rows: B8
def test_worker_of_a_program_whose_door_was_killed_is_taken_away_and_not_lent_again():
    world = World(1)
    _, mine = world.got("program")
    world.out("program")
    kept, _ = world.out("other")
    effects = world.run(world.core.down("program", 0.0, unsure=True))
    assert [effect.worker for effect in kinds(effects, KillWorker)] == [mine]
    assert kept in granted(effects)
    assert mine not in granted(effects).values()


# rows: B8, B9
def test_worker_of_a_borrower_that_died_is_not_handed_to_a_checkout_of_the_same_one():
    world = World(1)
    _, worker = world.got("p")
    world.out("p")
    kept, _ = world.out("q")
    assert granted(world.die("p")) == {kept: worker}


# rows: B9
def test_waiter_that_died_leaves_the_queue():
    world = World(1)
    held, worker = world.got("p")
    world.out("q")
    kept, _ = world.out("r")
    world.die("q")
    assert granted(world.back(held)) == {kept: worker}


# rows: B10
def test_checkin_while_there_is_overflow_and_nobody_waits_stops_that_very_worker():
    world = World(1, 1)
    regular, first = world.got()
    overflow, _ = world.got()
    assert kinds(world.back(regular), StopWorker) == [StopWorker(first)]
    assert world.core.overflow == 0
    world.back(overflow)
    assert list(world.core.idle) == ["w2"]


# rows: B11
def test_second_and_foreign_checkin_are_ignored():
    world = World(1)
    lease, worker = world.got("p")
    assert world.core.lease_of(worker, "q") is None
    assert world.core.lease_of("nobody", "p") is None
    assert world.core.lease_of(worker, "p") == lease
    world.back(lease)
    again, _ = world.got("q")
    assert world.back(lease) == world.back("no such lease") == []
    assert list(world.core.leases) == [again]


# rows: B12
def test_worker_that_dies_idle_is_replaced():
    world = World(1)
    effects = world.die("w1")
    assert kinds(effects, StartWorker)
    assert list(world.core.idle) == ["w2"]
    assert world.core.stats(0.0).replaced == 1


# rows: B13
@pytest.mark.parametrize("overflow", [0, 1])
def test_worker_that_dies_while_out_is_replaced_for_the_first_waiter(overflow):
    world = World(1, overflow)
    leases = [world.got() for _ in range(1 + overflow)]
    waiting, _ = world.out("q")
    effects = world.die(leases[-1][1])
    assert list(granted(effects)) == [waiting]
    assert world.core.overflow == overflow


# rows: B14
def test_worker_that_dies_while_out_with_overflow_and_nobody_waiting_is_not_replaced():
    world = World(1, 1)
    world.got()
    _, worker = world.got()
    assert not kinds(world.die(worker), StartWorker)
    assert world.core.status() == ("overflow", 0, 0, 1)


# rows: B15, B16
def test_worker_that_dies_while_out_without_overflow_is_replaced_and_its_borrower_not_told():
    world = World(1)
    lease, worker = world.got()
    effects = world.die(worker)
    assert kinds(effects, StartWorker)
    assert not kinds(effects, Refuse)
    assert list(world.core.idle) == ["w2"]
    assert world.back(lease) == []  # what it had is gone


# rows: B18
@pytest.mark.parametrize(
    ("size", "max_overflow", "out", "status"),
    [
        (2, 1, 0, ("ready", 2, 0, 0)),
        (2, 1, 1, ("ready", 1, 0, 1)),
        (2, 1, 2, ("overflow", 0, 0, 2)),
        (2, 1, 3, ("full", 0, 1, 3)),
        (2, 0, 2, ("full", 0, 0, 2)),
        (1, 1, 1, ("overflow", 0, 0, 1)),
        (0, 0, 0, ("full", 0, 0, 0)),
        (0, 1, 0, ("overflow", 0, 0, 0)),
    ],
)
def test_status(size, max_overflow, out, status):
    world = World(size, max_overflow)
    for _ in range(out):
        world.got()
    assert world.core.status() == status


# rows: B20
def test_worker_that_cannot_start_fails_the_checkout_that_it_was_for_and_no_other():
    world = World(1, 2, ready=False)
    world.start_one()
    world.got()
    first, _ = world.out()
    second, _ = world.out()
    assert len(world.starts) == 2
    assert kinds(world.start_one("no memory"), Refuse) == [Refuse(first, "start", "no memory")]
    assert granted(world.start_one()) == {second: "w2"}
    assert world.core.stats(0.0).failed_starts == 1


# rows: B20
def test_replacement_that_cannot_start_is_tried_again_later_and_later():
    world = World(1, ready=False)
    world.start_one()
    world.die("w1")
    pauses = []
    for _ in range(3):
        assert world.start_one("no memory") == []
        pauses.append(world.core.next_at() - world.now)
        assert kinds(world.at(world.core.next_at()), StartWorker)
    assert pauses == [0.5, 1.0, 2.0]
    world.start_one()
    assert len(world.core.idle) == 1
    assert world.core.next_at() is None


# rows: B20
def test_checkout_does_not_wait_for_the_next_try_of_a_replacement():
    world = World(1, ready=False)
    world.start_one()
    world.die("w1")
    world.start_one("no memory")
    lease, effects = world.out()
    assert kinds(effects, StartWorker)
    assert granted(world.start_one()) == {lease: "w2"}


# rows: B21
def test_borrower_is_watched_once_and_as_long_as_it_has_or_wants_something():
    world = World(1)
    held, effects = world.out("p")
    assert kinds(effects, Monitor) == [Monitor("p")]
    waiting, effects = world.out("p")
    assert kinds(effects, Monitor) == []
    assert kinds(world.back(held), Demonitor) == []  # a waiter that becomes a holder
    assert kinds(world.back(waiting), Demonitor) == [Demonitor("p")]
    _, effects = world.out("q")
    assert kinds(world.die("w1"), Demonitor) == [Demonitor("q")]  # its worker died


# rows: B3, B21
def test_refused_checkout_leaves_no_monitor():
    world = World(0)
    _, effects = world.out("p", block=False)
    assert kinds(effects, Monitor) == [Monitor("p")]
    assert kinds(effects, Demonitor) == [Demonitor("p")]


# rows: P-work
def test_work_that_takes_too_long_costs_the_worker_which_is_replaced():
    world = World(1)
    lease, worker = world.got(work_timeout=2.0)
    waiting, _ = world.out()
    assert world.at(1.9) == []
    effects = world.at(2.0)
    assert kinds(effects, KillWorker) == [KillWorker(worker, lease)]
    assert granted(effects) == {waiting: "w2"}
    assert world.back(lease) == []
    assert world.core.stats(2.0).work_timed_out == 1


# rows: P-work
def test_work_that_ended_in_time_is_left_alone():
    world = World(1)
    lease, _ = world.got(work_timeout=2.0)
    world.back(lease)
    assert world.core.next_at() is None
    assert world.at(3.0) == []


# rows: P-elastic
def test_pool_grows_on_waiting_checkouts_before_there_is_overflow():
    world = World(1, 1, max_size=3)
    leases = [world.got()[0] for _ in range(4)]
    assert (world.core.size, world.core.overflow) == (3, 1)
    assert kinds(world.out(block=False)[1], Refuse)[0].why == "full"
    for lease in leases:
        world.back(lease)
    assert len(world.core.idle) == 3
    assert world.core.overflow == 0


# rows: P-elastic
def test_pool_shrinks_to_its_least_when_workers_are_idle_for_long():
    world = World(2, min_size=1, max_size=4, idle_seconds=10.0)
    leases = [world.got()[0] for _ in range(4)]
    for now, lease in enumerate(leases):
        world.at(float(now))
        world.back(lease)
    stopped = []
    while (at := world.core.next_at()) is not None:
        stopped += [(at, effect.worker) for effect in world.at(at)]
    # w2 was out first, for the last to become idle is the first to go.
    assert stopped == [(10.0, "w2"), (11.0, "w1"), (12.0, "w3")]
    assert world.core.size == len(world.core.idle) == 1


# rows: P-elastic, B20
def test_start_that_fails_does_not_make_the_pool_grow():
    world = World(1, max_size=3, ready=False)
    world.start_one()
    world.got()
    lease, _ = world.out()
    assert world.core.size == 2
    assert kinds(world.start_one("no memory"), Refuse) == [Refuse(lease, "start", "no memory")]
    assert world.core.size == 1
    assert world.core.next_at() is None


# rows: P-health
def test_worker_is_checked_before_it_is_handed_out_and_a_bad_one_is_replaced_first():
    world = World(1, health_interval=0.0)
    lease, effects = world.out()
    assert kinds(effects, CheckWorker) == [CheckWorker("w1")]
    assert not granted(effects)
    effects = world.run(world.core.checked("w1", False, 0.0))
    assert kinds(effects, StopWorker) == [StopWorker("w1")]
    assert granted(effects) == {lease: "w2"}
    assert world.core.stats(0.0).unhealthy == 1


# rows: P-health
def test_worker_that_comes_back_is_checked_before_the_next_waiter_gets_it():
    world = World(1, health_interval=0.0)
    held, _ = world.out()
    world.run(world.core.checked("w1", True, 0.0))
    waiting, _ = world.out()
    assert kinds(world.back(held), CheckWorker) == [CheckWorker("w1")]
    assert granted(world.run(world.core.checked("w1", True, 0.0))) == {waiting: "w1"}


# rows: P-health
def test_idle_workers_are_checked_at_their_interval_and_keep_their_place():
    world = World(2, health_interval=5.0, strategy="fifo")
    for now, (lease, _) in enumerate([world.got(), world.got()]):
        world.now = float(now)
        world.back(lease)
    assert kinds(world.at(5.0), CheckWorker) == [CheckWorker("w1"), CheckWorker("w2")]
    for worker in ("w2", "w1"):
        world.run(world.core.checked(worker, True, 5.0))
    assert world.core.next_at() == 10.0
    assert world.got()[1] == "w1"


# rows: P-health
def test_worker_that_was_checked_lately_is_handed_out_at_once():
    world = World(2, health_interval=5.0)
    world.at(5.0)
    world.run(world.core.checked("w1", True, 5.0))
    assert world.got()[1] == "w1"  # and not w2, which is being checked


# rows: P-health, B3
@pytest.mark.parametrize("outcome", ["well", "sick", "dead"])
def test_check_that_has_ended_is_not_waited_for_any_more(outcome):
    world = World(1, health_interval=0.0)
    first, _ = world.out()
    effects = world.die("w1") if outcome == "dead" else world.run(world.core.checked("w1", outcome == "well", 0.0))
    assert list(granted(effects)) == [first]
    assert kinds(world.out(block=False)[1], Refuse)[0].why == "full"


# rows: P-health, B12
def test_worker_that_is_dead_is_never_handed_out_even_before_its_death_is_known():
    world = World(1)
    world.dead.add("w1")
    assert world.got()[1] == "w2"
    assert world.run(world.core.down("w1", 0.0)) == []


# rows: P-stats
def test_waits_are_percentiles_over_a_window():
    waits = Waits(10.0)
    for n in range(100):
        waits.add(0.0, float(n + 1))
    assert waits.percentiles(10.0) == (50.0, 95.0, 99.0, 100.0)
    assert waits.percentiles(10.1) == (None, None, None, None)
    waits.add(11.0, 7.0)
    assert waits.percentiles(11.0) == (7.0, 7.0, 7.0, 7.0)


# rows: P-stats
def test_stats_count_what_happened():
    world = World(1, stats_window=60.0)
    held, _ = world.got()
    world.out(timeout=1.0)
    world.out(block=False)
    world.at(1.0)
    waiting, _ = world.out()
    world.at(3.0)
    assert granted(world.back(held)) == {waiting: "w1"}
    stats = world.core.stats(3.0)
    assert (stats.served, stats.timed_out, stats.full, stats.queue, stats.in_use) == (2, 1, 1, 0, 1)
    assert (stats.p50, stats.p99, stats.longest) == (0.0, 2.0, 2.0)


class Promises(RuleBasedStateMachine):
    """Everybody does what he likes, when he likes; the core's effects are checked as they come."""

    @initialize(
        size=st.integers(0, 3), more=st.integers(0, 2), less=st.integers(0, 3), overflow=st.integers(0, 2),
        strategy=st.sampled_from(["lifo", "fifo"]), health=st.sampled_from([None, 0.0, 3.0]),
    )  # fmt: skip
    def begin(self, size, more, less, overflow, strategy, health):
        rules = PoolRules(size, overflow, strategy, max(0, size - less), size + more, 4.0, health, 60.0)
        self.rules, self.now = rules, 0.0
        self.core = PoolCore(rules, alive=lambda worker: worker not in self.dead)
        self.dead, self.running, self.starts, self.checks = set(), set(), [], []
        self.asked, self.has, self.order = {}, {}, []  # lease → borrower; lease → worker; leases as they came
        self.watched, self.names = set(), itertools.count(1)
        self.take(self.core.start(0.0))

    def take(self, effects):
        for effect in effects:
            match effect:
                case StartWorker(ticket):
                    self.starts.append(ticket)
                case StopWorker(worker) | KillWorker(worker, _):
                    assert worker in self.running, "stopped twice"
                    self.running.discard(worker)
                    self.has = {lease: other for lease, other in self.has.items() if other != worker}
                case CheckWorker(worker):
                    assert worker in self.running
                    assert worker not in self.has.values()
                    self.checks.append(worker)
                case Grant(lease, worker):
                    assert worker in self.running - self.dead, "a dead worker was handed out"
                    assert worker not in self.has.values(), "a worker was handed to two"
                    assert lease == self.order[0], "not first come, first served"
                    self.order.pop(0)
                    self.has[lease] = worker
                case Refuse(lease, _, _):
                    self.order.remove(lease)
                case Monitor(process):
                    assert process not in self.watched
                    self.watched.add(process)
                case Demonitor(process):
                    self.watched.remove(process)

    @rule(who=st.sampled_from("pqr"), block=st.booleans(),
          timeout=st.sampled_from([None, 0.0, 2.0]), work=st.sampled_from([None, 1.0, 5.0]))  # fmt: skip
    def checkout(self, who, block, timeout, work):
        lease = f"L{next(self.names)}"
        self.asked[lease] = who
        self.order.append(lease)
        self.take(self.core.checkout(lease, self.asked[lease], block, timeout, work, self.now))

    def give_back(self, leases):
        for lease in leases:
            self.has.pop(lease, None)
            if lease in self.order:
                self.order.remove(lease)

    @rule(data=st.data())
    @precondition(lambda self: self.asked)
    def checkin(self, data):
        """Also what waits, what is gone, and what was returned already."""
        lease = data.draw(st.sampled_from(sorted(self.asked)))
        self.give_back([lease])
        self.take(self.core.checkin(lease, self.now))

    @rule(data=st.data())
    @precondition(lambda self: self.has)
    def discard(self, data):
        self.take(self.core.discard(data.draw(st.sampled_from(sorted(self.has))), True, self.now))

    @rule(data=st.data(), well=st.booleans())
    @precondition(lambda self: self.starts)
    def worker_starts(self, data, well):
        ticket = self.starts.pop(data.draw(st.integers(0, len(self.starts) - 1)))
        if well:
            worker = f"w{next(self.names)}"
            self.running.add(worker)
            self.take(self.core.started(ticket, worker, self.now))
        else:
            before = len(self.order)
            self.take(self.core.start_failed(ticket, "no", self.now))
            assert before - len(self.order) <= 1, "a failed start failed more than one checkout"

    @rule(data=st.data())
    @precondition(lambda self: self.running - self.dead)
    def worker_dies(self, data):
        """Its death may be known later: `worker_is_down`."""
        self.dead.add(data.draw(st.sampled_from(sorted(self.running - self.dead))))

    @rule(data=st.data())
    @precondition(lambda self: self.dead)
    def worker_is_down(self, data):
        worker = data.draw(st.sampled_from(sorted(self.dead)))
        self.bury(worker)
        self.take(self.core.down(worker, self.now))

    def bury(self, worker):
        self.running.discard(worker)
        self.has = {lease: other for lease, other in self.has.items() if other != worker}

    @rule(who=st.sampled_from("pqr"))
    def borrower_dies(self, who):
        self.give_back([lease for lease, borrower in self.asked.items() if borrower == who])
        self.take(self.core.down(who, self.now))

    @rule(data=st.data(), healthy=st.booleans())
    @precondition(lambda self: self.checks)
    def check_ends(self, data, healthy):
        worker = self.checks.pop(data.draw(st.integers(0, len(self.checks) - 1)))
        self.take(self.core.checked(worker, healthy and worker not in self.dead, self.now))

    @rule(seconds=st.sampled_from([0.1, 0.5, 1.0, 3.0]))
    def time_passes(self, seconds):
        self.now += seconds
        self.take(self.core.tick(self.now))

    @invariant()
    def no_worker_is_leaked_and_none_is_in_two_places(self):
        core = self.core
        self.running &= set(core.workers)  # one that was found dead when it was to be handed out
        assert set(core.workers) == self.running
        assert {entry.worker: lease for lease, entry in core.leases.items()} == {w: x for x, w in self.has.items()}
        states = [entry.state for entry in core.workers.values()]
        assert states.count("idle") == len(core.idle)
        assert states.count("out") == len(core.leases)
        assert len(core.idle) + len(core.leases) + states.count("checking") == len(core.workers)
        assert core.starting == set(self.starts)
        assert core._incoming == len(core.starting) + states.count("checking")

    @invariant()
    def queue_is_as_they_came(self):
        assert list(self.core.waiting) == self.order

    @invariant()
    def sizes_are_within_their_bounds(self):
        core, rules = self.core, self.rules
        assert rules.min_size <= core.size <= rules.max_size
        assert core.total <= rules.max_size + rules.max_overflow
        assert core.overflow == max(0, core.total - core.size)
        assert not (core.idle and core.overflow), "an idle worker beside overflow"

    @invariant()
    def nobody_waits_for_nothing(self):
        """Each waiter has a worker coming, or all that may be are there and out."""
        core, rules = self.core, self.rules
        if len(core.waiting) > core._incoming:
            assert not core.idle
            assert core.total == rules.max_size + rules.max_overflow

    @invariant()
    def too_few_workers_are_being_made_up_for(self):
        core = self.core
        assert core.total >= core.size or core.next_at() is not None

    @invariant()
    def whoever_wants_something_is_watched_and_nobody_else(self):
        open_leases = [*self.order, *self.has]
        assert self.watched == {self.asked[lease] for lease in open_leases}

    def teardown(self):
        """When everybody has given back and time has passed, the pool is whole and nobody is served any more."""
        if not hasattr(self, "core"):
            return
        for lease in list(self.asked):
            self.give_back([lease])
            self.take(self.core.checkin(lease, self.now))
        while self.starts or self.checks:
            if self.checks:
                worker = self.checks.pop()
                self.take(self.core.checked(worker, True, self.now))
            else:
                worker = f"w{next(self.names)}"
                self.running.add(worker)
                self.take(self.core.started(self.starts.pop(), worker, self.now))
        assert not self.core.leases
        assert not self.core.waiting
        assert not self.watched
        assert len(self.core.idle) <= self.core.size
        assert self.core.overflow == 0


Promises.TestCase.settings = settings(max_examples=examples(75), stateful_step_count=40, deadline=None)
# rows: B3, B5, B6, B7, B8, B9, B10, B11, B12, B13, B14, B15, B20, B21
TestPromises = Promises.TestCase


@pytest.mark.soak
def test_a_pool_keeps_its_promises_for_long(rounds):
    for _ in rounds:
        run_state_machine_as_test(Promises, settings=settings(Promises.TestCase.settings, database=None))
