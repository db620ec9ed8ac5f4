"""The daemon of a node: starts the actor system, watches it, brings it back, and takes it down.

The daemon has no threads and runs no user code. Nothing that it starts can outlive it (host/processes.py). When the
admin or the root supervisor dies (pillars.py), the daemon ends the rest and starts the node anew within a
second or two, on the same door socket.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import importlib
import os
import select
import shutil
import signal
import time
import uuid
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from supervisors.cluster.membership.file import is_member
from supervisors.cluster.membership.joining import ask_to_join, begin_run, check_others, port_of
from supervisors.host import meters, processes, sharing
from supervisors.host.log import open_log
from supervisors.host.node_config import NodeConfig
from supervisors.host.output import keep_small
from supervisors.host.strays import Orphans
from supervisors.host.surroundings import keep_private
from supervisors.runtime.node.doorway import door_socket
from supervisors.runtime.node.folder import NodeFolder
from supervisors.runtime.node.own import intensity, own_children, preloaded
from supervisors.runtime.node.pillars import Pillars
from supervisors.runtime.thespian import identity
from supervisors.runtime.thespian.loading import load_thespian
from supervisors.terms.errors import SpecError, SupervisorsError
from supervisors.terms.reason import SHUTDOWN
from supervisors.terms.ref import Ref
from supervisors.version import __version__
from supervisors.wire import imports, pickles
from supervisors.wire.clock import Clock
from supervisors.wire.keys import inherit_key

#: A node that falls more than MAX_FALLS times within FALL_SECONDS is given up.
MAX_FALLS, FALL_SECONDS = 10, 60.0
#: An ordered stop that takes longer than this is finished by SIGKILL.
STOP_SECONDS = 120.0
BOOT_SECONDS = 120.0
EXIT_RUNNING, EXIT_FAILED = 3, 1


class StartRefusedError(Exception):
    """The node cannot start here; the message says why and what to do."""


class InterruptedBootError(BaseException):
    """The node was told to stop, or its owner ended, while it started. No `except Exception` of others stops it."""


class Daemon:
    """One run of a node, from its first process to its last."""

    def __init__(self, config: NodeConfig, lifeline: int, umask: int) -> None:
        """Take the folder, the key and the door's socket, or refuse.

        Args:
            config: what is started.
            lifeline: a descriptor; the node ends when it can be read. -1: there is none.
            umask: the starter's, for the servers.
        """
        self.config = config
        self.umask = umask
        self.data_dir = Path(config.data_dir)
        self.lifeline = lifeline
        self.logs = self.data_dir / "logs"
        self.folder = NodeFolder(self.data_dir)
        if not self.folder.lock_in_turn():
            raise StartRefusedError("running")
        self.folder.open_key(makes_key=config.join is None)
        inherit_key(self.folder.key)
        self._open_door()
        keep_private(self.door.fileno())
        self.log = open_log(self.logs, "daemon", config.level)
        self.uid = uuid.uuid4().hex[:16]
        self.clock = Clock()
        self.started_at = self.clock.seconds()
        self.incarnation = 0
        self.system: Any = None
        self.root: Ref | None = None
        self._joining = config.join
        self._pillars = Pillars()
        self._orphans = Orphans()
        self._owner = processes.open_pidfd(os.getppid(), 0) if lifeline >= 0 else None
        self._signal_read, self._signal_write = os.pipe()
        os.set_blocking(self._signal_read, False)
        os.set_blocking(self._signal_write, False)
        self._stop_asked = self._stop_now = self._owner_gone = self._boots = False
        self._status = 0

    def _open_door(self) -> None:
        config = self.config
        try:
            self.door = door_socket(config.host, config.port, 0 if config.port else port_of(self.data_dir))
        except OSError as error:
            what = "give another host or port (0: any that is free), or stop what holds it"
            if error.errno == errno.EADDRNOTAVAIL:
                what = "it is no address of this host, `ip address` lists them"
            raise StartRefusedError(f"cannot listen on {config.host}:{config.port}: {error.strerror}; {what}") from None
        except SpecError as error:
            raise StartRefusedError(str(error)) from None
        self.door.listen(512)
        host, port = self.door.getsockname()[:2]
        self.address = f"{host}:{port}"
        identity.door_port = port

    # --- starting ---------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def booting(self) -> Iterator[None]:
        """Raise InterruptedBootError, wherever the block is, when the node is told to stop or its owner ends."""
        self._boots = True
        try:
            self._watch_owner()
            yield
        finally:
            self._boots = False

    def _watch_owner(self) -> None:
        """Have the kernel send SIGIO when the lifeline ends: user code that is imported or run may take long."""
        if self.lifeline >= 0 and hasattr(fcntl, "F_SETOWN"):
            fcntl.fcntl(self.lifeline, fcntl.F_SETOWN, os.getpid())
            fcntl.fcntl(self.lifeline, fcntl.F_SETFL, fcntl.fcntl(self.lifeline, fcntl.F_GETFL) | os.O_ASYNC)
        self._look_for_owner(0)  # it may have ended before

    def ask_to_join(self) -> None:
        """Ask the node that is to be joined whether this one may, before anything is started.

        Raises:
            StartRefusedError: it may not, or nobody is there; or this data folder is a copy.
        """
        about = self._about()
        try:
            if self._joining is None:
                if is_member(self.data_dir):
                    asyncio.run(check_others(self.data_dir, self.folder.key, about))
                return
        except SupervisorsError as error:
            raise StartRefusedError(str(error)) from None
        try:
            asked = ask_to_join(self.data_dir, self.folder.key, self._joining, about, self.log)
            self._joining = asyncio.run(asked)
        except SupervisorsError as error:
            raise StartRefusedError(f"cannot join {self._joining}: {error}") from None

    def preload(self) -> None:
        """Import what the children will need, once, before the first fork."""
        import threading

        load_thespian()
        for module in (*preloaded(self.config.role), *self.config.preload):
            importlib.import_module(module)
        if threading.active_count() > 1:
            names = [thread.name for thread in threading.enumerate()]
            raise StartRefusedError(f"preloading started threads ({names}); a process with threads must not fork")
        imports.preloaded()
        pickles.look_at_modules()
        meters.share()
        sharing.share()

    def boot(self) -> None:
        """Start admin and root with its children; return when every child's init has returned."""
        from supervisors.runtime.thespian.supervisor import SupervisorHost
        from supervisors.runtime.thespian.system import start_system
        from supervisors.runtime.thespian.transport import on_transport_start
        from supervisors.wire.messages import Boot, BootResult, encode, open_parcel, parcel

        on_transport_start[:] = [processes.tie_to(os.getpid())]
        self.system = start_system(self.config.host, 0, self.folder.key, clock=self.clock)
        address = self.system.create_root(SupervisorHost)
        root = Boot(uuid.uuid4().hex[:16], 0, 0, "root", None, self._root_spec(), (), {}, None, None, self._node())
        self.system.tell(address, parcel([encode(root)]))
        deadline = time.monotonic() + BOOT_SECONDS
        result: BootResult | None = None
        while result is None:
            message = self.system.listen(1.0)
            self._look_for_owner(0)
            if isinstance(message, bytes):
                result = open_parcel(message)[0]  # type: ignore[assignment]
            elif not processes.descendants(os.getpid()):
                raise StartRefusedError(f"the actor system ended while it started; see {self.logs}")
            elif time.monotonic() > deadline:
                raise StartRefusedError(f"the node did not come up within {BOOT_SECONDS:g} s; see {self.logs}")
        if result.outcome != "started" or result.ref is None:
            raise StartRefusedError(str(result.error or result.reason))
        self.root = result.ref
        self._pillars.watch(self.root.pid)
        self._joining = None  # from now on the folder tells whom it belongs to
        self.folder.tell(self._node() | {"root": asdict(self.root)}, self.log)

    def _node(self) -> dict[str, Any]:
        return self._about() | {"daemon": list(self.system.own_address)}

    def _about(self) -> dict[str, Any]:
        return {
            "name": self.config.name,
            "uid": self.uid,
            "address": self.address,
            "pid": os.getpid(),
            "data_dir": str(self.data_dir),
            "logs": str(self.logs),
            "level": self.config.level,
            "umask": self.umask,
            "version": __version__,
            "clock": self.clock.offset,
            "started_at": self.started_at,
            "incarnation": self.incarnation,
            "role": self.config.role,
            "labels": self.config.labels,
        }

    def _root_spec(self) -> Any:
        from supervisors.terms.spec import SupervisorSpec

        node = self._node()
        try:
            begin_run(self.data_dir, node)
        except OSError as error:  # a full disk: the others, if any, know how often this node was started
            self.log.error("this start of the node cannot be kept", error=str(error))
        app: list[Any] = []
        if self.config.app:
            module, _, function = self.config.app.partition(":")
            app = getattr(importlib.import_module(module), function)(self.config.app_config, node)
        children = own_children(node, self.door.fileno(), self._joining, app)
        # The root lets its children fall often before it gives up: then the daemon starts the whole node anew.
        return pickles.seal(
            SupervisorSpec(
                children=tuple(children), strategy="one_for_one", intensity=intensity(self.config.role), period=10.0
            )
        )

    # --- running ----------------------------------------------------------------------------------------------------

    def catch_signals(self) -> None:
        """Turn SIGTERM and SIGINT into an ordered stop, and SIGUSR1 into an immediate one."""

        def stop(signum: int, frame: Any) -> None:
            self._stop_asked = True
            self._stop_now = self._stop_now or signum == signal.SIGUSR1
            self._wake()
            if self._boots and os.getpid() == daemon:
                raise InterruptedBootError

        def lifeline(signum: int, frame: Any) -> None:
            if os.getpid() == daemon:
                self._look_for_owner(0)

        daemon = os.getpid()
        signal.signal(signal.SIGIO, lifeline)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):
            signal.signal(number, stop)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        # Orphans that this process has adopted are buried as soon as they end.
        signal.signal(signal.SIGCHLD, lambda signum, frame: self._wake())

    def _wake(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.write(self._signal_write, b".")

    def run(self) -> int:
        """Watch until told to stop; return the exit status."""
        falls: list[float] = []
        while True:
            why = self._wait()
            if why == "stop":
                self.folder.say_stopping(self.log)
                self.stop()
                return self._status
            if why == "owner gone":
                self.end_all()
                return 0
            while why:
                self.log.error("the node has fallen and is started again", fallen=why)
                self.end_all()
                now = time.monotonic()
                falls = [*(fall for fall in falls if now - fall < FALL_SECONDS), now]
                if len(falls) > MAX_FALLS:
                    self.log.critical(f"the node fell {len(falls)} times within {FALL_SECONDS:g} s and is given up")
                    return EXIT_FAILED
                self.incarnation += 1
                try:
                    why = self._boot_again()
                except InterruptedBootError:
                    self.end_all()
                    return 0

    def _boot_again(self) -> str:
        """Start the node anew; return why that failed, or nothing."""
        try:
            with self.booting():
                self.boot()
        except Exception as error:
            return f"it did not come back: {error!r}"
        return ""

    def _wait(self) -> str:
        """Return why the node is to end, or which pillar has fallen."""
        while True:
            self._sleep(1.0)
            self.system.tend()
            if (lost := self.folder.keep(self.log)) is not None and not self._stop_asked:
                self.log.critical("the node stops", why=lost)
                self._status = EXIT_FAILED
                return "stop"
            if self._stop_asked:
                return "stop"
            if self._owner_gone:
                return "owner gone"
            if (fallen := self._pillars.fallen()) is not None:
                return fallen
            self._orphans.end(spared=self._pillars)
            keep_small(self.logs)

    def _sleep(self, seconds: float) -> None:
        """Wait for a signal, or the end of a child, a pillar or the owner, at most so long."""
        self._look_for_owner(seconds, self._signal_read, *self._pillars.descriptors())
        with contextlib.suppress(BlockingIOError):
            os.read(self._signal_read, 4096)
        _reap()

    def _look_for_owner(self, seconds: float, *others: int) -> None:
        """Wait until the owner has ended, or another descriptor is ready, at most so long; note the owner's end."""
        poller = select.poll()
        owner = {fd for fd in (self._owner, self.lifeline) if fd is not None and fd >= 0}
        for fd in (*owner, *others):
            poller.register(fd, select.POLLIN | select.POLLHUP)
        ready = {fd for fd, _ in poller.poll(seconds * 1000)}
        self._owner_gone = self._owner_gone or bool(owner & ready)
        if self._boots and (self._owner_gone or self._stop_asked):
            raise InterruptedBootError

    # --- ending -----------------------------------------------------------------------------------------------------

    def stop(self) -> None:
        """Stop the tree in order, children first; then end what is left. The owner's end cuts it short."""
        from supervisors.runtime.thespian.post import address
        from supervisors.wire.messages import Stop, encode, parcel

        if not self._stop_now and self.root is not None:
            where = address(self.root.host, self.root.port)
            self.system.tell(where, parcel([encode(Stop(self.root.uid, SHUTDOWN))]))
            deadline = time.monotonic() + STOP_SECONDS
            while time.monotonic() < deadline and not self._stop_now:
                self._sleep(0.5)
                if self._owner_gone or self._pillars.fallen():
                    break
        self.end_all()

    def end_all(self) -> None:
        """Kill every process of the node and wait until none is left."""
        self._pillars.forget()
        deadline = time.monotonic() + 10.0
        # Without a child there is no descendant either, and nobody need read the table of the host's processes.
        while _reap() and (left := processes.descendants(os.getpid())) and time.monotonic() < deadline:
            for pid in left:
                processes.kill(pid)
            select.poll().poll(2)
        self.root = None

    def clean_up(self) -> None:
        """Remove what says that a node runs here, and a temporary folder whole."""
        self.folder.say_good_bye()
        if self.config.temporary:
            shutil.rmtree(self.data_dir, ignore_errors=True)


def _reap() -> bool:
    """Collect the children that have ended; return whether there are others."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return False
    return True
