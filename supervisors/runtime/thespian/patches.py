"""Put our pieces where Thespian looks its own up.

Thespian's TCP transport finds its serializer, its buffer and its classes of connections as globals of its
module, at each use. They are replaced in one place, here, once per program; forked processes inherit that.
"""

import ipaddress
import os
import socket
from datetime import timedelta
from typing import Any

from thespian.system import utilis
from thespian.system.timing import ExpirationTimer
from thespian.system.transport import IPBase, ReceiveEnvelope, TransmitIntent
from thespian.system.transport import TCPTransport as tcp  # noqa: N813 - a module

from supervisors.runtime.thespian import forking
from supervisors.wire.clock import OWN_CLOCK, Clock
from supervisors.wire.frames import FrameCodec, FrameReader

__all__ = ["Incoming", "install", "installed_codec"]

# An authenticated peer has this long for the rest of its frame.
_FRAME_TIME = timedelta(seconds=120)
# A burst of strangers must not fill the queue that our own processes connect through.
_LISTEN_DEPTH = 1024

_installed: list[FrameCodec] = []


class _Unreachable:
    """Stands where Thespian had its pickle and its buffer: no path of it may reach raw bytes any more."""

    def __init__(self, *_: Any) -> None:
        pass

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError(f"Thespian's own framing was asked for {name}: it is replaced by sealed frames")


class Incoming(tcp.TCPIncoming_Common):  # type: ignore[misc]
    """A connection on which a frame is expected."""

    def __init__(self, address: Any, sock: socket.socket, reader: FrameReader | None = None) -> None:
        """Begin its time; the transport gives it a reader where Thespian did not."""
        super().__init__(address, sock, _Unreachable())
        self.reader = reader
        self._expires = ExpirationTimer(_FRAME_TIME)

    @property
    def expired(self) -> bool:
        """Whether the peer has had its time."""
        return bool(self._expires.view().expired())


def install(key: bytes, host: str, clock: Clock = OWN_CLOCK) -> FrameCodec:
    """Put the secure pieces into Thespian, in this process and all that it forks.

    Args:
        key: the cluster key.
        host: the node's own IPv4 address; everything listens there and nowhere else.
        clock: the node's.

    Returns:
        The codec of this process.

    Raises:
        ValueError: `host` is not one definite IPv4 address.
    """
    address = ipaddress.IPv4Address(host)
    if address.is_unspecified or address.is_multicast:
        raise ValueError(f"expected the address of one interface, got {host}: give the address others reach")
    os.environ["THESPIAN_BASE_IPADDR"] = host
    # Thespian takes all addresses of a host for one another, which confuses two nodes on 127.0.0.1 and .2.
    IPBase.thisSystem._myAddresses = {host}
    IPBase.IPActorAddress.bindArgs = property(lambda self: (self.sockname,))
    tcp.serializer = _Unreachable()
    tcp.ReceiveBuffer = _Unreachable
    tcp.ackMsg = tcp.ackDataErrMsg = b""
    tcp.TCPIncoming = tcp.TCPIncomingPersistent = Incoming
    tcp.LISTEN_DEPTH = _LISTEN_DEPTH
    # Thespian would look for a folder of its own, which takes a file descriptor, when it is to say that there is none.
    utilis._thesplog_file = os.environ.get("THESPLOG_FILE", os.devnull)
    utilis._thesplog_old_file = utilis._thesplog_file + ".old"
    # Thespian describes each message it sends for a log that is off, and its contents for one that is on.
    TransmitIntent.identify = ReceiveEnvelope.identify = _identify
    if not _installed:
        forking.install()
    codec = FrameCodec(key, clock)
    _installed[:] = [codec]
    return codec


def installed_codec() -> FrameCodec:
    """Return the codec of this process.

    Raises:
        RuntimeError: `install` was not called.
    """
    if not _installed:
        raise RuntimeError("call install() before a transport is made")
    return _installed[0]


def _identify(envelope: Any) -> str:
    return f"{type(envelope).__name__}({type(envelope.message).__name__})"
