"""Things that happen at the wrong moment."""

import os
import signal
import threading
from functools import partial

from node_helpers import Async, Counter, Init, alive, family, kill, kill_quietly, until

from supervisors import ChildSpec, Node, SupervisorSpec, errors


def in_thread(function, *arguments):
    """Call in a thread; return the thread and a list that gets the outcome."""
    outcome = []

    def run():
        try:
            outcome.append(function(*arguments))
        except Exception as error:
            outcome.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    return thread, outcome


def all_new(node, top, old):
    return not {row.pid for row in node.which_children(top)} & (old | {None})


def named(node, name):
    """Return the pid of the process of a node that shows this name."""
    return next((pid for pid, shown in family(node.info["pid"]).items() if shown == name), None)


# rows: 60, 61
def test_a_supervisor_killed_while_it_starts(node):
    spec = SupervisorSpec([ChildSpec("ok", Counter), ChildSpec("h", Init, args=("hang",), name="hanger")], name="begun")
    thread, outcome = in_thread(node.start_supervisor, spec)
    hanging = until(lambda: named(node, "hanger"))
    kill(named(node, "begun"))
    thread.join(20)
    assert isinstance(outcome[0], errors.StartError)
    assert outcome[0].reason.kind == "killed"
    until(lambda: not alive(hanging), 20.0)


# rows: 18, 65
def test_a_child_killed_in_its_init(node, supervise):
    top = supervise([])
    thread, outcome = in_thread(node.start_child, top, ChildSpec("h", Init, args=("hang",), name="hanger"))
    kill(until(lambda: named(node, "hanger")))
    thread.join(20)
    assert outcome[0].reason.kind == "killed"
    assert node.which_children(top) == []


# rows: G3
def test_a_child_frozen_in_its_init_is_killed_when_its_time_is_over(node, supervise):
    top = supervise([])
    spec = ChildSpec("f", Async, args=(600,), name="freezer", start_timeout=0.5)
    thread, outcome = in_thread(node.start_child, top, spec)
    kill(until(lambda: named(node, "freezer")), signal.SIGSTOP)
    thread.join(20)
    assert "more than 0.5 s" in str(outcome[0])


# rows: 61
def test_a_supervisor_killed_while_it_stops(node):
    stubborn = ChildSpec("c", Counter, name="slow", shutdown=30.0)
    top = node.start_supervisor(SupervisorSpec([stubborn, ChildSpec("d", Counter, name="quick")]))
    slow, quick = node.pid("slow"), node.pid("quick")
    kill(slow, signal.SIGSTOP)
    thread, outcome = in_thread(node.stop, top)
    until(lambda: not alive(quick))  # the last child ends first, and the stop is in force
    kill(top.pid)
    thread.join(20)
    assert outcome == [None]
    until(lambda: not alive(slow), 20.0)


# rows: 26
def test_children_that_die_together(node, supervise):
    top = supervise([ChildSpec(f"c{n}", Counter, name=f"c{n}") for n in range(6)], strategy="one_for_all")
    for _ in range(3):
        old = {row.pid for row in node.which_children(top)}
        for pid in old:
            kill(pid)
        until(partial(all_new, node, top, old))
    assert sorted(node.call(f"c{n}", ("add", n)) for n in range(6)) == list(range(6))


def test_close_while_sixteen_threads_call(tmp_path):
    tmp_path.chmod(0o700)
    node = Node.start(data_dir=tmp_path)
    node.start_supervisor(SupervisorSpec([ChildSpec("c", Counter, name="c")]))
    waiting = [in_thread(node.call, "c", "later", None) for _ in range(16)]
    until(lambda: len(node._client._waiting) == 16)
    node.close()
    for thread, outcome in waiting:
        thread.join(20)
        assert isinstance(outcome[0], errors.NodeDown)


def test_a_node_told_to_stop_while_a_child_starts(tmp_path):
    tmp_path.chmod(0o700)
    node = Node.start(data_dir=tmp_path)
    spec = SupervisorSpec([ChildSpec("h", Init, args=("hang",), name="hanger")])
    thread, outcome = in_thread(node.start_supervisor, spec)
    until(lambda: named(node, "hanger"))
    pids = family(node.info["pid"])
    node.close()  # its init hangs for ten minutes
    thread.join(20)
    assert isinstance(outcome[0], (errors.NodeDown, errors.StartError, errors.ServerExited))
    assert not [pid for pid in pids if alive(pid)]


def test_four_nodes_started_at_once():
    starts = [in_thread(Node.start) for _ in range(4)]
    nodes = []
    for thread, outcome in starts:
        thread.join(30)
        nodes.append(outcome[0])
    assert len({node.info["pid"] for node in nodes}) == 4
    for node in nodes:
        node.close()
    assert not [node for node in nodes if os.path.exists(node.data_dir)]


def test_calls_are_carried_out_at_most_once_while_their_server_is_killed(node, supervise, tmp_path):
    ledger = tmp_path / "ledger"
    ledger.touch()

    class Ledger(Counter):
        def handle_call(self, request, caller):
            if request == "pid":
                return os.getpid()
            with open(self.value, "a") as file:
                file.write(f"{request}\n")
            return request

    supervise([ChildSpec("l", Ledger, args=(str(ledger),), name="ledger")], intensity=1000)
    confirmed, refused, unknown = [], [], []

    def work(number):
        for count in range(60):
            ticket = f"{number}-{count}"
            try:
                confirmed.append(node.call("ledger", ticket))
            except errors.NoProcess:
                refused.append(ticket)
            except errors.ServerExited:
                unknown.append(ticket)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        pid = node.pid("ledger")
        if pid is not None:
            kill_quietly(pid)
        threads[0].join(0.05)
    for thread in threads:
        thread.join(20)
    written = ledger.read_text().split()
    assert len(written) == len(set(written)), "carried out twice"
    assert set(confirmed) <= set(written)
    assert not set(refused) & set(written), "refused and carried out"
    assert len(confirmed) + len(refused) + len(unknown) == 16 * 60


def test_a_sigterm_ends_a_server_and_no_supervisor_and_a_sigint_none(node, supervise):
    supervise([ChildSpec("s", SupervisorSpec([ChildSpec("c", Counter, name="c")]), name="s")])
    supervisor, server = node.pid("s"), node.pid("c")
    for pid in (supervisor, server):
        kill(pid, signal.SIGINT)
        kill(pid, signal.SIGHUP)
    kill(supervisor, signal.SIGTERM)
    assert node.call("c", ("add", 0)) == 0
    assert (node.pid("s"), node.pid("c")) == (supervisor, server)
    kill(server, signal.SIGTERM)
    until(partial(replaced, node, "c", server))
    assert node.pid("s") == supervisor
    assert node.status()["incarnation"] == 0


def replaced(node, name, old):
    return node.pid(name) not in (None, old)
