"""Link: a program's connection to a node's door, which is made anew when it breaks."""

from __future__ import annotations

import asyncio
import threading
import time
import weakref
from concurrent.futures import Future
from pathlib import Path
from typing import Any, Self

from supervisors.client.dial import Dialled, dial, dial_other
from supervisors.client.door_client import PATIENCE_SECONDS, DoorClient, Watcher
from supervisors.client.forks import keep_from_children
from supervisors.client.home import HOME, Home
from supervisors.client.monitor import Monitor
from supervisors.client.own_node import OwnNode
from supervisors.terms.checks import Target, check_target
from supervisors.terms.errors import CallTimeout, NodeDown, SupervisorsError
from supervisors.terms.reason import NODEDOWN
from supervisors.terms.ref import Down
from supervisors.wire import door_protocol as protocol
from supervisors.wire.values import check_tree


class Link:
    """What is common to all questions to a node: one connection at a time, made anew when it is gone. Thread-safe.

    In a forked child it is a link of the child's own, to a node that is the parent's.

    Args:
        data_dir: the node's folder, where its address and key are.
        own: the node, where it is this program's own and ends with it.
        home: for the words of messages.
        at: "host:port" of another node of that one's cluster: it is talked to instead.

    Raises:
        NodeDown: no node answers there.
    """

    def __init__(self, data_dir: Path, own: OwnNode | None = None, home: Home = HOME, at: str | None = None) -> None:
        """Use `Node.start` or `Node.attach` instead."""
        self.data_dir = data_dir
        self._at = at
        self._own, self._home = own, home
        self._closed = False
        # A signal handler or a finalizer may need it in the midst of a connect of its own thread.
        self._lock = threading.RLock()
        self._connects = False
        self._failed: tuple[float, NodeDown] | None = None
        self._dialled = self._dial(None)
        self._client = self._dialled.client
        keep_from_children(self)

    @property
    def is_closed(self) -> bool:
        """Whether `close` was called: nothing can be asked any more."""
        return self._closed

    def leave_to_parent(self) -> None:
        """Be a link of this child's own from now on, without a connection yet; the node stays its parent's."""
        self._lock = threading.RLock()
        self._connects = False
        self._own = None

    def _dial(self, last: Dialled | None) -> Dialled:
        lost = weakref.WeakMethod(self._watch_again)

        def watch_again(client: DoorClient, watchers: list[Watcher]) -> None:
            method = lost()
            if method is not None:
                method(client, watchers)
            else:
                _tell_nodedown(watchers)

        if self._at is not None:
            return dial_other(self._at, self.data_dir, watch_again)
        return dial(self.data_dir, self._home, last, watch_again)

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
            answer = client.ask(operation, *arguments, wait=wait)
        except NodeDown:  # it was not carried out, and is sent once more
            client = self.connected()
            answer = client.ask(operation, *arguments, wait=wait)
        return client.wait(answer, operation, wait)

    def submit(
        self, operation: str, *arguments: Any, wait: float | None = PATIENCE_SECONDS
    ) -> tuple[DoorClient, Future[Any]]:
        """Send a request; return the connection and the future of the answer.

        A request that could not be sent was not carried out; it is sent once more, over a new connection.
        """
        client = self.connected()
        try:
            return client, client.submit(operation, *arguments, wait=wait)
        except NodeDown:
            client = self.connected()
            return client, client.submit(operation, *arguments, wait=wait)

    def tell(self, operation: str, *arguments: Any) -> None:
        """Send what has no answer, in the same way."""
        try:
            self.connected().tell(operation, *arguments)
        except NodeDown:
            self.connected().tell(operation, *arguments)

    async def submit_async(self, operation: str, *arguments: Any) -> tuple[DoorClient, Future[Any]]:
        """Do what `submit` does, from an event loop: to connect, and to wait for the door, is a thread's."""
        client = self._client
        if not client.closed and client.has_room:
            try:
                return client, client.submit(operation, *arguments, wait=0.0)
            except (NodeDown, CallTimeout):
                pass
        loop = asyncio.get_running_loop()
        sent = loop.run_in_executor(None, lambda: self.submit(operation, *arguments))
        try:
            return await asyncio.shield(sent)
        except asyncio.CancelledError:
            sent.add_done_callback(_abandon)
            raise

    def connected(self) -> DoorClient:
        """Return a live connection.

        When the door was restarted, or the daemon brought the node back, it is dialled again.
        """
        client = self._client
        if not client.closed:
            return client
        asked = time.monotonic()
        with self._lock:
            if self._closed:
                raise NodeDown("this Node is closed")
            if self._connects:
                raise NodeDown("the node is being connected to, by what a signal handler or finalizer has interrupted")
            if self._client.closed:
                if self._failed is not None and self._failed[0] >= asked:  # all who waited meanwhile learn it at once
                    raise NodeDown(self._failed[1].message)
                try:
                    self._connects = True
                    self._dialled = self._dial(self._dialled)
                except NodeDown as error:
                    self._failed = (time.monotonic(), error)
                    raise
                finally:
                    self._connects = False
                self._client = self._dialled.client
            return self._client

    def watch(self, monitor: Monitor) -> None:
        """Begin a monitor; it goes on over the connections to come."""
        client = self.connected()
        try:
            monitor.begin(client)
        except NodeDown:
            monitor.begin(self.connected())

    def _watch_again(self, old: DoorClient, watchers: list[Watcher]) -> None:
        """Set monitors anew when their connection has broken: the processes may be alive. In the reader's thread."""
        for monitor in watchers:
            assert isinstance(monitor, Monitor)
            try:
                client = self.connected()
                if _run_of(client) != _run_of(old):  # the whole node has fallen meanwhile
                    _tell_nodedown([monitor])
                    continue
                self.watch(monitor)
            except SupervisorsError:
                _tell_nodedown([monitor])

    def supervise(self, supervisor: Target, name: str, argument: Any) -> Any:
        """Make an administration call to a supervisor.

        Raises:
            SpecError: `supervisor` is no process.
        """
        check_target(supervisor, "supervisor")
        check_tree(argument, f"argument of {name}")
        return self.request(protocol.SUPERVISOR, supervisor, name, argument)


def _tell_nodedown(watchers: list[Watcher]) -> None:
    for each in watchers:
        each.ended(Down(None, NODEDOWN))


def _run_of(client: DoorClient) -> tuple[Any, Any]:
    """Return what tells one run of a node from the next."""
    return client.node.get("uid"), client.node.get("incarnation")


def _abandon(sent: asyncio.Future[tuple[DoorClient, Future[Any]]]) -> None:
    if not sent.cancelled() and sent.exception() is None:
        client, future = sent.result()
        client.abandon(future)
