"""`kill -9` of each process of a node in turn: nothing outlives what it belongs to, and the node comes back."""

import os
import subprocess
import sys
import textwrap
import threading
from functools import partial

import psutil
import pytest
from node_helpers import Counter, alive, family, kill, until

from supervisors import ChildSpec, Node, SupervisorSpec, errors

TREE = SupervisorSpec(
    [ChildSpec("leaf", Counter, name="leaf"),
     ChildSpec("inner", SupervisorSpec([ChildSpec("deep", Counter, name="deep")]))],
    name="top", intensity=100,
)  # fmt: skip


def pillars(node):
    """Return the pids of daemon, admin, root, registry and door."""
    tree = node.tree()
    daemon, root = node.info["pid"], tree["pid"]
    admin = psutil.Process(root).ppid()
    return {"daemon": daemon, "admin": admin, "root": root,
            **{row["id"]: row["pid"] for row in tree["children"] if row["id"] in ("registry", "door")}}  # fmt: skip


def all_gone(pids):
    return not [pid for pid in pids if alive(pid)]


def answers(node):
    try:
        return node.tree()["pid"]
    except errors.SupervisorsError:
        return None


@pytest.mark.parametrize("who", ["admin", "root"])
def test_a_fallen_pillar_is_brought_back(node, who):
    node.start_supervisor(TREE)
    other = Node.attach(node.data_dir)
    old = family(node.info["pid"])
    address = node.info["address"]
    kill(pillars(node)[who])
    until(lambda: not [pid for pid in old if alive(pid) and pid != node.info["pid"]], 20.0)
    for client in (node, other):
        assert until(partial(answers, client), pause=0.02) not in old
    assert node.info["address"] == address
    assert node.whereis("leaf") is None
    node.stop(node.start_supervisor(TREE))
    other.close()


def test_a_killed_door_loses_its_calls_and_nothing_else(node):
    top = node.start_supervisor(TREE)
    leaf = node.pid("leaf")
    outcomes, sent = [], threading.Barrier(17)

    def wait():
        client = Node.attach(node.data_dir)
        sent.wait(20)
        try:
            client.call("leaf", "later", timeout=120)
        except errors.SupervisorsError as error:
            outcomes.append(error)
        outcomes.append(client.pid("leaf"))
        client.close()

    threads = [threading.Thread(target=wait) for _ in range(16)]
    for thread in threads:
        thread.start()
    sent.wait(20)
    kill(pillars(node)["door"])
    for thread in threads:
        thread.join(20)
    assert [each for each in outcomes if isinstance(each, int)] == [leaf] * 16
    assert all(isinstance(each, errors.NodeDown) for each in outcomes if not isinstance(each, int))
    assert node.call("leaf", "pid") == leaf
    node.stop(top)


# rows: 60
def test_every_process_killed_at_once_in_turn_while_clients_call(node):
    """Whatever is killed, the next call works again, and no process is left that does not belong to the node."""
    for who in ("registry", "door", "leaf", "deep", "inner", "top", "root"):
        until(lambda: answers(node), pause=0.02)
        node.start_supervisor(TREE)
        inner = next(row.pid for row in node.which_children("top") if row.id == "inner")
        pids = {**pillars(node), "inner": inner, **{name: node.pid(name) for name in ("leaf", "deep", "top")}}
        below = set(family(pids[who]))
        kill(pids[who])
        until(partial(all_gone, below), 20.0)
        until(lambda: answers(node), pause=0.02)
        if who not in ("top", "root"):
            top = until(lambda: node.whereis("top"), 20.0)
            until(lambda: node.pid("leaf") and node.pid("deep"), pause=0.02)
            node.stop(top)


def test_the_daemon_killed(tmp_path):
    tmp_path.chmod(0o700)
    node = Node.start(data_dir=tmp_path)
    node.start_supervisor(TREE)
    monitor = node.monitor("leaf")
    pids = family(node.info["pid"])
    kill(node.info["pid"])
    until(lambda: not [pid for pid in pids if alive(pid)], 20.0)
    assert monitor.wait(20.0).reason.kind == "nodedown"
    with pytest.raises(errors.NodeDown):
        node.call("leaf", "pid")
    node.close()
    with Node.start(data_dir=tmp_path) as again:
        assert again.whereis("leaf") is None


PROGRAM = """
    import os, sys, threading, time
    from supervisors import ChildSpec, GenServer, Node, SupervisorSpec

    class Server(GenServer):
        def handle_call(self, request, caller):
            return request

    if __name__ == "__main__":
        node = Node.start()
        node.start_supervisor(SupervisorSpec([ChildSpec("s", Server, name="s", shutdown=30.0)]))
        assert node.call("s", 5) == 5
        if "fork" in sys.argv:
            if os.fork() == 0:
                time.sleep(30)
        print(node.info["pid"], node.data_dir, flush=True)
        if "wait" in sys.argv:
            threading.Event().wait()
        if "raise" in sys.argv:
            raise SystemExit(3)
"""


@pytest.mark.parametrize("how", ["killed", "forgets to close", "raises", "killed with a forked child"])
def test_a_node_goes_with_the_program_that_started_it(tmp_path, how):
    script = tmp_path / "program.py"
    script.write_text(textwrap.dedent(PROGRAM))
    words = {"killed": ["wait"], "raises": ["raise"], "killed with a forked child": ["wait", "fork"]}.get(how, [])
    environment = {**os.environ, "PYTHONPATH": os.getcwd(), "TMPDIR": str(tmp_path)}
    program = subprocess.Popen([sys.executable, script, *words], stdout=subprocess.PIPE, text=True, env=environment)
    daemon, folder = program.stdout.readline().split()
    pids = family(int(daemon))
    forked = {} if "killed" not in how else set(family(program.pid)) - set(pids) - {program.pid}
    if "killed" in how:
        kill(program.pid)
    program.wait(20)
    until(lambda: not [pid for pid in pids if alive(pid)], 20.0)
    until(lambda: not os.path.exists(folder), 20.0)
    for pid in forked:
        kill(pid)
    program.stdout.close()
