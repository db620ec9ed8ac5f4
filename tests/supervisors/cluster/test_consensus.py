"""What members decide together, and small values that all nodes share: on one node, and on three."""

import asyncio
import contextlib
import math
import signal
import sys
import threading
from types import SimpleNamespace

import pytest
from cluster_kit import cluster_of, until
from hypothesis import given
from hypothesis import strategies as st

from supervisors import errors
from supervisors.cluster.consensus import server as server_module
from supervisors.cluster.consensus.core import Tally
from supervisors.cluster.consensus.handle import Consensus
from supervisors.cluster.consensus.voting import MOST_AT_ONCE, Voter
from supervisors.cluster.leases.handle import LeaseEnded
from supervisors.cluster.state.handle import DistributedState


@given(st.lists(st.sampled_from([True, False, None]), max_size=8), st.floats(0.01, 1))
def test_a_verdict_is_given_as_soon_as_it_is_sure_and_never_changes(votes, threshold):
    tally, seen = Tally(map(str, range(len(votes))), threshold), []
    for number, vote in enumerate(votes):
        if vote is not None:
            tally.vote(str(number), vote)
            tally.vote(str(number), not vote)  # a second one is none
        seen.append(tally.verdict)
    yes, no = votes.count(True), votes.count(False)
    needed = max(1, math.ceil(threshold * len(votes) - 1e-9))
    expected = "accepted" if yes >= needed else "rejected" if len(votes) - no < needed else "undecided"
    assert tally.verdict == expected
    sure = [verdict for verdict in seen if verdict != "undecided"]
    assert len(set(sure)) <= 1


@pytest.mark.parametrize("leaves_at", ["first", "last", None])
def test_a_member_that_leaves_while_its_lease_is_lost_does_not_come_back(leaves_at, monkeypatch):
    released, tries = [], []

    class Leases:
        async def acquire(self, name, ttl, value, wait):
            tries.append(name)
            await asyncio.sleep(0)
            if leaves_at == ("first" if len(tries) == 1 else "last"):
                await server._leave("vote:g:1")
            if len(tries) == 1:
                raise errors.NoMajority("not now")
            return SimpleNamespace(release=lambda: asyncio.sleep(0, released.append(name)))

    class Fake(server_module.Consensus):
        ref = "its ref"
        log = SimpleNamespace(info=lambda *args, **about: None)

    async def main():
        server._votes = {"vote:g:1": (Voter("vote:g:1", votes_small), None)}
        server.take_info(LeaseEnded("vote:g:1", 1, "lost"))
        await tasks[0]
        assert list(server._votes) == ([] if leaves_at else ["vote:g:1"])
        if leaves_at:
            with pytest.raises(errors.NoProcess):
                await server._leave("vote:g:1")

    monkeypatch.setattr(server_module, "AGAIN_SECONDS", 0.0)
    tasks, server = [], Fake.__new__(Fake)
    server._away, server._leases = set(), Leases()
    server.spawn = lambda work: tasks.append(asyncio.create_task(work))
    asyncio.run(main())
    assert (len(tries), released) == {"first": (1, []), "last": (2, ["vote:g:1"]), None: (2, [])}[leaves_at]


@pytest.fixture(scope="module")
def members(tmp_path_factory):
    with cluster_of(3, tmp_path_factory.mktemp("consensus"), first=91) as members:
        until(lambda: all(len(member.voters()) == 3 for member in members))  # before that a death may be one too many
        yield members


def votes_small(value):
    return value < 10


def votes_never(value):
    return False


def leaves(value):
    sys.exit(1)


def fails(value):
    raise RuntimeError("no idea")


def says_text(value):
    return "no"


def abstains(value):
    return None


def hangs_at_first(value):
    if value == "hang":
        threading.Event().wait()
    return True


async def votes_even(value):
    return value % 2 == 0


def test_members_on_all_nodes_decide(members):
    groups = [Consensus(member.node).group("sizes", 0.6) for member in members]
    assert groups[0].propose_and_decide(3) == "undecided"  # nobody is in it
    joined = [groups[0].join(votes_small), groups[1].join(votes_even), groups[2].join(votes_small)]
    assert sorted(joined) == groups[1].members()
    assert groups[0].propose_and_decide(3) == "accepted"  # two of three
    assert groups[1].propose_and_decide(13) == "rejected"
    assert groups[2].propose_and_decide(12) == "rejected"  # one of three
    assert Consensus(members[0].node).group("sizes", 0.3).propose_and_decide(12) == "accepted"
    assert Consensus(members[0].node).group("sizes", 1.0).propose_and_decide(3) == "rejected"
    assert Consensus(members[0].node).group("sizes", 1.0).propose_and_decide(4) == "accepted"
    for group, member in zip(groups, joined, strict=True):
        group.leave(member)
    assert groups[0].members() == []


def test_a_group_has_no_members_of_another_one_whose_name_begins_like_its_own(members):
    group, other = (Consensus(members[0].node).group(name) for name in ("model", "model:eu"))
    joined = other.join(votes_never)
    assert other.members() == [joined]
    assert group.members() == []
    other.leave(joined)


@pytest.mark.parametrize("failing", [fails, leaves, says_text, abstains])
def test_who_fails_to_vote_leaves_it_undecided(members, failing):
    group = Consensus(members[0].node).group("failing", 0.6)
    one, two = group.join(failing), group.join(votes_small)
    assert group.propose_and_decide(3, timeout=7) == "undecided"
    group.leave(one)
    assert group.propose_and_decide(3) == "accepted"
    group.leave(two)


