"""An ordered end leaves nothing half done: files, atexit, finalizers, and the last words, however large."""

import atexit
import gzip
import os
import signal
import threading
import time
import weakref
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from types import SimpleNamespace

import psutil
import pytest
from node_helpers import alive

from supervisors import ChildSpec, GenServer, Node, Stop, SupervisorSpec
from supervisors.runtime.thespian import post
from supervisors.testing import wait_until


class Writer(GenServer):
    """Leaves its files open."""

    def init(self, folder):
        self.folder = folder
        self.text = (folder / "text").open("w")
        self.data = (folder / "data").open("wb")
        self.zipped = gzip.open(folder / "zipped", "wt")  # noqa: SIM115 - left open, as the test is about
        for file in (self.text, self.zipped):
            file.write("kept")
        self.data.write(b"kept")
        atexit.register((folder / "atexit").write_text, "kept")
        weakref.finalize(self, (folder / "finalizer").write_text, "kept")
        self.myself = self  # a cycle: the collector's

    def __del__(self):
        (self.folder / "del").write_text("kept")

    def handle_call(self, request, caller):
        raise Stop("normal", reply="bye")

    def handle_cast(self, message):
        message(self)

    def terminate(self, reason):
        (self.folder / "terminate").write_text(str(reason))


EVERYTHING = ("text", "data", "atexit", "finalizer", "del")


def read(folder):
    return {name: (folder / name).read_text() for name in EVERYTHING if (folder / name).exists()}


@pytest.fixture
def writer(supervise, tmp_path):
    return supervise([ChildSpec("w", Writer, args=(tmp_path,), name="writer", restart="temporary")])


def by_stop(node, top, ref):
    node.stop(ref)


def by_its_supervisor(node, top, ref):
    node.terminate_child(top, "w")


def by_itself(node, top, ref):
    assert node.call("writer", "stop") == "bye"


def by_a_crash(node, top, ref):
    node.cast(ref, lambda server: 1 / 0)


def by_sigterm(node, top, ref):
    os.kill(ref.pid, signal.SIGTERM)


@pytest.mark.parametrize("end", [by_stop, by_its_supervisor, by_itself, by_a_crash, by_sigterm])
def test_an_ordered_end_writes_files_out_and_runs_atexit_and_finalizers(node, writer, tmp_path, end):
    ref = node.whereis("writer")
    monitor = node.monitor(ref)
    end(node, writer, ref)
    monitor.wait(20.0)
    assert read(tmp_path) == dict.fromkeys(EVERYTHING, "kept")
    with gzip.open(tmp_path / "zipped", "rt") as file:
        assert file.read() == "kept"
    expected = "shutdown" if end in (by_its_supervisor, by_sigterm) else "normal"
    if end is not by_a_crash:
        assert (tmp_path / "terminate").read_text() == expected


def test_a_kill_runs_none_of_it(node, writer, tmp_path):
    monitor = node.monitor("writer")
    node.exit(node.whereis("writer"), "kill")
    monitor.wait(20.0)
    assert read(tmp_path) == {"text": "", "data": ""}


class Hanging(GenServer):
    """Leaves behind what would keep an interpreter from ending."""

    def init(self, what):
        match what:
            case "threads":
                self.pool = ThreadPoolExecutor()
                self.pool.submit(time.sleep, 600)
                threading.Thread(target=time.sleep, args=(600,)).start()
            case "processes":
                self.pool = ProcessPoolExecutor(1)
                self.pool.submit(time.sleep, 600)
            case "atexit":
                atexit.register(time.sleep, 600)

    def handle_call(self, request, caller):
        return [process.pid for process in psutil.Process().children(recursive=True)]


@pytest.mark.parametrize(("what", "seconds"), [("threads", 20.0), ("processes", 20.0), ("atexit", 30.0)])
def test_what_hangs_at_the_end_holds_it_up_for_some_seconds_at_most(node, supervise, what, seconds):
    top = supervise([ChildSpec("h", Hanging, args=(what,), name="hanging", restart="temporary", shutdown=120.0)])
    ref, children = node.whereis("hanging"), node.call("hanging", "children")
    monitor = node.monitor(ref)
    began = time.monotonic()
    node.terminate_child(top, "h")
    assert time.monotonic() - began < seconds
    assert monitor.wait(20.0).reason.kind == "shutdown"
    wait_until(lambda: not any(alive(child) for child in children), 20.0)


