"""`system.cache`: what is cached on a node, and values of a program's own."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dspex_actors.cache import store
from dspex_actors.cache.place import place_of
from dspex_actors.cache.values import aget_or_compute, get_or_compute
from dspex_actors.errors import ConfigError
from dspex_actors.foundation.cache_settings import DEFAULT, cache_folder, check_ttl, in_force, travelling
from dspex_actors.names import WORKERS
from dspex_actors.settings import settings
from supervisors import Node
from supervisors.errors import SupervisorsError

#: A worker that does not say within so many seconds what it has is left out.
ASK_SECONDS = 5.0
TIERS = ("memory", "disk", "semantic")


class NodeCache:
    """The cache of a connection's node, as a program sees it: `system.cache`.

    Args:
        node: the connection.
        data_dir: the node's data folder.
    """

    def __init__(self, node: Node, data_dir: Path) -> None:
        """Use `system.cache` instead."""
        self._node, self._data_dir = node, data_dir

    @property
    def folder(self) -> Path:
        """Where answers are kept on disk."""
        return cache_folder(self._data_dir, in_force(travelling(settings.cache)) or DEFAULT)

    def get_or_compute(
        self, key: Any, fn: Callable[[], Any], ttl: float | None = None, wait: float | None = None
    ) -> Any:
        """Return what is kept under a key; where nothing is, compute it, once, and keep it.

        Of all programs and processes that use the folder one computes, and the others wait for it. One that dies in the
        middle is no hindrance: the next one computes. What the function raises is raised, kept by nobody, and told to
        nobody else.

        Args:
            key: a text, or plain data; other than the keys of LM calls. It should say everything that the value
                depends on.
            fn: without arguments; returns plain data (None, bools, numbers, texts, bytes, dates, and lists, tuples,
                sets and dicts of them). Anything else is returned, and not kept.
            ttl: seconds for which a value is used; None: as `configure_cache` says.
            wait: seconds for which another one that computes is waited for; then it is computed here, too. None: as
                long as that one lives.

        Returns:
            The value: each time a copy of its own.

        Raises:
            ConfigError: key, function, ttl or wait are not usable.
        """
        return get_or_compute(self._data_dir, key, fn, ttl, wait)

    async def aget_or_compute(
        self, key: Any, fn: Callable[[], Any], ttl: float | None = None, wait: float | None = None
    ) -> Any:
        """Do what `get_or_compute` does, from inside an event loop; `fn` may be async."""
        return await aget_or_compute(self._data_dir, key, fn, ttl, wait)

    def stats(self) -> dict[str, Any]:
        """Return what the cache has answered and what it holds, as plain data.

        Returns:
            `calls` that came to it, the share of them that it has answered (`hit_rate`; None: there were none), those
            that waited for an equal one (`waited`) and that were asked after all (`asked`), since the workers started;
            for each tier (`memory`, `disk`, `semantic`) its `hits` and their share (`hit_rate`); what memory holds, of
            all workers (`entries, bytes, max_bytes, evicted`); what the disk holds (`entries, bytes, folder`).
        """
        return summary(_ask_workers(self._node), self.folder)

    def clear(self, *, tenant: str | None = None, older_than: float | None = None) -> int:
        """Remove what is cached: on disk and in the memory of all workers. Calls that are under way are not changed.

        Args:
            tenant: only this one's; "" is who names none. None: everybody's.
            older_than: only what came in more than so many seconds ago; None: everything.

        Returns:
            How many answers were on disk.

        Raises:
            ConfigError: an argument is not usable, or the folder is not.
        """
        _ask_workers(self._node, "clear cache")
        return clear_folder(self.folder, tenant=tenant, older_than=older_than)


def _ask_workers(node: Node, request: str = "cache") -> list[dict[str, int]]:
    rows = []
    with contextlib.suppress(SupervisorsError):
        for child in node.which_children(WORKERS):
            with contextlib.suppress(SupervisorsError):
                rows.append(node.call(str(child.id), request, ASK_SECONDS))
    return [row for row in rows if isinstance(row, dict)]


def summary(workers: list[dict[str, int]], folder: Path) -> dict[str, Any]:
    """Return what `NodeCache.stats` does.

    Args:
        workers: what each of them says.
        folder: of the disk tier.
    """

    def total(name: str) -> int:
        return sum(row.get(name, 0) for row in workers)

    hits = {tier: total(tier) for tier in TIERS}
    calls = sum(hits.values()) + total("asked")

    def share(count: int) -> float | None:
        return count / calls if calls else None

    tiers: dict[str, dict[str, Any]] = {tier: {"hits": hits[tier], "hit_rate": share(hits[tier])} for tier in TIERS}
    tiers["memory"].update({name: total(name) for name in ("entries", "bytes", "max_bytes", "evicted")})
    tiers["disk"].update(_on_disk(folder))
    return {
        "calls": calls,
        "hit_rate": share(sum(hits.values())),
        "asked": total("asked"),
        "waited": total("waited"),
        **tiers,
    }


def _on_disk(folder: Path) -> dict[str, Any]:
    entries = size = 0
    why = None
    if (folder / store.FILE).exists():
        try:
            reader = store.Reader(store.open_store(folder))
            try:
                entries, size = reader.size()
            finally:
                reader.close()
        except Exception as error:
            why = str(error)
    return {"entries": entries, "bytes": size, "folder": str(folder), "error": why or _why_not_written(folder)}


def _why_not_written(folder: Path) -> str | None:
    """Return why nothing new can be kept in a folder, which need not be there yet; None: it can."""
    there = next(each for each in (folder, *folder.absolute().parents) if each.exists())
    for path in (there, folder / store.FILE):
        if path.exists() and not os.access(path, os.W_OK):
            return f"{path} is read-only: what is there is used, and nothing new is kept"
    return None


def clear_folder(folder: Path, *, tenant: str | None = None, older_than: float | None = None) -> int:
    """Remove what a folder has; see `NodeCache.clear`. No node has to run."""
    if tenant is not None and not isinstance(tenant, str):
        raise ConfigError(f"clear: tenant is invalid: got {tenant!r:.100}, expected a text, or None for all")
    seconds = check_ttl("older_than", older_than)
    if not (folder / store.FILE).exists():
        return 0
    number = None if tenant is None else store.tenant_number(tenant)
    before = None if seconds is None else time.time() - seconds
    try:
        writer = store.Writer(store.open_store(folder))
        try:
            gone = writer.clear(number, before)
            place = place_of(folder)  # a second set of claims in this process would end those of the first
            if place.ready():
                place.taken_back()
            with contextlib.suppress(Exception):
                writer.fold()  # who reads just now keeps it from shrinking, and nothing else
        finally:
            writer.close()
    except Exception as error:
        full = getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_FULL
        advice = "; to remove takes some space too: make room, or remove the folder" if full else ""
        raise ConfigError(f"the cache in {folder} cannot be cleared: {error}{advice}") from None
    return gone
