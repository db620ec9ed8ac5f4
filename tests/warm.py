"""Python processes of tests are forked from one that has loaded their modules: their start costs little but imports.

`install` has all daemons that this process launches started so; `Popen` and `run` start programs so, as those of
`subprocess` do. What is forked is a child of this process, as a fresh interpreter would be, with its arguments,
environment, files, working folder and session. The one that is forked loads what nodes and programs load anyway.
Thespian reads the environment when it is imported: it is loaded with what each daemon would give it, and programs are
rid of it before they begin.

A fresh interpreter starts as ever where anything is asked for that a fork could not give: other limits, signals, umask,
network or PYTHON variables than at first, options of the interpreter, another interpreter, a `subprocess.Popen` that a
test has replaced, a forked child of this process. And everywhere with COLD_STARTS=1, as in `make soak`. test_warm.py
compares.
"""

import array
import atexit
import contextlib
import ctypes
import fcntl
import gc
import importlib
import io
import json
import os
import platform
import resource
import runpy
import signal
import socket
import subprocess
import sys
import threading
import types

from supervisors.client import interpreter, launch
from supervisors.host.node_config import FULL
from supervisors.wire import origin

#: What a start loads that reads nothing of the environment.
OF_NODES = ("encodings.idna", "supervisors.client.node", "supervisors.runtime.node.__main__")
#: What a full node loads before its first fork, beside what its role says: Thespian, and what it finds late.
OF_BOOTS = ("supervisors.runtime.thespian.transport", "thespian.system.multiprocTCPBase")
OF_PROGRAMS = (
    "dspex_actors", "dspex_actors.client.connect", "dspex_actors.client.evaluate", "dspex_actors.client.system",
    *(f"dspex_actors.cli.{name}" for name in ("doctor", "evaluate", "logs", "look", "main", "node", "runs", "tree")),
    "dspex_actors.embedded.__main__", "rich.panel", "rich.table",
)  # fmt: skip
_POPEN = subprocess.Popen
_LIMITS = [getattr(resource, name) for name in dir(resource) if name.startswith("RLIMIT_")]
_DECIDES = ("PYTHON", "LD_", "MALLOC", "LC_", "LANG", "TZ", "DSPEX_TELEMETRY", "OTEL_", "THESP", "CONVENTION_")
#: Modules that only nodes have.
_OF_DAEMONS = ("thespian", "supervisors.runtime.thespian")
#: What a daemon has Thespian read at its import.
_FOR_THESPIAN = {"THESPIAN_MAX_PENDING_TRANSMITS": "200", "THESPLOG_THRESHOLD": "WARNING"}
#: Room for the command that is shown instead of the own one. What is over is empty words to who lists processes.
_ROOM = "x" * 4000
_PARENT = """\
import gc, sys
gc.disable()
path = sys.path[:]
sys.path[:] = {path!r}
import warm
warm.load({modules!r})
sys.path[:] = path
become = warm.serve({control})
del sys.modules["warm"], path, warm
become()
"""
#: kind and modules → who forks such.
_parents = {}
#: Whether this is a program that was forked: it has one parent of daemons, itself forked, and gets no other.
_forked = False


# --- in the tests' process -------------------------------------------------------------------------------------------


def _surroundings(env):
    """Return what a process inherits of its starter that a fork of another process cannot give it."""
    with open("/proc/self/status") as file:
        status = [line for line in file if line.startswith(("Umask:", "SigBlk:", "SigIgn:", "Groups:", "Uid:", "Gid:"))]
    limits = [resource.getrlimit(each) for each in _LIMITS]
    net = os.readlink("/proc/thread-self/ns/net")
    return (
        status,
        limits,
        net,
        {name: value for name, value in env.items() if name.startswith(_DECIDES)},
        sys.executable,
    )


