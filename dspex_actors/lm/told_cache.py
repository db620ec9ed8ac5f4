"""How a program's answers are cached, as it goes with its calls to a worker."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from dspex_actors.errors import ConfigError
from dspex_actors.foundation.cache_settings import travelling
from dspex_actors.lm.backend import current_backend
from dspex_actors.lm.lm import LM
from dspex_actors.settings import inside, settings
from supervisors.wire import pickles

#: Settings that are remembered as bytes, and as values.
_MOST = 64

_packed: dict[int, tuple[Any, bytes]] = {}
_opened: dict[bytes, Any] = {}


def packed_cache() -> bytes | None:
    """Return the setting `cache` that holds here, as bytes; None: nobody has set anything.

    Raises:
        ConfigError: its embedder cannot be sent.
    """
    told = travelling(settings.cache)
    if told is None:
        return None
    known = _packed.get(id(told))
    if known is not None and known[0] is told:
        return known[1]
    try:
        data = pickles.dumps(told)
    except Exception as error:
        raise ConfigError(
            f"configure_cache: it cannot be sent to the workers: {type(error).__name__}: {error}"
        ) from None
    if len(_packed) >= _MOST:
        _packed.clear()
    _packed[id(told)] = (told, data)
    return data


def as_told(data: bytes | None) -> AbstractContextManager[None]:
    """Put the setting in `packed_cache`'s bytes in force; only in a worker, where user code runs."""
    if data is None:
        return nullcontext()
    if data not in _opened:
        if len(_opened) >= _MOST:
            _opened.clear()
        _opened[data] = pickles.loads(data)
    return inside({"cache": _opened[data]})


def take_back(lm: Any, calls: Iterable[tuple[list[dict[str, Any]], dict[str, Any]]]) -> None:
    """Take the cached answers to calls back, if there are any: they are of no use, and nobody is to get them again.

    Args:
        lm: what was asked; one of the user's own has nothing cached.
        calls: the messages of each call, and its parameters.
    """
    if not isinstance(lm, LM):
        return
    forget = getattr(current_backend(), "forget", None)
    if forget is not None:
        for messages, params in calls:
            forget(lm._prepare(messages, None, params))
