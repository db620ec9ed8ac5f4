"""Leases of a cluster: three voters that are killed, stopped and brought back; who is no voter asks them."""

import signal
import time

import pytest
from cluster_kit import cluster_of, until
from lease_kit import Owner
from node_helpers import alive, kill

from supervisors import ChildSpec, SupervisorSpec, errors
from supervisors.cluster.leases.handle import LeaseEnded
from supervisors.cluster.leases.messages import LEASES, Acquire, Get, LeaseChanged, Put, Read


@pytest.fixture(scope="module")
def members(tmp_path_factory):
    with cluster_of(4, tmp_path_factory.mktemp("leases"), first=71) as members:
        for member in members:
            member.node.start_supervisor(
                SupervisorSpec([ChildSpec("owner", Owner, args=(2.0,), name="owner")], intensity=100)
            )
        until(lambda: len(about(members[0])[1]) == 3, 20)
        yield members


def about(member):
    """Return group, voters and leader, as a node knows them."""
    return member.node.call(LEASES, ("about", ""))


def by_uid(members):
    return {member.member(member.name).uid: member for member in members if member.node is not None}


def test_three_of_four_nodes_vote_and_all_ask_them(members):
    group, voters, leader = about(members[0])
    assert len(voters) == 3
    assert leader in voters
    assert until(lambda: {about(each)[0] for each in members} == {group})
    for number, member in enumerate(members):
        assert member.node.call(LEASES, Put("count", number, number), timeout=10) == number + 1
    assert [member.node.call(LEASES, Read("count"), timeout=10) for member in members] == [(3, 4)] * 4
    first, second = members[0], members[3]
    assert first.node.call("owner", ("acquire", "thing:1", 5.0), timeout=10) == 1
    with pytest.raises(errors.LeaseHeld, match="epoch 1"):
        second.node.call("owner", ("acquire", "thing:1", 0.0), timeout=10)
    assert [member.node.call(LEASES, Get("thing:1"), timeout=10).epoch for member in members] == [1] * 4
    first.node.call("owner", "release")
    assert second.node.call("owner", ("acquire", "thing:1", 0.0), timeout=10) == 2
    second.node.call("owner", "release")


def test_all_nodes_hear_of_changes_voters_or_not(members):
    for member in members:
        member.node.call("owner", ("watch", "thing"), timeout=10)
    members[1].node.call("owner", ("acquire", "thing:2", 5.0), timeout=10)

    def heard(member):
        told = [each.lease for each in member.node.call("owner", "told") if isinstance(each, LeaseChanged)]
        return [lease for lease in told if lease.name == "thing:2" and lease.holder]

    until(lambda: all(heard(member) for member in members), 10)
    members[1].node.call("owner", "release")


def test_a_stopped_holder_never_holds_with_another_one_and_hears_of_it(members):
    voters = about(members[0])[1]
    holder = next(member for uid, member in by_uid(members).items() if uid != about(members[0])[2])
    other = next(member for member in members if member is not holder)
    assert voters
    epoch = holder.node.call("owner", ("acquire", "thing:3", 5.0), timeout=10)
    holder.signal(signal.SIGSTOP)
    assert other.node.call("owner", ("acquire", "thing:3", 15.0), timeout=20) == epoch + 1
    holder.signal(signal.SIGCONT)
    assert f"thing:3 is lost (epoch {epoch})" in until(lambda: why_lost(holder), 10)
    until(lambda: [each for each in holder.node.call("owner", "told", timeout=10) if isinstance(each, LeaseEnded)], 10)
    assert other.node.call("owner", "check") == epoch + 1
    other.node.call("owner", "release")


def test_the_leader_is_killed_and_its_node_comes_back(members):
    nodes = by_uid(members)
    leader = nodes[about(members[0])[2]]
    other = next(member for member in members if member is not leader)
    epoch = leader.node.call("owner", ("acquire", "thing:4", 5.0), timeout=10)
    other.node.call(LEASES, Put("before", "the kill"), timeout=10)
    at = leader.kill()
    assert other.node.call("owner", ("acquire", "thing:4", 20.0), timeout=25) == epoch + 1
    assert time.monotonic() - at < 12
    assert other.node.call(LEASES, Read("before"), timeout=10) == ("the kill", 1)
    leader.start()
    assert until(lambda: leader.node.call(LEASES, Read("before"), timeout=10), 20) == ("the kill", 1)
    other.node.call("owner", "release")


def test_the_server_of_leases_is_killed_and_its_voter_goes_on_from_its_disk(members):
    for member in members[:3]:
        pid = member.node.pid(LEASES)
        kill(pid)
        until(lambda pid=pid: not alive(pid))
        value, version = until(lambda: members[3].node.call(LEASES, Read("count"), timeout=10))
        assert members[3].node.call(LEASES, Put("count", value + 1, version), timeout=10) == version + 1


def test_two_of_three_voters_are_stopped_and_nothing_is_granted_until_one_is_back(members):
    voters = about(members[0])[1]
    nodes = by_uid(members)
    asker = next(member for uid, member in nodes.items() if uid not in voters)
    stopped = [nodes[uid] for uid in voters[:2]]
    for member in stopped:
        member.signal(signal.SIGSTOP)
    try:
        with pytest.raises(errors.NoMajority, match=r"no majority of the 3 voters for leases answers") as error:
            asker.node.call(LEASES, Acquire("thing:5", "x"), timeout=20)
        assert "\n" not in str(error.value)
    finally:
        for member in stopped:
            member.signal(signal.SIGCONT)
    assert until(lambda: granted(asker), 20).epoch == 1


def why_lost(member):
    try:
        member.node.call("owner", "check", timeout=10)
    except errors.LeaseLost as error:
        return error.message
    return None


def granted(member):
    try:
        return member.node.call(LEASES, Acquire("thing:5", "x"), timeout=20)
    except errors.NoMajority:
        return None
