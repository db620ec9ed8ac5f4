"""What one sender sends arrives in the order in which it was sent, and all of it, however the sender ends."""

import asyncio
import contextlib
import itertools
import json
import random
import signal
import subprocess
import sys
import threading

import pytest
from node_helpers import family, kill, until

from supervisors import ChildSpec, Down, GenServer, Node, Ref, Stop, Via, errors
from supervisors.registry.server import Registry

_numbers = itertools.count()


class Log(GenServer):
    """Keeps what comes, in order."""

    def init(self):
        self.seen = []

    def handle_call(self, request, caller):
        if request == "all":
            return self.seen
        if request == "who":
            return caller.ref
        if request == "thread":  # it goes on when this server is idle again
            threading.Thread(target=lambda: [self.cast(self.ref, number) for number in range(5)]).start()
            return None
        self.seen.append(request)
        return caller.ref

    def handle_cast(self, message):
        self.seen.append(message)

    handle_info = handle_cast


class Mouth(GenServer):
    """Sends what it is told."""

    async def handle_call(self, request, caller):
        match request:
            case ("tell", orders, "server"):
                await self.tell(orders)
            case ("tell", orders, "thread"):
                await asyncio.to_thread(self.tell_from_thread, orders)
            case ("monitor", target):
                self.cast(target, "before")
                self.monitor(target)
                self.cast(target, "after")

    async def tell(self, orders):
        for kind, target, value in orders:
            if kind == "call":
                await self.call(target, value, timeout=None)
            else:
                getattr(self, kind)(target, value)

    def tell_from_thread(self, orders):
        for kind, target, value in orders:
            getattr(self, kind)(target, value)

    def handle_cast(self, message):
        """Say something and end in some way."""
        target, count, end = message
        for number in range(count):
            self.cast(target, number)
        match end:
            case "stop":
                raise Stop("normal")
            case "crash":
                raise ValueError("now")
            case "exit signal":
                self.exit(self.ref, "shutdown")
            case "sys.exit":
                sys.exit(1)


@pytest.fixture(scope="module")
def node():
    with Node.start() as started:
        yield started


@pytest.fixture
def world(node, supervise):
    """Start a log that has a name and a key, which nobody has looked up yet; return how it is reached."""
    name = f"log-{next(_numbers)}"
    directory = f"directory-{name}"
    top = supervise(
        [
            ChildSpec("directory", Registry, kwargs={"keys": "unique"}, name=directory),
            ChildSpec("named", Log, name=name),
            ChildSpec("mouth", Mouth, restart="temporary"),
        ]
    )
    mouth, log, registry = [row.ref for row in node.which_children(top)]
    node.call(registry, ("register", "log", log, None))
    return name, Via(directory, "log"), log, mouth


def registry_pid(node):
    return next(pid for pid, called in family(node.info["pid"]).items() if called == "registry")


@contextlib.contextmanager
def slow_registry(node, seconds):
    """Have the node's registry not answer for a while."""
    pid = registry_pid(node)
    kill(pid, 19)
    thaw = threading.Timer(seconds, kill, (pid, 18))
    thaw.start()
    try:
        yield
    finally:
        thaw.join()


def fresh(node):
    """Return a connection of its own."""
    return Node.attach(node.data_dir)


@pytest.mark.parametrize("slow", [0.0, 0.4])
@pytest.mark.parametrize("sender", ["server", "thread", "program"])
def test_messages_of_one_sender_arrive_in_their_order_whatever_they_are_and_however_the_target_is_named(
    node, world, sender, slow
):
    name, via, ref, mouth = world
    random.seed(sender + str(slow))
    kinds = ["cast", "send"] if sender == "thread" else ["cast", "send", "call"]
    orders = [(random.choice(kinds), random.choice([name, via, ref]), number) for number in range(60)]
    orders[0] = ("cast", name, 0)  # nobody has looked it up yet
    with slow_registry(node, slow) if slow else contextlib.nullcontext():
        if sender == "program":
            with fresh(node) as program:
                for kind, target, value in orders:
                    getattr(program, kind)(target, value)
        else:
            node.call(mouth, ("tell", orders, sender), timeout=None)
    until(lambda: len(node.call(ref, "all")) == 60)
    assert node.call(ref, "all") == list(range(60))


def test_a_thread_wakes_its_idle_server_by_casts_to_it(node, world):
    ref = world[2]
    node.call(ref, "thread")
    until(lambda: node.call(ref, "all") == list(range(5)))


def test_a_lookup_that_takes_long_holds_up_others_for_a_second_and_its_own_messages_until_it_ends(node, world):
    name, _, ref, mouth = world
    pid = registry_pid(node)
    kill(pid, 19)
    try:
        node.call(mouth, ("tell", [("cast", name, 0), ("cast", ref, 1), ("cast", name, 2)], "server"))
        until(lambda: node.call(ref, "all") == [1])
    finally:
        kill(pid, 18)
    until(lambda: node.call(ref, "all") == [1, 0, 2])


