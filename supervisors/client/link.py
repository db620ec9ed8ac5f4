"""Link: a program's connection to a node's door, which is made anew when it breaks."""

from __future__ import annotations

import threading
from concurrent.futures import Future
from pathlib import Path
from typing import Any, Self

from supervisors.client.door_client import DoorClient
from supervisors.client.home import Home
from supervisors.client.launch import HOME, connect
from supervisors.client.own_node import OwnNode
from supervisors.terms.checks import Target, check_target
from supervisors.terms.errors import NodeDown
from supervisors.wire import door_protocol as protocol


class Link:
    """What is common to all questions to a node: one connection at a time, made anew when it is gone. Thread-safe.

    Args:
        data_dir: the node's folder, where its address and key are.
        client: the first connection.
        own: the node, where it is this program's own and ends with it.
        home: for the words of messages.
    """

    def __init__(self, data_dir: Path, client: DoorClient, own: OwnNode | None = None, home: Home = HOME) -> None:
        """Use `Node.start` or `Node.attach` instead."""
        self.data_dir = data_dir
        self._client = client
        self._own, self._home = own, home
        self._closed = False
        self._lock = threading.Lock()

    def close(self) -> None:
        """Disconnect; an own node is stopped, children first, and gone when this returns."""
        with self._lock:
            self._closed = True
            own, self._own = self._own, None
        self._client.close()
        if own is not None:
            own.stop()

    def __enter__(self) -> Self:
        """Return the node."""
        return self

    def __exit__(self, *error: object) -> None:
        """Close it."""
        self.close()

    @property
    def info(self) -> dict[str, Any]:
        """Name, address, data folder, pid and version of the node."""
        return self._client.node

    def request(self, operation: str, *arguments: Any, wait: float | None = None) -> Any:
        """Send the door a request and wait for its answer, at most `wait` seconds (None: without end)."""
        client = self.connected()
        try:
            answer = client.ask(operation, *arguments)
        except NodeDown:  # it was not carried out, and is sent once more
            client = self.connected()
            answer = client.ask(operation, *arguments)
        return client.wait(answer, operation, wait)

    def submit(self, operation: str, *arguments: Any) -> tuple[DoorClient, Future[Any]]:
        """Send a request; return the connection and the future of the answer.

        A request that could not be sent was not carried out; it is sent once more, over a new connection.
        """
        client = self.connected()
        try:
            return client, client.submit(operation, *arguments)
        except NodeDown:
            client = self.connected()
            return client, client.submit(operation, *arguments)

    def connected(self) -> DoorClient:
        """Return a live connection.

        When the door was restarted, or the daemon brought the node back, it is dialled again.
        """
        client = self._client
        if not client.closed:
            return client
        with self._lock:
            if self._closed:
                raise NodeDown("this Node is closed")
            if self._client.closed:
                self._client = connect(self.data_dir, self._home)
            return self._client

    def supervise(self, supervisor: Target, name: str, argument: Any) -> Any:
        """Make an administration call to a supervisor.

        Raises:
            SpecError: `supervisor` is no process.
        """
        check_target(supervisor, "supervisor")
        return self.request(protocol.SUPERVISOR, supervisor, name, argument)
