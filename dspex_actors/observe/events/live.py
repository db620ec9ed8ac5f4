"""Events as they come: a thread of the program's reads what is new in the store and gives it to a handler.

The queue is the store itself: whoever is slow reads later. Where more than `MOST_WAITING` events wait, the older ones
are left out and counted. So it does not matter to a subscriber that the actor `events` dies.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from contextvars import Context
from typing import Any

from dspex_actors.errors import DspexError
from dspex_actors.foundation.checks import check_handler
from dspex_actors.foundation.events.event import Event
from dspex_actors.foundation.events.record import to_event
from dspex_actors.foundation.repeats import Repeats
from dspex_actors.observe.branch import ensure_from_program
from dspex_actors.observe.events.messages import EVENTS, Await
from dspex_actors.observe.events.reader import EventReader
from dspex_actors.observe.events.sending import events_spec
from supervisors import Node
from supervisors.errors import NoProcess, SupervisorsError

#: So many events wait for a handler at most; it is given so many between two looks at what waits.
MOST_WAITING, AT_ONCE = 10_000, 500
#: A handler that has failed so often in a row is given nothing more.
FAILURES = 10
#: News are waited for so long at a time; after an error it is tried again after so many seconds.
_WAIT_SECONDS, _AGAIN_SECONDS = 20.0, 0.2
#: Gets an event.
Handler = Callable[[Event], Any]
_log = logging.getLogger("dspex_actors.events")


class Subscription:
    """What `subscribe` returns.

    Args:
        node: the connection.
        reader: of the node's store.
        names: types of events; None: all.
        handler: gets each event, in the order in which they came in.
    """

    def __init__(self, node: Node, reader: EventReader, names: list[str] | None, handler: Handler) -> None:
        """Begin with what comes from now on."""
        check_handler(handler, "a function of one event")
        self._node, self._reader, self._names, self._handler = node, reader, names, handler
        self._lock = threading.RLock()
        self._cancelled = threading.Event()
        self._failures = 0
        self._repeats = Repeats(_log)
        #: Events that were left out since the handler was too slow.
        self.dropped = 0
        #: Why the handler is given nothing more; None: it is, or it was cancelled.
        self.detached: BaseException | None = None
        self._seq = reader.last()
        self._thread = threading.Thread(target=self._run, name="events-subscriber", daemon=True)
        Context().run(self._thread.start)

    def __repr__(self) -> str:
        """Show what it is told of, and whether it is."""
        what = "all events" if self._names is None else ", ".join(self._names)
        state = (
            "active" if self.active else "cancelled" if self.detached is None else f"detached: {self.detached!r:.80}"
        )
        return f"<Subscription to {what}, {state}>"

    def cancel(self) -> None:
        """End it: when this returns the handler is not called any more."""
        self.let_go()
        with self._lock:
            pass

    def let_go(self) -> None:
        """End it; a call that is under way ends by itself, or never."""
        self._cancelled.set()

    @property
    def active(self) -> bool:
        """Whether the handler is given events."""
        return not self._cancelled.is_set()

    def _run(self) -> None:
        while self.active:
            try:
                events, self._seq, left_out = self._reader.after(self._seq, self._names, AT_ONCE, MOST_WAITING)
                self.dropped += left_out
                for record in events:
                    self._give(to_event(record))
                if not events:
                    self._wait()
            except (SupervisorsError, DspexError):
                self._cancelled.wait(_AGAIN_SECONDS)  # the node is away, or its store
            except Exception:
                _log.exception("events could not be read for a subscriber; it goes on")
                self._cancelled.wait(_AGAIN_SECONDS)

    def _wait(self) -> None:
        try:
            self._node.call(EVENTS, Await(self._seq, _WAIT_SECONDS), _WAIT_SECONDS + 5.0)
        except NoProcess:
            ensure_from_program(self._node, events_spec())

    def _give(self, event: Event) -> None:
        with self._lock:
            if not self.active:
                return
            try:
                self._handler(event)
            except Exception as error:
                self._failures += 1
                if self._failures >= FAILURES:
                    self.detached = error
                    self._cancelled.set()
                over = f": it has failed {FAILURES} times in a row and is given no more" if self.detached else ""
                what = f"a subscriber's handler failed on an event of type {event.type}{over}"
                self._repeats.log(error, what, last=self.detached is not None)
            else:
                self._failures = 0
