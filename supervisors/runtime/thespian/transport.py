"""Thespian's TCP transport over authenticated frames.

Thespian binds to all interfaces and unpickles whatever arrives. `SecureTCPTransport` keeps its queues,
retries and main loop, and replaces what touches bytes: how a message becomes bytes, how a connection is
accepted, read and acknowledged. `patches.install` has to be called first.

A frame's acknowledgement is a frame itself, addressed to the identity of the sender's process and naming
the counter it answers, so that no other acknowledgement can stand in for it.
"""

import contextlib
import os
import pickle
import socket
import weakref
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from thespian.actors import ActorAddress
from thespian.system.addressManager import CannotPickleAddress
from thespian.system.transport import ReceiveEnvelope, SendStatus
from thespian.system.transport import TCPTransport as tcp  # noqa: N813 - a module

from supervisors.host import security_log
from supervisors.runtime.thespian import allowlist
from supervisors.runtime.thespian.lobby import Guest, Lobby
from supervisors.runtime.thespian.patches import Incoming, installed_codec
from supervisors.runtime.thespian.polling import PollingTransport
from supervisors.runtime.thespian.sockets import is_closed, peer_of, receive
from supervisors.wire.frames import Frame, FrameError, FrameReader, Opener, counter_of, identity_of

__all__ = ["SecureTCPTransport", "on_transport_start"]

on_transport_start: list[Callable[[bool, Any], None]] = []
"""Called with (is this the admin, the transport) when the admin or an actor has its transport."""

_ACK = b"\x06"
_NAK = b"\x15"
# Thespian waits 35 s, 70 s, 105 s … between attempts; this spreads its 20 attempts over the same 5 minutes.
_RETRY_STEP = timedelta(seconds=1.4)
_FIRST_RETRY = timedelta(seconds=0.01)

_transports: "weakref.WeakSet[SecureTCPTransport]" = weakref.WeakSet()


def _address_of(address: Any) -> str:
    """Return "ip:port" of a Thespian address."""
    sockname = getattr(address.addressDetails, "sockname", None)
    if sockname is None:
        raise CannotPickleAddress(address)
    return f"{sockname[0]}:{sockname[1]}"


