"""How answers are cached, as a value: it travels with runs and calls, like other settings of a program."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from dspex_actors.errors import ConfigError
from dspex_actors.foundation.checks import is_whole

#: The variable with the folder of the disk tier, where the program does not name one.
FOLDER_VARIABLE = "DSPEX_CACHEDIR"
DISK_BYTES, MEMORY_BYTES, MEMORY_ENTRIES = 10 * 10**9, 256 * 2**20, 1_000_000
#: Less makes no sense: a page of the file, or an answer, would not fit.
LEAST_DISK_BYTES, LEAST_MEMORY_BYTES = 1 << 20, 1 << 16
#: Of a tenant's name.
TENANT_CHARACTERS = 200


@dataclass(frozen=True)
class SemanticSettings:
    """How answers to nearly the same question are found.

    Args:
        embedder: list of texts → list of vectors of floats.
        threshold: the cosine from which on two questions are the same one.
        max_entries: questions that are compared at most, of one scope.
        name: tells embedders apart: vectors of one are nothing to another.
    """

    embedder: Callable[[list[str]], Any]
    threshold: float = 0.95
    max_entries: int = 100_000
    name: str = ""

    @classmethod
    def of(cls, given: Any) -> SemanticSettings:
        """Check what a user gives.

        Raises:
            ConfigError: there is no embedder, or a value is not usable.
        """
        if not isinstance(given, Mapping):
            raise _bad("semantic", given, 'a dict, {"embedder": ..., "threshold": 0.95}, or None')
        known = [item.name for item in fields(cls)]
        unknown = [str(name) for name in given if name not in known]
        if unknown:
            raise _bad("semantic", ", ".join(unknown), f"some of {', '.join(known)}")
        embedder = given.get("embedder")
        if not callable(embedder):
            raise _bad(
                'semantic["embedder"]', embedder, "a dspex.Embedder or a function from a list of texts to their vectors"
            )
        threshold = given.get("threshold", cls.threshold)
        if isinstance(threshold, bool) or not isinstance(threshold, int | float) or not 0 < threshold <= 1:
            raise _bad('semantic["threshold"]', threshold, "a number above 0, up to 1")
        most = given.get("max_entries", cls.max_entries)
        if not is_whole(most, 1):
            raise _bad('semantic["max_entries"]', most, "a whole number of at least 1")
        name = given.get("name") or getattr(embedder, "model", None)
        if name is None or not isinstance(name, str):
            name = f"{getattr(embedder, '__module__', '')}.{getattr(embedder, '__qualname__', type(embedder).__name__)}"
        return cls(embedder, float(threshold), most, name)


@dataclass(frozen=True)
class CacheSettings:
    """What `dspex.configure_cache` sets; see there.

    Args:
        disk: whether answers are kept on disk.
        memory: whether answers are kept in memory.
        folder: where; None: `cache` in the node's home.
        disk_bytes: how large the file may become.
        memory_bytes: of all workers of the node together.
        memory_entries: of all workers of the node together; infinity: as many as there is place for.
        ttl: seconds for which an answer is used; None: for ever.
        tenant: whose answers these are.
        semantic: how answers to nearly the same question are found; None: not at all.
    """

    disk: bool = True
    memory: bool = True
    folder: str | None = None
    disk_bytes: int = DISK_BYTES
    memory_bytes: int = MEMORY_BYTES
    memory_entries: float = MEMORY_ENTRIES
    ttl: float | None = None
    tenant: str = ""
    semantic: SemanticSettings | None = None

    @property
    def is_on(self) -> bool:
        """Whether anything is kept anywhere."""
        return self.disk or self.memory


DEFAULT = CacheSettings()
#: What went last: settings, folder, and what both came to.
_travelled: list[tuple[CacheSettings, str, CacheSettings]] = []


def cache_settings(
    *,
    enable_disk_cache: Any = True,
    enable_memory_cache: Any = True,
    disk_cache_dir: Any = None,
    disk_size_limit_bytes: Any = DISK_BYTES,
    memory_max_entries: Any = MEMORY_ENTRIES,
    memory_max_bytes: Any = MEMORY_BYTES,
    ttl: Any = None,
    tenant: Any = "",
    semantic: Any = None,
) -> CacheSettings:
    """Check what `configure_cache` is given.

    Raises:
        ConfigError: a value is not usable; names it, what was given and what is expected.
    """
    for name, value in (("enable_disk_cache", enable_disk_cache), ("enable_memory_cache", enable_memory_cache)):
        if not isinstance(value, bool | None):
            raise _bad(name, value, "True or False")
    limits = (
        ("disk_size_limit_bytes", disk_size_limit_bytes, LEAST_DISK_BYTES),
        ("memory_max_bytes", memory_max_bytes, LEAST_MEMORY_BYTES),
    )
    for name, value, least in limits:
        if not (is_whole(value, least) or (_is_number(value) and value >= least and float(value).is_integer())):
            raise _bad(name, value, f"a whole number of bytes, at least {least:,}")
    if memory_max_entries != math.inf and not is_whole(memory_max_entries, 1):
        raise _bad("memory_max_entries", memory_max_entries, "a whole number of at least 1, or math.inf")
    if not isinstance(tenant, str) or len(tenant) > TENANT_CHARACTERS:
        raise _bad("tenant", tenant, f"a text of up to {TENANT_CHARACTERS} characters")
    folder = _folder(disk_cache_dir)
    if enable_disk_cache and folder is not None:
        try:
            os.makedirs(folder, 0o700, exist_ok=True)
        except OSError as error:
            raise _bad("disk_cache_dir", folder, f"a folder that is there or can be made ({error.strerror})") from None
        if not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
            raise _bad("disk_cache_dir", folder, "a folder that this user may write in")
    made = CacheSettings(
        disk=bool(enable_disk_cache),
        memory=bool(enable_memory_cache),
        folder=folder,
        disk_bytes=int(disk_size_limit_bytes),
        memory_bytes=int(memory_max_bytes),
        memory_entries=memory_max_entries,
        ttl=check_ttl("ttl", ttl),
        tenant=tenant,
        semantic=None if semantic is None else SemanticSettings.of(semantic),
    )
    if made.semantic is not None and not made.is_on:
        raise _bad("semantic", "a semantic cache with both tiers off", "enable_disk_cache or enable_memory_cache")
    return made


def check_ttl(name: str, value: Any) -> float | None:
    """Return for how many seconds an answer is used; None: for ever.

    Raises:
        ConfigError: it is no number of seconds above 0.
    """
    if value is None or value == math.inf:
        return None
    if not _is_number(value) or not value > 0:
        raise _bad(name, value, "seconds above 0, or None for ever")
    return float(value)


def in_force(told: Any) -> CacheSettings | None:
    """Return the settings that the setting `cache` stands for; None: nothing is cached."""
    if told is None or told is True:
        return DEFAULT
    return told if isinstance(told, CacheSettings) and told.is_on else None


def travelling(told: Any) -> Any:
    """Return the setting `cache` as it goes to a node: with the folder that this program's environment names."""
    folder = os.environ.get(FOLDER_VARIABLE)
    settings = in_force(told)
    if not folder or settings is None or settings.folder is not None:
        return told
    if not _travelled or _travelled[0][:2] != (settings, folder):
        _travelled[:] = [(settings, folder, replace(settings, folder=_folder(folder)))]
    return _travelled[0][2]


