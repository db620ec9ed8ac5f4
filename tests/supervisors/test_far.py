"""Links, monitors and calls between two nodes: real ones, on two addresses of this host, with one key."""

import asyncio
import contextlib
import json
import os
import shutil
import signal
import time

import pytest
from genserver_helpers import Probe, log_lines
from node_helpers import alive, family, kill, until

from supervisors import ChildSpec, Down, ExitReason, Node, SupervisorSpec, errors

KILLED, NODEDOWN, NOPROC = (ExitReason(kind) for kind in ("killed", "nodedown", "noproc"))
#: Far below the 5 s after which a silent node is down; far above what it takes on a quiet machine (some milliseconds).
AT_ONCE = 2.0


class Peer(Probe):
    """A Probe that knows when its watches at the door of another node are in force, and survives failed calls."""

    async def in_force(self, ref):
        while ref not in self._supervisors_engine.peers._far._nodes[ref.host, ref.door]._monitors.values():  # noqa: ASYNC110
            await asyncio.sleep(0.002)

    def deals_with_others(self):
        return self._supervisors_engine.peers._far is not None

    async def attempt(self, target, request, seconds=30.0):
        try:
            return await self.call(target, request, timeout=seconds)
        except errors.SupervisorsError as error:
            return type(error).__name__, error.reason and error.reason.kind


@contextlib.contextmanager
def running(folder, host, key_of=None):
    """A node with the key of another one; none of its processes is left behind, whatever happened to them."""
    folder.mkdir(mode=0o700)
    if key_of is not None:
        shutil.copy(key_of.data_dir / "cluster.key", folder / "cluster.key")
    node = Node.start(host=host, data_dir=folder)
    pids = family(node.info["pid"])
    try:
        yield node
    finally:
        with contextlib.suppress(ProcessLookupError):
            pids |= family(node.info["pid"]) if alive(node.info["pid"]) else {}
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
        node.close()
        assert not [pid for pid in pids if alive(pid)]


@pytest.fixture(scope="module")
def here(tmp_path_factory):
    with running(tmp_path_factory.mktemp("here") / "node", "127.0.0.1") as node:
        yield node


@pytest.fixture
def there(here, tmp_path):
    with running(tmp_path / "there", "127.0.0.2", here) as node:
        yield node


@pytest.fixture
def start(here, there):
    """Start a server on a node; those of the node that stays are stopped after the test."""
    mine = []

    def start(node, **options):
        child = ChildSpec("p", Peer, kwargs=options, restart="temporary")
        supervisor = node.start_supervisor(SupervisorSpec([child]))
        if node is here:
            mine.append(supervisor)
        return node.which_child(supervisor, "p").ref

    yield start
    for supervisor in mine:
        with contextlib.suppress(errors.NoProcess):
            here.stop(supervisor)


def seen(node, target):
    return [value for _, value in node.call(target, ("look",))]


def watch(node, watcher, target):
    """Have a server watch a process of another node; return when the door there does so."""
    number = node.call(watcher, ("watch", target))
    node.call(watcher, ("in_force", target))
    return number


def link(node, one, two):
    """Link two processes; return when both sides know and watch each other."""
    node.call(one, ("bind", two))
    node.call(one, ("in_force", two))
    node.call(two, ("in_force", one))


def everyone(node, number):
    """Send a signal to every process of a node."""
    for pid in family(node.info["pid"]):
        with contextlib.suppress(ProcessLookupError):
            kill(pid, number)


def pid_of(node, child):
    """Return the pid of a child of the root."""
    return next(row["pid"] for row in node.tree()["children"] if row["id"] == child)


# rows: X1, X3
def test_a_killed_process_of_another_node_is_seen_at_once_by_every_monitor_of_it(here, there, start):
    watcher, target = start(here), start(there)
    for _ in range(2):
        watch(here, watcher, target)
    outside = here.monitor(target)
    began = time.monotonic()
    kill(target.pid)
    assert outside.wait(20.0) == Down(target, KILLED)
    until(lambda: seen(here, watcher) == [(target, "killed")] * 2)
    assert time.monotonic() - began < AT_ONCE


# rows: X1, X2
def test_one_that_answered_and_is_killed_before_its_door_was_asked_to_watch_it_is_killed(here, there, start):
    watcher, linked, target = start(here), start(here, trap=True), start(there)
    door = pid_of(there, "door")
    kill(door, signal.SIGSTOP)
    try:
        here.call(watcher, ("watch", target))
        here.call(linked, ("bind", target))
        for each in (watcher, linked):
            assert here.call(each, ("attempt", target, ("pid",))) == target.pid
        kill(target.pid)
        until(lambda: not alive(target.pid))
    finally:
        kill(door, signal.SIGCONT)
    until(lambda: seen(here, watcher) == [(target, "killed")])
    until(lambda: seen(here, linked) == [("EXIT", target, KILLED)])


