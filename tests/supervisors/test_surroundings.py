"""A node starts, works and ends whatever surroundings its program is started in; each case is a real process."""

import contextlib
import ctypes
import json
import os
import resource
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

import psutil
import pytest
from node_helpers import alive, until

from supervisors import Node, errors
from supervisors.client.temporary import TemporaryFolder

UMASK = os.umask(0o022)
os.umask(UMASK)
ROOT = Path(__file__).parents[2]

#: A program that starts a node of its own, uses it, and says what it found. OPTIONS are of the case.
PROGRAM = """
import json, os, signal, sys
OPTIONS = json.loads(os.environ["CASE"])
sys.path[:0] = OPTIONS.get("path", [])
from supervisors import ChildSpec, GenServer, Node, SupervisorSpec

class Server(GenServer):
    def handle_call(self, request, caller):
        import queue, secrets, uuid, logging
        return {
            "queue": os.path.dirname(queue.__file__), "cwd": os.getcwd(), "node": dict(self.node),
            "blocked": [int(each) for each in signal.pthread_sigmask(signal.SIG_BLOCK, [])],
        }

def work():
    with Node.start(**{key: value for key, value in OPTIONS.items() if key == "data_dir"}) as node:
        node.start_supervisor(SupervisorSpec([ChildSpec("s", Server, name="s")]))
        found = node.call("s", "what", timeout=20.0)
        found["daemon"] = {"pid": node.info["pid"], "limit": __import__("resource").prlimit(node.info["pid"],
            __import__("resource").RLIMIT_NOFILE)}
        found["package"] = sys.modules["supervisors"].__file__
        found["status"] = open(f"/proc/{node.info['pid']}/status").read()
        monitor = node.monitor("s")
        node.stop("s")
        assert monitor.wait(20).reason.kind == "normal"
    return found

def say(found):
    with open(os.environ["SAID"], "w") as file:
        json.dump(found, file)
"""
USUAL = PROGRAM + "\nsay(work())\n"


def run(tmp_path, program=USUAL, flags=(), cwd=None, env=(), options=(), prepare=None):
    """Run a program in a process; return what it said, and fail with its words if it did not end well."""
    said = tmp_path / "said.json"
    script = tmp_path / "program" / "main.py"
    script.parent.mkdir(exist_ok=True)
    script.write_text(program)
    surroundings = {**os.environ, "CASE": json.dumps({"path": [str(ROOT)], **dict(options)}), "SAID": str(said)}
    for name, value in dict(env).items():
        surroundings.pop(name, None)
        if value is not None:
            surroundings[name] = value
    done = subprocess.run(
        [sys.executable, *flags, str(script)], cwd=cwd or tmp_path, env=surroundings, preexec_fn=prepare, timeout=90,
        stdin=subprocess.DEVNULL, stdout=(tmp_path / "out").open("wb"), stderr=(tmp_path / "err").open("wb"),
    )  # fmt: skip
    out, err = ((tmp_path / name).read_text(errors="replace") for name in ("out", "err"))
    assert done.returncode == 0, out + err
    assert err == ""
    found = json.loads(said.read_text())
    assert not alive(found["daemon"]["pid"])
    return found


def closed(*fds):
    def prepare():
        for fd in fds:
            os.close(fd)

    return prepare


def in_deleted_folder():
    folder = tempfile.mkdtemp()
    os.chdir(folder)
    os.rmdir(folder)


def block_all():
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())


def ignore_all():
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        with contextlib.suppress(OSError, ValueError):
            signal.signal(number, signal.SIG_IGN)


def without_pidfds():
    """Have the kernel know no pidfd_open (434 on all machines) and no pidfd_send_signal (424)."""
    allow, refuse = 0x7FFF0000, 0x00050000 | 38  # SECCOMP_RET_ALLOW, SECCOMP_RET_ERRNO | ENOSYS
    rules = [(0x20, 0, 0, 0), (0x15, 1, 0, 434), (0x15, 0, 1, 424), (0x06, 0, 0, refuse), (0x06, 0, 0, allow)]
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *rule) for rule in rules))
    program = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(rules), ctypes.addressof(code)))
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.prctl(38, 1, 0, 0, 0) == 0
    assert libc.prctl(22, 2, program, 0, 0) == 0
    with pytest.raises(OSError, match="not implemented"):
        os.pidfd_open(os.getpid())


