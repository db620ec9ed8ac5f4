"""Code that means harm, against what a host may have: all parts, and one of those that protect the same left out."""

import os
import platform
import socket
import sys
import threading
from pathlib import Path

import pytest

import dspex_actors as dspex
from dspex_actors.sandbox.syscalls import ARCHITECTURES, numbers, program

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere it refuses to run code")

#: What is left out; what remains has to hold alone.
HOSTS = {"all": (), "no namespaces, as in a container": ("namespaces",), "no Landlock": ("Landlock",)}
REFUSED = (
    "PermissionError|Permission denied|FileNotFoundError|Read-only|cross-device|Operation not permitted"
    "|can't start new thread"
)


@pytest.fixture(scope="module", params=HOSTS, ids=lambda name: name.replace(" ", "-"))
def python(request, tmp_path_factory):
    secret = tmp_path_factory.mktemp("home")
    (secret / "key").write_text("sk-secret")
    os.environ["OPENAI_API_KEY_OF_TEST"] = "sk-secret"
    made = dspex.PythonInterpreter(timeout=120, cpu=600, memory=192 << 20, disk=1 << 20)
    made._without = HOSTS[request.param]
    made.secret = secret
    try:
        made("1")
    except dspex.CodeInterpreterError as error:
        made.shutdown()
        pytest.skip(str(error))
    yield made
    made.shutdown()
    del os.environ["OPENAI_API_KEY_OF_TEST"]


def refused(python, code, told=REFUSED):
    with pytest.raises(dspex.CodeExecutionError, match=told) as error:
        python(code)
    assert "sk-secret" not in str(error.value)


@pytest.mark.parametrize(
    "code",
    [
        "socket.socket()",
        "socket.socket(socket.AF_UNIX)",
        "socket.socketpair()",
        "socket.socket(socket.AF_INET6, socket.SOCK_DGRAM).sendto(b'x', ('::1', 9))",
        "__import__('urllib.request').request.urlopen('http://127.0.0.1:{port}')",
    ],
)
def test_no_network(python, code):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        refused(python, f"import socket\n{code.replace('{port}', str(port))}", f"{REFUSED}|URLError|unreachable")


def test_no_secrets_in_files(python):
    for path in (
        python.secret / "key",
        Path.home() / ".ssh",
        "/etc/passwd",
        "/etc/shadow",
        "/proc/self/environ",
        "/proc/1",
    ):
        refused(
            python, f"import os\nos.listdir({str(path)!r}) if os.path.isdir({str(path)!r}) else open({str(path)!r})"
        )
    refused(python, "import os; os.listdir('/proc')")
    refused(python, f"import os; os.listdir({str(python.secret)!r})")


def test_no_secrets_of_the_parent(python):
    assert "sk-secret" not in str(python("import os\ndict(os.environ)"))
    refused(python, f"open('/proc/{os.getpid()}/environ', 'rb').read()")
    refused(python, f"open('/proc/{os.getpid()}/mem', 'rb')")
    refused(python, f"import os\nos.readlink('/proc/{os.getpid()}/fd/1')")
    # Nothing that is open here is open there: two pipes to us, and no more.
    found = python(
        "import os\nfound = []\nfor fd in range(64):\n    try:\n        found.append(os.fstat(fd).st_mode >> 12)\n"
        "    except OSError:\n        pass\nfound"
    )
    assert found == [0o2, 0o2, 0o2, 0o1, 0o1]


def test_no_secrets_by_links(python):
    for made in (f"os.symlink({str(python.secret / 'key')!r}, 'a')", f"os.link({str(python.secret / 'key')!r}, 'a')"):
        refused(python, f"import os\nif os.path.lexists('a'): os.unlink('a')\n{made}\nopen('a').read()")
    refused(python, "import os\nos.chdir('..')\nopen('x', 'w')")
    refused(python, "import os\nopen('../x', 'w')")