class _Parent:
    """What forks children of this process. It has loaded modules."""

    def __init__(self, start):
        """Call `start` with the end of a socket that is for the process it starts."""
        self._pid, self._surroundings, self._lock = os.getpid(), _surroundings(os.environ), threading.Lock()
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = start(theirs)

    def fits(self, env):
        """Whether it forks what a fresh interpreter would be now."""
        return self._pid == os.getpid() and self._surroundings == _surroundings(env)

    def fork(self, request, fds):
        """Return the pid of a child; `fds`: its files, for each of the request's numbers."""
        memory = os.memfd_create("request")
        with self._lock:
            try:
                os.write(memory, json.dumps(request).encode())
                every = array.array("i", [memory, *fds])
                self._socket.sendmsg([b"fork"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, every)])
                said = self._socket.recv(64)
            finally:
                os.close(memory)
        if not said or int(said) <= 0:
            raise ConnectionResetError("a parent of processes has ended, or could not fork")
        return int(said)


def _interpreter(flags, modules):
    """Return how a parent is started as a fresh interpreter."""
    tests = os.path.dirname(os.path.abspath(__file__))
    # The packages first: tests/ has folders of the same names.
    path = [os.path.dirname(tests), *interpreter.module_places()["path"], tests]

    def start(control):
        text = _PARENT.format(path=path, modules=modules, control=control.fileno())
        return _POPEN(
            [sys.executable, *flags, "-c", text, _ROOM],
            pass_fds=[control.fileno()], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
        )  # fmt: skip

    return start


def _of_node(role, preload):
    """Return what is loaded for nodes."""
    from supervisors.runtime.node.own import PRELOADED

    own = (*PRELOADED, *OF_BOOTS) if role == FULL else ()
    return (*OF_NODES, *own, *preload)


def _parent_for(words, env):
    """Return who can fork what a command starts; None: nobody."""
    from dspex_actors.app import PRELOAD

    if platform.machine() != "x86_64" or sys.platform != "linux" or os.environ.get("COLD_STARTS"):
        return None
    if not words or words[0] != sys.executable or subprocess.Popen is not _POPEN:
        return None
    if sum(len(os.fsencode(word)) + 1 for word in words) > len(_ROOM):
        return None
    if interpreter.DAEMON_MODULE in words:
        kind, flags = "node", words[1 : words.index("-c")]
        with open(words[-3], encoding="utf-8") as file:
            config = json.load(file)["config"]
        modules = _of_node(config["role"], PRELOAD if set(PRELOAD) <= set(config["preload"]) else ())
    else:
        kind, flags, modules = "program", [], (*_of_node(FULL, PRELOAD), *OF_PROGRAMS)
        if words[1] not in ("-c", "-m") and not words[1].endswith(".py"):
            return None
    if (parent := _parents.get((kind, modules))) is None:
        if _forked:
            return None
        parent = _parents[kind, modules] = _Parent(_interpreter(flags, modules))
    return parent if parent.fits(env) else None


class Popen(subprocess.Popen):
    """A Python program, started as `subprocess.Popen` starts it, but forked where that is the same."""

    def _execute_child(
        self, args, executable, preexec_fn, close_fds, pass_fds, cwd, env, startupinfo, creationflags, shell,
        p2cread, p2cwrite, c2pread, c2pwrite, errread, errwrite, restore_signals, gid, gids, uid, umask,
        start_new_session, *others,
    ):  # fmt: skip
        given = executable, preexec_fn, startupinfo, gid, gids, uid
        words = [os.fspath(word) for word in args] if isinstance(args, list | tuple) else []
        parent = None
        if given == (None,) * len(given) and not shell and close_fds and umask < 0 and set(others) <= {-1}:
            parent = _parent_for(words, os.environ if env is None else env)
        streams = (p2cread, c2pwrite, errwrite)
        if parent is None or not self._fork(parent, words, pass_fds, cwd, env, streams, start_new_session):
            return super()._execute_child(
                args, executable, preexec_fn, close_fds, pass_fds, cwd, env, startupinfo, creationflags, shell,
                p2cread, p2cwrite, c2pread, c2pwrite, errread, errwrite, restore_signals, gid, gids, uid, umask,
                start_new_session, *others,
            )  # fmt: skip
        self._child_created = True
        self._close_pipe_fds(p2cread, p2cwrite, c2pread, c2pwrite, errread, errwrite)
        return None

    def _fork(self, parent, words, pass_fds, cwd, env, streams, session):
        """Whether a parent has forked it."""
        folder = os.getcwd() if cwd is None else os.path.abspath(cwd)
        numbers = {number: number if fd == -1 else fd for number, fd in enumerate(streams)}
        files = {number: fd for number, fd in (numbers | {fd: fd for fd in pass_fds}).items() if _is_open(fd)}
        request = {
            "words": words, "env": dict(os.environ if env is None else env), "cwd": folder, "files": list(files),
            "session": session,
        }  # fmt: skip
        try:
            self.pid = parent.fork(request, files.values())
        except OSError:  # somebody has killed it
            for kind in [kind for kind, each in _parents.items() if each is parent]:
                del _parents[kind]
            return False
        return True


