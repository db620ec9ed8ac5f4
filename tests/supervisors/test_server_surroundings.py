"""What a server finds around it is what its author would find in a program of their own."""

import contextlib
import ctypes
import errno
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
from genserver_helpers import log_lines
from node_helpers import alive

from supervisors import NO_REPLY, ChildSpec, GenServer, Node, SupervisorSpec
from supervisors.host.output import keep_small
from supervisors.runtime.thespian import forking
from supervisors.testing import wait_until


class Doer(GenServer):
    """Calls functions in its process."""

    def handle_call(self, request, caller):
        self.caller = caller
        return request(self)

    def handle_cast(self, message):
        message(self)


@pytest.fixture(scope="module")
def doer(node):
    """Run one."""
    node.start_supervisor(SupervisorSpec([ChildSpec("d", Doer, name="doer")], intensity=100))
    return "doer"


def in_server(node, function, timeout=20.0):
    return node.call("doer", function, timeout=timeout)


def test_files_are_made_with_the_usual_umask(node, doer, tmp_path):
    def make(server):
        (tmp_path / "file").write_text("x")

    in_server(node, make)
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o644


def test_a_server_does_not_hold_the_lock_of_its_nodes_folder(node, doer):
    def open_files(server):
        return [os.readlink(each) for each in Path("/proc/self/fd").iterdir() if each.is_symlink()]

    files = in_server(node, open_files)
    assert any(each.startswith("socket:") for each in files)
    assert not [each for each in files if each.endswith("run/lock")]


def test_what_a_signal_handler_sends_leaves_an_idle_server_at_once(node, doer):
    """And what the server forks does not wake it."""

    def handle(server):
        signal.signal(signal.SIGUSR2, lambda number, frame: server.send(server.ref, "signal"))
        server.handle_info = lambda message: server.reply(server.waits, message)
        return os.getpid()

    def wait(server):
        server.waits = server.caller
        return NO_REPLY

    pid = in_server(node, handle)
    asked = node.send_request("doer", wait)
    node.get_status("doer")  # it is answered in its turn: the request before it has been taken
    os.kill(pid, signal.SIGUSR2)
    assert asked.receive_response(20.0) == "signal"
    assert in_server(node, forked_wakeup_fd) == -1


def forked_wakeup_fd(server):
    with ProcessPoolExecutor(1, multiprocessing.get_context("fork")) as pool:
        return pool.submit(signal.set_wakeup_fd, -1).result()


@pytest.mark.parametrize("name", ["SIGINT", "SIGHUP", "SIGTERM", "SIGUSR1"])
def test_what_a_server_starts_has_default_signals(node, doer, name):
    number = getattr(signal, name)

    def run(server):
        subprocess.run(["/bin/sh", "-c", f"kill -{number.value} $$; exit 9"], check=False)
        done = subprocess.run(["/bin/sh", "-c", f"kill -{number.value} $$; exit 9"], check=False)
        pid = os.fork()
        if pid == 0:
            handler = signal.getsignal(number)
            os._exit(0 if handler in (signal.SIG_DFL, signal.default_int_handler) else 1)
        return done.returncode, os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    assert in_server(node, run) == (-number.value, 0)


@pytest.mark.soak
def test_a_c_library_that_sleeps_or_polls_is_not_interrupted(node, doer):
    def wait(server):
        libc = ctypes.CDLL(None, use_errno=True)
        began = time.monotonic()
        left = libc.sleep(2)
        found = libc.poll(None, 0, 1500)
        return left, found, time.monotonic() - began

    left, found, seconds = in_server(node, wait)
    assert (left, found) == (0, 0)
    assert seconds > 3.4


def test_the_alarm_signal_is_the_servers_own(node, doer):
    def alarm(server):
        rung = threading.Event()
        signal.signal(signal.SIGALRM, lambda number, frame: rung.set())
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        end = time.monotonic() + 1.3  # the watchdog looks meanwhile
        while time.monotonic() < end:
            rung.wait(0.05)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        return rung.is_set()

    assert in_server(node, alarm)


@pytest.mark.soak
def test_many_blocked_handlers_leak_no_descriptor(node, doer):
    def count(server):
        return len(os.listdir("/proc/self/fd"))

    def block(server):
        end = time.monotonic() + 1.05
        while time.monotonic() < end:
            threading.Event().wait(0.01)

    in_server(node, block)
    before = in_server(node, count), len(log_lines(node, "a handler blocks the event loop", "doer"))
    for _ in range(3):
        in_server(node, block)
    assert in_server(node, count) == before[0]
    assert len(log_lines(node, "a handler blocks the event loop", "doer")) == before[1] + 3


