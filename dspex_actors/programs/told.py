"""Having callbacks told of a whole evaluation, or of a compile: `on_evaluate_start`, `on_compile_end` and so on."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, TypeVar, cast

from dspex_actors.foundation.callbacks import heard
from dspex_actors.settings import settings

Function = TypeVar("Function", bound=Callable[..., Any])
#: What is told of already: one that calls its base's is one.
_going_on: ContextVar[tuple[int, ...]] = ContextVar("dspex_told", default=())


def told(kind: str) -> Callable[[Function], Function]:
    """Have the callbacks of the settings hear of a function's calls; a decorator.

    Args:
        kind: evaluate or compile. The function's first argument is what callbacks know as `instance`.
    """

    def decorate(function: Function) -> Function:
        @functools.wraps(function)
        def calls(*args: Any, **kwargs: Any) -> Any:
            callbacks = settings.heard_by()
            if not callbacks:
                return function(*args, **kwargs)
            inputs = _named(function, args, kwargs)
            instance = args[0] if args else next(iter(inputs.values()), None)
            around = _going_on.get()
            if id(instance) in around:
                return function(*args, **kwargs)
            token = _going_on.set((*around, id(instance)))
            try:
                inputs.pop("self", None)
                return heard(callbacks, kind, instance, inputs, lambda: function(*args, **kwargs))
            finally:
                _going_on.reset(token)

        return cast("Function", calls)

    return decorate


def _named(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    try:
        return dict(inspect.signature(function).bind(*args, **kwargs).arguments)
    except TypeError:
        return dict(kwargs)  # the call itself will say what is wrong
