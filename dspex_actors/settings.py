"""Settings that programs read while they run: which LM, which adapter, where the trace goes.

Two layers: what `configure` set for the whole process, and above it what `context` set for the code inside its
`with`. The second is a context variable, so hundreds of asyncio tasks and threads have their own without seeing each
other's. A thread that the user starts sees the process's layer only, unless it runs in a copy of the context.

A worker has no process's layer of its own: each example runs inside a `context` with a `snapshot` of the settings
that held where the run was started, and the threads that its program starts see that too.
"""

from __future__ import annotations

import asyncio
import sys
import threading
import weakref
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from types import MappingProxyType
from typing import Any

from dspex_actors.errors import ConfigError
from dspex_actors.foundation.config_errors import ConfigRuntimeError, ConfigValueError

#: Name → what holds when nobody has set it.
DEFAULTS: Mapping[str, Any] = MappingProxyType(
    {
        "lm": None,  # LM that predictors without one of their own ask
        "adapter": None,  # None: ChatAdapter
        "trace": (),  # list that gets (predictor, inputs, prediction) per call; None: no trace. The process has one
        "max_trace_size": 10_000,
        "warn_on_type_mismatch": True,
    }
)

_EMPTY: Mapping[str, Any] = MappingProxyType({})
_inside: ContextVar[Mapping[str, Any]] = ContextVar("dspex_settings", default=_EMPTY)
_calls: ContextVar[Calls | None] = ContextVar("dspex_calls", default=None)


class _Owner:
    """Who may call `configure`: the thread, and of its async tasks the one, that did so first.

    DSPy's rule: what one thread sets for all, another one does not change under it. Unlike DSPy's, an owner that has
    ended is none.
    """

    def __init__(self) -> None:
        self.closed = False
        self.forget()

    def forget(self) -> None:
        """Let whoever comes next be the owner."""
        self._thread: threading.Thread | None = None
        self._task: weakref.ref[asyncio.Task[Any]] | None = None

    def check(self) -> None:
        """Refuse anybody else."""
        if self.closed:
            raise ConfigRuntimeError(
                "configure(...) cannot be called while a run is evaluated: use `with context(...)`"
            )
        here = threading.current_thread()
        if self._thread is None or not self._thread.is_alive():
            self.forget()
            self._thread = here
        if self._thread is not here:
            raise ConfigRuntimeError(
                "settings can only be changed by the thread that initially configured it; "
                "use `with context(...)` in other threads"
            )
        task = _current_task()
        if task is None:
            return
        owner = None if self._task is None else self._task()
        if owner is None or owner.done():
            self._task = weakref.ref(task)
        elif owner is not task and not _in_notebook():
            raise ConfigRuntimeError(
                "configure(...) can only be called from the same async task that called it first; "
                "use `with context(...)` in other async tasks"
            )


def _current_task() -> asyncio.Task[Any] | None:
    try:
        return asyncio.current_task()
    except RuntimeError:
        return None  # no event loop runs in this thread


def _in_notebook() -> bool:
    """Whether this is IPython, where each cell is a task of its own."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", None)
    return shell is not None and shell() is not None


class Settings:
    """The settings as attributes: `settings.lm`, `settings.adapter`, `settings.trace`."""

    def __init__(self) -> None:
        """Start with the defaults."""
        object.__setattr__(self, "_process", {**DEFAULTS, "trace": []})
        object.__setattr__(self, "_owner", _Owner())

    def __reduce__(self) -> str:
        """Be, in code that travels, the settings of where it arrives."""
        return "settings"

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

        Only the thread that called it first may call it again, and of its async tasks the one that did; others use
        `context`.

        Args:
            **values: see `DEFAULTS`.

        Raises:
            ConfigError: an unknown name, or an LM that is none.
            ConfigRuntimeError: another thread or async task has called it before.
        """
        self.__dict__["_owner"].check()
        self.assign(**values)

    def assign(self, **values: Any) -> None:
        """Do what `configure` does, from any thread: for connections, which come and go anywhere."""
        _check(values)
        self.__dict__["_process"] = {**self.__dict__["_process"], **values}

    def close(self) -> None:
        """Refuse `configure` from now on: in a worker it would change other runs' settings."""
        self.__dict__["_owner"].closed = True

    def snapshot(self) -> dict[str, Any]:
        """Return the settings that hold here and are not the defaults, without the trace."""
        found = {name: getattr(self, name) for name in DEFAULTS if name != "trace"}
        return {name: value for name, value in found.items() if value is not DEFAULTS[name]}

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


class record_calls:  # noqa: N801 - used as a function, and made several times for every example
    """Collect the LM's replies of the programs that run inside the `with`.

    The list fills as replies arrive, so after an error it holds what was paid until then. Records nest: a
    reply is in every one that is open around it. The `with` gives the replies, oldest first.
    """

    __slots__ = ("_calls", "_token")

    def __enter__(self) -> Calls:
        """Begin a record."""
        self._calls = Calls()
        self._token = _calls.set(self._calls)
        return self._calls

    def __exit__(self, *error: object) -> None:
        """End it; what it holds is in the one around it, too."""
        _calls.reset(self._token)
        outer = _calls.get()
        if outer is not None:
            outer.extend(self._calls)
            outer.in_vain += self._calls.in_vain


def calls_booked() -> int:
    """Return how many calls the innermost open record has, those that failed by their requests; 0 without one."""
    calls = _calls.get()
    return 0 if calls is None else len(calls) + calls.in_vain


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
