"""Pools of real processes: what poolboy's tests check, and what is better here."""

import asyncio
import contextlib
import itertools
import os
import threading
import time

import pytest
from node_helpers import alive, family, kill, until

from supervisors import AsyncPool, ChildSpec, GenServer, Node, Pool, PoolSpec, SupervisorSpec, errors

NUMBERS = itertools.count(1)


class Worker(GenServer):
    """A worker that does what it is asked, for better or worse; `gate`: it starts only while that file is there."""

    def init(self, gate=None):
        if gate is not None and not os.path.exists(gate):
            raise ValueError("no gate")
        self.well = True

    def handle_call(self, request, caller):
        match request:
            case "pid":
                return os.getpid()
            case "hang":
                time.sleep(600)
            case "boom":
                raise ValueError("boom")
            case "sicken":
                self.well = False
            case "well":
                return self.well
            case ("echo", value):
                return value
        return None


class User(GenServer):
    """A process that borrows."""

    def init(self):
        self.has = []

    async def handle_call(self, request, caller):
        match request:
            case ("checkout", name, timeout):
                worker = await AsyncPool(self, name).checkout(timeout=timeout)
                self.has.append(worker)
                return worker
            case ("queue", name):
                self.spawn(AsyncPool(self, name).checkout(timeout=None))
            case ("checkin", name):
                AsyncPool(self, name).checkin(self.has.pop())
            case ("status", name):
                return await AsyncPool(self, name).status(), await AsyncPool(self, name).stats()
            case ("transaction", name, what, limit):
                return await AsyncPool(self, name).transaction(what, work_timeout=limit)
            case ("function", name, what):
                return await AsyncPool(self, name).run(lambda worker: self.call(worker, what))
            case ("give up", name):
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(0.05):
                        await AsyncPool(self, name).checkout(timeout=None)
            case ("slow function", name):
                await AsyncPool(self, name).run(lambda worker: asyncio.sleep(600), work_timeout=0.1)
            case ("fail", name):
                await AsyncPool(self, name).run(lambda worker: 1 // 0)
        return None


@pytest.fixture
def pool(node):
    """Start pools; each is stopped after the test, and none of its processes is left."""
    started = []

    def start(size=2, max_overflow=0, args=(), shutdown=5.0, **fields):
        name = f"pool-{next(NUMBERS)}"
        worker = ChildSpec("worker", Worker, args=args, shutdown=shutdown)
        ref = node.start_supervisor(PoolSpec(worker, name, size=size, max_overflow=max_overflow, **fields))
        started.append((ref, name))
        return Pool(node, name), name

    yield start
    for ref, _ in started:
        with contextlib.suppress(errors.NoProcess):
            node.stop(ref, timeout=20.0)


@pytest.fixture
def user(node):
    """Start a process that borrows."""
    started = []

    def start():
        started.append(node.start_supervisor(SupervisorSpec([ChildSpec("user", User, restart="temporary")])))
        return node.which_children(started[-1])[0].ref

    yield start
    for ref in started:
        with contextlib.suppress(errors.NoProcess):
            node.stop(ref, timeout=20.0)


def settled(pool, *status):
    """Wait until the pool's status is this."""
    return until(lambda: pool.status() == status or None, 20.0)


def pids(node, name):
    """Return the workers' pids as their supervisor knows them."""
    parent = node.call(name, "supervisor")
    workers = next(row.ref for row in node.which_children(parent) if row.id == "workers")
    return {row.pid for row in node.which_children(workers)}


# rows: B1
def test_defaults(node):
    spec = PoolSpec(ChildSpec("worker", Worker))
    assert (spec.size, spec.max_overflow, spec.strategy) == (5, 10, "lifo")


# rows: B2, B19, B22
def test_pool_is_a_tree_that_has_its_workers_when_it_has_started_and_none_when_it_is_stopped(node, pool):
    p, name = pool(size=3)
    assert p.status() == ("ready", 3, 0, 0)
    parent = node.call(name, "supervisor")
    rows = {row.id: row for row in node.which_children(parent)}
    assert {key: row.type for key, row in rows.items()} == {"workers": "supervisor", "pool": "worker"}
    spec = node.get_childspec(parent, "workers").start
    assert (spec.strategy, spec.intensity, spec.children[0].restart) == ("simple_one_for_one", 0, "temporary")
    assert spec.children[0].shutdown_limit == 5.0
    workers = pids(node, name)
    assert len(workers) == 3
    p.stop(timeout=10.0)
    assert node.whereis(name) is None
    assert not any(alive(pid) for pid in workers)


# rows: B2
def test_pool_of_size_zero_is_legal_and_serves_with_overflow(pool):
    p, _ = pool(size=0, max_overflow=1)
    assert p.transaction(("echo", 7)) == 7
    settled(p, "overflow", 0, 0, 0)


# rows: B3, B10, B18
def test_overflow_is_started_when_all_are_out_and_stopped_when_it_comes_back(node, pool):
    p, name = pool(size=1, max_overflow=1)
    first, second = p.checkout(), p.checkout()
    assert first != second
    assert p.checkout(block=False) is None
    assert p.status() == ("full", 0, 1, 2)
    p.checkin(first)
    settled(p, "overflow", 0, 0, 1)
    until(lambda: pids(node, name) == {second.pid})  # that very worker was stopped
    p.checkin(second)
    settled(p, "ready", 1, 0, 0)


# rows: B5, B6
def test_checkout_times_out_and_leaves_the_queue(pool):
    p, _ = pool(size=1)
    worker = p.checkout()
    with pytest.raises(errors.CallTimeout, match=r"within 0.1 s: 1 are out"):
        p.checkout(timeout=0.1)
    assert p.stats().queue == 0
    p.checkin(worker)
    settled(p, "ready", 1, 0, 0)


# rows: B7
def test_timeouts_under_pressure_leak_no_worker(pool):
    p, _ = pool(size=2)
    outcomes = []

    def borrow():
        for _ in range(8):
            try:
                p.run(lambda worker: time.sleep(0.01), timeout=0.012)
                outcomes.append("served")
            except errors.CallTimeout:
                outcomes.append("late")

    threads = [threading.Thread(target=borrow) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(outcomes) == 48
    settled(p, "ready", 2, 0, 0)
    assert p.stats().queue == 0


# rows: B8
def test_worker_of_a_process_that_died_is_returned_alive(node, pool, user):
    p, name = pool(size=1)
    ref = user()
    worker = node.call(ref, ("checkout", name, 5.0))
    assert p.status() == ("full", 0, 0, 1)
    kill(ref.pid)
    settled(p, "ready", 1, 0, 0)
    assert p.checkout() == worker
    assert alive(worker.pid)


# rows: B8
def test_worker_of_a_program_that_has_gone_is_returned(node, pool):
    p, name = pool(size=1)
    with Node.attach(node.data_dir) as other:
        worker = Pool(other, name).checkout()
        assert p.status() == ("full", 0, 0, 1)
    settled(p, "ready", 1, 0, 0)
    assert p.checkout() == worker


# rows: B8
def test_workers_of_programs_whose_door_died_are_replaced_since_they_may_be_in_use(node, pool):
    p, _ = pool(size=1)
    worker = p.checkout()
    kill(next(pid for pid, called in family(node.info["pid"]).items() if called == "door"))

    def reachable():
        with contextlib.suppress(errors.NodeDown):
            return p.status()

    until(reachable)
    settled(p, "ready", 1, 0, 0)
    assert p.checkout() != worker
    until(lambda: not alive(worker.pid))


# rows: B9
def test_waiters_that_have_gone_leave_the_queue(node, pool, user):
    p, name = pool(size=1)
    worker = p.checkout()
    ref = user()
    node.call(ref, ("queue", name))
    other = Node.attach(node.data_dir)

    def wait_in_vain():
        with pytest.raises(errors.NodeDown):
            Pool(other, name).checkout(timeout=None)

    thread = threading.Thread(target=wait_in_vain)
    thread.start()
    until(lambda: p.stats().queue == 2)
    kill(ref.pid)
    until(lambda: p.stats().queue == 1)
    other.close()
    thread.join()
    until(lambda: p.stats().queue == 0)
    p.checkin(worker)
    settled(p, "ready", 1, 0, 0)


# rows: B11
def test_second_and_foreign_checkin_are_ignored(node, pool):
    p, name = pool(size=1)
    worker = p.checkout()
    with Node.attach(node.data_dir) as other:
        Pool(other, name).checkin(worker)
        assert Pool(other, name).status() == ("full", 0, 0, 1)
    p.checkin(worker)
    p.checkin(worker)
    p.checkin(node.whereis(name))
    settled(p, "ready", 1, 0, 0)
    with Node.attach(node.data_dir) as other:
        assert Pool(other, name).checkout() == worker
        p.checkin(worker)  # ours no more
        assert p.status() == ("full", 0, 0, 1)


# rows: B12
def test_worker_that_dies_idle_is_replaced(node, pool):
    p, name = pool(size=2)
    before = pids(node, name)
    victim = min(before)
    kill(victim)
    until(lambda: len(now := pids(node, name)) == 2 and victim not in now)
    settled(p, "ready", 2, 0, 0)
    assert p.stats().replaced == 1


# rows: B13
@pytest.mark.parametrize("overflow", [0, 1])
def test_worker_that_dies_while_out_is_replaced_for_who_waits(pool, overflow):
    p, _ = pool(size=1, max_overflow=overflow)
    held = [p.checkout() for _ in range(1 + overflow)]
    got = []
    thread = threading.Thread(target=lambda: got.append(p.checkout()))
    thread.start()
    until(lambda: p.stats().queue == 1)
    kill(held[-1].pid)
    thread.join(20.0)
    assert got
    assert got[0] not in held


# rows: B14, B15, B16
def test_worker_that_dies_while_out_is_replaced_unless_it_was_overflow(pool):
    p, _ = pool(size=1, max_overflow=1)
    first, second = p.checkout(), p.checkout()
    kill(second.pid)
    settled(p, "overflow", 0, 0, 1)
    kill(first.pid)
    settled(p, "ready", 1, 0, 0)


# rows: B17
def test_transaction_gives_back_whatever_happens(pool):
    p, _ = pool(size=1)
    with pytest.raises(ZeroDivisionError):
        p.run(lambda worker: 1 // 0)
    settled(p, "ready", 1, 0, 0)
    with pytest.raises(errors.ServerExited):
        p.transaction("boom")
    settled(p, "ready", 1, 0, 0)


# rows: B20
def test_worker_that_cannot_start_fails_one_checkout_and_not_the_pool(node, pool, tmp_path):
    gate = tmp_path / "gate"
    gate.touch()
    p, name = pool(size=1, max_overflow=1, args=(str(gate),))
    server = node.whereis(name)
    worker = p.checkout()
    gate.unlink()
    with pytest.raises(errors.StartError, match="no gate"):
        p.checkout()
    assert p.stats().failed_starts == 1
    assert node.whereis(name) == server
    assert alive(worker.pid)
    kill(worker.pid)
    until(lambda: p.stats().failed_starts > 1)
    gate.touch()
    settled(p, "ready", 1, 0, 0)  # tried again by itself


# rows: B2, B20
def test_pool_whose_first_workers_cannot_start_does_not_start(node, pool, tmp_path):
    with pytest.raises(errors.StartError, match="no gate"):
        pool(size=1, args=(str(tmp_path / "none"),))


# rows: P-work
def test_request_that_takes_too_long_costs_its_worker_which_is_replaced(node, pool):
    p, name = pool(size=1)
    (old,) = pids(node, name)
    with pytest.raises(errors.CallTimeout, match=r"took more than 0.2 s; its worker was killed"):
        p.transaction("hang", work_timeout=0.2)
    assert p.transaction("pid") != old
    until(lambda: not alive(old))
    settled(p, "ready", 1, 0, 0)
    assert p.stats().work_timed_out == 1


# rows: P-work
def test_function_whose_work_takes_too_long_is_told_and_a_checkout_is_taken_back(node, pool):
    p, _ = pool(size=1, work_timeout=0.2)
    with pytest.raises(errors.CallTimeout, match=r"took more than 0.2 s"):
        p.run(lambda worker: node.call(worker, "hang", timeout=None))
    worker = p.checkout()
    until(lambda: not alive(worker.pid))
    settled(p, "ready", 1, 0, 0)
    assert p.stats().work_timed_out == 2


# rows: P-health
def test_sick_worker_is_replaced_before_the_next_user_meets_it(node, pool):
    p, _ = pool(size=1, health_check="well", health_interval=0.0, health_timeout=0.3)
    old = p.transaction("pid")
    p.transaction("sicken")
    new = p.transaction("pid")
    assert new != old
    assert p.stats().unhealthy == 1
    worker = p.checkout()
    node.cast(worker, "x")  # it has no handle_cast: it dies
    p.checkin(worker)
    assert p.transaction("pid") not in (old, new)


# rows: P-health
def test_idle_worker_that_is_frozen_is_found_and_replaced(node, pool):
    p, name = pool(size=1, health_check="well", health_interval=0.1, health_timeout=0.2, shutdown=0.1)
    (old,) = pids(node, name)
    kill(old, 19)  # SIGSTOP
    until(lambda: pids(node, name) - {old})
    until(lambda: not alive(old))
    settled(p, "ready", 1, 0, 0)


# rows: P-elastic
def test_pool_grows_with_the_queue_and_shrinks_when_idle(node, pool):
    p, name = pool(size=1, max_size=3, idle_seconds=0.3)
    held = [p.checkout() for _ in range(3)]
    assert p.stats().size == 3
    assert p.checkout(block=False) is None
    for worker in held:
        p.checkin(worker)
    assert until(lambda: p.status().idle == 3 or p.stats().size < 3)
    settled(p, "ready", 1, 0, 0)
    until(lambda: len(pids(node, name)) == 1)


# rows: P-stats
def test_stats_show_queue_and_waits(pool):
    p, _ = pool(size=1)
    worker = p.checkout()
    thread = threading.Thread(target=lambda: p.transaction(("echo", 1)))
    thread.start()
    until(lambda: p.stats().queue == 1)
    p.checkin(worker)
    thread.join()
    stats = until(lambda: (s := p.stats()).in_use == 0 and s)
    assert (stats.served, stats.queue) == (2, 0)
    assert stats.p50 == 0.0
    assert stats.p99 == stats.longest > 0.0


# rows: B3, B11, B17, P-work
def test_inside_a_server_the_same_names_are_awaited(node, pool, user):
    p, name = pool(size=1)
    ref = user()
    worker = node.call(ref, ("checkout", name, 5.0))
    status, stats = node.call(ref, ("status", name))
    assert status == ("full", 0, 0, 1)
    assert stats.in_use == 1
    p.checkin(worker)  # not ours
    node.call(ref, ("checkin", name))
    settled(p, "ready", 1, 0, 0)
    held = p.checkout()
    node.call(ref, ("give up", name))  # its task is cancelled while it waits
    until(lambda: p.stats().queue == 0)
    p.checkin(held)
    settled(p, "ready", 1, 0, 0)
    with pytest.raises(errors.ServerExited, match="took more than"):
        node.call(user(), ("slow function", name))
    until(lambda: not alive(worker.pid))
    settled(p, "ready", 1, 0, 0)
    worker = p.checkout()
    p.checkin(worker)
    assert node.call(ref, ("transaction", name, "pid", None)) == node.call(ref, ("function", name, "pid")) == worker.pid
    monitor = node.monitor(ref)
    with pytest.raises(errors.ServerExited, match="took more than"):
        node.call(ref, ("transaction", name, "hang", 0.2))
    assert "took more than" in monitor.wait(20.0).reason.detail["message"]
    settled(p, "ready", 1, 0, 0)
    with pytest.raises(errors.ServerExited, match="ZeroDivision"):
        node.call(user(), ("fail", name))
    settled(p, "ready", 1, 0, 0)


# rows: B19
def test_pool_in_a_tree_is_restarted_whole_when_its_server_dies(node, supervise):
    spec = PoolSpec(ChildSpec("worker", Worker), "in-tree", size=2, max_overflow=0)
    supervise([ChildSpec("db", spec)])
    p, old, server = Pool(node, "in-tree"), pids(node, "in-tree"), node.pid("in-tree")
    kill(server)
    until(lambda: node.pid("in-tree") not in (None, server))
    settled(p, "ready", 2, 0, 0)
    assert not old & pids(node, "in-tree")
    assert not any(alive(pid) for pid in old)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"size": -1}, "size is invalid: got -1, expected a whole number >= 0"),
        ({"max_overflow": 1.5}, "max_overflow is invalid: got 1.5, expected a whole number >= 0"),
        ({"strategy": "random"}, "strategy is invalid: got 'random', expected one of lifo, fifo"),
        ({"min_size": 6}, r"min_size is invalid: got 6, expected a whole number from 0 to 5 or None"),
        ({"max_size": 4}, r"max_size is invalid: got 4, expected a whole number >= 5 or None"),
        ({"idle_seconds": -1}, "idle_seconds is invalid: got -1, expected seconds >= 0"),
        ({"work_timeout": 0}, "work_timeout is invalid: got 0, expected seconds > 0 or None"),
        ({"health_timeout": 0}, "health_timeout is invalid: got 0, expected seconds > 0"),
        ({"intensity": -1}, "intensity is invalid: got -1, expected a whole number >= 0"),
        ({"worker": Worker}, "worker is invalid: got .*, expected a ChildSpec"),
        ({"worker": ChildSpec("w", Worker, name="w")}, "worker.name is invalid: got 'w', expected None"),
        ({"worker": ChildSpec("w", SupervisorSpec())}, "worker.start is invalid: got .*, expected a GenServer class"),
    ],
)
def test_illegal_specs_are_refused_before_anything_starts(fields, message):
    with pytest.raises(errors.SpecError, match=message):
        PoolSpec(**{"worker": ChildSpec("w", Worker), **fields})


def test_illegal_calls_are_refused_and_the_pool_goes_on(node, pool):
    p, name = pool(size=1)
    for options in ({"timeout": -1}, {"timeout": "x"}, {"work_timeout": 0}):
        with pytest.raises(errors.SpecError, match="expected seconds"):
            p.checkout(**options)
    for request in ("nonsense", ("checkout", 1), ("checkout", "lease", True, "x", None), ("lease", "me", b"\xc1")):
        with pytest.raises(errors.CallFailed):
            node.call(name, request)
    node.cast(name, "nonsense")
    assert p.status() == ("ready", 1, 0, 0)
    with pytest.raises(errors.NoProcess):
        Pool(node, "no such pool").checkout()
