"""What tests fork instead of starting it anew is what it would be: a node of this library, one of dspex, a program."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import warm

import dspex_actors as dspex
from supervisors import ChildSpec, GenServer, Node, SupervisorSpec

#: What the two ways to start have beyond each other: how this is loaded is not looked at.
OF_WARM = {"warm", "runpy", "array"}


class Look(GenServer):
    """Says what it sees of its process."""

    def handle_call(self, request, caller):
        import gc
        import os
        import resource
        import signal
        import sys

        return {
            "path": sys.path, "argv": sys.argv, "flags": tuple(sys.flags), "folder": os.getcwd(), "gc": gc.isenabled(),
            "env": dict(os.environ), "limits": [resource.getrlimit(n) for n in range(16)], "argv0": sys.orig_argv[:1],
            "signals": {int(n): repr(signal.getsignal(n)).partition(" at ")[0] for n in signal.valid_signals()},
            "modules": set(sys.modules), "files": sorted(int(fd) for fd in os.listdir("/proc/self/fd")),
        }  # fmt: skip


def plain(text):
    """Return what is of no node in particular."""
    return re.sub(r"0x\w+|\d{2,}|/tmp/\S+", "#", text)


def look(node):
    """Return what can be seen of a node: of its daemon from outside, and of a server from inside."""
    node.start_supervisor(SupervisorSpec([ChildSpec("look", Look, name="look")]))
    seen = node.call("look", "what")
    daemon = Path(f"/proc/{node.info['pid']}")
    status = dict(line.split(":\t", 1) for line in (daemon / "status").read_text().splitlines() if ":\t" in line)
    fields = (daemon / "stat").read_text().rpartition(")")[2].split()
    seen |= {name: status[name] for name in ("Umask", "SigBlk", "SigIgn", "SigCgt", "Threads")}
    command = (daemon / "cmdline").read_bytes().rstrip(b"\0").split(b"\0")
    seen |= {"command": [plain(word.decode()) for word in command], "parent": int(fields[1]) == os.getpid()}
    seen |= {"session": int(fields[3]) == node.info["pid"], "nice": fields[16]}
    seen |= {
        "streams": [plain(os.readlink(daemon / "fd" / str(fd))) for fd in range(3)],
        "modules": seen["modules"] - OF_WARM,
    }
    seen["argv"] = plain(str(seen["argv"]))
    return seen | {f"env {name}": plain(value) for name, value in seen.pop("env").items()}


def of_supervisors(tmp_path):
    with Node.start() as node:
        return look(node)


def of_dspex(tmp_path):
    with dspex.connect(lm="embedded/nearest") as system:
        return look(system.node)


@pytest.mark.parametrize("start", [of_supervisors, of_dspex])
def test_a_forked_node_is_one_of_a_fresh_interpreter(monkeypatch, tmp_path, start):
    start(tmp_path)  # what is there before
    forked = start(tmp_path)
    assert all(parent._process.poll() is None for parent in warm._parents.values()), "who forks has ended"
    monkeypatch.setenv("COLD_STARTS", "1")
    fresh = start(tmp_path)
    for name in ("COLD_STARTS", "LINES", "COLUMNS"):  # pytest's readline puts two where os.environ does not see them
        fresh.pop(f"env {name}", None)
        forked.pop(f"env {name}", None)
    assert forked.keys() == fresh.keys()
    assert {name: (forked[name], fresh[name]) for name in fresh if forked[name] != fresh[name]} == {}


PROGRAM = """
import json, os, sys
seen = {
    "path": sys.path, "argv": sys.argv, "flags": list(sys.flags), "folder": os.getcwd(), "env": dict(os.environ),
    "name": __name__, "main": sorted(globals()), "parent": os.getppid(), "session": os.getsid(0) == os.getpid(),
    "stdout": (sys.stdout.encoding, sys.stdout.line_buffering),
    "orig": sys.orig_argv, "stdin": sys.stdin.read(),
}
print(json.dumps(seen))
print("and this", file=sys.stderr)
import atexit
atexit.register(print, "at the end")
sys.exit(3)
"""


@pytest.mark.parametrize("how", ["-c", "script", "-m"])
@pytest.mark.parametrize("session", [False, True])
def test_a_forked_program_is_one_of_a_fresh_interpreter(tmp_path, how, session):
    (tmp_path / "this.py").write_text(PROGRAM)
    words = {"-c": ["-c", PROGRAM], "script": [str(tmp_path / "this.py")], "-m": ["-m", "this"]}[how]
    options = {"cwd": tmp_path, "env": {**os.environ, "OF_TEST": "ä"}, "start_new_session": session, "text": True}
    done = [
        way([sys.executable, *words, "a", "b"], input="said", capture_output=True, **options)
        for way in (warm.run, subprocess.run)
    ]
    forked, fresh = ({**json.loads(each.stdout.partition("\n")[0]), "err": each.stderr} for each in done)
    assert forked == fresh
    assert [(each.returncode, each.stdout.partition("\n")[2]) for each in done] == [(3, "at the end\n")] * 2


def test_a_program_that_fails_or_is_killed_says_so():
    failed = warm.run([sys.executable, "-c", "1 / 0"], capture_output=True, text=True)
    assert failed.returncode == 1
    assert failed.stderr.endswith("ZeroDivisionError: division by zero\n")
    with warm.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        assert process.poll() is None
        process.kill()
    assert process.returncode == -9


def test_a_long_command_is_whole():
    code = "import sys; print(len(sys.argv[1]), len(open('/proc/self/cmdline').read().split(chr(0))[3]))"
    for length in (1_000, 100_000):
        command = [sys.executable, "-c", code, "a" * length]
        assert warm.run(command, capture_output=True, text=True).stdout.split() == [str(length)] * 2


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ({"env": {"PYTHONOPTIMIZE": "1"}}, "1 0o22"),
        ({"umask": 0o77}, "0 0o77"),
        ({"preexec_fn": lambda: os.umask(0o7)}, "0 0o7"),
    ],
)
def test_what_a_fork_cannot_give_is_started_anew(setting, expected):
    code = "import os, sys; print(sys.flags.optimize, oct(os.umask(0)))"
    options = {**setting, "env": {**os.environ, **setting.get("env", {})}}
    assert warm.run([sys.executable, "-c", code], capture_output=True, text=True, **options).stdout.strip() == expected


def test_where_who_forks_was_killed_a_program_starts_all_the_same():
    command = [sys.executable, "-c", "print(1)"]
    assert warm.run(command, capture_output=True, text=True).stdout == "1\n"
    for parent in warm._parents.values():
        parent._process.kill()
        parent._process.wait()
    for _ in range(2):
        assert warm.run(command, capture_output=True, text=True).stdout == "1\n"
