"""`dspex.configure_cache`: how answers of LMs are cached."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from dspex_actors.foundation.cache_settings import DISK_BYTES, MEMORY_BYTES, MEMORY_ENTRIES, cache_settings
from dspex_actors.settings import configure


def configure_cache(
    enable_disk_cache: bool | None = True,
    enable_memory_cache: bool | None = True,
    disk_cache_dir: str | os.PathLike[str] | None = None,
    disk_size_limit_bytes: int | None = DISK_BYTES,
    memory_max_entries: float = MEMORY_ENTRIES,
    restrict_pickle: bool = True,
    safe_types: list[type[Any]] | None = None,
    *,
    memory_max_bytes: int = MEMORY_BYTES,
    ttl: float | None = None,
    tenant: str = "",
    semantic: Mapping[str, Any] | None = None,
) -> None:
    """Set how the answers of LMs are cached; arguments as DSPy's, and some more. Without it they are, in both tiers.

    It holds for the calls of this program, and for the runs that it starts from then on, wherever they are done. Like
    `configure` it is called by one thread; `with dspex.context(cache=False)` has a part of a program ask anew.

    Args:
        enable_disk_cache: keep answers on disk: found again by every process, also after the node has ended. Without,
            each worker of the node asks for itself.
        enable_memory_cache: keep answers in the workers' memory too.
        disk_cache_dir: a folder for them, on this machine; None: DSPEX_CACHEDIR, else `cache` in the node's home.
            It is made where it is not there; one that cannot be made, or written in, is refused.
            Several nodes may have one folder. What DSPy has cached is not read.
        disk_size_limit_bytes: how large the file there may become; what was not used for the longest time goes. Of
            several programs with one folder, what the last one has said holds. None: as large as the disk.
        memory_max_entries: answers in memory, of all workers of the node together; what the last program has said
            holds.
        restrict_pickle: taken as DSPy's, and always so: what is cached is msgpack, and no pickle is ever loaded.
        safe_types: taken as DSPy's; there is nothing that they could allow.
        memory_max_bytes: of all workers of the node together.
        ttl: seconds for which an answer is used; None: for ever. `LM(cache_ttl=...)` is for one LM or call.
        tenant: whose answers these are: another tenant never gets them. (Keys are kept apart anyway: what was asked
            with one key reference is not shown to another.)
        semantic: have answers to nearly the same question found, `{"embedder": ..., "threshold": 0.95}`; None: not.
            Only for calls of one user's text after instructions, without tools, at temperature 0 or none.

    Raises:
        ConfigError: a value is not usable; names it, what was given and what is expected.
    """
    del restrict_pickle, safe_types
    configure(
        cache=cache_settings(
            enable_disk_cache=enable_disk_cache,
            enable_memory_cache=enable_memory_cache,
            disk_cache_dir=disk_cache_dir,
            disk_size_limit_bytes=(1 << 62) if disk_size_limit_bytes is None else disk_size_limit_bytes,
            memory_max_entries=memory_max_entries,
            memory_max_bytes=memory_max_bytes,
            ttl=ttl,
            tenant=tenant,
            semantic=semantic,
        )
    )
