"""Thespian's main loop over one selector that is kept.

Thespian makes a selector each time it waits and registers every connection with it: with two hundred children that is
most of what a supervisor does. Here registrations are kept from one wait to the next, and a wait costs what has
changed. The selector's own descriptor is readable when there is anything to do, so another loop can watch it and call
`turn`: see runtime/thespian/leaf.py.
"""

from __future__ import annotations

import contextlib
import selectors
import time
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

from thespian.actors import WatchMessage
from thespian.system.timing import currentTime
from thespian.system.transport import (
    ReceiveEnvelope,
    Thespian__Run_Expired,
    Thespian__Run_HandlerResult,
    Thespian__Run_Terminated,
    TransmitOnly,
)
from thespian.system.transport import TCPTransport as tcp  # noqa: N813 - a module

from supervisors.host import processes

READ, WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE
#: Connections that have not been used for long (Thespian's limit is 20 minutes) are looked for this often, in seconds.
IDLE_LOOK_SECONDS = 60.0
#: At least so many unused connections are kept, and at most a quarter of the descriptors that the process may have
#: beside those that every process has open.
MIN_IDLE, ALWAYS_OPEN = 8, 32
#: The selector is made anew when it has been ready for nothing so many times in a row.
MAX_VAIN = 100
#: How long no connection is accepted when one could not be, in seconds.
ACCEPT_PAUSE_SECONDS = 0.2
#: A turn ends after so many rounds, also when more keeps coming: its caller has other things to do.
MAX_ROUNDS = 8


class OpenSockets(dict[Any, Any]):
    """Thespian's idle connections by address, which tells what has changed in it."""

    def __init__(self) -> None:
        """Hold none."""
        super().__init__()
        self.by_fd: dict[int, Any] = {}
        self.changed: set[int] = set()
        self._fds: dict[Any, int] = {}

    def __setitem__(self, key: Any, item: Any) -> None:
        """Note the connection's descriptor."""
        self._forget(key)
        fd = item.socket.fileno()
        self._fds[key] = fd
        self.by_fd[fd] = item
        self.changed.add(fd)
        super().__setitem__(key, item)

    def __delitem__(self, key: Any) -> None:
        """Forget the connection's descriptor."""
        super().__delitem__(key)
        self._forget(key)

    def pop(self, key: Any, *default: Any) -> Any:
        """Take a connection out."""
        self._forget(key)
        return super().pop(key, *default)

    def _forget(self, key: Any) -> None:
        fd = self._fds.pop(key, None)
        if fd is not None:
            self.by_fd.pop(fd, None)
            self.changed.add(fd)