def test_votes_that_hang_end_with_their_proposal_and_keep_no_others(members):
    group = Consensus(members[0].node).group("hanging", 0.6)
    joined = [group.join(hangs_at_first) for _ in range(MOST_AT_ONCE)]
    for _ in range(MOST_AT_ONCE - 1):
        assert group.propose_and_decide("hang", timeout=0.3) == "undecided"
    assert group.propose_and_decide("go on", timeout=20) == "accepted"
    for member in joined:
        group.leave(member)


def test_a_vote_has_the_time_of_its_proposal_and_so_many_threads():
    async def main():
        voter, opened = Voter("m", lambda value: wait.wait(20)), []
        for _ in range(MOST_AT_ONCE):
            with pytest.raises(errors.CallFailed, match="the vote of 'm' failed: TimeoutError"):
                await voter.ask(1, 0.01)
        with pytest.raises(errors.CallFailed, match=f"{MOST_AT_ONCE} votes of it go on already"):
            await voter.ask(1, 5.0)
        wait.set()
        while not opened:
            with contextlib.suppress(errors.CallFailed):
                opened.append(await voter.ask(1, 5.0))
            await asyncio.sleep(0.01)
        assert opened == [True]

    wait = threading.Event()
    asyncio.run(main())


def test_a_member_whose_node_is_stopped_is_waited_for_and_then_none_any_more(members):
    groups = [Consensus(member.node).group("stopped", 0.6) for member in members]
    joined = [group.join(votes_small) for group in groups[:2]]
    members[1].signal(signal.SIGSTOP)
    try:
        assert groups[0].propose_and_decide(3, timeout=1) == "undecided"
        until(lambda: groups[0].members() == joined[:1], 20)
        assert until(lambda: groups[0].propose_and_decide(3), 20) == "accepted"
    finally:
        members[1].signal(signal.SIGCONT)
    until(lambda: sorted(groups[0].members()) == sorted(joined), 20)  # it is back by itself
    for group, member in zip(groups, joined, strict=False):
        group.leave(member)


def test_a_state_is_changed_by_compare_and_set_and_watched_on_all_nodes(members):
    states = [DistributedState(member.node, "rollout") for member in members]
    assert states[0].get() == (None, 0)
    heard, told = [], threading.Event()

    def hear(value, version):
        heard.append((value, version))
        told.set()

    watch = states[2].watch(hear)
    assert states[0].put({"percent": 5}, version=0) == 1
    assert told.wait(20)
    with pytest.raises(errors.VersionConflict, match="has version 1 by now: read it and try again"):
        states[1].put({"percent": 10}, version=0)
    assert [state.get() for state in states] == [({"percent": 5}, 1)] * 3
    assert states[1].put({"percent": 10}, version=1) == 2
    assert states[2].put("done") == 3
    until(lambda: heard[-1] == ("done", 3), 20)
    assert heard[0] == ({"percent": 5}, 1)
    assert [version for _, version in heard] == sorted(version for _, version in heard)
    watch.cancel()
    assert not watch.active


def test_counting_up_together_loses_nothing(members):
    def count(member):
        state = DistributedState(member.node, "counter")
        for _ in range(10):
            while True:
                value, version = state.get()
                try:
                    state.put((value or 0) + 1, version)
                except errors.VersionConflict:
                    continue
                break

    threads = [threading.Thread(target=count, args=(member,)) for member in members]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert DistributedState(members[0].node, "counter").get() == (30, 30)


def test_a_state_is_deleted_on_all_nodes_and_whoever_watches_it_hears_so(members):
    states = [DistributedState(member.node, "short") for member in members]
    assert states[0].put("there") == 1
    heard = []
    watch = states[2].watch(lambda value, version: heard.append((value, version)))
    with pytest.raises(errors.VersionConflict):
        states[1].delete(version=2)
    states[1].delete(version=1)
    states[0].delete()  # there is none
    assert [state.get() for state in states] == [(None, 0)] * 3
    until(lambda: heard == [(None, 0)], 20)
    assert states[2].put("again", version=0) == 2
    until(lambda: heard[-1] == ("again", 2), 20)
    watch.cancel()


@pytest.mark.parametrize(
    ("use", "words"),
    [
        (lambda node: Consensus(node).group("g", 0), "threshold is invalid: got 0, expected 0.01 to 1"),
        (lambda node: Consensus(node).group("g", 1.5), "threshold is invalid"),
        (lambda node: Consensus(node).group(""), "name is invalid"),
        (lambda node: Consensus(node).group("g").join("yes"), "vote is invalid: got 'yes', expected a function"),
        (lambda node: Consensus(node).group("g").propose_and_decide(1, timeout=-1), "timeout is invalid"),
        (lambda node: DistributedState(node, None), "name is invalid: got None"),
        (lambda node: DistributedState(node, "s").put(1, version="1"), "version is invalid"),
        (lambda node: DistributedState(node, "s").put("x" * 70_000), "expected at most 65,536"),
        (lambda node: DistributedState(node, "s").watch(3), "handler is invalid"),
    ],
)
def test_misuse_is_refused_in_one_line(members, use, words):
    with pytest.raises(errors.SupervisorsError, match=words) as refused:
        use(members[0].node)
    assert "\n" not in str(refused.value)
