"""Values of a program's own that are computed once: `get_or_compute`, of all processes that use a folder.

The work is written once, as a generator: it says what it waits for, and the sync and the async call wait in their way.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import math
import os
import threading
import time
from collections.abc import Callable, Generator
from concurrent.futures import Future
from contextvars import ContextVar
from pathlib import Path
from typing import Any, NamedTuple

from dspex_actors.cache.place import Place, place_of
from dspex_actors.cache.store import tenant_number
from dspex_actors.errors import ConfigError
from dspex_actors.foundation.cache_settings import CacheSettings, cache_folder, check_ttl, in_force, travelling
from dspex_actors.foundation.codec import CodecError, HoldsObjects, pack, unpack
from dspex_actors.foundation.driving import adrive, drive
from dspex_actors.settings import settings

#: Whether another process still computes is looked at after so many seconds, then less and less often.
LOOK_FIRST, LOOK_LAST = 0.005, 0.25
#: What is computed is written before it is told; a disk that takes longer than so many seconds is not waited for.
WRITE_SECONDS = 5.0
#: Of a key, as bytes.
MOST_KEY_BYTES = 1 << 20

_log = logging.getLogger(__name__)
_here: ContextVar[frozenset[bytes]] = ContextVar("dspex_computing", default=frozenset())
_lock = threading.RLock()
_flights: dict[tuple[Path, bytes], Future[None]] = {}


def _forget() -> None:
    """Begin anew in a forked child: who computes is not there."""
    global _lock  # noqa: PLW0603 - it may be held by a thread that is not here
    _lock = threading.RLock()
    _flights.clear()


os.register_at_fork(after_in_child=_forget)


class Compute(NamedTuple):
    """Says: call the function now, and send its value."""


class Pause(NamedTuple):
    """Says: wait so many seconds."""

    seconds: float


class Wait(NamedTuple):
    """Says: wait for another call of this process, for so many seconds at most (None: as long as it takes)."""

    flight: Future[None]
    seconds: float | None


class Write(NamedTuple):
    """Says: wait until what was put is written, not too long."""

    place: Place


Steps = Generator[Compute | Pause | Wait | Write, Any, Any]


def get_or_compute(
    data_dir: Path, key: Any, function: Callable[[], Any], ttl: float | None, wait: float | None = None
) -> Any:
    """Return what is kept under a key, or what the function returns, which is kept; see `NodeCache.get_or_compute`."""

    def do(step: Compute | Pause | Wait | Write) -> Any:
        match step:
            case Pause(seconds):
                return time.sleep(seconds)
            case Wait(flight, seconds):
                with contextlib.suppress(TimeoutError):
                    return flight.result(seconds)
            case Write(place):
                return place.flush(WRITE_SECONDS)
            case Compute():
                return function()
        return None

    return drive(_steps(data_dir, key, function, ttl, wait), do)


async def aget_or_compute(
    data_dir: Path, key: Any, function: Callable[[], Any], ttl: float | None, wait: float | None = None
) -> Any:
    """Do what `get_or_compute` does, on an event loop; the function may be async."""

    async def do(step: Compute | Pause | Wait | Write) -> Any:
        match step:
            case Pause(seconds):
                return await asyncio.sleep(seconds)
            case Wait(flight, seconds):
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(seconds):
                        return await asyncio.shield(asyncio.wrap_future(flight))
            case Write(place):
                return await asyncio.to_thread(place.flush, WRITE_SECONDS)
            case Compute():
                answer = function()
                return await answer if hasattr(answer, "__await__") else answer
        return None

    return await adrive(_steps(data_dir, key, function, ttl, wait), do)


def _steps(data_dir: Path, key: Any, function: Any, ttl: float | None, wait: float | None) -> Steps:
    if not callable(function):
        raise ConfigError(
            f"get_or_compute: fn is invalid: got {function!r:.100}, expected a function without arguments"
        )
    ttl, wait = check_ttl("ttl", ttl), check_ttl("wait", wait)
    until = math.inf if wait is None else time.monotonic() + wait
    told = in_force(travelling(settings.cache))
    if told is None:
        return (yield Compute())
    digest = _digest(key, told)
    if digest in _here.get():
        raise ConfigError(
            f"get_or_compute: the function for {key!r:.100} asks for its own key: it would wait for itself"
        )
    place = place_of(cache_folder(data_dir, told))
    name = (place.folder, digest)
    mine: Future[None] | None = None
    while True:
        with _lock:
            flight = _flights.get(name)
            if flight is None:
                _flights[name] = mine = Future()
                break
        left = until - time.monotonic()
        yield Wait(flight, None if left == math.inf else max(0.0, left))
        found = _look(place, digest, ttl if ttl is not None else told.ttl)
        if found is not None:
            return found[0]
        if time.monotonic() >= until:
            break
    token = _here.set(_here.get() | {digest})
    try:
        return (yield from _lead(place, digest, ttl if ttl is not None else told.ttl, told, until))
    finally:
        with contextlib.suppress(ValueError):  # closed in another context
            _here.reset(token)
        if mine is not None:
            with _lock:
                _flights.pop(name, None)
            mine.set_result(None)


def _lead(place: Place, digest: bytes, ttl: float | None, told: CacheSettings, until: float) -> Steps:
    """Compute, under a claim where there can be one; who has waited until a moment for another does without."""
    with _lock:
        is_ready = told.disk and place.ready()
    pause, is_claimed = LOOK_FIRST, False
    while is_ready and not (is_claimed := place.claim(digest)) and time.monotonic() < until:
        if (kept := _look(place, digest, ttl)) is not None:  # somebody has not waited
            return kept[0]
        yield Pause(min(pause, max(0.0, until - time.monotonic())))
        pause = min(LOOK_LAST, pause * 1.5)
    try:
        found = _look(place, digest, ttl)
        if found is not None:
            return found[0]
        value = yield Compute()
        try:
            data = pack(value)
            value = unpack(data, objects="refuse")  # what all the others get
        except (HoldsObjects, CodecError):
            _log.warning("get_or_compute keeps plain data only, and not a %s: it is computed each time", type(value))
            return value
        if is_ready:
            with _lock:
                place.limit = told.disk_bytes
                place.put(digest, data, tenant_number(told.tenant), is_claimed=is_claimed, urgent=True)
                is_claimed = False
            yield Write(place)
        return value
    finally:
        if is_claimed:
            place.free(digest)


def _look(place: Place, digest: bytes, ttl: float | None) -> tuple[Any] | None:
    with _lock:
        found = place.find(digest) if place.ready() else None
        if found is None or (ttl is not None and time.time() - found.made >= ttl):
            return None
        if found.is_due:
            place.touch(digest)
    try:
        return (unpack(found.value, objects="refuse"),)
    except (HoldsObjects, CodecError):
        return None


def _digest(key: Any, told: CacheSettings) -> bytes:
    try:
        data = pack(key)
        unpack(data, objects="refuse")
    except (HoldsObjects, CodecError):
        data = b""
    if not data or len(data) > MOST_KEY_BYTES:
        raise ConfigError(
            f"get_or_compute: key is invalid: got {key!r:.100}, expected a text, or plain data up to 1 MiB"
        )
    return hashlib.sha256(b"dspex-value-1\xc1" + pack(told.tenant) + data).digest()[:16]