def _is_open(fd):
    with contextlib.suppress(OSError):
        os.fstat(fd)
        return True
    return False


def run(command, **options):
    """Run a program as `subprocess.run` does."""
    check, seconds = options.pop("check", False), options.pop("timeout", None)
    text = options.pop("input", None)
    if text is not None:
        options["stdin"] = subprocess.PIPE
    if options.pop("capture_output", False):
        options |= {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with Popen(command, **options) as process:
        try:
            out, err = process.communicate(text, timeout=seconds)
        except BaseException:
            process.kill()
            raise
    done = subprocess.CompletedProcess(command, process.returncode, out, err)
    if check:
        done.check_returncode()
    return done


class _Subprocess(types.ModuleType):
    """`subprocess` for the module that launches daemons."""

    def __getattr__(self, name):
        return Popen if name == "Popen" and subprocess.Popen is _POPEN else getattr(subprocess, name)


def install():
    """Have daemons that this process launches forked, where that is the same."""
    launch.subprocess = _Subprocess("subprocess")


# --- in what is forked -----------------------------------------------------------------------------------------------

_SYS_CLONE = 56
_CLONE_PARENT, _CLONE_CHILD_CLEARTID, _CLONE_CHILD_SETTID = 0x8000, 0x200000, 0x1000000
_PR_GET_TID_ADDRESS = 40


def load(modules):
    """Load modules."""
    if OF_BOOTS[0] in modules:
        from supervisors.runtime.thespian.loading import load_thespian

        before = dict(os.environ)
        os.environ.update(_FOR_THESPIAN)
        load_thespian()
    for name in modules:
        importlib.import_module(name)
    if OF_BOOTS[0] in modules:
        os.environ.clear()
        os.environ.update(before)
        assert sys.modules["thespian.system.utilis"]._thesplog_file is None, "each node has a file of its own"
    else:
        assert not any(name.partition(".")[0] == "thespian" for name in sys.modules), "it reads the environment"
    # Every process asks of each module where it is from. Of what is in no library that depends on where it asks.
    for module in list(sys.modules.values()):
        if getattr(module, "__file__", None) and origin._lies_in_library(module.__file__):
            origin.travels_by_value(module)
    gc.freeze()


def _fork_for_parent():
    """Fork a child of this process's parent, as os.fork forks one of this process."""
    library, api = ctypes.PyDLL(None, use_errno=True), ctypes.pythonapi
    address = ctypes.c_void_p()
    flags = _CLONE_PARENT | signal.SIGCHLD
    if library.prctl(_PR_GET_TID_ADDRESS, ctypes.byref(address), 0, 0, 0) == 0:
        flags |= _CLONE_CHILD_CLEARTID | _CLONE_CHILD_SETTID  # as the C library does: it knows its thread by it
    api.PyOS_BeforeFork()
    pid = library.syscall(_SYS_CLONE, flags, None, None, address, None)
    if pid == 0:
        api.PyOS_AfterFork_Child()
    else:
        api.PyOS_AfterFork_Parent()
    return pid


def serve(control):
    """Fork a child for each request, until who asks has ended; in a child, return what it is to do."""
    gate = socket.socket(fileno=control)
    while True:
        said, fds, _, _ = socket.recv_fds(gate, 16, 64)
        if not said:
            os._exit(0)
        pid = _fork_for_parent()
        if pid == 0:
            gate.close()
            return _become(fds)
        for fd in fds:
            os.close(fd)
        gate.send(str(pid).encode())


def _become(fds):
    """Take on what a request says; return the function that does the rest."""
    with open(fds[0], "rb") as file:
        file.seek(0)
        request = json.load(file)
    high = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 200) for fd in fds[1:]]
    for fd in {0, 1, 2, *fds[1:]}:
        os.close(fd)
    for number, fd in zip(request["files"], high, strict=True):
        os.dup2(fd, number)
        os.close(fd)
    os.environ.clear()
    os.environ.update(request["env"])
    os.chdir(request["cwd"])
    if request["session"]:
        os.setsid()
    words = request["words"]
    _open_streams()
    _show(words)
    sys.orig_argv[:] = words
    main = sys.modules["__main__"] = types.ModuleType("__main__")
    main.__dict__.update(__annotations__={}, __builtins__=__builtins__)
    if interpreter.DAEMON_MODULE in words:
        sys.argv[:] = ["-c", *words[words.index("-c") + 2 :]]
        return lambda: _daemon(sys.argv[2:])
    gc.enable()
    return lambda: _program(words[1:])


