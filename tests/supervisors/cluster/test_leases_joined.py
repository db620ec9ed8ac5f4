"""A node that had leases of its own joins a cluster: there is one truth, and no epoch comes twice."""

import asyncio
import logging
import shutil
from types import SimpleNamespace

import pytest
from cluster_kit import Member, cluster_of, until

from supervisors import errors
from supervisors.cluster.leases.alone import FileStore
from supervisors.cluster.leases.core import Raise, Table
from supervisors.cluster.leases.member import VotingMember, highest_of
from supervisors.cluster.leases.messages import LEASES, Acquire, Get, Release
from supervisors.cluster.leases.outside import ensure_outside
from supervisors.cluster.leases.raft_terms import Kept, Snapshot
from supervisors.cluster.leases.voting import VotingStore
from supervisors.cluster.membership import file
from supervisors.cluster.state.handle import DistributedState
from supervisors.wire.values import pack


def asked(member, request):
    """Ask a node's server of leases; None: it has no answer yet."""
    try:
        return member.node.call(LEASES, request, timeout=20)
    except (errors.NoMajority, errors.NoProcess, errors.ServerExited):
        return None


def test_a_node_gives_up_its_own_leases_when_it_joins_and_later_epochs_are_above_them(tmp_path):
    with cluster_of(1, tmp_path, first=121) as members:
        first = members[0]
        ensure_outside(first.node)
        assert DistributedState(first.node, "whose").put("the cluster's") == 1
        home = tmp_path / "n122"
        home.mkdir(mode=0o700)
        shutil.copy(first.folder / "cluster.key", home / "cluster.key")
        second = Member("n122", "127.0.0.122", home, {})
        try:
            second.start()
            assert DistributedState(second.node, "whose").put("its own") == 1
            for epoch in (1, 2, 3):
                assert second.node.call(LEASES, Acquire("run:1", f"h{epoch}")).epoch == epoch
                second.node.call(LEASES, Release("run:1", f"h{epoch}", epoch))
            second.stop()
            second.start(join=first.address)
            until(lambda: second.seen() == {"n121": "alive", "n122": "alive"}, 20)
            groups = until(lambda: [about for each in (first, second) if (about := asked(each, ("about", "")))], 20)
            until(lambda: len({asked(each, ("about", ""))[0] for each in (first, second)}) == 1, 30)
            assert groups
            state = DistributedState(second.node, "whose")
            assert until(lambda: _read(state), 20) == ("the cluster's", 1)
            lease = until(lambda: asked(second, Acquire("run:1", "after")), 20)
            assert lease.epoch > 3
            assert asked(first, Get("run:1")).holder == "after"
            second.stop()
            second.start()  # and it stays in
            assert until(lambda: asked(second, Get("run:1")), 20).epoch == lease.epoch
        finally:
            second.remove()


@pytest.mark.parametrize(("alone", "before"), [(7, 2), (2, 7)])
def test_a_node_that_was_alone_after_it_had_left_joins_with_the_higher_epochs_of_both(tmp_path, alone, before):
    async def main():
        (tmp_path / "leases").mkdir()
        store = FileStore(tmp_path / "leases" / "alone")
        for holder in map(str, range(alone)):
            await store.release("run:1", holder, (await store.acquire("run:1", holder, 5.0, b"")).epoch)
        await store.close()
        table = Table()
        table.apply(Raise("", before))
        own = VotingStore(tmp_path / "leases" / "voter", "u", None, None)
        own.found(table)
        await own.close()
        member = VotingMember(server, tmp_path / "leases", join="127.0.0.1:1")
        store = await member.open()
        store.table = table  # as it has it from its disk when it is started
        member._mail = SimpleNamespace(ask=about)
        raised = []
        store.do = lambda command: asyncio.sleep(0, raised.append(command))
        await member._orient(["v"])
        assert store.group == "theirs"
        assert raised == [Raise("", 7)]

    async def call(to, request):
        return []

    async def about(uid, request, seconds):
        return "theirs", ["v"], "v"

    server = SimpleNamespace(node={"data_dir": str(tmp_path)}, log=logging.getLogger(), call=call)
    asyncio.run(main())


