"""What a vote decides, pure."""

from __future__ import annotations

import math
from collections.abc import Iterable

from supervisors.terms.checks import check_number

ACCEPTED, REJECTED, UNDECIDED = "accepted", "rejected", "undecided"


class Tally:
    """The votes on one proposal.

    Args:
        members: who may vote: those that are in the group when it is proposed.
        threshold: which part of all members must say yes, 0 < threshold <= 1.

    Raises:
        SpecError: the threshold is none.
    """

    def __init__(self, members: Iterable[str], threshold: float) -> None:
        """Begin without votes."""
        check_threshold(threshold)
        self._open = set(members)
        #: So many have to say yes.
        self.needed = max(1, math.ceil(threshold * len(self._open) - 1e-9))
        self.yes = 0

    def vote(self, member: str, yes: bool) -> None:
        """Count a member's vote, once."""
        if member in self._open:
            self._open.discard(member)
            self.yes += yes

    @property
    def verdict(self) -> str:
        """What is sure by now: accepted, rejected (too few are left to say yes), or undecided."""
        if self.yes >= self.needed:
            return ACCEPTED
        return REJECTED if self.yes + len(self._open) < self.needed else UNDECIDED


def check_threshold(threshold: object) -> None:
    """Refuse what is no part of all members."""
    check_number("threshold", threshold, 0.01, 1)
