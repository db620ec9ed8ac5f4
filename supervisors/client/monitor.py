"""Monitor: a watch on one process, from a program outside."""

from __future__ import annotations

import threading

from supervisors.client.door_client import DoorClient
from supervisors.terms.checks import check_timeout
from supervisors.terms.errors import NoProcess
from supervisors.terms.reason import NOPROC
from supervisors.terms.ref import Down, Ref
from supervisors.terms.via import Via


class Monitor:
    """A watch on one process, from a program outside. `ref`: the process, None where there was none.

    It lasts as long as somebody holds it, and over restarts of the node's door.
    """

    def __init__(self, target: Ref | str | Via) -> None:
        """Make it; `Node.monitor` does."""
        self.ref = target if isinstance(target, Ref) else None
        self._target = target
        self._client: DoorClient | None = None
        self._number = 0
        self._cancelled = False
        self._ended = threading.Event()
        self._down: Down | None = None

    def begin(self, client: DoorClient) -> None:
        """Watch from now on, over this connection.

        Raises:
            NodeDown: the connection is gone.
        """
        self._client = client
        try:
            self._number, self.ref = client.watch(self.ref or self._target, self)
        except NoProcess:
            self.ended(Down(self.ref, NOPROC))
        if self._cancelled:
            client.forget_monitor(self._number)

    def ended(self, down: Down) -> None:
        """Take in that the process has ended."""
        self._down = down
        self._ended.set()

    def wait(self, timeout: float | None = None) -> Down | None:
        """Return Down when the process has ended; None when `timeout` seconds are over first.

        Raises:
            NodeDown: it was made by the process of which this one was forked.
        """
        timeout = check_timeout(timeout)
        if self._client is not None and not self._ended.is_set():
            self._client.check_own()
        self._ended.wait(timeout)
        if self._down is None:
            return None
        return Down(self._down.ref or self.ref, self._down.reason)

    def cancel(self) -> None:
        """Stop watching."""
        self._cancelled = True
        if not self._ended.is_set() and self._client is not None:
            self._client.forget_monitor(self._number)
