"""Loads Thespian without asking the network what this host is called.

Thespian does so at import, for a list of this host's addresses that a node replaces by its own (patches.py). Where the
names' servers are slow or gone, each of its questions takes seconds.
"""

from __future__ import annotations

import importlib
import socket
from typing import Any


def load_thespian() -> None:
    """Import the part that asks, in a process that has no other threads yet."""
    questions = socket.getfqdn, socket.getaddrinfo

    def nothing(*_: Any) -> Any:
        return []

    socket.getfqdn = socket.getaddrinfo = nothing  # type: ignore[assignment]
    try:
        importlib.import_module("thespian.system.transport.IPBase")
    finally:
        socket.getfqdn, socket.getaddrinfo = questions
