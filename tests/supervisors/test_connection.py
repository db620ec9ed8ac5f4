"""The program's connection: forks, interruptions, a door that does not read, doors and folders that come and go."""

import asyncio
import contextlib
import functools
import gc
import json
import os
import resource
import shutil
import signal
import socket
import threading

import pytest
from node_helpers import Counter, alive, kill, ready_again, until

from supervisors import ChildSpec, Node, SupervisorSpec, errors
from supervisors.client.door_client import DoorClient
from supervisors.client.outbox import Outbox
from supervisors.testing import processes_of


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("node")
    folder.chmod(0o700)
    return folder


@pytest.fixture(scope="module")
def node(folder):
    with Node.start(data_dir=folder) as node:
        node.start_supervisor(SupervisorSpec([ChildSpec("c", Counter, name="c")], intensity=100))
        yield node


def door(node):
    return next(row["pid"] for row in node.tree()["children"] if row["id"] == "door")


def in_child(work):
    """Run a function in a forked child; return what it returned, as text."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.write(write, str(work()).encode())
        except BaseException as error:  # the child must not become a second pytest
            os.write(write, repr(error).encode())
        os._exit(0)
    os.close(write)
    with open(read) as words:
        said = words.read()
    os.waitpid(pid, 0)
    return said


# --- forks ----------------------------------------------------------------------------------------------------------


def test_a_forked_child_has_a_connection_of_its_own_and_leaves_its_parents_alone(node):
    later, monitor, name = node.send_request("c", "later"), node.monitor("c"), node._client._name
    inherited = node._client._socket.fileno()

    def child():
        with pytest.raises(OSError, match="Bad file"):
            os.fstat(inherited)
        for ask in (later.wait_response, monitor.wait):
            with pytest.raises(errors.NodeDown, match="forked"):
                ask(5.0)
        with node:
            assert [node.call("c", ("echo", n)) for n in range(20)] == list(range(20))
            assert node._client._name != name
        return "well"

    assert in_child(child) == "well"
    assert node._client._name == name
    assert node.call("c", "answer") == 1
    assert later.receive_response(20.0) == "first"
    assert monitor.wait(0) is None


def test_children_may_be_forked_while_other_threads_call(node):
    stop = threading.Event()
    wrong = []

    def call():
        while not stop.is_set():
            token = os.urandom(8)
            if node.call("c", ("echo", token)) != token:
                wrong.append(token)

    threads = [threading.Thread(target=call) for _ in range(3)]
    for thread in threads:
        thread.start()
    said = [in_child(lambda n=n: node.call("c", ("echo", n), timeout=20.0)) for n in range(5)]
    stop.set()
    for thread in threads:
        thread.join()
    assert (said, wrong) == (list("01234"), [])


def test_a_childs_end_does_not_stop_its_parents_own_node(node):
    assert in_child(lambda: node.close() or "closed") == "closed"
    assert in_child(lambda: node._own) == "None"
    assert node.call("c", ("echo", 1)) == 1


# --- interruptions --------------------------------------------------------------------------------------------------


class Interrupted:
    """A socket on which Ctrl-C comes in the middle of a send."""

    def __init__(self, real):
        self.real = real

    def send(self, frame, flags):
        self.real.send(frame[: len(frame) // 2])
        raise KeyboardInterrupt

    def __getattr__(self, name):
        return getattr(self.real, name)


def test_after_an_interrupted_send_the_connection_is_made_anew(node):
    client = node._client
    client._outbox._socket = Interrupted(client._socket)
    with pytest.raises(KeyboardInterrupt):
        node.call("c", ("echo", 1))
    assert client.closed
    assert node.call("c", ("echo", 2)) == 2
    assert node._client is not client


class Interrupting:
    """A socket on which a signal handler or a finalizer runs before each send of one thread, and after it."""

    def __init__(self, real, work):
        self.real, self.work, self.thread = real, work, threading.get_ident()

    def send(self, frame, flags):
        mine, self.thread = threading.get_ident() == self.thread, 0
        if mine:
            self.work()
        sent = self.real.send(frame, flags)
        if mine:
            self.work()
        return sent

    def __getattr__(self, name):
        return getattr(self.real, name)


@contextlib.contextmanager
def interrupting(client, work):
    client._outbox._socket = Interrupting(client._socket, work)
    yield
    client._outbox._socket = client._socket


def test_what_interrupts_a_send_of_its_thread_may_send_too(node):
    later = []

    def work():
        node.cast("c", "interruption")
        later.append(node.send_request("c", ("echo", len(later))))
        with pytest.raises(errors.CallFailed, match="would wait for itself"):
            node.call("c", ("echo", 1))

    before = node.call("c", "seen")
    with interrupting(node._client, work):
        assert node.call("c", ("echo", "interrupted")) == "interrupted"
    assert [each.receive_response(20.0) for each in later] == [0, 1]
    assert node.call("c", "seen") == [*before, "interruption", "interruption"]


def test_a_signal_handler_may_close_the_connection_that_it_interrupts(folder, node):
    other = Node.attach(folder)
    with interrupting(other._client, other.close), pytest.raises(errors.NodeDown):
        other.call("c", ("echo", 1))
    with pytest.raises(errors.NodeDown, match="closed"):
        other.call("c", ("echo", 1))
    until(lambda: not other._client._thread.is_alive())
    assert node.call("c", ("echo", 1)) == 1


def test_a_signal_handler_that_interrupts_a_connect_does_not_wait_for_it(node, monkeypatch):
    dialled, said = DoorClient.__init__, []

    def interrupted(client, *arguments, **options):
        with pytest.raises(errors.NodeDown, match="interrupted"):
            node.call("c", ("echo", 1))
        said.append("refused")
        dialled(client, *arguments, **options)

    node._client.abort()
    monkeypatch.setattr(DoorClient, "__init__", interrupted)
    assert node.call("c", ("echo", 2)) == 2
    assert said == ["refused"]


def test_what_the_socket_does_not_take_is_sent_by_a_thread_in_order():
    here, there = socket.socketpair()
    lock = threading.Lock()
    outbox = Outbox(here, lock, lambda: None)
    pieces = [bytes([n]) * 3_000_000 for n in range(5)]
    with lock:
        for piece in pieces:
            outbox.send(piece)
        assert not outbox.has_room
        assert not outbox.wait_for_room(0.01)
    got = bytearray()
    while len(got) < sum(map(len, pieces)):
        got += there.recv(1 << 20)
    assert got == b"".join(pieces)
    with lock:
        assert outbox.wait_for_room(5.0)
        outbox.wait_until_empty(5.0)
    until(lambda: "node-door-rest" not in [thread.name for thread in threading.enumerate()])
    here.close()
    there.close()


def test_the_reader_has_a_stack_of_its_own_size_where_a_program_gives_its_threads_little(folder, node, monkeypatch):
    start, sizes = threading.Thread.start, []
    monkeypatch.setattr(threading.Thread, "start", lambda thread: (sizes.append(threading.stack_size()), start(thread)))
    usual = threading.stack_size(65_536)
    try:
        Node.attach(folder).close()
        assert threading.stack_size() == 65_536
    finally:
        threading.stack_size(usual)
    assert sizes == [1 << 20]


# --- a door that does not read --------------------------------------------------------------------------------------


@pytest.fixture
def deaf(node):
    """A node whose door is stopped, and what lets it go on."""
    pid = door(node)
    other = Node.attach(node.data_dir)
    kill(pid, signal.SIGSTOP)
    yield other, lambda: kill(pid, signal.SIGCONT)
    kill(pid, signal.SIGCONT)
    other.close()


@pytest.mark.soak
def test_a_door_that_does_not_read_hangs_nobody(deaf):
    deaf, go_on = deaf

    def fill():
        for _ in range(30):  # more than the sockets and the outbox hold
            deaf.submit("cast", "c", bytes(2_000_000), wait=0.05)

    with pytest.raises(errors.CallTimeout):
        fill()
    assert not deaf._client.has_room
    with pytest.raises(errors.CallTimeout):
        deaf.call("c", "pid", timeout=0.1)

    async def tick():
        asking = asyncio.ensure_future(deaf.acall("c", "pid", timeout=0.1))
        began = asyncio.get_running_loop().time()
        await asyncio.sleep(0.01)
        assert asyncio.get_running_loop().time() - began < 30.0  # not as long as the door is stopped
        with pytest.raises(errors.CallTimeout):
            await asking
        go_on()  # else the end of the loop waits for the thread that still sends

    asyncio.run(tick())


def test_an_event_loop_does_not_wait_for_a_connect(node, monkeypatch):
    other = Node.attach(node.data_dir)
    other._client.abort()
    until(lambda: other._client.closed)
    gate, threads = threading.Event(), []
    dial, begun = other._dial, None

    def slow(last):
        threads.append(threading.current_thread())
        begun()
        gate.wait(20)
        return dial(last)

    monkeypatch.setattr(other, "_dial", slow)

    async def ask():
        nonlocal begun
        loop, dialling = asyncio.get_running_loop(), asyncio.Event()
        begun = functools.partial(loop.call_soon_threadsafe, dialling.set)
        asking = [asyncio.ensure_future(other.acall("c", ("echo", n), timeout=20.0)) for n in range(3)]
        await asyncio.wait_for(dialling.wait(), 30)  # the loop runs while a thread connects
        assert not any(each.done() for each in asking)
        gate.set()
        return await asyncio.gather(*asking)

    assert asyncio.run(ask()) == [0, 1, 2]
    assert threading.main_thread() not in threads
    other.close()


# --- monitors -------------------------------------------------------------------------------------------------------


def test_a_restarted_door_tells_monitors_nothing(node):
    target = node.call("c", "pid")
    monitors = [node.monitor("c"), node.monitor(node.whereis("c"))]
    pid = door(node)
    kill(pid)
    until(lambda: node._client.closed)
    until(lambda: not node._client.closed)
    assert node.call("c", "pid") == target
    assert [each.wait(0) for each in monitors] == [None, None]
    until(lambda: len(node._client._monitors) == 2)
    kill(target)
    assert [each.wait(20).reason.kind for each in monitors] == ["killed"] * 2
    ready_again(node, "c", target)


def test_who_ends_while_the_door_is_away_is_told_when_it_is_back(node):
    target = node.call("c", "pid")
    monitor, pid = node.monitor("c"), door(node)
    kill(pid, signal.SIGSTOP)
    kill(target)
    until(lambda: not alive(target))
    kill(pid)
    assert monitor.wait(20).reason.kind in ("killed", "noproc")
    ready_again(node, "c", target)


def test_dropped_monitors_leave_nothing(node):
    for _ in range(100):
        node.monitor("c")
    gc.collect()
    kept = node.monitor("c")
    assert list(node._client._monitors) == [kept._number]
    kept.cancel()
    assert not node._client._monitors


# --- the folder -----------------------------------------------------------------------------------------------------


def test_a_restarted_door_never_makes_a_new_key(node, folder):
    key = (folder / "cluster.key").read_text()
    (folder / "cluster.key").unlink()
    old = door(node)
    kill(old)
    assert until(lambda: answers(node)) != old
    until((folder / "cluster.key").exists)
    assert (folder / "cluster.key").read_text() == key
    with Node.attach(folder) as other:
        assert other.call("c", ("echo", 1)) == 1


def answers(node):
    try:
        return door(node)
    except (errors.SupervisorsError, StopIteration):
        return None


def test_a_node_whose_file_or_folder_was_removed_is_found_again(node, folder):
    (folder / "node.json").unlink()
    with Node.attach(folder) as other:
        assert other.call("c", ("echo", 1)) == 1
    for each in folder.iterdir():
        shutil.rmtree(each) if each.is_dir() else each.unlink()
    folder.rmdir()
    with pytest.raises(errors.NodeDown, match="already"):
        Node.start(data_dir=folder)  # before it is brought back, or after
    node._client.abort()
    assert node.call("c", ("echo", 2)) == 2  # over the address of before
    until((folder / "node.json").exists)
    with pytest.raises(errors.NodeDown, match="already"):
        Node.start(data_dir=folder)
    with Node.attach(folder) as other:
        assert other.call("c", ("echo", 3)) == 3


def test_a_node_whose_folder_is_moved_stops_and_says_why_and_is_started_where_it_is(tmp_path):
    old, new = tmp_path / "old", tmp_path / "new"
    with Node.start(data_dir=old) as node:
        daemon = node.info["pid"]
        until(lambda: "node started" in (old / "logs" / "node.jsonl").read_text())
        old.rename(new)
        until(lambda: not alive(daemon))
        assert not old.exists()
        assert "moved away or replaced under it" in (new / "logs" / "node.jsonl").read_text()
        with Node.start(data_dir=new) as again:
            assert again.info["pid"] != daemon


@pytest.mark.parametrize(
    "garbage", ["", "[]", "null", "{}", '{"address": 5, "pid": 1}', '{"address": "x", "pid": "y"}', "\xff"], ids=repr
)
def test_a_node_file_of_garbage_is_said_in_one_line(tmp_path, garbage):
    tmp_path.chmod(0o700)
    (tmp_path / "node.json").write_text(garbage, encoding="latin-1")
    with pytest.raises(errors.NodeDown, match=r"node\.json") as error:
        Node.attach(tmp_path)
    assert "\n" not in str(error.value)


def test_after_a_full_disk_the_node_comes_back(node, folder):
    daemon, before = node.info["pid"], node.call("c", "pid")
    root = json.loads((folder / "node.json").read_text())["root"]["pid"]
    resource.prlimit(daemon, resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
    try:
        pids = processes_of(node) - {daemon}
        kill(root)
        until(lambda: not [pid for pid in pids if alive(pid)])
        until(lambda: answers(node), 20.0)
        assert node.status()["incarnation"] == 1
        assert not alive(before)
    finally:
        resource.prlimit(daemon, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    until(lambda: json.loads((folder / "node.json").read_text())["incarnation"] == 1)