def test_nothing_is_written_outside(python):
    here = Path(__file__)
    before = here.stat()
    for code in (
        f"open({str(python.secret / 'new')!r}, 'w')",
        f"open({str(here)!r}, 'a')",
        "open(__import__('os').__file__, 'a')",
        "open('/tmp/dspex-attack', 'w')",
        "open('/dev/shm/dspex-attack', 'w')",
        f"os.remove({str(here)!r})",
        f"os.rename({str(here)!r}, 'mine')",
        f"os.chmod({str(here)!r}, 0)",
        f"os.utime({str(here)!r}, (0, 0))",
        "os.chmod(os.__file__, 0)",
        "os.utime(os.__file__, (0, 0))",
        "os.truncate(os.__file__, 0)",
        "os.open(os.__file__, os.O_RDONLY | os.O_TRUNC)",
        "os.mkdir('/tmp/dspex-attack')",
        "os.mknod('device', 0o60600, 0x801)",
    ):
        refused(python, f"import os\n{code}")
    assert (here.stat().st_mode, here.stat().st_mtime) == (before.st_mode, before.st_mtime)


@pytest.mark.parametrize(
    "code",
    [
        "os.fork()",
        "os.forkpty()",
        "os.posix_spawn('/bin/true', ['true'], {})",
        "os.execv('/bin/sh', ['sh'])",
        "subprocess.run(['true'])",
        "os.system('true') == 0 or 1 / 0",
        "threading.Thread(target=print).start()",
        "multiprocessing.Process(target=print).start()",
        "while True: os.fork()",
    ],
)
def test_no_other_processes(python, code):
    refused(python, f"import os, subprocess, threading, multiprocessing\n{code}", f"{REFUSED}|ZeroDivisionError")


@pytest.mark.parametrize(
    "code",
    [
        "os.kill(os.getppid(), 9)",
        "os.kill({parent}, 9)",
        "os.kill(-1, 9)",
        "os.killpg(0, 9)",
        "signal.pidfd_send_signal(os.pidfd_open({parent}), 9)",
        # A pipe of which the parent is told by SIGKILL that there is something to read.
        "fcntl.fcntl(os.pipe()[0], fcntl.F_SETOWN, {parent})",
        "fcntl.fcntl(os.pipe()[0], 10, 9)",
        "fcntl.fcntl(os.pipe()[0], 15, bytes(8))",
        "fcntl.ioctl(os.pipe()[0], 0x8901, bytes(4))",
        "os.setpriority(os.PRIO_PROCESS, {parent}, 19)",
        "os.sched_setaffinity({parent}, [0])",
        "resource.prlimit({parent}, resource.RLIMIT_CPU, (1, 1))",
    ],
)
def test_no_signal_to_anybody(python, code):
    refused(python, f"import os, fcntl, resource, signal\n{code.replace('{parent}', str(os.getpid()))}")


#: By number, as code would that has read the kernel's sources: x86_64's.
CALLS = {
    "ptrace": (101, 16),
    "process_vm_readv": (310,),
    "unshare": (272, 0x10000000),
    "setns": (308, 0, 0),
    "mount": (165,),
    "bpf": (321,),
    "io_uring_setup": (425, 1, 0),
    "memfd_create": (319,),
    "clone": (56,),
    "clone3": (435,),
    "vfork": (58,),
    "execveat": (322,),
    "pidfd_getfd": (438,),
    "keyctl": (250,),
    "perf_event_open": (298,),
    "userfaultfd": (323, 0),
    "shmget": (29, 0, 1 << 20, 0o1600),
    "openat2": (437,),
    "socket by the x32 interface": (0x40000000 + 41, 2, 1, 0),
    "personality": (135, 0),
    "prctl": (157, 4, 1),
    "a call of a kernel to come": (9999,),
}


