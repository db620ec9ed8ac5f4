"""Children on chosen nodes, and what there is one of in a cluster: started elsewhere when its node dies."""

import asyncio
import contextlib
import itertools
from dataclasses import dataclass, field
from types import SimpleNamespace

import pytest
from cluster_kit import cluster_of, until
from hypothesis import given
from hypothesis import strategies as st
from node_helpers import Counter, alive

from supervisors import ChildSpec, Stop, errors
from supervisors.cluster.leases.handle import LeaseEnded
from supervisors.cluster.leases.messages import Read
from supervisors.cluster.leases.store import Lease
from supervisors.cluster.placement.core import POLICIES, choose
from supervisors.cluster.placement.handle import Placement
from supervisors.cluster.placement.server import Placing
from supervisors.cluster.placement.singleton import Singleton
from supervisors.wire.pickles import seal_start
from supervisors.wire.values import pack


@dataclass
class Host:
    name: str
    load: float = 0.0
    work: int = 0
    workers: int = 4
    takes_work: bool = True
    labels: dict = field(default_factory=dict)

    def fits(self, requires):
        return all(self.labels.get(key) == value for key, value in (requires or {}).items())


HOSTS = st.lists(
    st.builds(
        Host, st.sampled_from("abcdef"), st.floats(0, 3), st.integers(0, 9), st.integers(0, 9), st.booleans(),
        st.sampled_from([{}, {"gpu": "1"}]),
    ),
    unique_by=lambda host: host.name,
)  # fmt: skip


@given(HOSTS, st.sampled_from(POLICIES), st.sampled_from([None, {"gpu": "1"}]), st.sampled_from(["", "c", "f"]))
def test_a_node_is_taken_that_fits_and_takes_work_if_there_is_one(hosts, policy, requires, last):
    fitting = {host.name: host for host in hosts if host.takes_work and host.fits(requires)}
    name = choose(hosts, policy, requires, {}, last)
    assert (name in fitting) if fitting else name is None
    if name and policy != "round_robin":
        busy = {each.name: each.load + each.work / max(1, each.workers) for each in fitting.values()}
        assert busy[name] == min(busy.values())


def test_round_robin_goes_around_and_balance_heeds_what_was_just_placed():
    hosts = [Host("a"), Host("b"), Host("c", load=1.5)]
    taken, last = [], ""
    for _ in range(5):
        last = choose(hosts, "round_robin", None, {}, last)
        taken.append(last)
    assert taken == ["a", "b", "c", "a", "b"]
    placed = {}
    for _ in range(5):
        name = choose(hosts, "load_balanced", None, placed, "")
        placed[name] = placed.get(name, 0) + 1
    assert placed == {"a": 2, "b": 2, "c": 1}


def test_a_node_that_answers_slowly_gets_less_and_never_nothing():
    hosts, placed = [Host("a"), Host("b"), Host("c")], {}
    for _ in range(18):
        name = choose(hosts, "load_balanced", None, placed, "", {"a": 4.0, "b": 0.2, "c": 0.01})
        placed[name] = placed.get(name, 0) + 1
    assert placed == {"a": 3, "b": 3, "c": 12}
    assert choose(hosts[:2], "load_balanced", None, {}, "", {"a": 0.05, "b": 0.001}) == "a"  # both are fast


class Owner(Singleton):
    def begin(self, greeting):
        self.greeting = greeting

    def handle_call(self, request, caller):
        return self.greeting, self.node["name"], self.holding.check()


def test_a_singleton_ends_with_its_own_lease_and_with_no_other_that_it_holds():
    owner = Owner.__new__(Owner)
    owner.holding = SimpleNamespace(name="one:boss", epoch=3)
    for other in (LeaseEnded("run:1", 3, "lost"), LeaseEnded("one:boss", 2, "of an earlier one")):
        with contextlib.suppress(AttributeError):  # it is no process, which has a log
            owner.handle_info(other)
    with pytest.raises(Stop):
        owner.handle_info(LeaseEnded("one:boss", 3, "lost"))


