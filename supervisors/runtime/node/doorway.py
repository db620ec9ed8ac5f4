"""The listening socket of a door. Datagrams of the same number are free too, for the day the node joins a cluster."""

from __future__ import annotations

import errno
import socket

#: So many ports are tried until one is free for both.
TRIES = 20


def door_socket(host: str, port: int, last: int = 0) -> socket.socket:
    """Return a socket that is bound.

    Args:
        host: IPv4 address.
        port: the port; 0: any that is free.
        last: the one that is taken if it is free, where any will do.

    Raises:
        OSError: it cannot be had.
    """
    if last:
        try:
            return _bound(host, last)
        except OSError:
            port = 0
    if port:
        return _bound(host, port)
    for _ in range(TRIES):
        door = _bound(host, 0)
        try:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
                probe.bind(door.getsockname())
        except OSError:
            door.close()
        else:
            return door
    raise OSError(errno.EADDRINUSE, "no port is free for connections and datagrams both")


def _bound(host: str, port: int) -> socket.socket:
    door = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        door.bind((host, port))
    except BaseException:
        door.close()
        raise
    return door
