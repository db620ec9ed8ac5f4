"""What servers of leases say to each other, and for how long they wait."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Protocol

from supervisors.cluster.leases.core import Outcome, Row
from supervisors.terms.errors import NoMajority


class Post(Protocol):
    """How the servers of leases of the cluster reach one another."""

    def send(self, to: str, message: tuple[Any, ...]) -> None:
        """Send a message of Raft's to a node, or lose it; never wait."""

    def fail(self, error: Exception) -> None:
        """End this server by an error: its supervisor starts it anew."""

    async def ask(self, to: str, request: tuple[Any, ...], timeout: float) -> Any:  # noqa: ASYNC109
        """Ask the server of leases of a node.

        Raises:
            SupervisorsError: it cannot be reached, or does not answer in time.
        """


@asynccontextmanager
async def at_most(seconds: float, why: str = "too few of the voters for leases answer") -> AsyncIterator[None]:
    """Wait within it for so long; then raise NoMajority."""
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError:
        raise NoMajority(why) from None


def outcome_to_plain(outcome: Outcome) -> list[Any]:
    """Return what a command has done as plain data."""
    return [outcome.word, None if outcome.row is None else list(outcome.row), outcome.version, outcome.changed]


def outcome_of(plain: list[Any]) -> Outcome:
    """Return what `outcome_to_plain` made this of."""
    word, row, version, changed = plain
    return Outcome(word, None if row is None else Row(*row), version, changed)
