"""The Thespian side of sending: parcels to addresses, and the end of a process once they are out."""

from __future__ import annotations

import contextlib
import os
import time
from collections import deque
from collections.abc import Callable, Iterable
from datetime import timedelta
from functools import lru_cache
from typing import Any, NoReturn

from thespian.actors import ActorAddress
from thespian.system.transport import SendStatus, TransmitIntent, TransmitOnly
from thespian.system.transport.TCPTransport import TCPTransport

from supervisors.terms.errors import NoProcess
from supervisors.terms.reason import NOPROC
from supervisors.wire.messages import Call, Message, Reply, System, Watch, encode, open_parcel, parcel
from supervisors.wire.values import pack

#: A parcel is closed when it has grown to this many bytes.
PARCEL_BYTES = 1 << 20
#: Messages wait so long for a receiver whose handler blocks; Thespian would drop them after 5 minutes. One that has
#: died refuses the connection, and is found out at once.
MAX_PERIOD = timedelta(days=7)
#: A process that ends waits for its last words to get out as long as some of them move, at most so many seconds.
DRAIN_SECONDS = 30.0
#: None move when no byte has left for this many seconds, and as many more as a receiver needs for what it has got.
STALL_SECONDS, BYTES_PER_SECOND = 1.0, 20e6
#: Then it looks for this many seconds whether calls have come in that it must refuse.
LINGER_SECONDS = 0.002


@lru_cache(maxsize=512)
def address(host: str, port: int) -> ActorAddress:
    """Return the Thespian address of a mailbox."""
    return TCPTransport.getAddressFromString((host, port))


class PostOffice:
    """Sends encoded messages of one process, many to a parcel; only in the thread that runs Thespian."""

    def __init__(self, manager: Any, undelivered: Callable[[bytes], None]) -> None:
        """Use the actor's Thespian manager; hand back a parcel when nobody listens at its address."""
        self._manager = manager
        self._undelivered = undelivered
        # What waits for a parcel that is on its way to the same mailbox. Thespian would count each parcel against all
        # that this process may have under way, so that one stuck receiver would keep everything else from going.
        self._waiting: dict[tuple[str, int], deque[bytes]] = {}
        #: Told when nothing is on its way any more to those to whom something was when they were put here.
        self._hoping: list[tuple[set[tuple[str, int]], Callable[[], None]]] = []
        manager.transport.enableRXPauseFlowControl(False)

    def send(self, host: str, port: int, messages: list[bytes]) -> None:
        """Send messages to one mailbox, in order."""
        waiting = self._waiting.get((host, port))
        if waiting is None:
            self._waiting[host, port] = deque(messages)
            self._send_next((host, port))
        else:
            waiting.extend(messages)

    def when_sent(self, callback: Callable[[], None]) -> None:
        """Call back once all that was sent by now has arrived, or cannot arrive."""
        if self._waiting:
            self._hoping.append((set(self._waiting), callback))
        else:
            callback()

    def _is_sent(self, where: tuple[str, int]) -> None:
        hoping, self._hoping = self._hoping, []
        for rest, callback in hoping:
            rest.discard(where)
            if rest:
                self._hoping.append((rest, callback))
            else:
                callback()

    def _send_next(self, where: tuple[str, int]) -> None:
        """Send a parcel of what waits for a mailbox, and the next one when that has arrived or failed."""
        waiting = self._waiting[where]
        if not waiting:
            del self._waiting[where]
            if self._hoping:
                self._is_sent(where)
            return

        def arrived(status: Any, intent: Any) -> None:
            self._send_next(where)

        def failed(status: Any, intent: Any) -> None:
            if status == SendStatus.DeadTarget:
                self._undelivered(intent.message)
            self._send_next(where)

        data = _next_parcel(waiting)
        intent = TransmitIntent(address(*where), data, onSuccess=arrived, onError=failed, maxPeriod=MAX_PERIOD)
        self._manager._send_intent(intent)

    def send_to_child(self, child: ActorAddress, message: bytes) -> None:
        """Send to a child that may still be starting; Thespian keeps it until the child is there."""
        self._manager._send_intent(TransmitIntent(child, parcel([message]), maxPeriod=MAX_PERIOD))

    def forget_child(self, child: ActorAddress) -> None:
        """Let go of the address of a child that is gone; Thespian would keep it as long as this process lives."""
        self._manager._addrManager._managed[child.addressDetails.addressInstanceNum] = None

    def drain_and_exit(self, leftovers: Callable[[], None] = lambda: None) -> NoReturn:
        """Wait until everything is sent (bounded), refuse the calls that came too late, then end the process.

        Args:
            leftovers: refuses what has been taken in and not been delivered.

        `os._exit`: the interpreter's own end would wait for threads that user code may have left.
        """
        with contextlib.suppress(Exception):
            # Thespian's `run` waits for the next wakeup, even when that is after the time that it is given.
            self._manager.transport._pendingWakeups.clear()
            deadline = time.monotonic() + DRAIN_SECONDS
            self._drain(deadline)
            self._manager.transport.run(self._refuse, timedelta(seconds=LINGER_SECONDS))
            leftovers()
            self._drain(deadline)
        os._exit(0)

    def _drain(self, deadline: float) -> None:
        transport = self._manager.transport
        #: How much of each intent has gone out; one that is tried again begins anew, which is no progress.
        sent: dict[Any, int] = {}
        stalls_at = time.monotonic() + STALL_SECONDS
        while (now := time.monotonic()) < deadline and self._sending():
            for intent in transport._transmitIntents.values():
                out = getattr(intent, "amtSent", 0)
                if out > sent.get(intent, -1):
                    sent[intent] = out
                    stalls_at = max(stalls_at, now + STALL_SECONDS + out / BYTES_PER_SECOND)
            if now > stalls_at:
                return
            for intent in transport._waitingTransmits:
                if hasattr(intent, "_retryTime"):  # to a process that died: it will not get better by waiting
                    intent.retry(immediately=True)
            transport.run(TransmitOnly, timedelta(seconds=0.05))

    def _sending(self) -> bool:
        transport = self._manager.transport
        return bool(transport._transmitIntents or transport._waitingTransmits or transport._aTB_queuedPendingTransmits)

    def _refuse(self, envelope: Any) -> bool:
        if type(envelope.message) is bytes:
            self.refuse(open_parcel(envelope.message))
        return True

    def refuse(self, messages: Iterable[Message]) -> None:
        """Answer the calls among messages that came while the process ended: they were not carried out."""
        for message in messages:
            if isinstance(message, Call | System | Watch):
                who = message.watcher if isinstance(message, Watch) else message.sender
                gone = pack(NoProcess("the process ended before it took this call", reason=NOPROC))
                self.send(who.host, who.port, [encode(Reply(who.uid, message.id, False, gone))])


def _next_parcel(waiting: deque[bytes]) -> bytes:
    """Take messages out, as many as go into one parcel."""
    batch = [waiting.popleft()]
    size = len(batch[0])
    while waiting and size + len(waiting[0]) <= PARCEL_BYTES:
        size += len(waiting[0])
        batch.append(waiting.popleft())
    return parcel(batch)