class SecureTCPTransport(PollingTransport):
    """A `TCPTransport` that speaks sealed frames only and listens on the node's own address only."""

    def __init__(self, init_type: Any, *args: Any) -> None:
        """Listen; tell `on_transport_start` if this is a process of the node."""
        self._codec = installed_codec()
        self._lobby = Lobby()
        #: Acknowledge at the end of a turn (`tend`), not before what came is handled. Only for a process that runs no
        #: user code: a sender that gets no acknowledgement takes it that its message was not handled.
        self.acknowledges_late = False
        self._owed: list[tuple[socket.socket, bytes]] = []
        # Thespian makes these; named here for the type checker.
        self._incomingSockets: dict[int, Any]
        self._transmitIntents: dict[int, Any]
        self._waitingTransmits: list[Any]
        super().__init__(init_type, *args)
        self.socket.setblocking(False)
        host, port = self.socket.getsockname()
        self._opener = Opener(self._codec, f"{host}:{port}")
        _transports.add(self)
        if isinstance(init_type, tcp.TCPEndpoint):
            assigned = init_type.args[1]
            for hook in on_transport_start:
                hook(assigned is not None and assigned == self._adminAddr, self)

    def external_transport_clone(self) -> "SecureTCPTransport":
        """Return another endpoint of this program, just as secure."""
        return type(self)(tcp.ExternalTransportCopy(), self._adminAddr, self.txOnly, False)

    def close(self) -> None:
        """Close everything; the transport is of no further use."""
        _transports.discard(self)
        super().close()
        lobby = self.__dict__.pop("_lobby", None)
        if lobby is not None:
            lobby.close()

    def abandon(self) -> None:
        """Close this process's copies of a transport that belongs to the process it was forked from.

        The bare descriptors only: to touch an object costs a forked process the copy of a page, a shutdown would end
        the connections of the parent as well, and to change a selector changes the one that is shared with it.
        """
        held = {self.socket.fileno(), self._selector.fileno(), *self._openSockets.by_fd}
        held.update(self._incomingSockets, self._transmitIntents, self._lobby.descriptors())
        for fd in held:
            with contextlib.suppress(OSError):
                os.close(fd)

    def childResetFileNumList(self) -> list[int]:  # noqa: N802
        """Nothing for a forked child to close: `abandon` has done it by then."""
        return []

    def lostRemote(self, rmtaddr: Any) -> None:  # noqa: N802
        """Close the connections to a host that is gone; strangers have no host yet."""
        self._incomingSockets.pop(self._lobby.fileno(), None)
        super().lostRemote(rmtaddr)
        self._show_lobby()

    # --- sending ----------------------------------------------------------------------------------------

    def serializer(self, intent: Any) -> bytes:
        """Return the message as bytes; they are sealed when they go out."""
        _address_of(intent.targetAddr)
        data = pickle.dumps((self.myAddress, intent.message), 5)
        self._codec.check_size(len(data))
        intent.pickled = intent.message
        # Should it be sent once more after all, it is sealed anew.
        intent.counter = None
        return data

    def _next_XMIT_1(self, intent: Any) -> Any:  # noqa: N802
        idle = self._openSockets.get(tcp.opsKey(intent.targetAddr))
        if idle is not None and is_closed(idle.socket):
            # Sending there would fail, and Thespian takes some of these failures for a dead actor.
            del self._openSockets[tcp.opsKey(intent.targetAddr)]
            idle.socket.close()
        try:
            return super()._next_XMIT_1(intent)
        except OSError as error:  # no file descriptor or no memory for a connection: there will be
            tcp.thesplog("cannot connect to %s: %s", intent.targetAddr, error)
            intent.stage = self._XMITStepRetry
            return self._nextTransmitStep(intent)

    def _next_XMIT_2(self, intent: Any) -> Any:  # noqa: N802
        if intent.counter is None:
            if intent.pickled is not intent.message:
                intent.serMsg = self.serializer(intent)
            # Sealed once: a retransmission is the same frame, which the receiver knows and acknowledges.
            frame = self._codec.seal(intent.serMsg, _address_of(intent.targetAddr))
            intent.counter = counter_of(frame)
            intent.serMsg = memoryview(frame)
        again = super()._next_XMIT_2(intent)
        if intent.stage == self._XMITStepShutdownWrite:
            return self._next_XMIT_3(intent)
        return again

    def _next_XMIT_3(self, intent: Any) -> bool:  # noqa: N802
        intent.ackbuf = FrameReader(self._opener)
        intent.stage = self._XMITStepWaitForAck
        return True

    def _next_XMIT_4(self, intent: Any) -> Any:  # noqa: N802
        try:
            while not (frames := receive(intent.socket, intent.ackbuf)):
                continue
        except BlockingIOError:
            return True
        except FrameError as error:
            security_log.refused(intent.targetAddr.addressDetails.sockname[0], error)
            frames = None
        except OSError:
            frames = None
        status = None
        for frame in frames or ():
            if not frame.personal:
                # The peer sends to us at the same time; its message comes before its acknowledgement.
                self._deliver(frame, intent.socket)
                return True
            if not frame.replayed and frame.payload[1:] == intent.counter.to_bytes(8, "big"):
                status = {_ACK: SendStatus.Sent, _NAK: SendStatus.BadPacket}.get(frame.payload[:1])
        if status is None:
            intent.stage = self._XMITStepRetry
        else:
            intent.result = status
            intent.stage = self._XMITStepFinishCleanup
        return self._nextTransmitStep(intent)

    def _next_XMIT_6(self, intent: Any) -> Any:  # noqa: N802
        # A connection that breaks is most often that of a process that has just died: the next attempt shows it, and
        # what waits behind this message must not wait for long.
        intent.transmit_retry_period = min(_RETRY_STEP, _FIRST_RETRY * 2**intent._attempts)
        return super()._next_XMIT_6(intent)

    # --- receiving --------------------------------------------------------------------------------------

    def _acceptNewIncoming(self) -> None:  # noqa: N802
        self._check_indicators()
        while True:
            try:
                sock, (source, _port) = self.socket.accept()
            except BlockingIOError:
                break
            except OSError as error:
                tcp.thesplog("cannot accept a connection: %s", error)
                if tcp.err_too_many_open_sockets(error):
                    self.close_oldest_idle_sockets(3)
                self.pause_accepting()  # it would be ready at once, and for nothing
                break
            sock.setblocking(False)
            # macOS refuses this for a connection that has ended already.
            with contextlib.suppress(OSError):
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._lobby.full:
                # Its header may be there already: then it is no stranger.
                self._greet(self._lobby.oldest)
            if self._lobby.full:
                self._turn_away(self._lobby.oldest)
            self._lobby.admit(sock, source, FrameReader(self._opener))
        self._show_lobby()

    def _show_lobby(self) -> None:
        if len(self._lobby):
            self._incomingSockets[self._lobby.fileno()] = self._lobby

    def _turn_away(self, guest: Guest) -> None:
        self._lobby.release(guest).close()
        security_log.note("unauthenticated", guest.source, "it showed no key in time and was closed")

    def _greet(self, guest: Guest) -> None:
        try:
            data = guest.sock.recv(guest.reader.needed)
            guest.reader.frames(data)
        except BlockingIOError:
            return
        except FrameError as error:
            security_log.refused(guest.source, error)
            data = b""
        except OSError:
            data = b""
        if not data:
            self._lobby.release(guest).close()
        elif guest.reader.authenticated:
            sock = self._lobby.release(guest)
            incoming = self._read(Incoming(ActorAddress(None), sock, guest.reader))
            if incoming is not None:
                self._incomingSockets[incoming.socket.fileno()] = incoming

    def _handlePossibleIncoming(  # noqa: N802
        self, incoming: Any, fileno: int, closed: bool = False, has_exclusive_flag: bool = False
    ) -> Any:
        if incoming is self._lobby:
            # -1: Thespian asks for time-outs only, and iterates over what a greeting would change.
            if fileno != -1:
                for guest in self._lobby.speaking():
                    self._greet(guest)
            for guest in self._lobby.overdue():
                self._turn_away(guest)
            return self._lobby if len(self._lobby) else None
        if closed or incoming.expired:
            incoming.close()
            return None
        return incoming if fileno == -1 else self._read(incoming)

    def _read(self, incoming: Incoming) -> Incoming | None:
        incoming.reader = incoming.reader or FrameReader(self._opener)
        try:
            while not (frames := receive(incoming.socket, incoming.reader)):
                continue
        except BlockingIOError:
            return incoming
        except FrameError as error:
            security_log.refused(peer_of(incoming.socket), error)
            frames = []
        except OSError:
            frames = []
        sender = self._deliver(frames[0], incoming.socket) if frames else None
        if sender is None:
            incoming.close()
            return None
        incoming.fromAddress = sender
        self._finishIncoming(incoming, sender)
        return None

    def _deliver(self, frame: Frame, sock: socket.socket) -> Any:
        """Acknowledge one frame and queue its message; return who sent it, None if it was not taken."""
        answer, sender, message = _NAK, None, None
        if frame.replayed:
            # Its first copy was delivered. Whoever repeats it may not be its sender, so the connection is
            # not kept as a way to it.
            answer = _ACK
        elif not frame.personal:
            try:
                sender, message = allowlist.loads(frame.payload)
                if not isinstance(sender, ActorAddress):
                    raise pickle.UnpicklingError("the sender is no address")
                answer = _ACK
            except Exception as error:  # a damaged pickle can raise anything
                sender = None
                security_log.note("refused message", peer_of(sock), str(error))
        reply = self._codec.seal(answer + frame.counter.to_bytes(8, "big"), identity_of(frame.sender))
        if self.acknowledges_late and answer == _ACK:
            self._owed.append((sock, reply))
        else:
            _acknowledge(sock, reply)
        if sender is not None:
            self._processReceivedEnvelope(ReceiveEnvelope(sender, message), has_exclusive_flag=True)
        return sender

    def tend(self) -> float | None:
        """Acknowledge what is owed, and do what every transport does between two turns."""
        if self._owed:
            owed, self._owed = self._owed, []
            for sock, reply in owed:
                _acknowledge(sock, reply)
        return super().tend()


def _acknowledge(sock: socket.socket, reply: bytes) -> None:
    try:
        sock.send(reply)
    except OSError as error:
        # The message is good all the same; its sender will repeat it and be acknowledged then.
        tcp.thesplog("cannot acknowledge: %s", error)


#: Transports of the process that this one was forked from; kept, since what is freed closes its descriptors again.
_abandoned: "list[SecureTCPTransport]" = []


def _abandon_after_fork() -> None:
    inherited = list(_transports)
    _transports.clear()
    for transport in inherited:
        transport.abandon()
    _abandoned.extend(inherited)


os.register_at_fork(after_in_child=_abandon_after_fork)
