"""A request that waits for its turn under limits."""

from __future__ import annotations

import asyncio

from dspex_actors.lm.attempts import current_ledger
from dspex_actors.lm.control.messages import Ask

#: A lease; its moment, by the loop's clock; and by how many seconds that may be too late by its owner's.
Turn = tuple[int, float, float]


class Waiting:
    """A request that waits for its turn.

    Args:
        ask: what it asks for.
        until: it does not wait longer.
    """

    __slots__ = ("_ledger", "ask", "turn", "until", "waits")

    def __init__(self, ask: Ask, until: float) -> None:
        """Begin to wait."""
        self.ask, self.until = ask, until
        self.turn: asyncio.Future[Turn] = asyncio.get_running_loop().create_future()
        self._ledger = current_ledger()
        self.waits = False

    @property
    def has_turn(self) -> bool:
        """Whether its turn is known, or it is known that it gets none."""
        return self.turn.done() and not self.turn.cancelled()

    def waits_for(self, why: str | None) -> None:
        """Have its run say what it waits for, where that is no turn."""
        self.waits = why is not None
        if self._ledger is not None:
            self._ledger.waits_for = why
