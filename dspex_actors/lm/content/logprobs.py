"""How likely the tokens of a reply were."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Logprob:
    """How likely a token of the reply was.

    Args:
        token: its text.
        logprob: natural logarithm of its probability.
        top: the likeliest tokens at its place, with theirs, where they were asked for.
    """

    token: str
    logprob: float
    top: tuple[tuple[str, float], ...] = ()

    def to_plain(self) -> list[Any]:
        """Return it as plain data."""
        return [self.token, self.logprob, [list(each) for each in self.top]]

    @classmethod
    def from_plain(cls, data: Any) -> Logprob:
        """Rebuild it from `to_plain`'s data."""
        token, logprob, top = data
        return cls(token, logprob, tuple((name, value) for name, value in top))
