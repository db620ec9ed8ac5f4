"""How one process sees the deaths of others: on this host through pidfds, on other hosts through far.py."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from supervisors.host import processes
from supervisors.runtime.process.far import Far, Owner
from supervisors.terms.errors import NoProcess
from supervisors.terms.reason import KILLED, NODEDOWN, NOPROC, ExitReason
from supervisors.terms.ref import Ref

#: How often pids are looked at where there are no pidfds, in seconds.
POLL_SECONDS = 0.5


class _Peer:
    __slots__ = ("fd", "gone", "met", "on_death")

    def __init__(self, fd: int | None) -> None:
        self.fd = fd
        self.gone: ExitReason | None = None
        self.met = False
        self.on_death: list[Callable[[Ref], None]] = []


class Peers:
    """The processes whose end this one waits for: a pidfd for each on this host, a connection for each other node.

    Args:
        host: this host's address.
        owner: the process that waits; deaths are seen in its loop.
        settle: calls back once everything that has arrived by now is delivered. A process ends only when its
            last words have been taken, so nothing comes from it after that.
        buried: called after that with the dead process, and the reason that holds if it gave none itself.
    """

    def __init__(
        self,
        host: str,
        owner: Owner,
        settle: Callable[[Callable[[], None]], None],
        buried: Callable[[Ref, ExitReason], None],
    ) -> None:
        """Watch no process yet."""
        self.host, self._owner, self._settle, self._buried = host, owner, settle, buried
        self._loop: asyncio.AbstractEventLoop = owner.loop
        self._far: Far | None = None
        self._peers: dict[Ref, _Peer] = {}

    def watch(self, ref: Ref) -> None:
        """Make sure that the end of a process will be seen.

        Raises:
            NoProcess: it has ended already, or its node is down.
        """
        peer = self._peers.get(ref)
        if peer is None and ref.host == self.host:
            try:
                fd = processes.open_pidfd(ref.pid, ref.born)
            except ProcessLookupError:
                raise NoProcess(f"{ref} has ended", reason=NOPROC) from None
            except OSError:  # no descriptor left: its pid is looked at now and then, as where there are no pidfds
                fd = None
            if fd is not None and processes.has_ended(ref.pid, ref.born, fd):
                processes.close_pidfd(fd)
                raise NoProcess(f"{ref} has ended", reason=NOPROC)
            peer = self._peers[ref] = _Peer(fd)
            if fd is not None:
                self._loop.add_reader(fd, self._ended, ref)
            else:
                self._poll(ref)
        elif peer is None and ref.door:
            if self._far is None:
                self._far = Far(self._owner, self._ended, self._forget)
            self._far.watch(ref)
            self._peers[ref] = _Peer(None)
        if peer is not None and peer.gone is not None:
            raise NoProcess(f"{ref} has ended", reason=NODEDOWN if peer.gone == NODEDOWN else NOPROC)

    def met(self, ref: Ref) -> None:
        """Take note that this process has answered, so it was there when its watch began."""
        if ref in self._peers:
            self._peers[ref].met = True

    def sees(self, ref: Ref) -> bool:
        """Whether the end of this process is being waited for."""
        return ref in self._peers

    def on_death(self, ref: Ref, callback: Callable[[Ref], None]) -> None:
        """Call back once, as soon as a process has ended.

        Raises:
            NoProcess: it has ended already.
        """
        self.watch(ref)
        if ref in self._peers:
            self._peers[ref].on_death.append(callback)

    def not_on_death(self, ref: Ref, callback: Callable[[Ref], None]) -> None:
        """Take an `on_death` back."""
        peer = self._peers.get(ref)
        if peer is not None and callback in peer.on_death:
            peer.on_death.remove(callback)

    def _poll(self, ref: Ref) -> None:
        if ref not in self._peers:
            return
        if processes.has_ended(ref.pid, ref.born):
            self._ended(ref)
        else:
            self._loop.call_later(POLL_SECONDS, self._poll, ref)

    def _ended(self, ref: Ref, reason: ExitReason = KILLED) -> None:
        peer = self._peers[ref]
        if peer.met and reason == NOPROC:  # it ended between its answer and its door's look
            reason = KILLED
        peer.gone = reason
        if peer.fd is not None:
            self._loop.remove_reader(peer.fd)
            processes.close_pidfd(peer.fd)
        for callback in peer.on_death:
            callback(ref)
        self._settle(lambda: self._bury(ref, reason))

    def _bury(self, ref: Ref, reason: ExitReason) -> None:
        self._peers.pop(ref, None)
        self._buried(ref, reason)

    def release(self, ref: Ref) -> None:
        """Do not wait for the end of a process any more."""
        peer = self._peers.pop(ref, None)
        if peer is not None and peer.fd is not None and peer.gone is None:
            self._loop.remove_reader(peer.fd)
            processes.close_pidfd(peer.fd)

    def awaited(self, ref: Ref) -> bool:
        """Whether somebody asked to be called back when this process ends."""
        return ref in self._peers and bool(self._peers[ref].on_death)

    def _forget(self, ref: Ref) -> None:
        self._peers.pop(ref, None)
