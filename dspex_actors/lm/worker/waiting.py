"""A call that waits for the answer to an equal one."""

from __future__ import annotations

import asyncio

from dspex_actors.errors import DeadlineExceeded
from dspex_actors.lm.attempts import current_ledger
from dspex_actors.lm.request import LMRequest


class Waiting:
    """A call that waits for another one's answer, as a `with`: under its own deadline, and its example's."""

    __slots__ = ("_end", "_ledger", "_loop", "_request", "_task", "_total")

    def __init__(self, request: LMRequest) -> None:
        """Begin to wait."""
        self._request, self._ledger = request, current_ledger()
        self._total = request.lm.options.deadline
        if self._ledger is not None and (left := self._ledger.left()) is not None:
            self._total = min(self._total, left)
        self._task = asyncio.current_task()
        self._loop = asyncio.get_running_loop()
        self._end = self._loop.time() + self._total

    def left(self) -> float:
        """Return the seconds that it has left."""
        return self._end - self._loop.time()

    def late(self) -> DeadlineExceeded:
        """Return the error that says that they are over."""
        deployment = self._request.lm.deployment
        return DeadlineExceeded(
            f"another call has asked the same, and had no answer within deadline={self._total:g} s",
            provider=deployment.provider,
            model=deployment.model_name,
            asked=0,
        )

    def __enter__(self) -> Waiting:
        """Have it end with its example."""
        if self._ledger is not None:
            self._ledger.calls.add(self._task)
        return self

    def __exit__(self, *error: object) -> None:
        """Be done with it."""
        if self._ledger is not None:
            self._ledger.calls.discard(self._task)
