"""Three stores that vote, on real files and in real time, over a net that is cut, doubles, delays and reorders."""

import asyncio
import errno
import itertools
import logging
import random

import pytest

from supervisors import errors
from supervisors.cluster.leases.clock import now
from supervisors.cluster.leases.core import Table
from supervisors.cluster.leases.raft_disk import RaftFile
from supervisors.cluster.leases.raft_terms import LEADER
from supervisors.cluster.leases.voting import VotingStore
from supervisors.testing import wait_until_async as look


class Log:
    def info(self, text, **about):
        logging.getLogger("leases").info("%s %s", text, about)

    warning = error = debug = info


class Net:
    """Carries what stores send and ask, unless it is cut."""

    def __init__(self):
        self.stores, self.cuts, self.dice = {}, set(), random.Random(1)
        self.seconds = (0.0, 0.005)
        self.doubles, self.failures = 0.0, []

    def is_cut(self, one, other):
        return (one, other) in self.cuts

    def cut_off(self, name, *, into=True, out=True):
        others = [other for other in self.stores if other != name]
        self.cuts |= {(other, name) for other in others if into} | {(name, other) for other in others if out}


class Post:
    def __init__(self, net, me):
        self.net, self.me = net, me

    def send(self, to, message):
        net = self.net
        if net.is_cut(self.me, to) or to not in net.stores:
            return
        for _ in range(2 if net.dice.random() < net.doubles else 1):
            delay = net.dice.uniform(*net.seconds)
            asyncio.get_running_loop().call_later(delay, self.arrive, to, message)

    def arrive(self, to, message):
        _, group, sender, content = message
        self.net.stores[to].take(group, sender, content)

    def fail(self, error):
        self.net.failures.append(error)

    async def ask(self, to, request, timeout):  # noqa: ASYNC109
        async def answered():
            await asyncio.sleep(self.net.dice.uniform(*self.net.seconds))
            if self.net.is_cut(self.me, to):
                await asyncio.sleep(timeout)
            answer = await self.net.stores[to].answer(request)
            if self.net.is_cut(to, self.me):
                await asyncio.sleep(timeout)
            return answer

        try:
            return await asyncio.wait_for(answered(), timeout)
        except TimeoutError:
            raise errors.CallTimeout("no answer in time") from None


def with_three(tmp_path, function):
    async def main():
        net = Net()
        for name in "abc":
            net.stores[name] = VotingStore(tmp_path / name, name, Post(net, name), Log())
        stores = net.stores
        stores["a"].found(Table())
        for name, store in stores.items():
            store.start()
            if name != "a":
                store.orient(stores["a"].group, ("a",))

        async def wish():
            while True:
                for store in stores.values():
                    store.wish(lambda voters: ("a", "b", "c"))
                await asyncio.sleep(0.1)

        wishing = asyncio.create_task(wish())
        try:
            await look(lambda: all(len(store.raft.voters) == 3 for store in stores.values()))
            await function(net, stores)
            assert net.failures == []
        finally:
            wishing.cancel()
            for store in stores.values():
                await store.close()

    asyncio.run(main())


def leader_of(stores, but=""):
    found = [name for name, store in stores.items() if store.raft.role == LEADER and not store.ill and name != but]
    return found[0] if found else None


ONE_WAY = [pytest.param(ways, marks=pytest.mark.soak) for ways in ({"into": False}, {"out": False})]


@pytest.mark.soak
@pytest.mark.parametrize("ways", [{}, *ONE_WAY])
def test_a_leader_that_is_cut_off_grants_nothing_and_the_others_go_on(tmp_path, ways):
    async def main(net, stores):
        old = leader_of(stores)
        await stores[old].acquire("a", "x", 1.0, b"")
        net.cut_off(old, **ways)
        new = await look(lambda: leader_of(stores, old))
        row = await until_granted(stores[new], "y")
        assert row.epoch == 2
        with pytest.raises(errors.NoMajority, match="voters for leases answer"):
            await stores[old].acquire("b", "x", 1.0, b"")
        net.cuts.clear()
        held = await until_heard(stores[old], "a")
        assert (held.holder, held.epoch) == ("y", 2)
        await look(lambda: stores[old].raft.role != LEADER)

    with_three(tmp_path, main)


