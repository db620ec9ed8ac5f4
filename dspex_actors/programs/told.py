"""Having callbacks told of a whole evaluation, or of a compile: `on_evaluate_start`, `on_compile_end` and so on."""

from __future__ import annotations

import asyncio
import functools
import inspect
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar, cast

from dspex_actors.foundation.bridge import is_async
from dspex_actors.foundation.callbacks import Heard
from dspex_actors.settings import settings

Function = TypeVar("Function", bound=Callable[..., Any])
#: What is told of already, and where: one that calls its base's is one; another task is another call.
_going_on: ContextVar[tuple[tuple[int, int], ...]] = ContextVar("dspex_told", default=())


def told(kind: str) -> Callable[[Function], Function]:
    """Have the callbacks of the settings hear of a function's calls, an async one's too; a decorator.

    Args:
        kind: evaluate or compile. The function's first argument is what callbacks know as `instance`.
    """

    # What wraps it is pickled by value with a class of the user's, so it names nothing but functions of this module.
    def decorate(function: Function) -> Function:
        @functools.wraps(function)
        def calls(*args: Any, **kwargs: Any) -> Any:
            return _call(kind, function, args, kwargs)

        @functools.wraps(function)
        async def acalls(*args: Any, **kwargs: Any) -> Any:
            return await _acall(kind, function, args, kwargs)

        return cast("Function", acalls if is_async(function) else calls)

    return decorate


def _call(kind: str, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    with _heard(kind, function, args, kwargs) as heard:
        result = function(*args, **kwargs)
        if heard is not None:
            heard.outputs = result
    return result


async def _acall(kind: str, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    with _heard(kind, function, args, kwargs) as heard:
        result = await function(*args, **kwargs)
        if heard is not None:
            heard.outputs = result
    return result


@contextmanager
def _heard(
    kind: str, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Iterator[Heard | None]:
    """Tell of a call; None: nobody hears, or the call that this is a part of is told of."""
    callbacks, inputs = settings.heard_by(), None
    if callbacks:
        inputs = _named(function, args, kwargs)
        instance = args[0] if args else next(iter(inputs.values()), None)
        around, this = _going_on.get(), (id(instance), _here())
    if inputs is None or this in around:
        yield None
        return
    inputs.pop("self", None)
    token = _going_on.set((*around, this))
    try:
        with Heard(callbacks, kind, instance, inputs) as heard:
            yield heard
    finally:
        _going_on.reset(token)


def _here() -> int:
    """Return what is different for each task, and for each thread without one."""
    try:
        task = asyncio.current_task()
    except RuntimeError:  # no loop runs here
        task = None
    return threading.get_ident() if task is None else id(task)


def _named(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments by name, those that were left out too."""
    signature = inspect.signature(function)
    try:
        bound = signature.bind(*args, **kwargs)
    except TypeError:
        return dict(kwargs)  # the call itself will say what is wrong
    bound.apply_defaults()
    named = dict(bound.arguments)
    for name, one in signature.parameters.items():
        if one.kind is one.VAR_KEYWORD:
            named |= named.pop(name)
    return named
