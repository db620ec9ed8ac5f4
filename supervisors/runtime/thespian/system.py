"""Start Thespian's actor system of a node: an admin and the root actor of the node.

Only this module starts one, because what matters must be set before: Thespian reads its own address and its
limits from the environment when it is imported, and our transport has to be in place before the first
socket. So nothing here imports thespian until `start_system` has set the environment.
"""

import contextlib
import multiprocessing
import os
import resource
import select
import socket
from collections.abc import Iterator, Mapping
from types import SimpleNamespace
from typing import Any

from supervisors.runtime.thespian.logfile import create_log
from supervisors.wire.clock import OWN_CLOCK, Clock

__all__ = ["System", "SystemStartError", "start_system"]

_MAX_PENDING = 200
_ATTEMPTS = 3
# Thespian relays messages through the admin with these; our frames go to their receiver directly.
_UNSUPPORTED = ("Admin Routing", "Outbound Only")


class SystemStartError(Exception):
    """The actor system did not start; the text says why."""


class System:
    """A running actor system, seen from the process that started it. Made by `start_system`.

    It is not for several threads at once.
    """

    def __init__(self, base: Any, port: int) -> None:
        """Use Thespian's system base."""
        self._base = base
        self.admin_port = port

    @property
    def admin_address(self) -> Any:
        """Thespian's address of the admin."""
        return self._base.adminAddr

    @property
    def own_address(self) -> tuple[str, int]:
        """Where messages to this process go: host and port."""
        host, port = self._base.transport.myAddress.addressDetails.sockname[:2]
        return host, port

    def create_root(self, actor_class: type) -> Any:
        """Start an actor of `actor_class` below the admin; return its address.

        The class is imported by its module's name in the admin.
        """
        return self._base.newPrimaryActor(actor_class, None, None)

    def tell(self, address: Any, message: bytes) -> None:
        """Send `message` and return when it was acknowledged.

        Raises:
            FrameTooLarge: the message exceeds the frame limit.
        """
        self._base.tell(address, message)

    def listen(self, timeout: float) -> Any:
        """Return the next message to this process, or None after `timeout` seconds."""
        return self._base.listen(float(timeout))

    def tend(self) -> None:
        """Turn away strangers who have connected to this process; costs nothing when there are none."""
        transport = self._base.transport
        if len(transport._lobby) or _is_readable(transport.socket):
            self.listen(0.001)

    def shutdown(self) -> None:
        """Stop all actors and the admin; gives up after 10 s."""
        self._base.shutdown()


def _is_readable(connected: socket.socket) -> bool:
    poller = select.poll()
    poller.register(connected, select.POLLIN)
    return bool(poller.poll(0))


def start_system(
    host: str,
    admin_port: int,
    key: bytes,
    capabilities: Mapping[str, Any] | None = None,
    clock: Clock = OWN_CLOCK,
) -> System:
    """Start an actor system whose processes listen on `host` only and accept frames of `key` only.

    1. The environment is set, thespian imported, and the secure transport put in place.
    2. The admin is forked; all processes to come are forked from it. Thespian's logger is not started (forking.py).
    3. The admin answers over the secure transport.

    Args:
        host: the IPv4 address of this node.
        admin_port: the admin's port; 0 picks a free one.
        key: the cluster key.
        capabilities: Thespian's capabilities of this system.
        clock: the node's.

    Raises:
        ValueError: host or capabilities cannot be used.
        SystemStartError: the port is taken or the admin did not come up.
    """
    capabilities = dict(capabilities or {})
    for name in _UNSUPPORTED:
        if capabilities.get(name):
            raise ValueError(f"the capability {name!r} is not supported")
    os.environ["THESPIAN_BASE_IPADDR"] = host
    os.environ["THESPIAN_MAX_PENDING_TRANSMITS"] = str(_MAX_PENDING)
    # A core dump would hold the key. Forked processes inherit the limit.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))

    from thespian.actors import ActorSystemException
    from thespian.system import multiprocTCPBase
    from thespian.system.transport import asyncTransportBase

    from supervisors.runtime.thespian.patches import install
    from supervisors.runtime.thespian.transport import SecureTCPTransport

    # In case somebody imported thespian before us.
    asyncTransportBase.MAX_PENDING_TRANSMITS = _MAX_PENDING
    install(key, host, clock)

    class SecureBase(multiprocTCPBase.ActorSystemBase):  # type: ignore[misc]
        transportType = SecureTCPTransport  # noqa: N815 - Thespian's name

    create_log()
    for attempt in range(_ATTEMPTS):
        port = _free_port(host, admin_port)
        settings = {**capabilities, "Admin Port": port, "Process Startup Method": "fork"}
        try:
            with _forks_reaped():
                base = SecureBase(SimpleNamespace(capabilities=settings))
                return System(base, port)
        except ActorSystemException as error:
            # Somebody may have taken the free port in between; a port that was asked for is not replaced.
            if admin_port or attempt == _ATTEMPTS - 1:
                raise SystemStartError(f"the actor system at {host}:{port} did not start: {error}") from error
    raise AssertionError("unreachable")


def _free_port(host: str, port: int) -> int:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise SystemStartError(f"cannot listen on {host}:{port}: {error.strerror}") from error
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def _forks_reaped() -> Iterator[None]:
    """Wait for the child between us and the admin, which Thespian forgets and leaves as a zombie."""
    from thespian.system import multiprocCommon

    forget = multiprocCommon.detach_child
    starter = os.getpid()
    started: list[multiprocessing.Process] = []

    def remember(child: multiprocessing.Process) -> None:
        # The admin inherits this function and must not collect its children.
        if os.getpid() == starter:
            started.append(child)
        forget(child)

    multiprocCommon.detach_child = remember
    try:
        yield
    finally:
        multiprocCommon.detach_child = forget
        for child in started:
            # Not join(): it waits for a pipe that the admin holds open. This child ends by itself.
            with contextlib.suppress(ChildProcessError):
                os.waitpid(child.pid or 0, 0)
