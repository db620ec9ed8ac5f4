"""The cache manager: answers by the digest of program and inputs, in memory, as long as there is room and time."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import Any

from dspex_actors.cache.core import CacheCore
from dspex_actors.ecosystem.inference.base import InferenceMember
from dspex_actors.ecosystem.inference.messages import Look
from dspex_actors.foundation.telemetry.recorded import cache_answered
from dspex_actors.observe.reporting import report_from_actor
from supervisors import Caller


class CacheManager(InferenceMember):
    """Keeps answers. Arguments: strategy, most bytes, seconds after which an answer is stale."""

    def init(self, strategy: str, max_bytes: int, ttl: float) -> None:
        """Begin empty: what an earlier one had went with it."""
        self._core: CacheCore[bytes] = CacheCore(strategy, max_bytes, ttl)
        self._events = report_from_actor(self)

    def handle_call(self, request: Any, caller: Caller) -> Any:
        """Look answers up, forget them all, or show the counts."""
        match request:
            case Look(keys):
                self._keep(request)
                now = time.monotonic()
                found = [self._core.get(key, now) for key in keys]
                hits = sum(entry is not None for entry in found)
                cache_answered("ecosystem", hits=hits, misses=len(keys) - hits)
                return [None if entry is None else entry.value for entry in found]
            case "clear":
                self._core.clear()
                return None
            case "stats":
                return asdict(self._core.counts)
        return super().handle_call(request, caller)

    def handle_cast(self, message: Any) -> None:
        """Keep answers."""
        match message:
            case Look():
                self._keep(message)
            case _:
                super().handle_cast(message)

    def _keep(self, message: Look) -> None:
        now = time.monotonic()
        for key, prediction in zip(message.kept, message.predictions, strict=True):
            self._core.put(key, prediction, len(prediction), now)