# rows: X1
@pytest.mark.parametrize("end", ["normal", "crash"])
def test_the_reason_of_a_process_that_ends_by_itself_crosses_too(here, there, start, end):
    target = start(there)
    monitor = here.monitor(target)
    if end == "normal":
        here.stop(target, "normal")
    else:
        here.cast(target, ("answer",))  # crashes
    reason = monitor.wait(20.0).reason
    assert reason.kind == {"normal": "normal", "crash": "error"}[end]
    assert not alive(target.pid)


# rows: X1, G10
def test_a_process_of_another_node_that_was_dead_before_is_noproc_for_monitors_links_and_calls(here, there, start):
    watcher, target = start(here, trap=True), start(there)
    there.stop(target)
    began = time.monotonic()
    here.call(watcher, ("watch", target))
    here.call(watcher, ("bind", target))
    assert here.call(watcher, ("attempt", target, ("pid",))) == ("NoProcess", "noproc")
    until(lambda: sorted(seen(here, watcher), key=len) == [(target, "noproc"), ("EXIT", target, NOPROC)])
    assert here.monitor(target).wait(20.0) == Down(target, NOPROC)
    with pytest.raises(errors.NoProcess):
        here.call(target, ("pid",))
    assert time.monotonic() - began < AT_ONCE


# rows: X1
def test_a_monitor_that_was_taken_back_says_nothing_and_the_others_still_do(here, there, start):
    watcher, target = start(here), start(there)
    taken_back, _ = watch(here, watcher, target), watch(here, watcher, target)
    here.call(watcher, ("unwatch", taken_back, True))
    kill(target.pid)
    until(lambda: seen(here, watcher))
    assert here.call(watcher, ("attempt", target, ("pid",))) == ("NoProcess", "noproc")
    assert seen(here, watcher) == [(target, "killed")]


# rows: G10, G11
@pytest.mark.parametrize("what", ["process", "node"])
def test_calls_under_way_fail_when_the_process_or_its_whole_node_is_killed(here, there, start, what):
    caller, target = start(here), start(there)
    watch(here, caller, target)
    here.monitor(target)
    inside = here.send_request(caller, ("attempt", target, ("later",)))
    outside = here.send_request(target, ("later",))
    until(lambda: len(there.get_state(target)["waiting"]) == 2)
    began = time.monotonic()
    if what == "process":
        kill(target.pid)
    else:
        everyone(there, signal.SIGKILL)
    kinds = {"process": ["killed"], "node": ["killed", "nodedown"]}[what]
    error, kind = inside.receive_response(20.0)
    assert error == "ServerExited"
    assert kind in kinds
    with pytest.raises(errors.ServerExited) as failed:
        outside.receive_response(20.0)
    assert failed.value.reason.kind in kinds
    assert time.monotonic() - began < AT_ONCE


# rows: G14
def test_a_last_reply_from_another_node_comes_before_the_end_of_who_gave_it(here, there, start):
    caller = start(here)
    for _ in range(5):
        target = start(there)
        watch(here, caller, target)
        assert here.call(caller, ("attempt", target, ("quit", "normal", "bye"))) == "bye"
        until(lambda target=target: (target, "normal") in seen(here, caller))
        assert not alive(target.pid)


# rows: X3
def test_a_kill_sent_by_hand_to_another_node_cannot_be_trapped_and_is_seen_as_killed(here, there, start):
    sender, target = start(here), start(there, trap=True)
    monitor = here.monitor(target)
    here.call(sender, ("signal", target, "kill"))
    assert monitor.wait(20.0) == Down(target, KILLED)


# rows: X1
def test_a_supervisor_of_another_node_can_be_watched_and_stopped(here, there, start):
    watcher = start(here)
    supervisor = there.start_supervisor(SupervisorSpec([ChildSpec("p", Peer)]))
    child = there.which_child(supervisor, "p").ref
    for target in (supervisor, child):
        watch(here, watcher, target)
    here.stop(supervisor, "shutdown")
    until(lambda: sorted(reason for _, reason in seen(here, watcher)) == ["shutdown", "shutdown"])


# rows: X2, X3
@pytest.mark.parametrize("dies", ["the one that linked", "the other"])
def test_a_link_between_nodes_ends_the_other_side_or_is_trapped(here, there, start, dies):
    near, far = start(here, trap=dies == "the other"), start(there)
    link(here, near, far)
    if dies == "the other":
        kill(far.pid)
        until(lambda: seen(here, near) == [("EXIT", far, KILLED)])
    else:
        monitor = there.monitor(far)
        kill(near.pid)
        assert monitor.wait(20.0).reason == KILLED
        assert not alive(far.pid)


