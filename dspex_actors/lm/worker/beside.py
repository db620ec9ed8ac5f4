"""The cache for calls whose answers take hours: looked into before, filled after; nobody waits for another in between.

A claim in between would keep others, who could have an answer at once, waiting for a day. Before and after there is
one for a moment: an answer that another process is just writing is waited for, not paid again.
"""

from __future__ import annotations

import contextlib
import time

from dspex_actors.errors import DeadlineExceeded
from dspex_actors.lm.reply import LMReply
from dspex_actors.lm.request import LMRequest
from dspex_actors.lm.worker import caching
from dspex_actors.lm.worker.caching import AnswerCache


class Beside:
    """One call and what the cache has of it, exact answers only.

    Args:
        cache: the worker's.
        request: the call.
    """

    def __init__(self, cache: AnswerCache, request: LMRequest) -> None:
        """Look nothing up."""
        self._cache, self._request = cache, request
        self._call: caching._Call | None = None
        plan = cache._plan() if request.lm.options.cache else None
        key = None if plan is None else caching._key(request, plan)
        if plan is not None and key is not None:
            ttl = plan.ttl if request.lm.options.cache_ttl is None else request.lm.options.cache_ttl
            self._call = caching._Call(request, plan, key, plan.number + key, ttl, time.perf_counter())

    @property
    def is_cached(self) -> bool:
        """Whether the answer to the same call is the answer to this one."""
        return self._call is not None

    async def known(self) -> LMReply | None:
        """Return the answer that is kept, or that another process has and is writing, if there is one.

        A process that has only just asked for it is waited for as well: as long as this call may take.
        """
        call = self._call
        if call is None:
            return None
        tier, kept = "memory", None
        if call.plan.is_memory:
            kept = self._cache._in_memory(call.plan, call.name, call.ttl)
        if kept is None and call.place is not None:
            tier = "disk"
            with contextlib.suppress(DeadlineExceeded):
                kept = await self._cache._elsewhere(call, call.place)
            call.free()
        return None if kept is None else self._cache._hit(self._request, kept, tier, call.began)

    def keep(self, reply: LMReply) -> None:
        """Keep an answer; until it is written, others wait for it."""
        call = self._call
        if call is not None:
            self._cache.counts["asked"] += 1
            call.is_claimed = call.place is not None and call.place.claim(call.key)
            if self._cache._keep(call, reply) is None:
                call.free()
