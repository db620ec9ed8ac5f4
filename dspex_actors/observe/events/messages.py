"""What the actor `events` understands."""

from __future__ import annotations

from dataclasses import dataclass, field

from dspex_actors.foundation.events.record import Record

#: Its registered name.
EVENTS = "events"


@dataclass(frozen=True)
class Keep:
    """Call: keep events; answered when they are in the store, or dropped since it cannot be written.

    Sent again after the actor has died they are there once.

    Args:
        records: the events, each as the tuple that a `Record` is.
        dropped: how many the sender has dropped since it last said so.
    """

    records: list[tuple[object, ...]]
    dropped: int = 0


@dataclass(frozen=True)
class AwaitFlush:
    """Call: answered when somebody reads; whoever asks then sends what it has, and asks again."""


@dataclass(frozen=True)
class Flush:
    """Call: answered when what was emitted anywhere on the node before is in the store."""


@dataclass(frozen=True)
class Await:
    """Call: answered with the newest event's number, once it is above `seq` or after so many seconds."""

    seq: int
    seconds: float


@dataclass(frozen=True)
class Stats:
    """Call: answered with `StoreStats`."""


@dataclass(frozen=True)
class StoreStats:
    """How the store does.

    Args:
        last: the number of the newest event.
        kept: events that were taken in since the actor started.
        dropped: those that were not, by reason: queue, disk, unreadable.
        error: why the store cannot be written now; None: it can.
    """

    last: int
    kept: int
    dropped: dict[str, int] = field(default_factory=dict)
    error: str | None = None


def keep(records: list[Record], dropped: int) -> Keep:
    """Return a batch as it is sent."""
    return Keep([tuple(record) for record in records], dropped)


def records_of(message: Keep) -> list[Record]:
    """Return the records of a message."""
    return [Record(*row) for row in message.records]  # type: ignore[arg-type]
