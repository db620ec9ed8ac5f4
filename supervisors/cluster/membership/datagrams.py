"""The datagrams of the membership: sealed with the cluster key, each for one address, none taken twice.

The first byte of each is the version of the wire: doors compare it in their greeting, and between nodes whose doors
have nothing to say to one another there are datagrams all the same.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import cast

from supervisors.host import security_log
from supervisors.wire import values as wire
from supervisors.wire.codec import HEADER_SIZE
from supervisors.wire.frames import FrameCodec, FrameError, FrameReader, Opener

#: What every network passes on in one piece.
MAX_DATAGRAM = 1200


class Datagrams(asyncio.DatagramProtocol):
    """A socket for datagrams.

    Args:
        codec: has the cluster key.
        address: "host:port" where it is bound.
        take: gets payload, host and port of each datagram that is good.
    """

    def __init__(self, codec: FrameCodec, address: str, take: Callable[[bytes, str, int], None]) -> None:
        """Be bound."""
        self._codec, self._take = codec, take
        self._opener = Opener(codec, _place(address))
        self._transport: asyncio.DatagramTransport | None = None
        self.sent = self.got = self.refused = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Be ready."""
        self._transport = cast("asyncio.DatagramTransport", transport)  # not by inheritance, before Python 3.12

    def send(self, host: str, port: int, payload: bytes) -> None:
        """Send a payload; it may get lost."""
        if self._transport is not None and not self._transport.is_closing():
            self.sent += 1
            sealed = self._codec.seal(bytes((wire.VERSION,)) + payload, _place(f"{host}:{port}"))
            self._transport.sendto(sealed, (host, port))

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        """Open a datagram and hand it on; what nobody with the key has sent to this address is noted and dropped."""
        if not HEADER_SIZE < len(data) <= MAX_DATAGRAM:
            self._refuse(addr[0], f"a datagram of {len(data)} bytes")
            return
        try:
            frames = FrameReader(self._opener).frames(data)
        except FrameError as error:
            self._refuse(addr[0], f"{type(error).__name__}: {error}")
            return
        if len(frames) != 1 or frames[0].replayed:
            self._refuse(addr[0], "a datagram that came twice, or is cut")
            return
        version, payload = frames[0].payload[:1], frames[0].payload[1:]
        if version != bytes((wire.VERSION,)):
            older = "an older version" if version > b"\x7f" else f"version {version[0] if version else 0}"
            self._refuse(addr[0], f"it speaks {older}, not {wire.VERSION}: install one release on both nodes")
            return
        self.got += 1
        self._take(payload, addr[0], addr[1])

    def error_received(self, exc: Exception) -> None:
        """Heed no errors: what does not arrive is noticed by its not being answered."""

    def _refuse(self, host: str, why: str) -> None:
        self.refused += 1
        security_log.note("refused datagram", host, why)


def _place(address: str) -> str:
    # Not that of the door: what is sealed for one of the two is nothing for the other.
    return f"udp {address}"