def cache_folder(data_dir: Path, settings: CacheSettings = DEFAULT) -> Path:
    """Return the folder of the disk tier.

    Args:
        data_dir: the node's data folder; that of a program's own node lies below its home.
        settings: which may name one.
    """
    named = settings.folder or os.environ.get(FOLDER_VARIABLE)
    if named:
        return Path(named)
    return (data_dir.parent.parent if data_dir.parent.name == "embedded" else data_dir) / "cache"


def check_cache(value: Any) -> None:
    """Refuse what the setting `cache` cannot be.

    Raises:
        ConfigError: it is neither None, True, False nor a `CacheSettings`.
    """
    if not (value is None or isinstance(value, bool | CacheSettings)):
        raise _bad("cache", value, "True or False; dspex.configure_cache(...) sets how")


def _folder(value: Any) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str | os.PathLike) or not os.fspath(value) or isinstance(os.fspath(value), bytes):
        raise _bad("disk_cache_dir", value, "the path of a folder, or None")
    path = Path(os.path.abspath(os.path.expanduser(value)))  # the node has another working folder
    if path.exists() and not path.is_dir():
        raise _bad("disk_cache_dir", str(path), "a folder; this is a file")
    return str(path)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _bad(name: str, value: Any, expected: str) -> ConfigError:
    text = value if isinstance(value, str) and name == "semantic" else repr(value)
    return ConfigError(f"configure_cache: {name} is invalid: got {text:.100}, expected {expected}")
