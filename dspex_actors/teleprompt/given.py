"""What `compile` was given beside program and options: it is a part of what an optimisation is."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar, cast

from dspex_actors.foundation.bridge import is_async
from dspex_actors.teleprompt.made_of import HOW, is_as_unsaid

Function = TypeVar("Function", bound=Callable[..., Any])
#: Arguments that are told elsewhere, or say nothing of what is done.
_ELSEWHERE = HOW | frozenset(
    {"self", "student", "trainset", "valset", "requires_permission_to_run"}
    | {"run_id", "system", "force_resume", "budget", "unknown_price", "tags"}
)
_NOTED: ContextVar[Given | None] = ContextVar("dspex_given", default=None)


class Given:
    """What one call of `compile` was given.

    Args:
        arguments: its own ones that are not what they are without being said, by name.
        valset: as it was given; None: it was not.
    """

    def __init__(self, arguments: Mapping[str, Any] | None = None, valset: Any = None) -> None:
        """Nothing is read yet."""
        self.arguments, self.valset = dict(arguments or {}), valset
        #: The datasets that were read, each by its name.
        self.read: dict[str, Any] = {}


def own_arguments(function: Callable[..., Any], arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return those arguments of a `compile` that make its optimisation another one. Pure.

    Args:
        function: the `compile`.
        arguments: by name. One that is what it is without being said is left out.
    """
    defaults = {name: one.default for name, one in inspect.signature(function).parameters.items()}
    return {
        name: value
        for name, value in arguments.items()
        if name not in _ELSEWHERE and not is_as_unsaid(value, defaults.get(name, inspect.Parameter.empty))
    }


def noting(function: Function) -> Function:
    """Have what a `compile` is given be known to what it calls (`given`); a decorator."""

    # What wraps it is pickled by value with a class of the user's, so it names nothing but functions of this module.
    @functools.wraps(function)
    def calls(*args: Any, **kwargs: Any) -> Any:
        kwargs = _readable(kwargs)
        with _noted(function, args, kwargs):
            return function(*args, **kwargs)

    @functools.wraps(function)
    async def acalls(*args: Any, **kwargs: Any) -> Any:
        kwargs = _readable(kwargs)
        with _noted(function, args, kwargs):
            return await function(*args, **kwargs)

    return cast("Function", acalls if is_async(function) else calls)


def _readable(kwargs: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments; what can be read once only is read here: `compile` reads it again."""
    return {name: _kept(name, value) for name, value in kwargs.items()}


@contextmanager
def _noted(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Iterator[None]:
    token = _NOTED.set(_given(function, args, kwargs))
    try:
        yield
    finally:
        _NOTED.reset(token)


def given() -> Given:
    """Return what the `compile` was given that this is called in."""
    return _NOTED.get() or Given()


def note(what: str, examples: Any) -> None:
    """Keep the examples of a dataset that was read in a `compile`."""
    found = _NOTED.get()
    if found is not None:
        found.read[what] = examples


def _given(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Given:
    signature = inspect.signature(function)
    try:
        bound = dict(signature.bind(*args, **kwargs).arguments)
    except TypeError:
        return Given()  # the call itself will say what is wrong
    for name, one in signature.parameters.items():
        if one.kind is one.VAR_KEYWORD:
            bound |= bound.pop(name, {})
    return Given(own_arguments(function, bound), bound.get("valset"))


def _kept(name: str, value: Any) -> Any:
    return list(value) if isinstance(value, Iterator) and name not in _ELSEWHERE else value
