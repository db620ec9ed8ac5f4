"""An account of money over nodes: how much each node may spend of it. Pure; amounts are those of `purses`.

All of it is one small value that nodes change by compare and set, in a store that a majority of them has on disk: for
each node the most that it has spent or may spend, its *share*. A node enlarges its share before it gives anything of it
to its workers, and gives nothing any more of what it takes off. So the shares together are never more than the limit,
whoever dies, is cut off, or hears an answer late or never; and no node asks anybody while its share lasts.

A share is *spent* where nothing lies in it and nothing is under way: it is what was spent. So is that of a node that is
down: nobody can tell what it had spent, and when it is back it says so.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Literal

Verdict = Literal["given", "wait", "empty"]


@dataclass(frozen=True, slots=True)
class Share:
    """What a node may spend in all, and whether all of it is spent."""

    most: int
    is_spent: bool = False


@dataclass(frozen=True, slots=True)
class Account:
    """The shares of all nodes, by the uid of their folder."""

    shares: dict[str, Share]

    @property
    def total(self) -> int:
        """What is spent, or may be."""
        return sum(share.most for share in self.shares.values())

    def plain(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {uid: [share.most, share.is_spent] for uid, share in self.shares.items()}

    @staticmethod
    def of(plain: dict[str, Any] | None) -> Account:
        """Return what `plain` was made of."""
        return Account({uid: Share(most, is_spent) for uid, (most, is_spent) in (plain or {}).items()})

    def with_share(self, uid: str, share: Share) -> Account:
        """Return it with another share of a node."""
        return Account({**self.shares, uid: share})

    def claimed(self, uid: str, used: int) -> Account:
        """Return it as a node says it once that begins to give of it: its share is at least what it has used.

        Written even where nothing changes: what it wrote before, in an earlier life, comes too late then.
        """
        mine = self.shares.get(uid, Share(0))
        return self.with_share(uid, Share(max(mine.most, used)))

    def raised(
        self, uid: str, used: int, need: int, want: int, limit: int, gone: Collection[str]
    ) -> tuple[Verdict, Account, int]:
        """Decide on a node that needs more than lies in its share.

        Args:
            uid: of the node.
            used: of its share: what was spent, and what its workers have.
            need: so much at least, beside that.
            want: so much where there is plenty.
            limit: of the account.
            gone: nodes that are down.

        Returns:
            given: the account has its larger share. wait: others may give back. empty: they will not. And what is
            spent of it by all others, or is theirs.
        """
        mine = self.shares.get(uid, Share(0))
        others = {other: share for other, share in self.shares.items() if other != uid}
        theirs = sum(share.most for share in others.values())
        own = max(mine.most, used)
        lacks = used + need - own
        free = limit - theirs - own
        if lacks <= 0 or free >= lacks:
            live = sum(1 for other, share in others.items() if not share.is_spent and other not in gone)
            more = max(0, lacks, min(want, free // (2 * max(2, live + 1))))
            return "given", self.with_share(uid, Share(own + more)), theirs
        waits = any(not share.is_spent and other not in gone for other, share in others.items())
        return "wait" if waits else "empty", self, theirs

    def lowered(self, uid: str, used: int, *, is_spent: bool) -> Account:
        """Return it with what a node has used as its share: it gives nothing any more of what it had beyond it."""
        return self.with_share(uid, Share(used, is_spent))

    def holders(self, uid: str, gone: Collection[str]) -> list[str]:
        """Return the other nodes that may have something to give back."""
        return [
            other
            for other, share in self.shares.items()
            if other != uid and not share.is_spent and share.most and other not in gone
        ]