# rows: X2
def test_an_unlinked_process_of_another_node_may_end_as_it_likes(here, there, start):
    near, far = start(here), start(there)
    link(here, near, far)
    here.call(near, ("unbind", far))
    until(lambda: there.get_status(far)["links"] == [])
    monitor = here.monitor(far)
    kill(far.pid)
    assert monitor.wait(20.0).reason == KILLED
    assert here.call(near, ("look",)) == []


# rows: X1, X2
def test_a_killed_door_is_no_false_alarm_and_what_dies_meanwhile_is_seen(here, there, start):
    near, victim, survivor = start(here, trap=True), start(there), start(there)
    monitors = [here.monitor(each) for each in (victim, survivor)]
    watch(here, near, victim)
    link(here, near, survivor)
    door = pid_of(there, "door")
    kill(door)
    kill(victim.pid)
    assert monitors[0].wait(20.0) == Down(victim, KILLED)
    until(lambda: seen(here, near) == [(victim, "killed")])
    until(lambda: there.call(survivor, ("pid",)) == survivor.pid)
    here.call(near, ("in_force", survivor))
    assert monitors[1].wait(0.0) is None
    assert seen(here, near) == [(victim, "killed")]
    kill(survivor.pid)
    assert monitors[1].wait(20.0) == Down(survivor, KILLED)
    until(lambda: ("EXIT", survivor, KILLED) in seen(here, near))


# rows: G10, X1, X2
def test_when_a_whole_node_is_killed_everybody_is_told_nodedown_and_new_calls_fail_at_once(here, there, start):
    watcher, linked = start(here, trap=True), start(here)
    targets = [start(there) for _ in range(3)]
    for target in targets:
        watch(here, watcher, target)
    link(here, watcher, targets[0])
    link(here, linked, targets[1])
    outside, of_linked = here.monitor(targets[0]), here.monitor(linked)
    # Frozen first: doors that still live while their node dies would tell of deaths one by one.
    everyone(there, signal.SIGSTOP)
    began = time.monotonic()
    everyone(there, signal.SIGKILL)
    assert outside.wait(20.0) == Down(targets[0], NODEDOWN)
    assert of_linked.wait(20.0).reason == NODEDOWN
    expected = [("EXIT", targets[0], NODEDOWN), *((target, "nodedown") for target in targets)]
    until(lambda: sorted(map(str, seen(here, watcher))) == sorted(map(str, expected)))
    assert time.monotonic() - began < AT_ONCE
    assert here.call(watcher, ("attempt", targets[0], ("pid",))) == ("NoProcess", "nodedown")
    here.call(watcher, ("watch", targets[0]))
    until(lambda: seen(here, watcher)[4:] == [(targets[0], "nodedown")])
    address = f"127.0.0.2:{targets[0].door}"
    assert address in {line["address"] for line in log_lines(here, "another node is down")}


# rows: G10, X1
@pytest.mark.soak
def test_a_frozen_node_is_down_after_five_seconds_and_calls_under_way_fail(here, there, start):
    watcher, target = start(here), start(there)
    watch(here, watcher, target)
    under_way = here.send_request(watcher, ("attempt", target, ("later",)))
    outside = here.monitor(target)
    everyone(there, signal.SIGSTOP)
    began = time.monotonic()
    assert outside.wait(20.0) == Down(target, NODEDOWN)
    took = time.monotonic() - began
    assert 3.0 < took < 30.0
    assert under_way.receive_response(20.0) == ("ServerExited", "nodedown")
    until(lambda: seen(here, watcher) == [(target, "nodedown")])
    everyone(there, signal.SIGCONT)
    until(lambda: here.call(watcher, ("attempt", target, ("pid",), 1.0)) == target.pid, 20.0)  # it is tried again


# rows: X1
def test_a_node_that_is_stopped_in_order_says_shutdown(here, there, start):
    watcher, target = start(here), start(there)
    watch(here, watcher, target)
    outside = here.monitor(target)
    there.close()
    assert outside.wait(20.0) == Down(target, ExitReason("shutdown"))
    until(lambda: seen(here, watcher) == [(target, "shutdown")])
    assert here.call(watcher, ("attempt", target, ("pid",)))[0] == "NoProcess"


# rows: X1
def test_a_node_that_fell_and_came_back_has_none_of_its_processes(here, there, start):
    target = start(there)
    outside = here.monitor(target)
    kill(json.loads((there.data_dir / "node.json").read_text())["root"]["pid"])
    assert outside.wait(20.0).reason in (KILLED, NODEDOWN)
    assert here.monitor(target).wait(20.0).reason == NOPROC


# rows: X1
def test_who_never_deals_with_other_nodes_has_nothing_of_all_this(here, there, start):
    one, two = start(here), start(here)
    here.call(one, ("watch", two))
    assert here.call(one, ("ask", two, ("pid",))) == two.pid
    assert here.call(one, ("deals_with_others",)) is False
