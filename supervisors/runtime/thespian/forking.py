"""How an actor's process begins.

Thespian starts actors through multiprocessing, and tells a new one what it is in a message. Each object that a forked
process touches for the first time costs it a copy of a page (3 µs where this was measured, and 1,800 of them in a
start), so what a child does before its `init` decides how long a restart takes. This is the same start with what an
actor of ours needs, and with its first message inherited: it is in the mailbox when the process begins.

A parent learns of deaths through pidfds (host/deaths.py) and collects its children itself, so an actor takes no
notice of SIGCHLD; of the admin, which has Thespian's own handler, nothing changes. What is asked by signals is asked of
the daemon: the others take no notice either (a server is asked to end by SIGTERM: leaf.py).
"""

from __future__ import annotations

import contextlib
import multiprocessing.util
import os
import signal
import sys
from collections.abc import Callable
from typing import Any, NoReturn

from thespian.system import multiprocCommon
from thespian.system.messages.multiproc import EndpointConnected
from thespian.system.systemCommon import actorStartupFailed
from thespian.system.transport import ReceiveEnvelope, TransmitIntent

from supervisors.host.processes import die_with
from supervisors.host.roomy import roomy
from supervisors.host.strays import end_group
from supervisors.host.surroundings import in_server
from supervisors.runtime.thespian.logfile import log_to_file

#: What the next child of this process is to find in its mailbox.
_first_words: list[bytes] = []
#: The last one, or why there is none: Thespian keeps that to itself.
_forked: list[Child | OSError] = []
#: How deep in its parents' stacks this process has begun; its recursion limit is higher by so much.
_begun_at = 0


class Child:
    """A forked process, with what Thespian asks of one: `pid`, `is_alive`, `join`."""

    def __init__(self, pid: int) -> None:
        """Note a process that was just forked by this one."""
        self.pid = pid
        self._collected = False

    def is_alive(self) -> bool:
        """Look whether it runs; if it has ended, end what is left of its process group, and collect it."""
        if not self._collected:
            try:
                if os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None:
                    end_group(self.pid)
                    os.waitpid(self.pid, 0)
                    self._collected = True
            except ChildProcessError:
                self._collected = True
        return not self._collected

    def join(self, timeout: float | None = None) -> None:
        """Do nothing: `is_alive` has collected it."""


def create_actor(manager: Any, actor_class: type, first_words: bytes) -> tuple[Any, Child]:
    """Start an actor that finds a message in its mailbox.

    Args:
        manager: Thespian's manager of the parent.
        actor_class: what to start.
        first_words: the message.

    Returns:
        The actor's address, which is known to this process only until the actor has said where it listens, and its
        process.

    Raises:
        OSError: there is no process to be had.
    """
    _first_words[:] = [first_words]
    _forked[:] = [OSError("the actor system is going down")]
    try:
        address = manager.createActor(actor_class, None, None)
    finally:
        _first_words.clear()
    child = _forked.pop()
    if isinstance(child, OSError):
        raise OSError(child.errno, f"no process could be forked: {child.strerror or child}")
    return address, child


def forget_actor(manager: Any, pid: int) -> None:
    """Collect a child that has ended, and have Thespian forget it."""
    for info in manager._child_procs:
        if info.childProc.pid == pid and not info.childProc.is_alive():
            manager._child_procs.remove(info)
            address = getattr(info, "childRealAddr", info.childAddr)
            manager.transport.deadAddress(manager._addrManager, address)
            manager._children.clear()  # those that Thespian would stop; nobody reads it
            return


def _start_child_actor(
    self: Any,
    childAddr: Any,  # noqa: N803 - Thespian's names
    childClass: Any,  # noqa: N803
    globalName: Any,  # noqa: N803
    parentAddr: Any,  # noqa: N803
    notifyAddr: Any,  # noqa: N803
    childRequirements: Any = None,  # noqa: N803
    sourceHash: Any = None,  # noqa: N803
    sourceToLoad: Any = None,  # noqa: N803
) -> None:
    """Stand for `MultiProcReplicator._startChildActor`."""
    try:
        _fork_actor(self, childAddr, childClass, parentAddr, notifyAddr)
    except OSError as error:
        _forked[:] = [error]
        raise