@pytest.mark.parametrize("removed", [False, True])
def test_a_singleton_that_is_removed_while_it_is_started_is_ended(removed):
    spec = seal_start(ChildSpec("boss", Owner))
    declared = [{"boss": [pack(spec), "round_robin", None]}, {} if removed else {"boss": []}]
    ended = []

    async def none(*args):
        return None

    async def call(to, request, seconds):
        return (declared.pop(0), 1) if isinstance(request, Read) else Lease("one:boss", "", 1, 0.0, None)

    async def start(spec, policy, requires):
        return "n1", "its ref"

    async def stop(ref, reason, seconds):
        ended.append(ref)

    class Fake(Placing):
        ref = SimpleNamespace(uid="u")
        log = SimpleNamespace(info=lambda *args, **about: None)

    placing = Fake.__new__(Fake)
    placing._numbers, placing._holding = itertools.count(), SimpleNamespace(check=lambda: 1)
    placing._have_successors, placing.call, placing._start, placing.stop = none, call, start, stop
    asyncio.run(placing._look_after())
    assert ended == (["its ref"] if removed else [])


@pytest.mark.parametrize("held", [False, True])
def test_the_end_of_a_lease_that_is_held_anew_does_not_have_it_acquired_once_more(held):
    placing = Placing.__new__(Placing)
    placing._holding, placing._changed = SimpleNamespace(held=held), asyncio.Event()
    placing.take_info(LeaseEnded("placement", 1, "its time is over"))
    assert (placing._holding is not None) == held


@pytest.fixture(scope="module")
def members(tmp_path_factory):
    labels = {101: {"gpu": "1"}, 102: {"gpu": "1"}, 103: {}}
    with cluster_of(3, tmp_path_factory.mktemp("placed"), first=101, labels=labels.get) as members:
        until(lambda: all(len(member.voters()) == 3 for member in members))  # before that a death may be one too many
        yield members


def test_children_are_started_on_chosen_nodes_and_supervised_there(members):
    placement = Placement(members[0].node)
    nodes = [placement.start(ChildSpec(f"c{n}", Counter, args=(n,)), "round_robin")[0] for n in range(3)]
    assert sorted(nodes) == ["n101", "n102", "n103"]
    name, ref = placement.start(ChildSpec("gpu", Counter, args=(5,)), "capability_aware", {"gpu": "1"})
    assert name in ("n101", "n102")
    there = next(member for member in members if member.name == name)
    assert alive(there.node.call(ref, "pid"))
    with pytest.raises(errors.NotAllowed, match="no node can take the child x: none that is alive has the labels"):
        placement.start(ChildSpec("x", Counter), requires={"gpu": "9"})


def test_a_singleton_is_started_elsewhere_with_the_next_epoch_when_its_node_is_killed(members):
    placement = Placement(members[0].node)
    placement.singleton("boss", ChildSpec("boss", Owner, args=("hello",)), requires={"gpu": "1"})

    def answer(member, but=None):
        lease = Placement(member.node).where("boss")
        if not lease.holder or lease.holder.split(":")[0] == but:
            return None
        try:
            return member.node.call(lease.value, "who")
        except errors.SupervisorsError:
            return None

    greeting, name, epoch = until(lambda: answer(members[2]), 30)
    assert (greeting, epoch) == ("hello", 1)
    until(lambda: all(member.node.whereis("placement") for member in members), 30)
    killed = next(member for member in members if member.name == name)
    killed.kill()
    greeting, other, epoch = until(lambda: answer(members[2], name), 40)
    assert (greeting, epoch) == ("hello", 2)
    assert other in {"n101", "n102"} - {name}
    killed.start()
    Placement(members[2].node).remove("boss")
    until(lambda: not Placement(members[2].node).where("boss").holder, 20)
    with pytest.raises(errors.NoProcess, match="no singleton is called 'boss'"):
        Placement(members[2].node).remove("boss")


@pytest.mark.parametrize(
    ("use", "words"),
    [
        (
            lambda p: p.start(ChildSpec("c", Counter), "best"),
            "policy is invalid: got 'best', expected one of round_robin",
        ),
        (lambda p: p.start(ChildSpec("c", Counter), "capability_aware"), "requires is invalid: got None"),
        (lambda p: p.start(ChildSpec("c", Counter), requires=["gpu"]), "requires is invalid"),
        (lambda p: p.singleton("", ChildSpec("c", Owner)), "name is invalid"),
        (lambda p: p.singleton("c", ChildSpec("c", Counter)), "expected a subclass of Singleton"),
    ],
)
def test_misuse_of_placement_is_refused_in_one_line(members, use, words):
    with pytest.raises(errors.SpecError, match=words) as refused:
        use(Placement(members[2].node))
    assert "\n" not in str(refused.value)
