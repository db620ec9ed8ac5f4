"""`capture_events`: what is emitted while a test runs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from dspex_actors.client import system as connections
from dspex_actors.client.system import System
from dspex_actors.foundation.events.event import Event
from dspex_actors.foundation.events.outlet import open_outlet
from dspex_actors.observe.events.observers import observe_operations


@contextmanager
def capture_events(system: System | None = None) -> Iterator[list[Event]]:
    """Give a list of the events that are emitted in this program and on the node from now on.

    Those of this program are in it at once; those of the node's processes come when the `with` ends, which waits until
    all that was emitted by then is there, and puts the list in the order of time.

    Args:
        system: the connection; None: the current one, and where there is none this program's events only.
    """
    if system is None and connections._current:
        system = connections._current[-1]
    last = None if system is None else system.events.last()
    found: list[Event] = []
    close = open_outlet(lambda event, record: found.append(event))
    observe_operations()
    try:
        yield found
    finally:
        close()
        if system is not None and last is not None:
            known = {event.id for event in found}
            found += [event for event in system.events.since(last) if event.id not in known]
            found.sort(key=lambda event: (event.at, event.id))