def _fork_actor(manager: Any, child_address: Any, child_class: Any, parent_address: Any, notify: Any) -> None:
    endpoint = manager.transport.prepEndpoint(child_address, manager.capabilities)
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError, ValueError, OSError):
            stream.flush()  # or the child would have what is in it too
    parent = os.getpid()
    pid = os.fork()
    if pid == 0:
        # Not `getppid` here: the whole node may have been killed meanwhile, and init would be taken for the parent.
        die_with(parent)
        _run_child(manager, child_class, endpoint, parent_address, notify)
    if not hasattr(manager, "_child_procs"):
        manager._child_procs = []
    # In front, since Thespian looks for it from there, and soon.
    _forked[:] = [child := Child(pid)]
    manager._child_procs.insert(0, multiprocCommon.ChildInfo(child_address, child_class, child, endpoint.addrInst))
    manager.transport.connectEndpoint(endpoint)


@roomy
def _run_child(parent: Any, actor_class: Any, endpoint: Any, parent_address: Any, notify: Any) -> NoReturn:
    status = 1
    try:
        _count_from_here()
        multiprocessing.process._children = set()  # type: ignore[attr-defined] # those of the parent
        multiprocessing.util._run_after_forkers()  # type: ignore[attr-defined] # of libraries that rely on it
        manager = _new_manager(parent, actor_class, endpoint, parent_address, notify)
        manager.transport._incomingEnvelopes += [ReceiveEnvelope(parent_address, words) for words in _first_words]
        _first_words.clear()
        manager.run()
        status = 0
    finally:
        os._exit(status)


def _count_from_here() -> None:
    """Give this process the whole recursion limit, though it begins in the midst of its parent's stack."""
    global _begun_at  # noqa: PLW0603 - one per process
    parents, beginning, depth = _begun_at, _run_child.__wrapped__.__code__, 0  # type: ignore[attr-defined]
    frame = sys._getframe(2)
    while frame is not None and frame.f_code is not beginning:
        frame, depth = frame.f_back, depth + 1  # type: ignore[assignment]
    _begun_at = parents + depth + 2
    sys.setrecursionlimit(sys.getrecursionlimit() - parents + _begun_at)


def _new_manager(parent: Any, actor_class: Any, endpoint: Any, parent_address: Any, notify: Any) -> Any:
    transport = type(parent.transport)(endpoint)
    log_to_file()
    manager = multiprocCommon.MultiProcManager(
        actor_class, None, transport, None, None, parent_address, parent._adminAddr, None, parent.capabilities,
        parent.mpcontext, parent.logdefs,
    )  # fmt: skip
    manager.asLogger = parent.asLogger
    connected = TransmitIntent(notify, EndpointConnected(endpoint.addrInst))
    transport.scheduleTransmit(None, connected.addCallback(onFailure=actorStartupFailed))
    name = getattr(actor_class, "__name__", str(actor_class))
    ending = multiprocCommon.shutdown_signal_detector(name, transport.myAddress, manager)
    for number in (signal.SIGQUIT, signal.SIGABRT):
        signal.signal(number, ending)
    return manager


def _start_logger(transport_class: Any, transport: Any, admin: Any, *_: Any) -> None:
    """Stand for `multiprocCommon._startLogger`: there is no logger process, since every process writes to the file.

    What Thespian does once its logger is up is done at once.
    """
    log_to_file()
    admin.asLogger = transport.myAddress  # something has to stand there; nothing is sent to it
    started = TransmitIntent(admin.addrOfStarter, EndpointConnected(0))
    transport.scheduleTransmit(None, started.addCallback(onFailure=actorStartupFailed))
    admin._activate()


def _clean_up_admin(admin: Any, finish: Callable[[], None]) -> None:
    """Stand for `MultiProcReplicator._cleanupAdmin`, which waits for the logger's end."""
    finish()


def _take_no_notice(number: int, frame: Any) -> None:
    """Handle a signal that is for the daemon; one that is ignored would be ignored in whatever a server executes."""


def _signals_after_fork() -> None:
    # The handlers of the parent mean its transport, or are the daemon's.
    if in_server():  # what that forks is no process of the node
        return
    for number in (signal.SIGQUIT, signal.SIGABRT, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1):
        signal.signal(number, _take_no_notice)


def install() -> None:
    """Have Thespian start its actors this way."""
    os.register_at_fork(after_in_child=_signals_after_fork)
    multiprocCommon._startLogger = _start_logger
    multiprocCommon.MultiProcReplicator._cleanupAdmin = _clean_up_admin
    multiprocCommon.MultiProcReplicator._startChildActor = _start_child_actor
    multiprocCommon.startAdmin = roomy(multiprocCommon.startAdmin)
