"""The client actor of a deployment, in a node, with workers that write down what it tells them."""

import pytest

from dspex_actors.lm.control.client import LMClient
from dspex_actors.lm.control.messages import InForce, Join, Lease, Leave, Outcomes, Pause
from supervisors import ChildSpec, GenServer, Node, SupervisorSpec
from supervisors.testing import wait_until


@pytest.fixture(scope="module")
def node():
    with Node.start() as one:
        yield one


class Worker(GenServer):
    def init(self):
        import dspex_actors.lm.control.messages  # noqa: F401 - both ends know what travels by number

        self.heard = []

    def handle_cast(self, message):
        self.heard.append(message)

    def handle_call(self, request, caller):
        return self.heard


class Brief(LMClient):
    look_seconds = 0.02
    idle_seconds = 1.0


def plain(rpm=None, tpm=None, most=None):
    return ((rpm, tpm, most), 0.0)


def branch(node, cls=LMClient):
    client = ChildSpec("client", cls, args=("openai/x", "digest"), restart="transient")
    top = node.start_supervisor(SupervisorSpec([ChildSpec("one", Worker), ChildSpec("two", Worker), client]))
    found = {child.id: child.ref for child in node.which_children(top)}
    return top, found["client"], found["one"], found["two"]


def test_limits_hold_for_all_workers_and_the_smallest_wins(node):
    _, client, one, two = branch(node)
    node.cast(client, Join(one, (plain(),)))
    node.cast(client, Join(two, (plain(600.0), plain(60.0, 9000.0, 4))))
    assert node.call(client, "stats")["limits"] == {"rpm": 60.0, "tpm": 9000.0, "max_in_flight": 4}
    rule = InForce("digest", (60.0, 9000.0, 4))
    assert wait_until(lambda: node.call(one, "heard")) == [rule]
    assert wait_until(lambda: node.call(two, "heard")) == [rule]


def test_all_workers_share_one_budget_and_a_lease_brings_its_limits_along(node):
    _, client, _, _ = branch(node)
    first = node.call(client, Lease([1] * 60, (plain(600.0),)))
    second = node.call(client, Lease([1] * 60, (plain(600.0),)))
    assert first == sorted(first)
    assert 10.0 < second[-1] < 13.0  # 120 requests at ten a second, one second's worth ahead


def test_a_pause_is_told_to_the_others_and_not_to_who_has_left(node):
    _, client, one, two = branch(node)
    node.cast(client, Join(one))
    node.cast(client, Join(two))
    pause = Pause("digest", 3.0, one)
    node.cast(client, pause)
    assert wait_until(lambda: node.call(two, "heard")) == [pause]
    node.cast(client, Leave(two))
    node.cast(client, pause)
    node.cast(client, Outcomes(two, (), {"answered": 2}))
    assert node.call(client, "stats") == {
        "model": "openai/x",
        "workers": 2,
        "limits": {"rpm": None, "tpm": None, "max_in_flight": None},
        "answered": 2,
    }
    assert node.call(two, "heard") == [pause]
    assert node.call(one, "heard") == []


def test_it_ends_when_no_worker_needs_it_and_not_before(node):
    top, client, one, _ = branch(node, Brief)
    gone = node.monitor(client)
    node.cast(client, Join(one))
    assert gone.wait(1.3) is None
    node.cast(client, Leave(one))
    assert gone.wait(5.0).reason.kind == "normal"
    assert node.count_children(top).active == 2


def test_a_message_that_it_does_not_know_does_not_end_it(node):
    _, client, _, _ = branch(node)
    node.cast(client, ("used", 5))
    assert node.call(client, ("lease", [1])) is None
    assert node.call(client, "stats")["workers"] == 0
