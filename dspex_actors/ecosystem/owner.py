"""The child of an ecosystem's supervisor that ends it when the program that started it is gone."""

from __future__ import annotations

import asyncio
from typing import Any

from supervisors import GenServer, Stop
from supervisors.host import processes

#: Where the kernel does not tell of an end, it is looked for this often, in seconds.
LOOK_SECONDS = 1.0


class Owner(GenServer):
    """Ends normally when a process does; its supervisor has it as a significant child, and ends with it.

    Arguments: pid and `born` of the owner.
    """

    def init(self, pid: int, born: int) -> None:
        """Watch it."""
        self._pid, self._born = pid, born
        self._pidfd: int | None = None
        try:
            self._pidfd = processes.open_pidfd(pid, born)
        except ProcessLookupError:
            self.send_after(0.0, "look")
            return
        if self._pidfd is None:
            self.send_after(LOOK_SECONDS, "look")
        else:
            asyncio.get_running_loop().add_reader(self._pidfd, self._ended)

    def _ended(self) -> None:
        assert self._pidfd is not None
        asyncio.get_running_loop().remove_reader(self._pidfd)
        self.send_after(0.0, "look")

    def handle_info(self, message: Any) -> None:
        """End if the owner has."""
        if processes.has_ended(self._pid, self._born, self._pidfd):
            raise Stop("normal")
        self.send_after(LOOK_SECONDS, "look")
