"""Read frames from non-blocking sockets."""

import socket

from supervisors.wire.frames import Frame, FrameReader

_CHUNK = 1024 * 1024


def receive(sock: socket.socket, reader: FrameReader) -> list[Frame]:
    """Read once, at most to the end of the present header or body; return the frame if that completed it.

    Raises:
        FrameError: what came is not acceptable.
        BlockingIOError: nothing is there yet.
        OSError: the connection has ended.
    """
    data = sock.recv(min(_CHUNK, reader.needed))
    if not data:
        raise ConnectionResetError("closed by the peer")
    return reader.frames(data)


def peer_of(sock: socket.socket) -> str:
    """Return the network address at the other end."""
    try:
        return str(sock.getpeername()[0])
    except OSError:
        return "unknown"


def is_closed(sock: socket.socket) -> bool:
    """Whether the peer has ended an idle connection."""
    try:
        return not sock.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    except BlockingIOError:
        return False
    except OSError:
        return True
