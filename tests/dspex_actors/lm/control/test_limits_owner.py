"""Whose a deployment's limits are: a client actor with a store of leases that answers, refuses, or does not."""

import asyncio
from types import SimpleNamespace

import pytest

from dspex_actors.foundation.buckets import Grant
from dspex_actors.foundation.days import utc
from dspex_actors.lm.control import ownership as module
from dspex_actors.lm.control.budget import Budget
from dspex_actors.lm.control.memory import clock
from dspex_actors.lm.control.messages import HandOver, Owned
from dspex_actors.lm.control.ownership import LIMITS, Ownership
from dspex_actors.lm.control.tenure import left_by
from dspex_actors.lm.deployment import Limits
from supervisors import Down, ExitReason, Ref
from supervisors.cluster.leases.messages import Acquire, Get, Release, Renew
from supervisors.cluster.leases.store import Lease
from supervisors.cluster.membership.messages import MEMBERSHIP, Lookup, Member, Members
from supervisors.errors import LeaseLost, NoMajority, NoProcess
from supervisors.testing import wait_until_async as until

ME, OTHER = (Ref(host, port, port, 1, f"{port:016x}", 9) for port, host in enumerate("ho", 1))
NAME = LIMITS + "digest"
#: Of some day, by the wall's clock.
NOON = 20_000.5 * 86_400


class Store:
    """One lease, and the members; `fails` says what it answers instead."""

    def __init__(self):
        self.lease = Lease(NAME, "", 0, 5.0, None)
        self.fails = None
        self.alone = {}  # uid → what its client actor hands over

    def answer(self, request):
        if self.fails is not None:
            raise self.fails
        lease = self.lease
        match request:
            case Get():
                return lease
            case Acquire(name, holder, ttl, value):
                assert lease.holder in ("", holder)
                self.lease = Lease(name, holder, lease.epoch + 1, ttl, lease.value if value is None else value)
            case Renew(name, holder, epoch, value):
                if (lease.holder, lease.epoch) != (holder, epoch):
                    raise LeaseLost("lost")
                self.lease = Lease(name, holder, epoch, lease.ttl, lease.value if value is None else value)
            case Release():
                self.lease = Lease(NAME, "", lease.epoch, lease.ttl, lease.value)
            case Members():
                return [Member("m", "me", "h", 1), *(Member(uid, uid, "o", 2) for uid in self.alone)]
            case Lookup(node):
                return node
            case HandOver():
                raise AssertionError("asked of nobody")
        return self.lease


class Server(SimpleNamespace):
    """As much of a client actor as is used."""

    def __init__(self, store, folder, is_member=True):
        node = {"name": "m", "uid": "u", "incarnation": 1, "data_dir": str(folder), "address": "h:1"}
        super().__init__(store=store, node=node, ref=ME, is_member=is_member, monitored=[], tasks=[])
        self.log = SimpleNamespace(info=lambda *_, **__: None)

    async def whereis(self, name):
        return ME if self.is_member and name == MEMBERSHIP else None

    async def call(self, target, request, timeout=5.0):  # noqa: ASYNC109 - as a server does
        if isinstance(request, HandOver):
            found = self.store.alone[target]
            if found is None:
                raise NoProcess("nobody")
            return found
        return self.store.answer(request)

    def spawn(self, coroutine):
        self.tasks.append(asyncio.get_running_loop().create_task(coroutine))
        return self.tasks[-1]

    def monitor(self, ref):
        self.monitored.append(ref)

    def send(self, ref, message):
        self.ownership.hear(message)


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    async def there(server):
        return ME

    monkeypatch.setattr("supervisors.cluster.branch.ensure_leases", there)
    monkeypatch.setattr(module, "own_uid", lambda folder: "me")
    monkeypatch.setattr(module, "ahead_seconds", lambda: 0.01)
    monkeypatch.setattr(module, "LOOK_SECONDS", 0.01)


def owner_of(store, folder, **options):
    server, budget = Server(store, folder, **options), Budget(clock(), 0, utc)
    budget.limit(Limits(rpm=60, tpm=6000), clock())
    server.ownership = Ownership(server, "client:x", "digest", budget, lambda: None)
    return server.ownership, budget


def run(body):
    async def whole():
        try:
            await asyncio.wait_for(body(), 60)
        finally:
            for task in asyncio.all_tasks() - {asyncio.current_task()}:
                task.cancel()

    asyncio.run(whole())


def free(budget, name="tpm"):
    return budget.buckets.free(name, clock())


def test_a_node_alone_owns_its_limits_and_asks_nobody(tmp_path):
    async def body():
        store = Store()
        store.fails = AssertionError("asked")
        owner, _ = owner_of(store, tmp_path, is_member=False)
        await owner.open()
        assert owner.owns
        assert owner.stats() == {}
        assert owner.hand_over(HandOver("digest")) is not None  # it has given, and gives no more
        assert not owner.owns

    run(body)