class PollingTransport(tcp.TCPTransport):  # type: ignore[misc]
    """A `TCPTransport` that keeps its selector."""

    def __init__(self, *args: Any) -> None:
        """Listen."""
        #: What is registered: by descriptor the connection (or the descriptor itself) and the events.
        self._registered: dict[int, tuple[Any, int]] = {}
        #: Descriptors that are looked at each time, as they come and go with single messages.
        self._passing: set[int] = set()
        #: How often the selector was ready for nothing that is known.
        self._vain = 0
        #: When connections are accepted again; 0: now.
        self._accept_from = 0.0
        #: Where the loop goes when the actor has one of its own; it does not come back.
        self.successor: Callable[[], NoReturn] | None = None
        self._succeeded = False
        #: Whether the registrations are as `tend` has left them.
        self._tended = False
        super().__init__(*args)
        # Thespian has made these; the first is replaced, the others are named here for the type checker.
        self._openSockets = OpenSockets()
        self._renew_selector()
        self._incomingEnvelopes: list[Any]
        self._finished_intents: list[Any]
        self._next_idle_look = time.monotonic() + IDLE_LOOK_SECONDS
        #: So many connections are kept for the next message; a further one closes those that are longest unused.
        self._max_idle = max(MIN_IDLE, (processes.descriptor_limit() - ALWAYS_OPEN) // 4)

    def close(self) -> None:
        """Close everything."""
        super().close()
        self._selector.close()

    def fileno(self) -> int:
        """Return a descriptor that is readable when `turn` has something to do."""
        return self._selector.fileno()

    # --- the loop -----------------------------------------------------------------------------------------------

    def _runWithExpiry(self, incomingHandler: Any) -> Any:  # noqa: N802, N803 - Thespian's names
        transmit_only = incomingHandler is TransmitOnly or isinstance(incomingHandler, TransmitOnly)
        self.__dict__.pop("_aborting_run", None)
        while self._goes_on():
            if self.run_time.view(currentTime()).expired():
                break
            if transmit_only:
                if not self._sending():
                    return 0
            elif (result := self._hand_over(incomingHandler)) is not None:
                return result
            elif self.successor is not None:
                successor, self.successor, self._succeeded = self.successor, None, True
                successor()
            before = self._sending()
            seconds = self._patience()
            ready = self._round(seconds, transmit_only)
            if not ready:
                if self.run_time.view().expired():
                    return Thespian__Run_Expired()
            elif transmit_only:
                if self._sending() < before or not self._sending():
                    return self._sending()
            elif (result := self._hand_over(incomingHandler)) is not None:
                return result
        return Thespian__Run_Terminated() if hasattr(self, "_aborting_run") else Thespian__Run_Expired()

    def _goes_on(self) -> bool:
        aborting = getattr(self, "_aborting_run", None)
        return aborting is None or (aborting and bool(self._sending()))

    def _sending(self) -> int:
        return len(self._transmitIntents) + len(self._waitingTransmits)

    def _hand_over(self, handler: Any) -> Any:
        """Give the handler what has come in; return what `run` is to return, None to go on."""
        while self._incomingEnvelopes:
            envelope = self._incomingEnvelopes.pop(0)
            if handler is None:
                return envelope
            result = Thespian__Run_HandlerResult(handler(envelope))
            if not result:
                return result
        return None

    def turn(self) -> list[Any]:
        """Do what there is to do, without waiting; return what has come in, for a loop of one's own."""
        registered, self._tended = self._tended, False
        for _ in range(MAX_ROUNDS):
            # A connection that is new, or in the middle of a frame, may have more; each of the others was looked at.
            if not self._round(0.0, False, registered) or not self._incomingSockets:
                break
            registered = False
        envelopes, self._incomingEnvelopes = self._incomingEnvelopes, []
        return envelopes

    def tend(self) -> float | None:
        """Bring the registrations up to date, for a loop of one's own; return the seconds until a turn is due."""
        with self._exclusively():
            self._register(False)
        self._tended = True
        return self._shortest_delay()

    def _patience(self) -> float | None:
        left: float | None = self.run_time.view(currentTime()).remainingSeconds()
        delay = self._shortest_delay()
        return left if delay is None else delay if left is None else min(left, delay)

    def _shortest_delay(self) -> float | None:
        if self._finished_intents or self._incomingEnvelopes:
            return 0.0
        now = currentTime()
        delays = [item.delay(now).total_seconds() for item in self._transmitIntents.values()]
        delays += [item.delay(now).total_seconds() for item in self._waitingTransmits]
        delays += [item.delay(now).total_seconds() for item in self._incomingSockets.values()]
        if self._accept_from:
            delays.append(self._accept_from - time.monotonic())
        return max(0.0, min(delays)) if delays else None

    def pause_accepting(self) -> None:
        """Leave new connections where they are for a moment."""
        self._accept_from = time.monotonic() + ACCEPT_PAUSE_SECONDS

    @contextlib.contextmanager
    def _exclusively(self) -> Iterator[None]:
        """Keep other threads that send out (Thespian's own does not let them in again after an error)."""
        while not self._exclusively_processing():
            time.sleep(0.000001)
        try:
            yield
        finally:
            self._not_processing()

    # --- one wait -----------------------------------------------------------------------------------------------

    def _round(self, seconds: float | None, transmit_only: bool, registered: bool = False) -> bool:
        """Wait at most so long, then handle what is ready; return whether anything was."""
        if not registered:
            with self._exclusively():
                self._register(transmit_only)
        readable, writable = [], []
        for key, events in self._select(seconds):
            if events & READ:
                readable.append(key.fd)
            if events & WRITE:
                writable.append(key.fd)
        with self._exclusively():
            idle = [(fd, self._openSockets.by_fd[fd]) for fd in readable if fd in self._openSockets.by_fd]
            for fd in readable:
                self._readable(fd, transmit_only)
            for fd, item in idle:
                self._idle_readable(fd, item)
            for fd in writable:
                self._processIntents(fd)
            self._look_at_limits()
            watched = [fd for fd in self._watches if fd in readable]
            if watched:
                self._incomingEnvelopes.append(ReceiveEnvelope(self.myAddress, WatchMessage(watched)))
        done, self._finished_intents = self._finished_intents, []
        for intent, status in done:
            intent.tx_done(status)
        return bool(readable or writable)

    def _select(self, seconds: float | None) -> list[tuple[selectors.SelectorKey, int]]:
        began = time.monotonic()
        ready = self._selector.select(seconds)
        # A connection that was closed stays in the selector while a child that was just forked has a copy of it. That
        # is over in no time, unless the child is stopped in the middle: then the selector would be ready for ever.
        if ready or (seconds is not None and time.monotonic() - began >= seconds):
            self._vain = 0
        else:
            self._vain += 1
            if self._vain > MAX_VAIN and not self._succeeded:
                self._selector.close()
                self._renew_selector()
        return ready

    def _readable(self, fd: int, transmit_only: bool) -> None:
        if fd == self._listening and not transmit_only:
            self._acceptNewIncoming()
        elif fd in self._incomingSockets:
            self._keep(self._handlePossibleIncoming(self._incomingSockets.pop(fd), fd, has_exclusive_flag=True))
        else:
            self._processIntents(fd)

    def _idle_readable(self, fd: int, item: Any) -> None:
        if fd not in self._openSockets.by_fd or self._openSockets.by_fd[fd] is not item:
            return  # what was handled before has taken or closed it
        del self._openSockets[tcp.opsKey(item.rmtaddr)]
        incoming = tcp.TCPIncomingPersistent(item.rmtaddr, item.socket)
        self._keep(self._handlePossibleIncoming(incoming, fd, has_exclusive_flag=True))

    def _keep(self, incoming: Any) -> None:
        if incoming is not None:
            self._incomingSockets[incoming.socket.fileno()] = incoming

    def _look_at_limits(self) -> None:
        if self._sending():
            self._processIntentTimeouts()
        for fd, incoming in list(self._incomingSockets.items()):
            left = self._handlePossibleIncoming(incoming, -1, has_exclusive_flag=True)
            if left is None:
                self._incomingSockets.pop(fd, None)
            else:
                self._incomingSockets[fd] = left
        if len(self._openSockets) > self._max_idle:
            self.close_oldest_idle_sockets(len(self._openSockets) - self._max_idle * 3 // 4)
        if time.monotonic() >= self._next_idle_look:
            self._next_idle_look = time.monotonic() + IDLE_LOOK_SECONDS
            for key, item in list(self._openSockets.items()):
                if item.expired():
                    del self._openSockets[key]
                    tcp._safeSocketShutdown(item)

    # --- registrations ------------------------------------------------------------------------------------------

    def _register(self, transmit_only: bool) -> None:
        """Have the selector watch what is to be watched now; only what may have changed is looked at."""
        wanted: dict[int, tuple[Any, int]] = {fd: (fd, READ) for fd in self._watches}
        if self._accept_from and time.monotonic() >= self._accept_from:
            self._accept_from = 0.0
        if not transmit_only and not self._accept_from:
            wanted[self._listening] = (self.socket, READ)
        for incoming in self._incomingSockets.values():
            if not incoming.backoffPause():
                wanted[incoming.socket.fileno()] = (incoming.socket, READ)
        for intent in self._transmitIntents.values():
            if not intent.backoffPause() and hasattr(intent, "socket"):
                events = WRITE if self._waitForSendable(intent) else READ
                wanted[intent.socket.fileno()] = (intent.socket, events)
        open_sockets = self._openSockets
        for fd in self._passing.union(open_sockets.changed).difference(wanted):
            idle = open_sockets.by_fd.get(fd)
            self._watch_fd(fd, None if idle is None else (idle.socket, READ))
        open_sockets.changed.clear()
        for fd, what in wanted.items():
            self._watch_fd(fd, what)
        self._passing = set(wanted)

    @property
    def _listening(self) -> int:
        return self.socket.fileno()  # type: ignore[no-any-return]

    def _watch_fd(self, fd: int, what: tuple[Any, int] | None) -> None:
        known = self._registered.get(fd)
        if known == what:
            return
        if known is not None and what is not None and known[0] is what[0]:
            self._selector.modify(fd, what[1])
        else:
            # Another connection may have got the descriptor of one that was closed, and the kernel forgets closed ones.
            if known is not None:
                self._selector.unregister(fd)
            if what is not None:
                self._selector.register(fd, what[1])
        if what is None:
            self._registered.pop(fd, None)
        else:
            self._registered[fd] = what

    def _renew_selector(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._registered = {}
        self._passing = set()
        self._vain = 0
        self._openSockets.changed.update(self._openSockets.by_fd)