def close_everything(server):
    os.closerange(3, 4096)


def test_a_server_that_closes_all_descriptors_ends_and_is_started_again(node, supervise, tmp_path):
    """Its loop cannot wait any more: to go on would be to spin."""
    supervise([ChildSpec("w", Writer, args=(tmp_path,), name="writer")])
    old = node.whereis("writer")
    node.cast("writer", close_everything)
    wait_until(lambda: not alive(old.pid), 20.0)
    wait_until(lambda: node.whereis("writer") not in (None, old), 20.0)
    assert node.status()["incarnation"] == 0


class Large(GenServer):
    """Replies and ends."""

    def handle_call(self, request, caller):
        raise Stop("normal", reply=b"x" * request)


def test_a_large_last_reply_arrives(node, supervise):
    supervise([ChildSpec("l", Large, name="large", restart="temporary")])
    assert len(node.call("large", 24 << 20, timeout=60.0)) == 24 << 20


class Intent:
    """A message on its way."""

    amtSent = 0  # noqa: N815 - Thespian's name


class SlowTransport:
    """Sends some bytes of one message in each half second of a clock of its own."""

    def __init__(self, speeds):
        self.speeds, self.now, self.intent = iter(speeds), 0.0, Intent()
        self._transmitIntents = {1: self.intent}
        self._waitingTransmits = self._aTB_queuedPendingTransmits = ()

    def enableRXPauseFlowControl(self, enable):  # noqa: N802 - Thespian's name
        pass

    def run(self, handler, seconds):
        self.now += 0.5
        speed = next(self.speeds)
        self.intent.amtSent += speed
        if speed < 0:
            self._transmitIntents.clear()


@pytest.mark.parametrize(
    ("speeds", "seconds"),
    [
        ([10] * 20 + [-1], 10.5),  # as long as bytes move, it waits
        ([10] * 4 + [0] * 100, 4.0),  # and one second when they do not any more
        ([10] * 1000, 30.0),  # but not for ever
        ([60_000_000] + [0] * 6 + [-1], 4.0),  # a receiver that has got much has time for it
    ],
)
def test_last_words_are_waited_for_as_long_as_they_move(monkeypatch, speeds, seconds):
    transport = SlowTransport(speeds)
    monkeypatch.setattr(post.time, "monotonic", lambda: transport.now)
    office = post.PostOffice(SimpleNamespace(transport=transport), lambda parcel: None)
    office._drain(30.0)
    assert abs(transport.now - seconds) <= 0.5


class Terminates(GenServer):
    """Writes a line when it terminates."""

    def init(self, path):
        self.path = path

    def terminate(self, reason):
        with self.path.open("a") as file:
            file.write(f"{reason}\n")


def test_a_sigterm_to_every_process_of_a_node_stops_it_in_order(tmp_path):
    (tmp_path / "node").mkdir(mode=0o700)
    path = tmp_path / "ends"
    with Node.start(data_dir=tmp_path / "node") as node:
        spec = [ChildSpec(f"t{number}", Terminates, args=(path,)) for number in range(3)]
        node.start_supervisor(SupervisorSpec([ChildSpec("inner", SupervisorSpec(spec))]))
        daemon = psutil.Process(node.info["pid"])
        everyone = [daemon, *daemon.children(recursive=True)]
        groups = {os.getpgid(process.pid) for process in everyone}
        for group in groups:
            os.killpg(group, signal.SIGTERM)
        wait_until(lambda: not any(alive(process.pid) for process in everyone), 20.0)
    lines = path.read_text().splitlines()
    assert len(lines) >= 3
    assert set(lines) == {"shutdown"}


def test_a_sigterm_to_what_is_no_server_is_nothing(node, supervise):
    top = supervise([ChildSpec("l", Large, name="large")])
    daemon = psutil.Process(node.info["pid"])
    before = {process.pid for process in daemon.children(recursive=True)}
    servers = {os.getpgid(pid) for pid in before} & before
    assert top.pid in before - servers
    for pid in before - servers:
        os.kill(pid, signal.SIGTERM)
    assert len(node.call("large", 1)) == 1  # which ends it, and it is started again
    wait_until(lambda: node.whereis("large") is not None, 20.0)
    after = {process.pid for process in daemon.children(recursive=True)}
    assert before - servers <= after
    assert node.status()["incarnation"] == 0