def test_a_server_that_forks_has_no_thread_at_that_moment(node, doer):
    def fork(server):
        begin = time.monotonic()
        while time.monotonic() < begin + 1.2:  # the watchdog's thread is there by now
            threading.Event().wait(0.01)
        with_watchdog = psutil.Process().num_threads()
        found = []
        os.register_at_fork(before=lambda: None, after_in_parent=lambda: found.append(psutil.Process().num_threads()))
        worker = multiprocessing.get_context("fork").Process(target=threading.Event().wait, args=(0.01,))
        worker.start()
        worker.join()
        return with_watchdog, found

    with_watchdog, found = in_server(node, fork)
    assert with_watchdog == 2
    assert found == [1]


def test_what_a_server_prints_is_in_the_output_log(node, doer):
    def say(server):
        print("printed by a server \udce9", os.getpid())
        return os.getpid()

    pid = in_server(node, say)
    lines = (node.data_dir / "logs" / "output.log").read_text().splitlines()
    assert f"printed by a server \\udce9 {pid}" in lines
    assert (node.data_dir / "logs" / "output.log").stat().st_mode & 0o777 == 0o600


def test_an_output_log_that_has_grown_begins_anew(tmp_path):
    log = tmp_path / "output.log"
    with log.open("ab", buffering=0) as file:  # as every process of a node has it
        file.write(b"x" * 101)
        keep_small(tmp_path, 100)
        file.write(b"next")
        keep_small(tmp_path, 100)
    assert log.read_bytes() == b"next"
    assert (tmp_path / "output.log.1").read_bytes() == b"x" * 101


def test_a_first_process_that_cannot_be_forked_is_an_error_that_says_why(monkeypatch):
    def fork():
        raise BlockingIOError(errno.EAGAIN, "no more processes")

    class Manager:
        """A manager that has not started anything yet."""

        capabilities = None
        transport = SimpleNamespace(prepEndpoint=lambda address, capabilities: None)

        def createActor(self, actor_class, requirements, name):  # noqa: N802 - Thespian's name
            with contextlib.suppress(Exception):  # as Thespian does
                forking._start_child_actor(self, None, actor_class, None, None, None)

    monkeypatch.setattr(os, "fork", fork)
    with pytest.raises(OSError, match=r"no process could be forked.*no more processes"):
        forking.create_actor(Manager(), object, b"")


def nested(levels, name):
    """Return a tree so many levels deep, with a server at its end."""
    spec = SupervisorSpec([ChildSpec("leaf", Doer, name=name)])
    for level in range(levels):
        spec = SupervisorSpec([ChildSpec(f"s{level}", spec)])
    return spec


def depth(server):
    def down(levels):
        return 0 if levels == 0 else 1 + down(levels - 1)

    return down(900)


@pytest.mark.soak
def test_a_handler_has_the_whole_recursion_limit_however_deep_the_tree(node):
    top = node.start_supervisor(nested(60, "deep"))
    try:
        assert node.call("deep", depth, timeout=20.0) == 900
    finally:
        node.stop(top)


LIBRARY = """
import os
_state = os.getpid()
def seed():
    global _state
    _state = os.getpid()
def random():
    return _state
"""


def test_preloaded_libraries_are_seeded_anew_and_their_end_is_not_the_servers(tmp_path, monkeypatch):
    (tmp_path / "lib" / "numpy").mkdir(parents=True)
    (tmp_path / "lib" / "numpy" / "__init__.py").write_text("from numpy import random")
    (tmp_path / "lib" / "numpy" / "random.py").write_text(LIBRARY)
    ended = tmp_path / "ended"
    (tmp_path / "lib" / "library_with_an_end.py").write_text(
        "import atexit, tempfile\n"
        "folder = tempfile.TemporaryDirectory()\n"
        f"atexit.register(lambda: open({str(ended)!r}, 'a').write('x'))\n"
    )
    monkeypatch.syspath_prepend(tmp_path / "lib")  # a node finds what its program finds
    (tmp_path / "node").mkdir(mode=0o700)

    def look(server):
        import library_with_an_end
        import numpy

        return numpy.random.random(), os.getpid(), library_with_an_end.folder.name

    with Node.start(data_dir=tmp_path / "node", preload=["numpy", "library_with_an_end"]) as node:
        names = ["a", "b"]
        top = node.start_supervisor(SupervisorSpec([ChildSpec(name, Doer, name=name) for name in names]))
        for name in names:
            state, pid, folder = node.call(name, look)
            assert state == pid
        node.stop(top)
        assert Path(folder).is_dir()
        assert not ended.exists()


# --- what it starts ---------------------------------------------------------------------------------------------------


