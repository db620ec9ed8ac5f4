"""Other processes of the host, and limits that the host sets: none of it fells a node."""

import contextlib
import errno
import os
import resource
import subprocess
import sys

import pytest
from node_helpers import Counter, alive, kill, until

from supervisors import ChildSpec, Node, SupervisorSpec, errors
from supervisors.host import processes

#: Names that are no UTF-8: a character cut in the middle, bytes of no character, a bracket where /proc has one.
NAMES = [b"\xd0\xbe\xd0\xb1\xd1", b"\xff\xfe\xfd", b") S 1 (\xf0\x9f\x98"]


@pytest.fixture
def neighbours():
    """Processes of the host with such names; they wait for the end of their input."""
    started = [
        subprocess.Popen(
            [sys.executable, "-c", f"import ctypes, sys; ctypes.CDLL(None).prctl(15, {name!r}, 0, 0, 0); input()"],
            stdin=subprocess.PIPE,
        )
        for name in NAMES
    ]
    for process, name in zip(started, NAMES, strict=True):
        until(lambda: name[:15] in open(f"/proc/{process.pid}/comm", "rb").read(), 20.0)  # noqa: B023, SIM115
    yield started
    for process in started:
        process.kill()
        process.wait()
        process.stdin.close()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="names of processes are Linux's")
def test_neighbours_whose_names_are_no_text_are_processes_like_others(neighbours):
    for neighbour in neighbours:
        assert processes.parent_of(neighbour.pid) == os.getpid()
        assert not processes.has_ended(neighbour.pid, processes.born(neighbour.pid))
    assert {neighbour.pid for neighbour in neighbours} <= set(processes.descendants(os.getpid()))
    with Node.start() as node:
        node.start_supervisor(SupervisorSpec([ChildSpec("counter", Counter, name="counter")]))
        assert node.call("counter", ("add", 1)) == 1
        assert node.status()["state"] == "healthy"


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="names of processes are Linux's")
@pytest.mark.parametrize("name", ["обработчик заказов", "a😀b😀c😀d😀", "x" * 40, "\ud800 lone", "nul\0inside"])
def test_a_process_is_named_by_whole_characters(name):
    pid = os.fork()
    if not pid:
        with contextlib.suppress(BaseException):
            processes.set_process_name(name)
            with open(f"/proc/{os.getpid()}/comm", "rb") as file:
                file.read().decode()
            os._exit(0)
        os._exit(1)
    assert os.waitpid(pid, 0)[1] == 0


@pytest.mark.parametrize("number", [errno.EPERM, errno.ENOSYS], ids=["a container's seccomp", "an old kernel"])
def test_where_there_are_no_pidfds_processes_are_told_apart_by_their_pids(monkeypatch, number):
    def refused(pid, flags=0):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "pidfd_open", refused, raising=False)
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    born = processes.born(child.pid)
    assert processes.open_pidfd(child.pid, born) is None
    assert not processes.has_ended(child.pid, born)
    assert processes.has_ended(child.pid, born - 1)
    processes.kill_exactly(child.pid, born - 1)
    assert not processes.has_ended(child.pid, born)
    processes.kill_exactly(child.pid, born)
    until(lambda: processes.has_ended(child.pid, born))
    child.stdin.close()
    child.wait()
    with pytest.raises(ProcessLookupError):
        processes.open_pidfd(child.pid, born)


@contextlib.contextmanager
def descriptors(most):
    """Allow this process, and what it starts, so many descriptors."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


@contextlib.contextmanager
def none_left():
    """Use up all descriptors but none."""
    with descriptors(len(os.listdir("/proc/self/fd")) + 40):
        taken = []
        try:
            with contextlib.suppress(OSError):
                while True:
                    taken.append(os.open(os.devnull, os.O_RDONLY))
            yield
        finally:
            for fd in taken:
                os.close(fd)


def test_without_descriptors_processes_are_still_told_apart():
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    born = processes.born(child.pid)
    with none_left():
        assert processes.open_pidfd(child.pid, born) is None
        assert not processes.has_ended(child.pid, born)
        processes.kill_exactly(child.pid, born)
    child.wait()
    child.stdin.close()
    with none_left():
        assert processes.has_ended(child.pid, born)


LIMITED = """
import resource, sys
most, children = int(sys.argv[1]), int(sys.argv[2])
resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
from supervisors import ChildSpec, GenServer, Node, SupervisorSpec

class Server(GenServer):
    def handle_call(self, request, caller):
        return request

with Node.start() as node:
    top = node.start_supervisor(SupervisorSpec(intensity=9))
    for number in range(children):
        node.start_child(top, ChildSpec(f"c{number}", Server, name=f"c{number}"))
    assert [node.call(f"c{number}", number) for number in range(children)] == list(range(children))
    counts = node.count_children(top)
    assert counts.active == children, counts
    assert node.status()["incarnation"] == 0 and node.status()["restarts"] == 0, node.status()
    old = node.whereis("c0"), node.whereis(f"c{children - 1}")
    for ref in old:
        node.exit(ref, "kill")
    from supervisors.testing import wait_until_restarted
    for ref, name in zip(old, ("c0", f"c{children - 1}")):
        wait_until_restarted(node, name, ref)
    print("whole")
"""


@pytest.mark.soak
def test_more_named_children_than_descriptors(tmp_path):
    """At a limit of 64 a supervisor has 70 children, each with a name, and all of them live and are restarted."""
    script = tmp_path / "limited.py"
    script.write_text(LIMITED)
    done = subprocess.run(
        [sys.executable, script, "64", "70"], capture_output=True, text=True, timeout=110, check=False
    )
    assert (done.stdout, done.returncode) == ("whole\n", 0), done.stderr


class Nobody(Counter):
    """Gives up its rights, with which the kernel forgets that it is to die with its parent."""

    def init(self):
        super().init()
        os.setgid(65534)
        os.setuid(65534)

    def handle_call(self, request, caller):
        return os.getuid(), os.getpid()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_a_server_that_became_another_user_ends_with_its_supervisor_and_gives_its_name_back(node, supervise):
    top = supervise([ChildSpec("lower", SupervisorSpec([ChildSpec("nobody", Nobody, name="nobody")], name="lower"))])
    uid, pid = node.call("nobody", "who")
    assert uid == 65534
    kill(node.whereis("lower").pid)
    assert ready_again_as(node, "nobody", pid)
    until(lambda: not alive(pid))
    assert node.which_children(top)[0].restarts == 1


def ready_again_as(node, name, old):
    def successor():
        try:
            return node.call(name, "who", timeout=1.0)[1] not in (old, None)
        except errors.SupervisorsError:
            return False

    return until(successor, 20.0)
