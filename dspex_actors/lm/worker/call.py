"""One LM call on its way through a session."""

from __future__ import annotations

from typing import Any

from dspex_actors.errors import LMError
from dspex_actors.lm.usage import Usage

_NOTHING = Usage()


class Call:
    """What is asked, since when, and what has happened."""

    __slots__ = ("asked", "cost", "deadline", "failed", "last", "messages", "params", "start", "timeout", "usage")

    def __init__(
        self, messages: list[dict[str, Any]], params: dict[str, Any], start: float, deadline: float, timeout: float
    ) -> None:
        """Begin.

        Args:
            messages: role/content messages.
            params: all parameters of the call.
            start: monotonic seconds.
            deadline: seconds that it may take in all.
            timeout: seconds that one request may take.
        """
        self.messages = messages
        self.params = params
        self.start = start
        self.deadline = deadline
        #: Seconds for one request.
        self.timeout = timeout
        self.asked = 0
        #: How many of its requests have failed, by kind.
        self.failed: dict[type[LMError], int] = {}
        self.last: LMError | None = None
        #: What the request that was answered has used, and its price; None: unknown.
        self.usage = _NOTHING
        self.cost: float | None = None