@pytest.mark.soak
def test_a_registry_that_does_not_answer_for_a_while_breaks_nothing_for_good(node, world):
    name, via, ref, _ = world
    with fresh(node) as program, slow_registry(node, 3.5):
        with pytest.raises(errors.CallTimeout, match="still being looked up"):
            program.call(name, "in vain", timeout=0.3)
        with pytest.raises(errors.CallTimeout):
            asyncio.run(program.acall(via, "in vain", timeout=0.3))
        assert program.call(name, 1, timeout=20.0)
        assert program.call(via, 2, timeout=20.0)
    assert node.call(ref, "all") == [1, 2]
    before = node.whereis(name)
    kill(registry_pid(node))
    until(lambda: registry_of(node, name) == before)


def registry_of(node, name):
    with contextlib.suppress(errors.SupervisorsError):
        return node.whereis(name)


@pytest.mark.parametrize("end", ["stop", "crash", "exit signal", "sys.exit"])
@pytest.mark.parametrize("by", [0, 1])
def test_what_a_server_has_sent_to_a_name_is_not_lost_when_it_ends(node, world, end, by):
    name, via, ref, mouth = world
    with slow_registry(node, 0.2):
        node.cast(mouth, ((name, via)[by], 50, end))
        assert node.monitor(mouth).wait(20.0)
    assert node.call(ref, "all") == list(range(50))


@pytest.mark.parametrize("by", ["name", "via"])
def test_what_a_program_has_sent_before_it_closes_arrives(node, world, by):
    name, via, ref, _ = world
    with fresh(node) as program:
        for number in range(300):
            program.cast(name if by == "name" else via, number)
    until(lambda: len(node.call(ref, "all")) == 300)
    assert node.call(ref, "all") == list(range(300))


PROGRAM = """
import os, sys
from supervisors import Node
node = Node.attach(sys.argv[1])
for number in range(300):
    node.cast(sys.argv[2], number)
{end}
"""


@pytest.mark.parametrize("end", ["", "os._exit(0)", "raise ValueError"])
def test_what_a_program_has_sent_before_it_ends_arrives(node, world, end):
    name, _, ref, _ = world
    subprocess.run(
        [sys.executable, "-c", PROGRAM.format(end=end), str(node.data_dir), name],
        timeout=60,
        check=False,
        capture_output=True,
    )
    until(lambda: len(node.call(ref, "all")) == 300)
    assert node.call(ref, "all") == list(range(300))


