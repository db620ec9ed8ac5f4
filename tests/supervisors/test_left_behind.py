"""What stays after much has happened: no process, no zombie, no descriptor, no memory; and an idle node is idle."""

import os
import time

import psutil
import pytest
from node_helpers import Counter, family, kill, ready_again, until

from supervisors import ChildSpec, SupervisorSpec


def fds(pids):
    return {pid: len(os.listdir(f"/proc/{pid}/fd")) for pid in pids}


def memory(pid):
    return psutil.Process(pid).memory_full_info().uss


@pytest.fixture(params=[False, pytest.param(True, marks=pytest.mark.soak)], ids=["20", "many"])
def times(request, rounds):
    """20 times, or as often as the time of a soak allows."""
    return rounds if request.param else range(20)


@pytest.mark.soak
def test_many_restarts_leave_nothing(node, times):
    top = node.start_supervisor(SupervisorSpec([ChildSpec("c", Counter, name="c")], intensity=10**6))
    watched = [top.pid, node.info["pid"], *(row["pid"] for row in node.tree()["children"] if row["type"] == "worker")]

    def restart(times):
        count = 0
        for count, _ in enumerate(times, 1):  # noqa: B007
            pid = node.pid("c")
            monitor = node.monitor("c")
            kill(pid)
            assert monitor.wait(20.0).reason.kind == "killed"
            ready_again(node, "c", pid)
        return count

    restart(range(20))
    before, size, processes = fds(watched), memory(top.pid), len(family(node.info["pid"]))
    count = restart(times)
    until(lambda: all(now <= before[pid] + 2 for pid, now in fds(watched).items()), 20.0)
    # About 2 KB each stay for 330 s: by it the transport knows a frame of the dead that is sent again.
    assert memory(top.pid) - size < 250_000 + 4_000 * count
    assert len(family(node.info["pid"])) == processes
    assert node.which_children(top)[0].restarts == 20 + count
    zombies = [pid for pid in family(node.info["pid"]) if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE]
    assert zombies == []
    node.stop(top)


def test_an_idle_node_is_idle(node):
    top = node.start_supervisor(SupervisorSpec([ChildSpec("c", Counter, name="c")]))
    node.call("c", ("add", 1))
    pids = family(node.info["pid"])

    def spent():
        return {pid: sum(psutil.Process(pid).cpu_times()[:2]) for pid in pids}

    before, began = spent(), time.monotonic()
    until(lambda: time.monotonic() - began > 2.0, 5.0, 0.1)
    used = {name: round(spent()[pid] - before[pid], 2) for pid, name in pids.items()}
    assert max(used.values()) <= 0.04, used
    node.stop(top)