THREAD = (
    PROGRAM + "import threading\nthread = threading.Thread(target=lambda: say(work()))\nthread.start(); thread.join()"
)
ASYNCIO = PROGRAM + "import asyncio\nasync def main():\n    say(work())\nasyncio.run(main())"
FORK = PROGRAM + "pid = os.fork()\nif pid == 0:\n    say(work()); os._exit(0)\nsys.exit(os.waitpid(pid, 0)[1])"
MULTIPROCESSING = PROGRAM + (
    "import multiprocessing\ndef go():\n    say(work())\nif __name__ == '__main__':\n"
    "    child = multiprocessing.get_context('METHOD').Process(target=go)\n"
    "    child.start(); child.join(); sys.exit(child.exitcode)"
)
NOTEBOOK = (
    "import sys\nmain = sys.modules['__main__']\ndel main.__file__\nsys.argv = ['']\n"
    f"exec(compile({USUAL!r}, '<ipython-input-1>', 'exec'), main.__dict__)"
)
MANY_FILES = PROGRAM + (
    "from resource import *\nsetrlimit(RLIMIT_NOFILE, (2048, getrlimit(RLIMIT_NOFILE)[1]))\n"
    "keep = [open('/dev/null') for _ in range(1100)]\nsay(work())"
)
#: What is found where without site-packages of its own.
PLACES = [str(ROOT), *(entry for entry in sys.path if "packages" in entry)]

CASES = {
    "streams closed": {"prepare": closed(0, 1, 2)},
    "some streams closed": {"prepare": closed(0, 2)},
    "folder deleted": {"prepare": in_deleted_folder},
    "signals blocked": {"prepare": block_all},
    "signals ignored": {"prepare": ignore_all},
    "1,100 open files": {"program": MANY_FILES},
    "no HOME, no PATH, no TMPDIR": {"env": {"HOME": None, "PATH": "", "TMPDIR": "/no/such/folder"}},
    "LANG=C": {"env": {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}, "prepare": lambda: os.umask(0)},
    "isolated": {"flags": ["-I"], "prepare": lambda: os.umask(0o077)},
    "without site": {"flags": ["-S"], "options": {"path": PLACES}},
    "PYTHONPATH": {"env": {"PYTHONPATH": f"/no/such/folder:{ROOT}"}, "options": {"path": []}},
    "in a thread": {"program": THREAD},
    "in an event loop": {"program": ASYNCIO},
    "in a forked child": {"program": FORK},
    "multiprocessing, fork": {"program": MULTIPROCESSING.replace("METHOD", "fork")},
    "multiprocessing, spawn": {"program": MULTIPROCESSING.replace("METHOD", "spawn")},
    "notebook": {"program": NOTEBOOK},
    "no pidfds": {"prepare": without_pidfds},
}


#: Others differ from the usual in a way that one of these does.
EACH_DAY = {"streams closed", "signals blocked", "isolated", "in an event loop", "multiprocessing, spawn", "notebook"}


@pytest.mark.parametrize(
    "case", [case if case in EACH_DAY else pytest.param(case, marks=pytest.mark.soak) for case in CASES]
)
def test_a_node_starts_works_and_ends(tmp_path, case):
    found = run(tmp_path, **CASES[case])
    status = dict(line.split(":\t", 1) for line in found["status"].splitlines() if ":\t" in line)
    assert int(status["SigBlk"], 16) == 0
    # Beyond 31 are those that the C library keeps for itself: nobody but it can set them.
    usual = sum(1 << (n - 1) for n in (signal.SIGHUP, signal.SIGPIPE, signal.SIGXFSZ))
    assert int(status["SigIgn"], 16) & 0x7FFFFFFF & ~usual == 0
    assert found["blocked"] == []
    soft, hard = found["daemon"]["limit"]
    assert soft == (65_536 if hard == resource.RLIM_INFINITY else min(hard, 65_536))
    assert found["node"]["umask"] == {"LANG=C": 0, "isolated": 0o077}.get(case, UMASK)
    assert found["cwd"] == ("/" if case == "folder deleted" else str(tmp_path))


def test_files_of_the_working_and_the_scripts_folder_shadow_nothing_and_can_be_imported(tmp_path):
    names = ["queue", "secrets", "uuid", "logging", "json", "typing", "select", "msgpack", "structlog"]
    for name in names:
        (tmp_path / f"{name}.py").write_text("raise RuntimeError('shadowed')")
    (tmp_path / "of_folder.py").write_text("WHERE = 'folder'")
    beside = tmp_path / "program"
    beside.mkdir()
    (beside / "thespian.py").write_text("raise RuntimeError('shadowed')")
    (beside / "beside.py").write_text("WHERE = 'beside'")
    program = USUAL.replace("import queue,", "import of_folder, beside; assert (of_folder.WHERE, beside.WHERE) == "
                                             "('folder', 'beside')\n        import queue,")  # fmt: skip
    found = run(tmp_path, program)
    assert found["queue"] == os.path.dirname(os.__file__)


