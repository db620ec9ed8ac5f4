"""`system.telemetry`: record, read what the node knows, and be told of it."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from dspex_actors.errors import ConfigError, from_record
from dspex_actors.foundation import telemetry
from dspex_actors.names import TELEMETRY
from dspex_actors.observe import branch
from dspex_actors.observe.telemetry import push
from dspex_actors.observe.telemetry.actor import FRESH_SECONDS, telemetry_spec
from dspex_actors.observe.telemetry.handlers import Handler, Handlers
from dspex_actors.observe.telemetry.messages import Read
from supervisors import Node
from supervisors.errors import NoProcess, ServerExited

#: The actor answers within so many seconds.
READ_SECONDS = 10.0


class Telemetry:
    """The telemetry of a node, as a program sees it.

    Args:
        node: the connection.
    """

    counter = staticmethod(telemetry.counter)
    gauge = staticmethod(telemetry.gauge)
    histogram = staticmethod(telemetry.histogram)
    summary = staticmethod(telemetry.summary)
    measure = telemetry.measure

    def __init__(self, node: Node) -> None:
        """Use `system.telemetry` instead."""
        self._node = node
        self._handlers = Handlers(self.metrics)

    def metrics(self, prefix: str = "", *, by_actor: bool = False, fresh: bool = True) -> dict[str, Any]:
        """Return what the node's processes have counted and measured since its daemon started.

        Args:
            prefix: only metrics whose name begins with it.
            by_actor: as told by each actor, over all its incarnations, in the place of the whole.
            fresh: ask all processes first: what they did before this call is in the answer, unless one of them is busy
                for longer than 0.3 s, or was started a moment ago. Else it may be a second old.

        Returns:
            Name → a row per set of tags: `tags`, `kind`, `count`, `sum`, `min`, `max`, `mean`, `std`, `p50`, `p90`,
            `p99` (right to 0.5 %; None for counters), `rate` (per second in the last minute: of a counter what it grew
            by, of all others how many values came); of a gauge `value`, its last one. By actor: name of the actor →
            such a table.

        Raises:
            ConfigError: the prefix is no text.
            SupervisorsError: the node does not answer.
        """
        read = _read(prefix, by_actor, fresh)
        if fresh:
            push.flush()
        return ask(self._node, read)

    async def ametrics(self, prefix: str = "", *, by_actor: bool = False, fresh: bool = True) -> dict[str, Any]:
        """Do what `metrics` does without blocking the event loop."""
        return await asyncio.to_thread(self.metrics, prefix, by_actor=by_actor, fresh=fresh)

    def attach(self, handler_id: str, prefixes: list[str] | str, handler: Handler) -> None:
        """Have a function called, once a second, for each series of the node that has grown.

        What this program records is among it. It is called in a thread of its own, never where something is recorded,
        so a slow one delays itself only. One that raises is logged; after ten times in a row it is detached.

        Args:
            handler_id: a name for it.
            prefixes: of the names it wants; "" for all.
            handler: `handler(name, measurements, tags)`. measurements: `count` of values that came since it was called
                last, their `sum` and `mean`, and the `total` of the series; of a gauge its `value`.

        Raises:
            ConfigError: the id is taken, or an argument is none.
        """
        self._handlers.attach(handler_id, prefixes, handler)

    def detach(self, handler_id: str) -> bool:
        """End that; return whether there was such a handler."""
        return self._handlers.detach(handler_id)

    def close(self) -> None:
        """Detach all handlers."""
        self._handlers.close()


def _read(prefix: Any, by_actor: bool, fresh: bool) -> Read:
    if not isinstance(prefix, str):
        raise ConfigError(f"the prefix is invalid: got {prefix!r:.80}, expected the beginning of a name")
    return Read(prefix, fresh, "actors" if by_actor else "figures")


def ask(node: Node, read: Read) -> dict[str, Any]:
    """Ask the actor of a node; one that is being restarted is waited for, one that was never needed is not started.

    Raises:
        SupervisorsError: the node does not answer.
    """
    began = time.monotonic()
    while True:
        try:
            answer = node.call(TELEMETRY, read, READ_SECONDS)
        except (NoProcess, ServerExited):
            waited = time.monotonic() - began
            if waited > READ_SECONDS:
                raise
            if node.whereis(branch.OBSERVERS) is not None:
                branch.ensure_from_program(node, telemetry_spec())
            elif not read.fresh or waited > FRESH_SECONDS:
                return {}  # nothing was ever told
            else:
                time.sleep(0.02)  # the first process that tells something is having it started, perhaps
            continue
        if isinstance(answer, (list, tuple)):
            raise from_record(answer[1])
        return dict(answer)
