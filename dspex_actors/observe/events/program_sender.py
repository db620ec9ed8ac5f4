"""Sends what a program outside has emitted to the actor `events` of the node that it is connected to."""

from __future__ import annotations

import atexit
import contextlib
import os
import threading
import time
import weakref
from contextvars import Context

from dspex_actors.foundation.events.event import Event
from dspex_actors.foundation.events.outlet import open_outlet, set_place
from dspex_actors.foundation.events.record import Record
from dspex_actors.observe.away import is_gone
from dspex_actors.observe.branch import ensure_from_program
from dspex_actors.observe.events.messages import EVENTS, Flush, Keep, keep
from dspex_actors.observe.events.observers import observe_operations
from dspex_actors.observe.events.outbox import SEND_SECONDS, Outbox
from dspex_actors.observe.events.sending import AGAIN_MOST, AGAIN_SECONDS, ANSWER_SECONDS, events_spec
from supervisors import Node
from supervisors.errors import CallFailed, NodeDown, NoProcess, SupervisorsError

#: At the end of a program what it has emitted is sent within so many seconds, or left.
CLOSE_SECONDS = 2.0
#: Who waits for what is sent looks this often whether the node is gone, in seconds.
LOOK_SECONDS = 0.1


class ProgramSender:
    """Tells a node what happens in this program, until it is closed.

    Args:
        node: the connection.
    """

    def __init__(self, node: Node) -> None:
        """Begin; the actor is started, and a thread here, when there is a first event."""
        self._node = node
        self._begin()
        self.outbox = Outbox(self._start)
        self._closed = False
        self._close_outlet = open_outlet(self._take, of=self)
        self._be_here()
        observe_operations()
        _senders.add(self)

    def _be_here(self) -> None:
        set_place(str(self._node.info["name"]), f"program:{os.getpid()}")

    def _begin(self) -> None:
        self._lock = threading.RLock()
        self._ready = threading.Event()
        self._handled = 0
        #: Whether the node was not there when it was asked last.
        self._is_away = False
        self._progress = threading.Condition()
        self._thread: threading.Thread | None = None

    def _take(self, event: Event, record: Record) -> None:
        self.outbox.put(record)

    def _start(self) -> None:
        self._ready.set()
        with self._lock:
            if self._thread is None and not self._closed:
                self._thread = threading.Thread(target=self._run, name="events-sender", daemon=True)
                Context().run(self._thread.start)  # its calls belong to no operation

    def _run(self) -> None:
        sent = 0.0
        while not self._closed:
            self._ready.wait()
            self._ready.clear()
            # What comes after a pause goes at once, what comes then together.
            if not self._closed and (left := sent + SEND_SECONDS - time.monotonic()) > 0:
                time.sleep(left)
            while self.outbox:
                records, dropped = self.outbox.take()
                if not self._deliver(keep(records, dropped)):
                    self.outbox.lost(len(records) + dropped)
                with self._progress:
                    self._handled += len(records)
                    self._progress.notify_all()
            sent = time.monotonic()

    def _deliver(self, message: Keep) -> bool:
        """Send a batch until it is in the store; return False when that is of no use."""
        pause = AGAIN_SECONDS
        while not self._closed:
            try:
                self._node.call(EVENTS, message, ANSWER_SECONDS)
                self._is_away = False
                return True
            except CallFailed:
                return False
            except NoProcess:
                with contextlib.suppress(SupervisorsError):
                    ensure_from_program(self._node, events_spec())
                    continue
            except NodeDown:
                self._is_away = True
            except SupervisorsError:
                pass
            time.sleep(pause)
            pause = min(AGAIN_MOST, pause * 2)
        return False

    def _sent(self, seconds: float) -> bool:
        """Wait until what was emitted here is in the store; not for a node that is gone."""
        target, until = self.outbox.accepted, time.monotonic() + seconds
        with self._progress:
            while self._handled < target:
                left = until - time.monotonic()
                if left <= 0 or (self._is_away and is_gone(self._node)):
                    return False
                self._progress.wait(min(left, LOOK_SECONDS))
        return True

    def flush(self, seconds: float = ANSWER_SECONDS) -> bool:
        """Wait until what was emitted on this node and in this program is in the store; return whether it is."""
        if not self._sent(seconds):
            return False
        try:
            self._node.call(EVENTS, Flush(), seconds)
        except NoProcess:
            return True  # nobody has emitted anything
        except SupervisorsError:
            return False
        return True

    def close(self) -> None:
        """Send the rest, and end."""
        if self._closed:
            return
        self._close_outlet()
        self._sent(CLOSE_SECONDS)
        self._closed = True
        self._ready.set()
        _senders.discard(self)

    def after_fork(self) -> None:
        """Be without a thread, and with nothing to send: the parent sends what is its own."""
        self._begin()
        self._be_here()
        self.outbox.clear()


_senders: weakref.WeakSet[ProgramSender] = weakref.WeakSet()


def _at_exit() -> None:
    for sender in list(_senders):
        sender.close()


def _after_fork() -> None:
    for sender in list(_senders):
        sender.after_fork()


atexit.register(_at_exit)
os.register_at_fork(after_in_child=_after_fork)
