"""The client actor of a deployment, in a node, with workers that write down what it tells them."""

import os
import signal

import pytest

from dspex_actors.foundation.following import ConfigChanged
from dspex_actors.lm.control.circuit_messages import AskProbe, CircuitIs, ProbeEnded
from dspex_actors.lm.control.client import LMClient
from dspex_actors.lm.control.messages import InForce, Join, Lease, Leave, Outcomes, Pause
from dspex_actors.lm.deployment import Limits
from supervisors import ChildSpec, GenServer, Node, SupervisorSpec
from supervisors.testing import wait_until


@pytest.fixture(scope="module")
def node():
    with Node.start() as one:
        yield one


class Worker(GenServer):
    def init(self):
        import dspex_actors.lm.control.circuit_messages
        import dspex_actors.lm.control.messages  # noqa: F401 - both ends know what travels by number

        self.heard = []

    def handle_cast(self, message):
        self.heard.append(message)

    def handle_call(self, request, caller):
        return self.heard


class Brief(LMClient):
    look_seconds = 0.02
    idle_seconds = 1.0


def plain(**limits):
    return (Limits(**limits).plain, 0.0)


def asks(count, first=1, seconds=60.0, user=None):
    return [(number, 10, 10, seconds, user, None) for number in range(first, first + count)]


def branch(node, cls=LMClient, digest="digest"):
    client = ChildSpec("client", cls, args=("openai/x", digest), restart="transient")
    top = node.start_supervisor(SupervisorSpec([ChildSpec("one", Worker), ChildSpec("two", Worker), client]))
    found = {child.id: child.ref for child in node.which_children(top)}
    return top, found["client"], found["one"], found["two"]


def test_limits_hold_for_all_workers_and_the_smallest_wins(node):
    _, client, one, two = branch(node)
    node.cast(client, Join(one, (plain(),)))
    node.cast(client, Join(two, (plain(rpm=600.0), plain(rpm=60.0, tpm=9000.0, max_in_flight=4))))
    assert node.call(client, "stats")["limits"] == {"rpm": 60.0, "tpm": 9000.0, "max_in_flight": 4}
    rule = InForce("digest", Limits(60.0, 9000.0, 4).plain)
    assert wait_until(lambda: node.call(one, "heard")) == [rule]
    assert wait_until(lambda: node.call(two, "heard")) == [rule]


def test_all_workers_share_one_budget_and_a_lease_brings_its_limits_along(node):
    _, client, one, two = branch(node, digest="shared")
    told = (plain(rpm=600.0),)
    first = node.call(client, Lease(one, told, asks(5), []))
    second = node.call(client, Lease(two, told, asks(5), []))
    turns = [turn for _, _, turn in first.turns + second.turns]
    assert 2 <= len(turns) <= 4, "those of the next quarter of a second, at ten a second"
    assert turns == sorted(turns)
    assert 0.1 <= second.again <= 1.0


def test_what_a_dead_worker_has_reserved_and_cannot_have_begun_comes_back(node):
    top, client, one, two = branch(node, digest="dead")
    told = (plain(tpm=1000.0),)
    huge = [(1, 500, 450, 60.0, None, None)]
    assert len(node.call(client, Lease(one, told, huge, [])).turns) == 1
    waits = node.call(client, Lease(one, told, [(2, 50, 40, 60.0, None, None)], []))
    assert waits.turns == []
    node.terminate_child(top, "one")
    assert wait_until(lambda: node.call(client, "stats")["waiting"] == 0)
    refused = node.call(client, Lease(two, told, [(1, 500, 450, 5.0, None, None)], []))
    assert refused.turns == [], "what may have been sent counts as used"


def test_who_asks_a_new_owner_for_a_probe_is_told_how_the_probe_ends(node):
    """An owner that is killed in an outage knew its workers; its successor knows those that ask."""
    _, client, one, two = branch(node, digest="probe")
    ours, theirs = (node.call(client, AskProbe(worker, None, 1, 10, "it is down", 60.0, True)) for worker in (one, two))
    assert ours.probe is not None
    assert (theirs.probe, theirs.is_open, theirs.is_tested) == (None, True, True)
    node.cast(client, ProbeEnded(one, ours.probe, "answered", ""))
    for worker in (one, two):
        heard = wait_until(lambda worker=worker: [m for m in node.call(worker, "heard") if isinstance(m, CircuitIs)])
        assert not heard[-1].is_open


def test_an_owner_that_is_killed_gives_nothing_twice(node):
    top, client, one, _ = branch(node, digest="killed")
    told = (plain(tpm=1000.0, rpd=3),)
    given = node.call(client, Lease(one, told, [(1, 400, 500, 60.0, None, None)], []))
    assert len(given.turns) == 1
    gone = node.monitor(client)
    os.kill(client.pid, signal.SIGKILL)
    assert gone.wait(60.0)
    after = wait_until(lambda: used_of(node, top, client, told))
    assert after["tpm"]["free"] == pytest.approx(100)
    assert after["rpd"]["free"] == 2


def used_of(node, top, before, told):
    for row in node.which_children(top):
        if row.id == "client" and row.ref is not None and row.ref != before:
            worker = next(other.ref for other in node.which_children(top) if other.id == "one")
            node.call(row.ref, Lease(worker, told, [], []))
            return node.call(row.ref, "stats")["used"]
    return None


def test_limits_of_each_user_are_the_configurations(node):
    _, client, one, _ = branch(node, digest="personal")
    node.cast(client, Join(one))
    node.call(client, "stats")
    for name, value in (("rpm", 60), ("rpd", 1)):
        node.send(client, ConfigChanged(f"infrastructure.rate_limiters.user.{name}", value, None, 1))
    node.send(client, ConfigChanged("infrastructure.rate_limiters.burst_seconds", 2.0, None, 1))
    heard = wait_until(lambda: node.call(one, "heard"))
    assert heard[-1] == InForce("personal", Limits().plain, ("user",))
    leased = node.call(client, Lease(one, (), [*asks(2, user="ann"), *asks(1, first=3, user="bob")], []))
    assert sorted(number for number, _, _ in leased.turns) == [1, 3]


def test_a_pause_is_told_to_the_others_and_not_to_who_has_left(node):
    _, client, one, two = branch(node)
    node.cast(client, Join(one))
    node.cast(client, Join(two))
    pause = Pause("digest", 3.0, one)
    node.cast(client, pause)
    assert wait_until(lambda: node.call(two, "heard")) == [pause]
    node.cast(client, Leave(two))
    node.cast(client, pause)
    node.cast(client, Outcomes(two, (), {"answered": 2}, []))
    assert node.call(client, "stats") == {
        "model": "openai/x",
        "workers": 2,
        "limits": {},
        "used": {},
        "learnt": None,
        "waiting": 0,
        "circuit": {"state": "closed", "failures": 0, "retry_after": 0.0, "reason": None},
        "answered": 2,
    }
    assert node.call(two, "heard") == [pause]
    assert node.call(one, "heard") == []


@pytest.mark.soak
def test_it_ends_when_no_worker_needs_it_and_not_before(node):
    top, client, one, _ = branch(node, Brief)
    gone = node.monitor(client)
    node.cast(client, Join(one))
    assert gone.wait(1.3) is None
    node.cast(client, Leave(one))
    assert gone.wait(60.0).reason.kind == "normal"
    assert node.count_children(top).active == 2


def test_a_message_that_it_does_not_know_does_not_end_it(node):
    _, client, _, _ = branch(node)
    node.cast(client, ("used", 5))
    assert node.call(client, ("lease", [1])) is None
    assert node.call(client, "stats")["workers"] == 0