def test_a_vendored_package_is_the_one_that_the_node_runs(tmp_path):
    vendor = tmp_path / "program" / "vendor"
    shutil.copytree(ROOT / "supervisors", vendor / "supervisors", ignore=shutil.ignore_patterns("__pycache__"))
    with (vendor / "supervisors" / "version.py").open("a") as version:
        version.write('\n__version__ = "vendored"\n')
    found = run(tmp_path, options={"path": [str(vendor)]})
    assert found["package"].startswith(str(vendor))
    assert found["node"]["version"] == "vendored"


def test_names_and_paths_that_are_no_utf8(tmp_path):
    folder = os.fsdecode(os.fsencode(tmp_path) + b"/k\xff\xc3\xb6ln")
    os.mkdir(folder, 0o700)
    found = run(tmp_path, cwd=folder, options={"data_dir": f"{folder}/data"})
    assert (found["cwd"], found["node"]["data_dir"]) == (folder, f"{folder}/data")


@pytest.mark.soak
def test_under_pytest_xdist(tmp_path):
    (tmp_path / "test_inner.py").write_text(
        PROGRAM.replace('OPTIONS = json.loads(os.environ["CASE"])', "OPTIONS = {}")
        + "\ndef test_one(): work()\n\ndef test_two(): work()\n"
    )
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-n", "2", "test_inner.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stdout


# --- what cannot work says so in one line ---------------------------------------------------------------------------


def said(**keywords):
    """Return the words of the error of a start."""
    with pytest.raises(errors.SupervisorsError) as error:
        Node.start(**keywords)
    text = str(error.value)
    assert "\n" not in text
    return text


def test_what_cannot_work_says_why_in_one_line(monkeypatch, tmp_path):
    monkeypatch.setattr(tempfile, "tempdir", "/proc")
    assert "set TMPDIR" in said()
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(sys, "executable", "")
    assert "no Python interpreter" in said()
    monkeypatch.setattr(sys, "executable", str(tmp_path / "gone"))
    assert "cannot be started" in said()
    monkeypatch.undo()
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.delenv("SUPERVISORS_HOME", raising=False)
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)
    with pytest.raises(errors.NodeDown, match="set SUPERVISORS_HOME"):
        Node.attach()


@pytest.mark.parametrize(
    ("field", "value"),
    [("level", "verbose"), ("level", 3), ("app", "module"), ("app", 5), ("app_config", {"x": {1, 2}}),
     ("app_config", []), ("preload", "os"), ("preload", [5]), ("temporary", True), ("nonsense", 1), ("data_dir", 5)],
    ids=str,
)  # fmt: skip
def test_an_option_that_is_none_names_what_is_legal(field, value):
    text = said(**{field: value})
    assert field in text
    assert "expected" in text


# --- what is left behind --------------------------------------------------------------------------------------------


def test_a_program_killed_while_its_node_boots_leaves_none_behind(tmp_path):
    (tmp_path / "slow.py").write_text(
        "import os, time\ndef app(config, node):\n"
        "    open(config['here'], 'w').write(str(os.getpid()))\n    time.sleep(600)\n"
    )
    here = tmp_path / "here"
    program = f"from supervisors import Node\nNode.start(app='slow:app', app_config={{'here': {str(here)!r}}})"
    environment = {**os.environ, "TMPDIR": str(tmp_path), "PYTHONPATH": str(ROOT)}
    starter = subprocess.Popen([sys.executable, "-c", program], cwd=tmp_path, env=environment)
    until(lambda: here.exists() and here.read_text(), 30.0)
    daemon = int(here.read_text())
    children = [each.pid for each in psutil.Process(daemon).children(recursive=True)]
    starter.kill()
    starter.wait()
    until(lambda: not any(alive(pid) for pid in (daemon, *children)), 20.0)
    assert list((tmp_path / f"supervisors-{os.geteuid()}").iterdir()) == []


def test_the_folder_of_a_killed_node_goes_with_its_program_or_the_next_start(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with Node.start() as living:
        users = living.data_dir.parent
        assert (users.name, users.stat().st_mode & 0o777) == (f"supervisors-{os.geteuid()}", 0o700)
        killed = Node.start()
        os.kill(killed.info["pid"], signal.SIGKILL)
        until(lambda: not alive(killed.info["pid"]))
        left = users / "node-left"  # as of a program that was killed with its daemon
        (left / "run").mkdir(mode=0o700, parents=True)
        (left / "cluster.key").touch()
        folder = TemporaryFolder()
        assert {each.name for each in users.iterdir()} == {
            living.data_dir.name, killed.data_dir.name, folder.path.name
        }  # fmt: skip
        folder.remove()
        killed.close()
        assert [each.name for each in users.iterdir()] == [living.data_dir.name]
        assert living.tree()
    assert list(users.iterdir()) == []
