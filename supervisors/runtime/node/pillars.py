"""The processes that a node cannot do without: Thespian's admin and the root supervisor."""

from __future__ import annotations

import contextlib

from supervisors.host import processes


class Pillars:
    """What holds a node up, watched by its daemon through pidfds."""

    def __init__(self) -> None:
        """Watch nothing yet."""
        self._known: dict[int, tuple[str, int | None]] = {}

    def watch(self, root: int) -> None:
        """Watch the root supervisor `root` and its parent, the admin.

        Args:
            root: its pid.
        """
        admin = processes.process_table().get(root, 0)
        for pid, name in {root: "root", admin: "admin"}.items():
            self._known[pid] = (name, None)
            with contextlib.suppress(ProcessLookupError):  # it has fallen already: the first look will see it
                self._known[pid] = (name, processes.open_pidfd(pid, 0))

    def __contains__(self, pid: object) -> bool:
        """Whether a process is one of them."""
        return pid in self._known

    def fallen(self) -> str | None:
        """Return the name of one that has ended; None: all stand."""
        for pid, (name, pidfd) in self._known.items():
            if processes.has_ended(pid, 0, pidfd):
                return name
        return None

    def descriptors(self) -> list[int]:
        """Return the descriptors that become readable when one ends."""
        return [pidfd for _, pidfd in self._known.values() if pidfd is not None]

    def forget(self) -> None:
        """Watch them no more."""
        for pidfd in self.descriptors():
            processes.close_pidfd(pidfd)
        self._known = {}
