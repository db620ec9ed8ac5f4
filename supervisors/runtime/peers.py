"""Deaths of other processes of this host, as one process sees them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from supervisors.errors import NoProcess
from supervisors.reason import NOPROC, Ref
from supervisors.runtime import fate

#: How often pids are looked at where there are no pidfds, in seconds.
POLL_SECONDS = 0.5


class _Peer:
    __slots__ = ("ended", "fd", "on_death")

    def __init__(self, fd: int | None) -> None:
        self.fd = fd
        self.ended = False
        self.on_death: list[Callable[[Ref], None]] = []


class Peers:
    """Processes whose end somebody here waits for, each watched through one pidfd.

    Args:
        host: this host's address; processes elsewhere are not watched here.
        loop: where deaths are seen.
        settle: calls back once everything that has arrived by now is delivered. A process ends only when its
            last words have been taken, so after that nothing more comes from it.
        buried: told of a death after that.
    """

    def __init__(
        self,
        host: str,
        loop: asyncio.AbstractEventLoop,
        settle: Callable[[Callable[[], None]], None],
        buried: Callable[[Ref], None],
    ) -> None:
        """Watch nobody yet."""
        self.host, self._loop, self._settle, self._buried = host, loop, settle, buried
        self._peers: dict[Ref, _Peer] = {}

    def watch(self, ref: Ref) -> None:
        """Make sure that the end of a process will be seen.

        Raises:
            NoProcess: it has ended already.
        """
        peer = self._peers.get(ref)
        if peer is None and ref.host == self.host:
            try:
                fd = fate.open_pidfd(ref.pid, ref.born)
            except (ProcessLookupError, PermissionError):
                raise NoProcess(f"{ref} has ended", reason=NOPROC) from None
            if fd is not None and fate.has_ended(ref.pid, ref.born, fd):
                fate.close_pidfd(fd)
                raise NoProcess(f"{ref} has ended", reason=NOPROC)
            peer = self._peers[ref] = _Peer(fd)
            if fd is not None:
                self._loop.add_reader(fd, self._ended, ref)
            else:
                self._poll(ref)
        if peer is not None and peer.ended:
            raise NoProcess(f"{ref} has ended", reason=NOPROC)

    def sees(self, ref: Ref) -> bool:
        """Whether the end of this process is being waited for."""
        return ref in self._peers

    def on_death(self, ref: Ref, callback: Callable[[Ref], None]) -> None:
        """Call back once, as soon as a process of this host has ended.

        Raises:
            NoProcess: it has ended already.
        """
        self.watch(ref)
        if ref in self._peers:
            self._peers[ref].on_death.append(callback)

    def _poll(self, ref: Ref) -> None:
        if fate.has_ended(ref.pid, ref.born):
            self._ended(ref)
        else:
            self._loop.call_later(POLL_SECONDS, self._poll, ref)

    def _ended(self, ref: Ref) -> None:
        peer = self._peers[ref]
        peer.ended = True
        if peer.fd is not None:
            self._loop.remove_reader(peer.fd)
            fate.close_pidfd(peer.fd)
        for callback in peer.on_death:
            callback(ref)
        self._settle(lambda: self._bury(ref))

    def _bury(self, ref: Ref) -> None:
        self._peers.pop(ref, None)
        self._buried(ref)
