"""When do refusals say something of all requests, and when only that one request was unlucky? Pure.

`Refusals` counts limits on speed (429): is everybody too fast? `Rejections` counts what asking again does not mend: is
every request wrong?
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from dspex_actors.errors import AuthError, ContextWindowExceeded, InvalidRequest, LMError, QuotaExhausted, RateLimited

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


@dataclass(slots=True)
class Rejections:
    """Holds back the requests to a server that rejects all of them, until somebody has noticed.

    A parameter that the model does not know fails each request of a run alike: hundreds need not be sent to find out.
    What has answered once is trusted, and what has rejected very many is asked at full speed: nobody minds.
    """

    #: Pauses between two requests, in seconds: long enough for an evaluator to hear of it. From so many rejections on
    #: each is half as long again, up to the longest.
    SECONDS: ClassVar[float] = 0.1
    LONGEST: ClassVar[float] = 1.0
    PATIENCE: ClassVar[int] = 8
    #: Beyond so many rejections it is not slowed down any more.
    MOST: ClassVar[int] = 24

    _count: int = 0
    _is_trusted: bool = False

    def answered(self) -> None:
        """Take note of an answer."""
        self._is_trusted = True

    def rejected(self, error: LMError) -> float | None:
        """Take note of a failure; return for how many seconds the next request should wait; None: not at all."""
        if self._is_trusted or isinstance(error, ContextWindowExceeded):
            return None
        final = isinstance(error, RateLimited) and error.retryable is False
        if not final and not isinstance(error, InvalidRequest | AuthError | QuotaExhausted):
            return None
        self._count += 1
        if self._count == self.MOST:
            self._is_trusted = True
            return None
        return min(self.LONGEST, self.SECONDS * 1.5 ** max(0, self._count - self.PATIENCE))