STALLED = """
import fcntl, os, select, signal, sys, threading
from supervisors import Node
from supervisors.client.door_client import DoorClient
node = Node.attach(sys.argv[1])
name, door = sys.argv[2], int(sys.argv[3])
stalled = threading.Event()
DoorClient._take = lambda self, message: stalled.set() or threading.Event().wait()
node.cast(name, 0)
stalled.wait(0.3)  # whoever gets an answer, does not get round to the next
node.cast(name, 1)
select.select([node._client._socket], [], [], 0.3)
os.kill(door, signal.SIGSTOP)
sent = 2
# SIOCOUTQNSD: the bytes that are not yet sent
while not int.from_bytes(fcntl.ioctl(node._client._socket, 0x894B, bytes(4)), sys.byteorder):
    node.cast(name, sent)
    sent += 1
os.write(1, str(sent).encode())
os._exit(0)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux what a socket has not yet sent")
def test_what_the_kernel_has_not_yet_sent_when_a_program_ends_arrives(node, world):
    """With an answer unread in its socket, the kernel would drop it."""
    name, _, ref, _ = world
    door = next(pid for pid, called in family(node.info["pid"]).items() if called == "door")
    try:
        run = [sys.executable, "-c", STALLED, str(node.data_dir), name, str(door)]
        sent = int(subprocess.run(run, timeout=60, check=True, capture_output=True).stdout)
    finally:
        kill(door, signal.SIGCONT)
    until(lambda: len(node.call(ref, "all")) >= sent)
    assert node.call(ref, "all") == list(range(sent))


def test_a_monitor_by_name_is_in_its_turn(node, world):
    name, _, ref, mouth = world
    node.call(mouth, ("monitor", name))
    until(lambda: node.call(ref, "all") == ["before", "after"])


def test_a_start_by_via_waits_for_the_successor_of_a_registry_that_froze_and_was_killed(node, world, supervise):
    _, via, _, _ = world
    pid = node.pid(via.name)
    kill(pid, 19)
    threading.Timer(0.3, kill, (pid,)).start()
    ref = node.start_child(supervise([]), ChildSpec("late", Log, name=Via(via.name, "late")))
    assert node.call(Via(via.name, "late"), "who")
    assert node.whereis(Via(via.name, "late")) == ref


class Host(GenServer):
    """Watches the programs that call it."""

    def init(self):
        self.guests, self.downs = {}, []

    async def handle_call(self, request, caller):
        match request:
            case "hello":
                self.guests[self.monitor(caller.ref)] = caller.ref
                return caller.ref
            case "tell":
                self.cast(caller.ref, "psst")
                self.send(caller.ref, "psst")
                self.exit(caller.ref, "kill")
                try:
                    return await self.call(caller.ref, "who are you?")
                except errors.CallFailed as error:
                    return str(error)
            case "link":
                self.trap_exit = True
                self.link(caller.ref)
                return None
            case "forget":
                for number in self.guests:
                    self.demonitor(number)
                return len(self._supervisors_engine.peers._peers)
        return self.downs

    def handle_info(self, message):
        if isinstance(message, Down):
            self.downs.append((message.ref, message.reason.kind))
        elif isinstance(message, tuple) and message[0] == "EXIT":
            self.downs.append((message[1], message[2].kind))


@pytest.fixture
def host(node, supervise):
    name = f"host-{next(_numbers)}"
    supervise([ChildSpec("host", Host, name=name, restart="temporary")])
    return node.whereis(name)


def test_every_program_outside_has_an_address_of_its_own(node, host):
    door = next(pid for pid, called in family(node.info["pid"]).items() if called == "door")
    with fresh(node) as one, fresh(node) as other:
        refs = [program.call(host, "hello") for program in (one, other, one)]
        assert refs[0] == refs[2] != refs[1]
        assert "takes no calls" in one.call(host, "tell")
        with pytest.raises(errors.CallFailed, match="takes no calls"):
            other.call(refs[0], "hello")
        assert one.call(host, "hello") == refs[0]
        assert door in family(node.info["pid"])


VICTIM = """
import os, sys
from supervisors import Node
node = Node.attach(sys.argv[1])
node.call(sys.argv[2], "link")
node.call(sys.argv[2], "hello")
os.kill(os.getpid(), 9)
"""


@pytest.mark.parametrize("how", ["close", "kill"])
def test_a_server_that_monitors_or_links_to_a_program_is_told_when_it_goes(node, host, how):
    if how == "close":
        with fresh(node) as program:
            program.call(host, "link")
            program.call(host, "hello")
    else:
        name = next(name for name, each in node.names().items() if each == host)
        subprocess.run([sys.executable, "-c", VICTIM, str(node.data_dir), name], timeout=60, check=False)
    downs = until(lambda: len(found := node.call(host, "downs")) == 2 and found)
    assert [kind for _, kind in downs] == ["nodedown", "nodedown"]
    (ref,) = {who for who, _ in downs}
    assert node.monitor(ref).wait(20.0).reason.kind == "noproc"


def test_a_program_that_is_not_watched_any_more_costs_nothing(node, host):
    before = node.call(host, "forget")
    for _ in range(5):
        with fresh(node) as program:
            program.call(host, "hello")
            program.call(host, "forget")
    assert node.call(host, "forget") <= before + 1


def sizes(file):
    """Return a function that writes the sizes of a process's collections to a file, in that process."""

    def measure(attributes):
        import gc
        import json

        from supervisors.runtime.process.process import Process

        (process,) = [each for each in gc.get_objects() if isinstance(each, Process)]
        parts = [process, process.calls, process.bonds, process.names, process.peers, process.sender.room]
        parts += [process.sender.room, *(lodger.sender.room for lodger in process.lodgers.values())]
        found = {}
        for part in parts:
            for name, value in vars(part).items():
                if isinstance(value, dict | list | set) and name != "lodgers":
                    found[f"{type(part).__name__}.{name}"] = len(value)
        with open(file, "w") as out:
            json.dump(found, out)
        return attributes

    return measure


def measured(node, ref, tmp_path):
    file = tmp_path / "sizes"
    node.replace_state(ref, sizes(str(file)))
    return json.loads(file.read_text())


@pytest.mark.soak
def test_many_casts_calls_and_monitors_leave_nothing_in_door_server_and_program(node, world, tmp_path):
    name, via, ref, mouth = world
    root = Ref(**json.loads((node.data_dir / "node.json").read_text())["root"])
    door = next(row.ref for row in node.which_children(root) if row.id == "door")
    orders = [("cast", (name, via)[number % 2], number) for number in range(200)]
    orders += [("call", (name, via)[number % 2], number) for number in range(100)]

    def go():
        for number in range(300):
            node.cast(name, number)
        for _ in range(50):
            node.call(name, "who")
            node.monitor(ref).cancel()
        node.call(mouth, ("tell", orders, "server"), timeout=60.0)

    go()
    before = [measured(node, each, tmp_path) for each in (door, ref, mouth)]
    go()
    after = [measured(node, each, tmp_path) for each in (door, ref, mouth)]
    assert after == before
    assert not node._client._waiting
    assert not node._client._monitors