def test_a_node_tells_nobody_of_a_group_that_it_may_have_had_alone(tmp_path):
    """Of two nodes that join at once one would take the other's for that of the cluster, and stay in it for ever."""

    async def main():
        (tmp_path / "leases").mkdir()
        own = VotingStore(tmp_path / "leases" / "voter", "u", None, None)
        own.found(Table())
        await own.close()
        member = VotingMember(server, tmp_path / "leases", join="127.0.0.1:1")
        store = await member.open()
        group = store.group
        assert await store.answer(("about", "")) == ("", [], "")
        assert await store.answer(("get", "theirs", "run:1")) == ("ask", [], "")
        asked = []

        async def about(uid, request, seconds):
            asked.append(uid)
            return ("", [], "") if len(asked) < 3 else ("theirs", ["v"], "v")

        member._mail = SimpleNamespace(ask=about)
        store.do = lambda command: asyncio.sleep(0)
        await member._orient(["w", "x"])
        assert (store.group, store.is_joining) == (group, True)  # those are joining too
        await member._orient(["v"])
        assert (await store.answer(("about", "")))[:2] == ("theirs", ["v"])

    server = SimpleNamespace(node={"data_dir": str(tmp_path)}, log=logging.getLogger(), call=nobody)
    asyncio.run(main())


def test_a_node_that_has_left_its_cluster_and_is_alone_decides_alone_above_the_epochs_of_before(tmp_path):
    """It asked the voters of the cluster that it had left, for ever."""

    async def main():
        (tmp_path / "leases").mkdir()
        table = Table()
        table.apply(Raise("", 5))
        theirs = VotingStore(tmp_path / "leases" / "voter", "u", None, None)
        theirs._anew("theirs", Kept(snapshot=Snapshot(9, 2, ("u", "v", "w"), pack(table.to_plain()))))
        await theirs.close()
        (tmp_path / "leases" / "shared").touch()
        kept = file.load(tmp_path)
        file.save(tmp_path, kept)
        stays = await VotingMember(server, tmp_path / "leases", join=None).open()
        assert (stays.group, stays.raft.voters) == ("theirs", ("u", "v", "w"))  # as long as it has not left
        await stays.close()
        file.forget(tmp_path, kept)
        for _ in range(2):
            alone = VotingMember(server, tmp_path / "leases", join=None)
            store = await alone.open()
            assert (store.group != "theirs", store.raft.voters, highest_of(store)) == (True, (kept.uid,), 5)
            assert not alone._has_shared
            await store.close()

    server = SimpleNamespace(node={"data_dir": str(tmp_path)}, log=logging.getLogger(), call=nobody)
    asyncio.run(main())


def test_a_voter_whose_place_others_have_taken_while_it_was_down_asks_who_votes(tmp_path):
    """Those of its file were all replaced by now: it asked them for ever."""

    async def main():
        (tmp_path / "leases").mkdir()
        before = VotingStore(tmp_path / "leases" / "voter", "u", None, None)
        before._anew("theirs", Kept(snapshot=Snapshot(9, 2, ("u", "v", "w"), pack(Table().to_plain()))))
        await before.close()
        member = VotingMember(server, tmp_path / "leases", join=None)
        store = await member.open()
        answers = {"x": ("theirs", ["u", "v", "w"], ""), "y": ("theirs", ["y", "z"], "z")}

        async def ask(uid, request, seconds):
            return (
                answers[uid] if request[0] == "about" else ("ok", "what z says") if uid == "z" else ("ask", ["y"], "z")
            )

        member._mail = store._post = SimpleNamespace(ask=ask)
        await member._orient(["x"])  # that one knows no better
        assert store.about[1] == ["u", "v", "w"]
        await member._orient(["y"])
        assert sorted(store.about[1]) == ["y", "z"]
        assert await store.ask("read", "v") == "what z says"
        store.raft.leader, store.known = "y", ()  # which leads no more, and this one votes no more
        assert await store.ask("read", "v") == "what z says"
        store.known = ("y", "z")
        store._kick = lambda: None
        store.take("theirs", "v", ("append", 3, 9, 2, [], 9, 1))  # it hears of who leads: its own log is newer
        assert sorted(store.about[1]) == ["u", "v", "w"]

    server = SimpleNamespace(node={"data_dir": str(tmp_path)}, log=logging.getLogger(), call=nobody)
    asyncio.run(main())


async def nobody(to, request):
    return []


def _read(state):
    try:
        return state.get()
    except errors.SupervisorsError:
        return None