def _open_streams():
    """Open the standard streams anew, as the interpreter does at its start."""
    for fd, name in enumerate(("stdin", "stdout", "stderr")):
        stream = None
        if _is_open(fd):
            own = getattr(sys, name)
            binary = open(fd, "rb" if fd == 0 else "wb", closefd=False)  # noqa: SIM115 - as long as the process
            lines = fd == 2 or binary.isatty()
            stream = io.TextIOWrapper(binary, own.encoding, own.errors, line_buffering=lines)
            stream.mode = "r" if fd == 0 else "w"
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)


def _show(words):
    """Have ps, and everybody who looks for daemons, see this command."""
    with open("/proc/self/stat", "rb") as file:
        start, end = map(int, file.read().rpartition(b")")[2].split()[45:47])
    text = b"\0".join(os.fsencode(word) for word in words) + b"\0"
    assert len(text) <= end - start, "the command has no room"
    ctypes.memmove(start, text.ljust(end - start, b"\0"), end - start)


def _daemon(arguments):
    """Do what the command of a daemon does."""
    gc.disable()
    from supervisors.runtime.node.__main__ import main

    status = 1
    try:
        with open(arguments[0], encoding="utf-8") as file:
            sys.path[:] = json.load(file)["path"]
        status = main(arguments)
        atexit._run_exitfuncs()
    finally:
        os._exit(status)


def _fork_parent(control):
    """Fork this process, which has loaded all, as the parent of its daemons."""
    if os.fork() > 0:
        return
    try:
        os.dup2(control.fileno(), 3)
        os.closerange(4, 65_536)
        nothing = os.open(os.devnull, os.O_RDWR)
        for fd in range(3):
            os.dup2(nothing, fd)
        os.close(nothing)
        serve(3)()
    finally:
        os._exit(1)


def _program(words):
    """Do what the interpreter does with these arguments; nodes of dspex that this program starts are forked too."""
    from dspex_actors.app import PRELOAD

    global _forked
    _forked = True
    _parents["node", _of_node(FULL, PRELOAD)] = _Parent(_fork_parent)
    install()
    for name in [name for name in sys.modules if name.startswith(_OF_DAEMONS)]:
        del sys.modules[name]
    try:
        _run(words)
    except SystemExit as said:
        status = said.code
    except KeyboardInterrupt:
        raise  # the interpreter knows how one ends
    except BaseException:
        sys.excepthook(*sys.exc_info())
        status = 1
    else:
        status = 0
    if status is not None and not isinstance(status, int):
        print(status, file=sys.stderr)
        status = 1
    # As the interpreter does at its end, but for taking down all modules, which are the parent's too.
    threading._shutdown()
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()
    os._exit((status or 0) & 0xFF)


def _run(words):
    """Run a module, a text or a file."""
    kind, *rest = words
    main = sys.modules["__main__"].__dict__
    if kind == "-m":
        sys.path[0] = os.getcwd()
        sys.argv[:] = rest
        sys.modules.pop(f"{rest[0]}.__main__", None)  # it is run, not imported
        runpy._run_module_as_main(rest[0])
        return
    if kind == "-c":
        sys.path[0] = ""
        sys.argv[:] = ["-c", *rest[1:]]
        text, name = rest[0], "<string>"
    else:
        sys.path[0] = os.path.dirname(os.path.abspath(kind))
        sys.argv[:] = words
        main["__file__"], main["__cached__"], name = kind, None, kind
        with open(kind, encoding="utf-8") as file:
            text = file.read()
    exec(compile(text, name, "exec", dont_inherit=True), main)