def test_who_has_missed_more_than_is_remembered_hears_of_all_that_may_be_another(tmp_path):
    """Of what has ended too, and of values: a leader that was just started anew remembers nothing."""

    async def main(net, stores):
        leader = stores[leader_of(stores)]
        row = await leader.acquire("ended", "x", 60.0, b"")
        await leader.put("value", b"1", 0)
        since = leader.table.revision
        await leader.release("ended", "x", row.epoch)
        await leader.put("value", b"2", 1)
        assert await leader._news_since(since) == (since + 2, [["lease", "ended"], ["value", "value"]])
        leader._news.clear()
        revision, news = await leader._news_since(since)
        assert revision == since + 2
        assert {("lease", "ended"), ("value", "value")} <= set(map(tuple, news))
        assert await leader._news_since(-1) == (revision, [])

    with_three(tmp_path, main)


async def until_granted(store, holder):
    async with asyncio.timeout(30):
        while True:
            try:
                return await store.acquire("a", holder, 60.0, b"")
            except (errors.LeaseHeld, errors.NoMajority):
                await asyncio.sleep(0.05)


async def until_heard(store, name):
    async with asyncio.timeout(30):
        while True:
            try:
                return (await store.get(name))[0]
            except errors.NoMajority:
                await asyncio.sleep(0.05)


@pytest.mark.soak
def test_counting_up_over_a_bad_net_loses_nothing_and_does_nothing_twice(tmp_path):
    async def main(net, stores):
        net.seconds, net.doubles = (0.0, 0.3), 0.3
        done = itertools.count()

        async def count(store):
            for _ in range(6):
                while True:
                    try:
                        value, version = await store.read("n")
                        await store.put("n", str(int(value or b"0") + 1).encode(), version)
                    except (errors.VersionConflict, errors.NoMajority):
                        continue
                    next(done)
                    break

        async with asyncio.timeout(60):
            await asyncio.gather(*(count(store) for store in stores.values()))
        # A put that was said to be unknown may have been done beside.
        value, version = await until_read(stores["a"])
        assert int(value) == version >= next(done)

    with_three(tmp_path, main)


async def until_read(store):
    async with asyncio.timeout(30):
        while True:
            try:
                return await store.read("n")
            except errors.NoMajority:
                await asyncio.sleep(0.05)


@pytest.mark.soak
def test_a_voter_with_a_full_disk_takes_no_part_until_there_is_room(tmp_path, monkeypatch):
    async def main(net, stores):
        await stores["a"].put("n", b"1", 0)
        full = leader_of(stores)
        save = RaftFile.save

        def fails(self, group, saves, kept):
            if saves and self.path.name == full:
                raise OSError(errno.ENOSPC, "No space left on device")
            save(self, group, saves, kept)

        monkeypatch.setattr(RaftFile, "save", fails)
        monkeypatch.setattr(RaftFile, "replace", refuse_of(full, RaftFile.replace))
        version = await until_put(stores[full])
        assert "No space left on device" in stores[full].ill
        assert version == 2
        monkeypatch.undo()
        await look(lambda: not stores[full].ill)
        await look(lambda: stores[full].table.values.get("n", (b"", 0, ""))[1] == 2)

    with_three(tmp_path, main)


def refuse_of(full, replace):
    def refuse(self, group, kept):
        if self.path.name == full:
            raise OSError(errno.ENOSPC, "No space left on device")
        replace(self, group, kept)

    return refuse


async def until_put(store):
    async with asyncio.timeout(30):
        while True:
            try:
                return await store.put("n", b"2", 1)
            except errors.NoMajority:
                await asyncio.sleep(0.05)
            except errors.VersionConflict:
                return (await store.read("n"))[1]


@pytest.mark.parametrize("data", [[99, "a"], [-1, "a", 7], [0, "a", "x", "soon", b""], [2, "a", "x"], "drop", None, []])
def test_what_is_no_command_is_refused_and_one_that_is_in_the_log_ends_no_voter(tmp_path, data):
    async def main(net, stores):
        leader = stores[leader_of(stores)]
        with pytest.raises(errors.NoMajority, match="a request that is not known here: expected"):
            await leader.answer(("do", leader.group, data))
        leader.raft.propose(data, now())  # as another release has put it there
        await until_put_after(leader)
        await look(lambda: all("after" in store.table.values for store in stores.values()))

    with_three(tmp_path, main)


async def until_put_after(store):
    async with asyncio.timeout(30):
        while True:
            try:
                return await store.put("after", b"1", None)
            except errors.NoMajority:
                await asyncio.sleep(0.05)
