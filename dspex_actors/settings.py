"""Settings that programs read while they run: which LM, which adapter, where the trace goes.

Two layers: what `configure` set for the whole process, and above it what `context` set for the code inside
its `with`. The second is a context variable, so hundreds of asyncio tasks and threads have their own
without seeing each other's. A thread that the user starts sees the process's layer only, unless it runs in
a copy of the context.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from types import MappingProxyType
from typing import Any

from dspex_actors.errors import ConfigError
from dspex_actors.foundation.config_errors import ConfigValueError

#: Name → what holds when nobody has set it.
DEFAULTS: Mapping[str, Any] = MappingProxyType(
    {
        "lm": None,  # dspex.LM that predictors without one of their own ask
        "adapter": None,  # None: ChatAdapter
        "trace": None,  # list that gets (predictor, inputs, prediction) per call; None: no trace
        "max_trace_size": 10_000,
        "warn_on_type_mismatch": True,
    }
)

_EMPTY: Mapping[str, Any] = MappingProxyType({})
_inside: ContextVar[Mapping[str, Any]] = ContextVar("dspex_settings", default=_EMPTY)
_calls: ContextVar[Calls | None] = ContextVar("dspex_calls", default=None)
_lock = threading.Lock()


class Settings:
    """The settings as attributes: `settings.lm`, `settings.adapter`, `settings.trace`."""

    def __init__(self) -> None:
        """Start with the defaults."""
        object.__setattr__(self, "_process", dict(DEFAULTS))

    def __getattr__(self, name: str) -> Any:
        """Return the setting that holds here."""
        inside = _inside.get()
        if name in inside:
            return inside[name]
        process: dict[str, Any] = self.__dict__["_process"]
        try:
            return process[name]
        except KeyError:
            raise AttributeError(_unknown([name])) from None

    def around(self, name: str) -> Any:
        """Return what a `context` around here has set; None where none has."""
        return _inside.get().get(name)

    def __setattr__(self, name: str, value: Any) -> None:
        """Refuse; `configure` and `context` set."""
        raise ConfigError(f"set it with configure({name}=...) or `with context({name}=...)`")

    def configure(self, **values: Any) -> None:
        """Set values for the whole process.

        Args:
            **values: see `DEFAULTS`.

        Raises:
            ConfigError: an unknown name, or an LM that is none.
        """
        _check(values)
        with _lock:
            self.__dict__["_process"] = {**self.__dict__["_process"], **values}

    @contextmanager
    def context(self, **values: Any) -> Iterator[None]:
        """Set values for the code inside the `with`, and for tasks that it starts.

        Args:
            **values: see `DEFAULTS`.

        Raises:
            ConfigError: an unknown name, or an LM that is none.
        """
        _check(values)
        token = _inside.set({**_inside.get(), **values})
        try:
            yield
        finally:
            _inside.reset(token)


settings = Settings()
configure = settings.configure
context = settings.context


def _check(values: Mapping[str, Any]) -> None:
    unknown = [name for name in values if name not in DEFAULTS]
    if unknown:
        raise ConfigError(_unknown(unknown))
    if "lm" in values:
        check_lm(values["lm"])


def _unknown(names: list[str]) -> str:
    return f"no setting is called {', '.join(names)}; there are {', '.join(DEFAULTS)}"


def check_lm(lm: Any) -> None:
    """Refuse what cannot be asked.

    Raises:
        ConfigError: `lm` is neither None nor an LM.
    """
    if lm is not None and not (callable(lm) and hasattr(lm, "acall")):
        hint = f"write dspex.LM({lm!r})" if isinstance(lm, str) else "make one with dspex.LM('provider/model')"
        raise ConfigValueError(f"an LM is needed, got {lm!r} ({type(lm).__name__}); {hint}")


class Calls(list[Any]):
    """The LM's replies, oldest first; `in_vain` counts the requests of calls that brought none."""

    in_vain: int = 0


@contextmanager
def record_calls() -> Iterator[Calls]:
    """Collect the LM's replies of the programs that run inside the `with`.

    The list fills as replies arrive, so after an error it holds what was paid until then. Records nest: a
    reply is in every one that is open around it.

    Yields:
        The replies, oldest first.
    """
    outer = _calls.get()
    calls = Calls()
    token = _calls.set(calls)
    try:
        yield calls
    finally:
        _calls.reset(token)
        if outer is not None:
            outer.extend(calls)
            outer.in_vain += calls.in_vain


def book_call(reply: Any) -> None:
    """Add a reply to the innermost open record; without one it is forgotten."""
    calls = _calls.get()
    if calls is not None:
        calls.append(reply)


def book_failure(asked: int | None) -> None:
    """Add the requests of a call that brought no reply to the innermost open record."""
    calls = _calls.get()
    if calls is not None:
        calls.in_vain += asked or 0