@pytest.mark.skipif(platform.machine() != "x86_64", reason="the numbers are of x86_64")
def test_no_system_call_that_is_not_listed(python):
    found = python(
        "import ctypes\nlibc = ctypes.CDLL(None, use_errno=True)\n"
        "found = {}\nfor name, call in calls.items():\n"
        "    ctypes.set_errno(0)\n"
        "    found[name] = [libc.syscall(*map(ctypes.c_long, call)), ctypes.get_errno()]\nfound",
        {"calls": {name: list(call) for name, call in CALLS.items()}},
    )
    assert {name for name, answer in found.items() if answer != [-1, 1]} == set()


def test_limits_cannot_be_raised(python):
    refused(python, "import resource; resource.setrlimit(resource.RLIMIT_AS, (-1, -1))", "not allowed")
    refused(python, "import resource; resource.setrlimit(resource.RLIMIT_CPU, (5, 5))", "not allowed|Operation not")


#: Writes to whatever is open: one of it is where answers go.
FORGE = "import os\nfor fd in range(3, 64):\n    try: os.write(fd, {})\n    except OSError: pass"


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("x = bytearray(10 << 30)", "MemoryError"),
        ("def f():\n    parts = []\n    while True: parts.append(bytearray(10 << 20))\nf()", "MemoryError"),
        ("while True: print('x' * 10_000)", "too much output"),
        ("while True:\n    try:\n        print('x' * 10_000)\n    except Exception:\n        pass", "too much output"),
        ("'x' * 200_000", "too much output"),
        ("SUBMIT(['x'] * 200_000)", "too much output"),
        ("files = []\nwhile True: files.append(open('f', 'w'))", "Too many open files"),
        (
            "files = None\nfile = open('big', 'wb')\nwhile True: file.write(bytes(100_000))",
            "too large|No space|wrote more",
        ),
        ("i = 0\nwhile True:\n    open(str(i), 'w').close()\n    i += 1", "No space|wrote more"),
        (FORGE.format("b'\\xff' * 8"), "only answers go"),
        (FORGE.format("bytes(3) + b'\\x02[]'"), "only answers go"),
        (FORGE.format("bytes(3) + b'\\x02{}'"), "only answers go"),
        ("import os; os._exit(0)", "process ended|was stopped"),
        ("import ctypes; ctypes.string_at(0)", "signal 11"),
    ],
)
def test_too_much_is_an_error_and_the_next_code_runs(python, code, told):
    refused(python, code, told)
    assert python("'x' in globals() or 1") in (1, True)


def test_cpu_time_has_a_limit_of_its_own():
    with dspex.PythonInterpreter(cpu=1, timeout=120) as python:
        refused(python, "while True: pass", "CPU time")


def test_several_programs_of_harm_leave_this_process_as_it_was():
    harm = ["while True: pass", "import os\nwhile True: os.fork()", "x = []\nwhile True: x.append(bytearray(1 << 20))"]
    errors = []

    def attack(number):
        with dspex.PythonInterpreter(timeout=1, memory=128 << 20) as python:
            try:
                python(harm[number % len(harm)])
            except dspex.CodeExecutionError as error:
                errors.append(str(error))

    threads = [threading.Thread(target=attack, args=(number,)) for number in range(9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert len(errors) == len(threads)


@pytest.mark.parametrize("machine", ARCHITECTURES)
def test_the_filter_lists_what_is_allowed_and_nothing_that_makes_sockets_or_processes(machine):
    allowed = numbers(machine)
    assert {"read", "write", "openat", "mmap", "exit_group", "futex"} <= allowed.keys()
    forbidden = {
        "socket",
        "connect",
        "clone",
        "clone3",
        "fork",
        "execve",
        "kill",
        "tgkill",
        "ptrace",
        "prctl",
        "openat2",
    }
    assert not forbidden & allowed.keys()
    assert len(program(machine)) % 8 == 0
    assert len(program(machine)) // 8 < 4096  # BPF's own limit
