"""Which news rides on a datagram: each piece so many times as log n asks for, what was sent least first. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import msgpack

#: So many bytes has a datagram with its head and news; with its seal it fits into 1,200 bytes.
MAX_NEWS = 1100
#: Each member tells a piece of news so many times log10(n + 1).
TIMES = 4


@dataclass(slots=True)
class _News:
    packed: bytes
    left: int
    sent: int
    is_urgent: bool


class Gossip:
    """The news that is still to be told. The newest about a member takes the place of what was there of it."""

    def __init__(self) -> None:
        """Have none."""
        self._news: dict[str, _News] = {}
        self._urgent = 0

    @property
    def is_urgent(self) -> bool:
        """Whether there is news that cannot wait for probes."""
        return self._urgent > 0

    def add(self, uid: str, row: list[Any], size: int, is_urgent: bool) -> None:
        """Tell something of a member.

        Args:
            uid: whose news.
            row: what.
            size: how many members there are.
            is_urgent: whether it goes out at once. What is not goes where there is room.
        """
        before = self._news.pop(uid, None)
        if before is not None:
            self._urgent -= before.is_urgent
            is_urgent = is_urgent or (before.is_urgent and before.sent == 0)
        times = TIMES * math.ceil(math.log10(size + 1))
        self._news[uid] = _News(msgpack.packb(row), times, 0, is_urgent)
        self._urgent += is_urgent

    def take(self, room: int, but: str) -> list[bytes]:
        """Return what goes on one datagram.

        Args:
            room: how many bytes there are for it.
            but: the receiver, who needs no news of itself.
        """
        if not self._news:
            return []
        taken = []
        for uid, news in sorted(self._news.items(), key=lambda item: (not item[1].is_urgent, item[1].sent)):
            size = len(news.packed) + 3
            if uid == but or size > room:
                continue
            room -= size
            taken.append(news.packed)
            news.sent += 1
            news.left -= 1
            if not news.left:
                self._urgent -= news.is_urgent
                del self._news[uid]
        return taken
