"""The event of a module."""

from __future__ import annotations

from typing import ClassVar

from dspex_actors.foundation.events.event import Event


class ModuleChanged(Event):
    """Another version of a module answers from now on; `what`: created, updated, rolled_back, removed.

    `number` and `before` are numbers of versions; None: there is, or was, none.
    """

    kind: ClassVar[str | None] = "module.changed"
    module: str
    what: str
    number: int | None
    before: int | None
    note: str = ""
