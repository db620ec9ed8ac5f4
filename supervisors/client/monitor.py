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
    """A watch on one process, from a program outside. `ref`: the process, None where there was none."""

    def __init__(self, client: DoorClient, target: Ref | str | Via) -> None:
        """Make it; `Node.monitor` does."""
        self.ref = target if isinstance(target, Ref) else None
        self._client, self._target = client, target
        self._number = 0
        self._ended = threading.Event()
        self._down: Down | None = None

    def begin(self) -> None:
        """Watch from now on."""
        try:
            self._number, self.ref = self._client.watch(self._target, self._arrived)
        except NoProcess:
            self._arrived(Down(self.ref, NOPROC))

    def _arrived(self, down: Down) -> None:
        self._down = down
        self._ended.set()

    def wait(self, timeout: float | None = None) -> Down | None:
        """Return Down when the process has ended; None when `timeout` seconds are over first."""
        self._ended.wait(check_timeout(timeout))
        if self._down is None:
            return None
        return Down(self._down.ref or self.ref, self._down.reason)

    def cancel(self) -> None:
        """Stop watching."""
        if not self._ended.is_set():
            self._client.forget_monitor(self._number)