def start_four(server):
    """Start what could outlive a server: a program, one in a session of its own, one in the background, a worker."""
    wait = [sys.executable, "-c", "import time; time.sleep(600)"]
    plain = subprocess.Popen(wait)
    session = subprocess.Popen(wait, start_new_session=True)
    shell = subprocess.run(["/bin/sh", "-c", "sleep 600 >/dev/null 2>&1 & echo $!"], check=True, capture_output=True)
    worker = multiprocessing.get_context("fork").Process(target=time.sleep, args=(600,))
    worker.start()
    server.kept = plain, session, worker
    return plain.pid, session.pid, int(shell.stdout), worker.pid


def end_by_kill(node, pid):
    os.kill(pid, signal.SIGKILL)


def end_by_crash(node, pid):
    node.cast("parent", lambda server: 1 / 0)


def end_by_stop(node, pid):
    node.stop("parent", timeout=10.0)


def end_of_its_supervisor(node, pid):
    os.kill(psutil.Process(pid).ppid(), signal.SIGKILL)


@pytest.mark.parametrize("end", [end_by_kill, end_by_crash, end_by_stop, end_of_its_supervisor])
def test_what_a_server_has_started_ends_with_it(node, end):
    inner = SupervisorSpec([ChildSpec("p", Doer, name="parent")], intensity=10)
    top = node.start_supervisor(SupervisorSpec([ChildSpec("inner", inner)], intensity=10))
    pids = node.call("parent", start_four)
    old = node.pid("parent")
    assert all(alive(pid) for pid in pids)
    end(node, old)
    wait_until(lambda: node.pid("parent") not in (None, old), 20.0)
    if end is not end_of_its_supervisor:
        # The successor finds none of them, but for what had left the server's group.
        assert not any(alive(pid) for pid in (pids[0], pids[2], pids[3]))
    wait_until(lambda: not any(alive(pid) for pid in pids), 20.0)
    node.stop(top)


def test_a_program_in_the_background_is_let_be_as_long_as_its_server_lives(node, doer):
    def start(server):
        done = subprocess.run(["/bin/sh", "-c", "sleep 600 >/dev/null 2>&1 & echo $!"], check=True, capture_output=True)
        return int(done.stdout)

    pid = in_server(node, start)
    daemon = node.info["pid"]
    assert psutil.Process(pid).ppid() == daemon
    # The daemon has looked at its orphans by the time it has ended another one.
    other = in_server(node, lambda server: orphan_in_a_session())
    wait_until(lambda: not alive(other), 20.0)
    assert alive(pid)
    os.kill(pid, signal.SIGKILL)


def orphan_in_a_session():
    done = subprocess.run(
        ["/bin/sh", "-c", "setsid sleep 600 >/dev/null 2>&1 & echo $!"], check=True, capture_output=True
    )
    return int(done.stdout)


def test_a_worker_process_does_not_outlive_a_killed_daemon_nor_keep_its_folder_and_port(tmp_path):
    (tmp_path / "node").mkdir(mode=0o700)

    def start(server):
        def work():
            held = [os.readlink(f"/proc/self/fd/{fd}") for fd in range(3, 64) if os.path.lexists(f"/proc/self/fd/{fd}")]
            there.send([name for name in held if name.endswith("run/lock")])
            time.sleep(600)

        context = multiprocessing.get_context("fork")
        here, there = context.Pipe()
        server.worker = context.Process(target=work)
        server.worker.start()
        return server.worker.pid, here.recv()

    node = Node.start(data_dir=tmp_path / "node")
    with node:
        node.start_supervisor(SupervisorSpec([ChildSpec("d", Doer, name="doer")]))
        pid, held = node.call("doer", start)
        address = node.info["address"]
        assert not held
        os.kill(node.info["pid"], signal.SIGKILL)
        wait_until(lambda: not alive(pid), 20.0)
    with Node.start(data_dir=tmp_path / "node", port=int(address.rpartition(":")[2])) as again:
        assert again.status()["incarnation"] == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can change its user")
def test_a_server_that_has_changed_its_user_ends_with_its_supervisor(node):
    def drop(server):
        os.setgid(65534)
        os.setuid(65534)
        return os.getpid()

    spec = SupervisorSpec([ChildSpec("p", Doer, name="dropped", restart="temporary")])
    holder = node.start_supervisor(SupervisorSpec([ChildSpec("inner", spec, restart="temporary")]))
    pid = node.call("dropped", drop)
    os.kill(psutil.Process(pid).ppid(), signal.SIGKILL)
    wait_until(lambda: not alive(pid), 20.0)
    wait_until(lambda: node.whereis("dropped") is None)
    node.stop(holder)
