"""Settings that programs read while they run: which LM, which adapter, where the trace goes.

Two layers: what `configure` set for the whole process, and above it what `context` set for the code inside its
`with`. The second is a context variable, so hundreds of asyncio tasks and threads have their own without seeing each
other's. A thread that the user starts sees the process's layer only, unless it runs in a copy of the context.

A worker has no process's layer of its own: each example runs inside a `context` with a `snapshot` of the settings
that held where the run was started, and the threads that its program starts see that too.
"""

from __future__ import annotations

import sys
import threading
import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from dspex_actors.errors import ConfigError
from dspex_actors.foundation.config_errors import ConfigRuntimeError, ConfigValueError
from dspex_actors.foundation.setting_checks import check_values

if TYPE_CHECKING:
    import asyncio

#: Name → what holds when nobody has set it.
DEFAULTS: Mapping[str, Any] = MappingProxyType(
    {
        "lm": None,  # LM that predictors without one of their own ask
        "adapter": None,  # None: ChatAdapter
        "trace": (),  # list that gets (predictor, inputs, prediction) per call; None: no trace. The process has one
        "max_trace_size": 10_000,
        "allow_tool_async_sync_conversion": False,  # whether calling an async tool without await runs it
        "warn_on_type_mismatch": True,
        "user": None,  # for whom calls are made; a text, in the books of what they cost
        "tags": MappingProxyType({}),  # name → text: what calls are for, in the books too
        "cache": None,  # how LMs' answers are cached, see `configure_cache`; False: not at all
        "num_threads": 8,  # threads of `Parallel` and `batch`
        "max_errors": 10,  # with so many errors they give up
        "interpreter_factory": None,  # makes what runs code for ProgramOfThought and CodeAct; None: PythonInterpreter
        "disable_history": False,  # whether `inspect_history` has nothing to show
        "max_history_size": 1000,  # so many LM calls of this process are kept for it
        "track_usage": False,  # DSPy's; a prediction always knows its usage here
        "callbacks": (),  # BaseCallbacks: who hears of calls in this process
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
    import asyncio  # here: whoever only imports the package needs none of it

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

    def in_force(self) -> Mapping[str, Any]:
        """Return all settings that hold here, for who needs several of them."""
        return {**self.__dict__["_process"], **_inside.get()}

    def heard_by(self, own: Sequence[Any] = ()) -> Sequence[Any]:
        """Return who hears of a call: the callbacks of the settings, and what is called has of its own."""
        inside = _inside.get()
        callbacks = inside["callbacks"] if "callbacks" in inside else self.__dict__["_process"]["callbacks"]
        return [*callbacks, *own] if own else callbacks

    def history_size(self) -> int:
        """Return how many LM calls are kept to be looked at."""
        inside, process = _inside.get(), self.__dict__["_process"]
        if inside.get("disable_history", process["disable_history"]):
            return 0
        return int(inside.get("max_history_size", process["max_history_size"]))

    def around(self, name: str) -> Any:
        """Return what a `context` around here has set; None where none has."""
        return _inside.get().get(name)

    def beneath(self, name: str) -> Any:
        """Return what `configure` has set, whatever a `context` around here says."""
        return self.__dict__["_process"][name]

    def __setattr__(self, name: str, value: Any) -> None:
        """Refuse; `configure` and `context` set."""
        raise ConfigError(f"set it with configure({name}=...) or `with context({name}=...)`")

    def whose(self) -> tuple[str | None, Mapping[str, str]]:
        """Return the user and the tags that hold here."""
        inside, process = _inside.get(), self.__dict__["_process"]
        return (
            inside["user"] if "user" in inside else process["user"],
            inside["tags"] if "tags" in inside else process["tags"],
        )

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
        check_settings(values)
        self.__dict__["_process"] = {**self.__dict__["_process"], **values}

    def close(self) -> None:
        """Refuse `configure` from now on: in a worker it would change other runs' settings."""
        self.__dict__["_owner"].closed = True

    def snapshot(self) -> dict[str, Any]:
        """Return the settings that hold here and are not the defaults, without trace and callbacks."""
        from dspex_actors.foundation.cache_settings import travelling

        found = {name: getattr(self, name) for name in DEFAULTS if name not in ("trace", "callbacks")}
        found["cache"] = travelling(found["cache"])
        return {name: value for name, value in found.items() if value is not DEFAULTS[name]}

    @contextmanager
    def context(self, **values: Any) -> Iterator[None]:
        """Set values for the code inside the `with`, and for tasks that it starts.

        Args:
            **values: see `DEFAULTS`.

        Raises:
            ConfigError: an unknown name, or an LM that is none.
        """
        check_settings(values)
        with inside(values):
            yield


settings = Settings()
configure = settings.configure
context = settings.context


class inside:  # noqa: N801 - used as a function, and made for every example
    """Do what `context` does, for settings that `check_settings` has let pass."""

    __slots__ = ("_token", "_values")

    def __init__(self, values: Mapping[str, Any]) -> None:
        """Take them."""
        self._values = values

    def __enter__(self) -> None:
        """Put them in force."""
        self._token = _inside.set({**_inside.get(), **self._values})

    def __exit__(self, *error: object) -> None:
        """Put in force what was before."""
        _inside.reset(self._token)


def check_settings(values: Mapping[str, Any]) -> None:
    """Refuse settings that there are not.

    Raises:
        ConfigError: an unknown name, or an LM that is none.
    """
    unknown = [name for name in values if name not in DEFAULTS]
    if unknown:
        raise ConfigError(_unknown(unknown))
    if "lm" in values:
        check_lm(values["lm"])
    if values.get("user") is not None:
        check_user(values["user"])
    if "tags" in values:
        check_tags(values["tags"])
    check_values(values)
    if values.get("cache") is not None:
        from dspex_actors.foundation.cache_settings import check_cache  # whoever sets nothing needs none of it

        check_cache(values["cache"])


def _unknown(names: list[str]) -> str:
    return f"no setting is called {', '.join(names)}; there are {', '.join(DEFAULTS)}"


#: A call has so many tags at most; a tag's name and its text, and a user's name, have so many characters.
MOST_TAGS, MOST_CHARACTERS = 16, 100


def check_user(user: Any) -> str:
    """Return for whom calls are made.

    Raises:
        ConfigError: it is no text of 1 to 100 printable characters.
    """
    if not _is_name(user):
        raise ConfigValueError(
            f"user is invalid: got {user!r:.120}, expected a text of 1 to {MOST_CHARACTERS} printable characters"
        )
    return str(user)


def check_tags(tags: Any) -> dict[str, str]:
    """Return tags, a copy.

    Raises:
        ConfigError: they are no mapping of names to texts, or there are too many.
    """
    if not isinstance(tags, Mapping) or len(tags) > MOST_TAGS:
        raise ConfigValueError(
            f"tags is invalid: got {tags!r:.120}, expected at most {MOST_TAGS} names with texts, as in "
            '{"team": "search"}'
        )
    for name, text in tags.items():
        if not _is_name(name) or "=" in name or not _is_name(text):
            raise ConfigValueError(
                f"tags is invalid: got {name!r:.120}: {text!r:.120}, expected texts of 1 to {MOST_CHARACTERS} "
                "printable characters, and no = in the name"
            )
    return dict(tags)


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and 1 <= len(value) <= MOST_CHARACTERS and value.isprintable()


def check_lm(lm: Any) -> None:
    """Refuse what cannot be asked.

    Raises:
        ConfigError: `lm` is neither None nor an LM.
    """
    if lm is not None and (isinstance(lm, type) or not (callable(lm) and hasattr(lm, "acall"))):
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
        add_calls(self._calls)


def begin_calls() -> Calls:
    """Begin a record for the rest of this context, which has to be a copy; nobody around it has what it holds."""
    calls = Calls()
    _calls.set(calls)
    return calls


def add_calls(calls: Calls) -> None:
    """Add what a record holds to the innermost open one."""
    outer = _calls.get()
    if outer is not None:
        outer.extend(calls)
        outer.in_vain += calls.in_vain


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