def test_who_has_the_lease_says_so_before_it_gives_and_leaves_what_it_gave(tmp_path):
    async def body():
        store = Store()
        owner, budget = owner_of(store, tmp_path)
        await owner.open()
        assert not owner.owns
        await until(lambda: owner.owns)
        assert store.lease.value == [ME, left_by("me", 0.0, None), {}]
        assert owner.elsewhere() == Owned("digest", None, "")
        budget.buckets.reserve({"tpm": 1000.0}, clock())
        await owner.close()
        assert store.lease.holder == ""
        following, known = owner_of(store, tmp_path)
        await following.open()
        await until(lambda: following.owns)
        assert free(known) == pytest.approx(5000.0)

    run(body)


def test_who_follows_one_that_died_begins_as_if_all_had_been_used(tmp_path):
    async def body():
        store = Store()
        store.lease = Lease(NAME, "", 4, 5.0, [OTHER, left_by("other", 0.0, None), {}])
        owner, budget = owner_of(store, tmp_path)
        await owner.open()
        await until(lambda: owner.owns)
        assert free(budget) == 0.0
        assert store.lease.value[1] == left_by("", 0.0, None)  # not even this node knows all that counts

    run(body)


def test_of_a_day_it_is_known_to_whoever_follows_how_far_an_owner_that_died_may_have_gone(tmp_path):
    async def body():
        def give():
            budget.buckets.clock(clock(), NOON)
            found = budget.buckets.reserve({"rpd": 1.0}, clock())
            owner.keep_days({}, clock(), NOON)
            return isinstance(found, Grant)

        def given():
            return 100 - free(budget, "rpd")

        store, ends = Store(), []
        for name in ("one", "two"):
            owner, budget = owner_of(store, tmp_path / name)
            budget.limit(Limits(rpd=100), clock())
            await owner.open()
            await until(lambda owner=owner: owner.owns)
            budget.buckets.clock(clock(), NOON)
            begins = given()
            store.fails = NoMajority("no majority of the 3 voters")
            assert [give() for _ in range(3)][1:] == [False, False]  # the one before may have gone so far
            store.fails = None
            await until(lambda begins=begins: give() and given() >= begins + 30)
            ends.append((begins, given()))
            for task in owner._server.tasks:  # it is killed
                task.cancel()
            store.lease = Lease(
                NAME, "", store.lease.epoch, 5.0, [OTHER, left_by("other", 0.0, None), *store.lease.value[2:]]
            )
        assert ends[0][0] == 0
        assert ends[0][1] <= ends[1][0] <= ends[0][1] + 3

    run(body)


def test_the_first_owner_asks_what_was_given_by_nodes_that_were_alone(tmp_path):
    async def body():
        store, alone = Store(), Budget(clock())
        alone.limit(Limits(tpm=6000), clock())
        alone.buckets.reserve({"tpm": 1500.0}, clock())
        store.alone = {"o1": [clock(), alone.kept()], "o2": None}
        owner, budget = owner_of(store, tmp_path)
        await owner.open()
        await until(lambda: owner.owns)
        assert free(budget) == pytest.approx(4500.0)

    run(body)


def test_who_does_not_own_them_says_who_does_and_takes_them_when_that_one_is_gone(tmp_path):
    async def body():
        store = Store()
        store.lease = Lease(NAME, "other", 4, 5.0, [OTHER, left_by("other", 0.0, None), {}])
        owner, _ = owner_of(store, tmp_path)
        await owner.open()
        await until(lambda: owner.elsewhere().owner == OTHER)
        assert not owner.owns
        assert owner.stats() == {"owner": f"{OTHER.host}:{OTHER.door}", "waits_for": ""}
        store.lease = Lease(NAME, "", 4, 5.0, store.lease.value)
        await until(lambda: owner.owns)

    run(body)


def test_an_owner_that_was_only_taken_for_dead_is_followed_again_where_its_lease_goes_on(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "GONE_SECONDS", 0.3)

    async def body():
        store = Store()
        store.lease = Lease(NAME, "other", 4, 5.0, [OTHER, left_by("other", 0.0, None), {}])
        owner, _ = owner_of(store, tmp_path)
        await owner.open()
        await until(lambda: owner.elsewhere().owner == OTHER)
        owner.hear(Down(OTHER, ExitReason("nodedown")))
        assert owner.elsewhere().owner is None
        assert "has ended" in owner.elsewhere().why
        await until(lambda: owner.elsewhere().owner == OTHER)
        assert owner._server.monitored == [OTHER, OTHER]  # its end is heard of again

    run(body)


def test_without_a_majority_nobody_gives_and_it_is_said_why_until_it_is_back(tmp_path):
    async def body():
        store = Store()
        store.fails = NoMajority("no majority of the 3 voters")
        owner, _ = owner_of(store, tmp_path)
        await owner.open()
        await until(lambda: "no majority" in owner.elsewhere().why)
        assert not owner.owns
        store.fails = None
        await until(lambda: owner.owns)
        holding = owner._holding
        holding._until = 0.0  # its time is over, by its own clock
        assert not owner.owns
        await until(lambda: owner._holding is not None and owner._holding is not holding and owner.owns)

    run(body)
