"""When do refusals (429) say that everybody is too fast, and when only that one request was unlucky? Pure."""

from __future__ import annotations

from dataclasses import dataclass

#: So many refusals at least are a pattern, ...
LEAST = 3
#: ... if they are more than this share of what was asked lately, requests under way counted as hopeful.
SHARE = 0.25
#: How many answers "lately" is, about.
MEMORY = 64


@dataclass(slots=True)
class Refusals:
    """Counts answers and refusals, older ones less and less.

    A single 429 among many answers is waited out by its own call; if everybody paused for it, a provider that
    refuses one request in twenty would make a run several times slower. Where many are refused, every further request
    is one too many, and all calls have to wait.
    """

    _refused: float = 0.0
    _answered: float = 0.0

    def answered(self) -> None:
        """Take note of an answer of any other kind."""
        self._fade()
        self._answered += 1.0

    def refused(self, in_flight: int) -> bool:
        """Take note of a refusal; return whether all calls should wait now. If so the count begins anew.

        Args:
            in_flight: requests that are under way and may be answered yet.
        """
        self._fade()
        self._refused += 1.0
        if self._refused < LEAST - 0.2 or self._refused <= SHARE * (self._refused + self._answered + in_flight):
            return False
        self._refused = self._answered = 0.0
        return True

    def _fade(self) -> None:
        self._refused *= 1.0 - 1.0 / MEMORY
        self._answered *= 1.0 - 1.0 / MEMORY
