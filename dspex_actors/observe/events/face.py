"""`system.events`: what happens on a node and in the programs that are connected to it."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from weakref import WeakSet

from dspex_actors.errors import ConfigError
from dspex_actors.foundation.codec import json_text
from dspex_actors.foundation.events.event import Event
from dspex_actors.foundation.events.outlet import Parent, emit
from dspex_actors.foundation.events.record import to_dict, to_event
from dspex_actors.foundation.files import replaced
from dspex_actors.observe.events.live import Subscription
from dspex_actors.observe.events.program_sender import ProgramSender
from dspex_actors.observe.events.reader import EventReader, Types, type_names
from dspex_actors.observe.events.store import EVENTS_FILE
from dspex_actors.observe.events.tree import TraceNode, tree_of
from supervisors import Node

#: Many events are read so many at a time.
_PAGE = 1000


class Events:
    """The events of a node.

    What reads sees what was emitted before on the node and in this program; that takes some 80 ms, for queues.
    Each call that waits has an async twin with `a` in front.

    Args:
        node: the connection.
        data_dir: the node's data folder.
    """

    def __init__(self, node: Node, data_dir: Path) -> None:
        """Use `system.events` instead."""
        self._node = node
        self._sender: ProgramSender | None = None
        self._subscriptions: WeakSet[Subscription] = WeakSet()
        self._reader = EventReader(data_dir / EVENTS_FILE)

    def __repr__(self) -> str:
        """Show where they are stored."""
        return f"<Events in {self._reader.path}{'' if self._sender is not None else ', none are taken any more'}>"

    def begin(self, sender: ProgramSender) -> None:
        """Take events in; `sender` tells the node of them."""
        self._sender = sender

    def close(self) -> None:
        """End the subscriptions and take no more events; what is stored can be read as long as it is there."""
        self._sender = None
        for subscription in list(self._subscriptions):
            subscription.let_go()

    def _settle(self) -> None:
        if self._sender is not None:
            self._sender.flush()

    def emit(self, event: Event, parent: Parent | None = None) -> Event:
        """Emit an event; it is in the store within 100 ms, and never waited for.

        Args:
            event: what happened.
            parent: the event or operation that it came from, or its id; None: the open operation.

        Returns:
            The event with its correlation id, parent, node and actor.

        Raises:
            ConfigError: it cannot be stored: a field is no JSON data, or it has more than 256 KB; names the field. Or
                the connection is closed.
        """
        if self._sender is None:
            raise ConfigError("this connection is closed: make another one with dspex.connect(...)")
        return emit(event, parent, to=self._sender)

    def query(
        self,
        type: Types | None = None,  # noqa: A002 - the name of the contract
        correlation_id: str | None = None,
        since: float | None = None,
        until: float | None = None,
        where: Mapping[str, Any] | None = None,
        limit: int = 1000,
    ) -> list[Event]:
        """Return the newest events that fit, oldest first.

        Args:
            type: a type's name, a class (its subclasses too), or several of these.
            correlation_id: those that belong together.
            since, until: seconds since 1970, both included.
            where: field → value; a list means any of its values, None that there is none, a name with dots a field of
                an object. It is looked for in the newest 100,000 events that the other filters leave.
            limit: at most so many.

        Raises:
            ConfigError: an argument is invalid.
        """
        self._settle()
        return [to_event(record) for record in self._reader.query(type, correlation_id, since, until, where, limit)]

    def last(self) -> int:
        """Return the number of the last event that is stored by now."""
        self._settle()
        return self._reader.last()

    def since(self, number: int) -> list[Event]:
        """Return the events that were stored after the one with a number, in the order in which they came."""
        self._settle()
        found: list[Event] = []
        more = True
        while more:
            records, number, _ = self._reader.after(number, None, _PAGE, sys.maxsize)
            found += map(to_event, records)
            more = bool(records)
        return found

    def trace_tree(self, correlation_id: str) -> TraceNode | None:
        """Return the events of a correlation id as one tree: `event`, and `children` in the order of time.

        None where there are none. An event whose parent is not known hangs under the root.
        """
        self._settle()
        return tree_of(self._reader.correlated(correlation_id))

    def subscribe(self, types: Types | None, handler: Callable[[Event], Any]) -> Subscription:
        """Have a function called with each event that comes from now on, in a thread of its own.

        Args:
            types: as in `query`; None: all.
            handler: gets the event. What it raises is logged; after 10 failures in a row it is given no more.

        Returns:
            A handle with `.cancel()`, and `.dropped`: how many events were left out since more than 10,000 waited.
        """
        self._settle()  # what was emitted before is not from now on
        subscription = Subscription(self._node, self._reader, type_names(types), handler)
        self._subscriptions.add(subscription)
        return subscription

    def export(self, path: str | os.PathLike[str]) -> int:
        """Write all events to a file as JSON lines, whole or not at all; return how many."""
        self._settle()
        count = 0
        with replaced(Path(path)) as file:
            for record in self._reader.everything():
                file.write(json_text(to_dict(record)) + "\n")
                count += 1
        return count

    async def aemit(self, event: Event, parent: Parent | None = None) -> Event:
        """Do what `emit` does, which does not wait anyway."""
        return self.emit(event, parent)

    async def aquery(
        self,
        type: Types | None = None,  # noqa: A002
        correlation_id: str | None = None,
        since: float | None = None,
        until: float | None = None,
        where: Mapping[str, Any] | None = None,
        limit: int = 1000,
    ) -> list[Event]:
        """Do what `query` does, from an event loop."""
        return await asyncio.to_thread(self.query, type, correlation_id, since, until, where, limit)

    async def atrace_tree(self, correlation_id: str) -> TraceNode | None:
        """Do what `trace_tree` does, from an event loop."""
        return await asyncio.to_thread(self.trace_tree, correlation_id)

    async def asubscribe(self, types: Types | None, handler: Callable[[Event], Any]) -> Subscription:
        """Do what `subscribe` does, from an event loop; the handler is called in a thread."""
        return await asyncio.to_thread(self.subscribe, types, handler)

    async def aexport(self, path: str | os.PathLike[str]) -> int:
        """Do what `export` does, from an event loop."""
        return await asyncio.to_thread(self.export, path)
