"""What the code of a script holds and no pickle can carry is made anew where that code arrives, as an import would.

A lock at the top of a script, a cache around a function, a context variable: the code that uses them travels by value,
so each becomes a new one there, of the same kind and with the same parameters. Within one pickle identity is kept: two
functions that share a lock share one there. As a value of a message a lock is refused as ever: it would be another.
"""

from __future__ import annotations

import builtins
import functools
import queue
import sys
import threading
import weakref
from collections.abc import Callable
from contextvars import Context, ContextVar
from types import MemberDescriptorType, ModuleType
from typing import Any

from supervisors.wire.origin import travels_by_value

#: What a reducer returns: a function, its arguments, and what pickle allows beside them.
Reduced = tuple[Any, ...]


def _reduce_context_var(var: ContextVar[Any]) -> Reduced:
    for module in list(sys.modules.values()):
        for name, value in list(getattr(module, "__dict__", {}).items()):
            if value is var and isinstance(module, ModuleType) and not travels_by_value(module):
                return getattr, (module, name)  # a library's, which is there too: not the script's own
    try:
        default = Context().run(var.get)  # in an empty context it has its default, if it has one
    except LookupError:
        return ContextVar, (var.name,)
    return _context_var, (var.name, default)


def _context_var(name: str, default: Any) -> ContextVar[Any]:
    return ContextVar(name, default=default)


def _gone() -> None:
    """Stand in for a weak reference whose object has gone."""


def _reduce_weakref(ref: weakref.ref[Any]) -> Reduced:
    target = ref()
    return (_weakly, ()) if target is None else (weakref.ref, (target,))


def _weakly() -> Callable[[], None]:
    return _gone


_NEW: dict[type, Callable[[Any], Any]] = {
    type(threading.Lock()): lambda lock: (threading.Lock, ()),
    type(threading.RLock()): lambda lock: (threading.RLock, ()),
    threading.Condition: lambda condition: (threading.Condition, (condition._lock,)),
    queue.SimpleQueue: lambda waiting: (queue.SimpleQueue, ()),
    ContextVar: _reduce_context_var,
    Context: lambda context: (Context, ()),
    weakref.ref: _reduce_weakref,
    weakref.WeakValueDictionary: lambda known: (weakref.WeakValueDictionary, ()),
    weakref.WeakKeyDictionary: lambda known: (weakref.WeakKeyDictionary, ()),
}


def reduced(value: Any) -> Any:
    """Return how a value that the code of a script holds is made anew; NotImplemented: it travels as it is."""
    make = _NEW.get(type(value))
    if make is not None:
        return make(value)
    if isinstance(value, threading.local):
        return type(value), ()
    return NotImplemented


def sentinel(value: Any, installed: Callable[[ModuleType], bool]) -> Any:
    """Return how a value that stands for itself, such as `dataclasses.MISSING`, is found again: by its name.

    NotImplemented: it is none. Code asks whether something *is* it, and a copy would be another.

    Args:
        value: without anything in it.
        installed: whether a module is found where the value arrives.
    """
    kind: Any = type(value)
    if getattr(value, "__dict__", None) != {} or kind.__reduce_ex__ is not object.__reduce_ex__:
        return NotImplemented
    module = sys.modules.get(kind.__module__)
    if kind.__reduce__ is not object.__reduce__ or module is None or not installed(module):
        return NotImplemented
    name = next((name for name, other in vars(module).items() if other is value), None)
    return NotImplemented if name is None else (getattr, (module, name))


# --- caches ---------------------------------------------------------------------------------------------------------

#: The type of a function under functools.lru_cache or functools.cache.
CACHED = type(functools.lru_cache(len))


def reduce_cached(function: Any) -> Reduced:
    """Return how a cached function that travels by value is made anew, with nothing in its cache."""
    parameters = function.cache_parameters()
    return _cached, (function.__wrapped__, parameters["maxsize"], parameters["typed"])


def _cached(function: Any, maxsize: int | None, typed: bool) -> Any:
    return functools.lru_cache(maxsize, typed)(function)


# --- exceptions -----------------------------------------------------------------------------------------------------


def reduce_exception(error: BaseException) -> Any:
    """Return how an exception is made anew without its `__init__`, which may want other arguments than it kept.

    NotImplemented: its class has a way of its own.
    """
    cls = type(error)
    own = {name: next(base for base in cls.__mro__ if name in vars(base)) for name in ("__init__", "__reduce__")}
    if own["__init__"].__module__ == "builtins" or own["__reduce__"].__module__ != "builtins":
        return NotImplemented
    reduced = error.__reduce__()
    if cls.__reduce_ex__ is not object.__reduce_ex__ or not isinstance(reduced, tuple):
        return NotImplemented
    _, args, *state = reduced
    return _exception, (cls, args), *state


def _exception(cls: type[BaseException], args: tuple[Any, ...]) -> BaseException:
    error = cls.__new__(cls, *args)
    built_in: Any = next(base for base in cls.__mro__ if base.__module__ == "builtins")
    try:
        built_in.__init__(error, *args)
    except TypeError:  # it keeps other arguments than it takes
        error.args = args
    return error


# --- classes and modules --------------------------------------------------------------------------------------------


def slots_of(cls: type) -> tuple[str, ...] | None:
    """Return the slots that a class adds to its bases; None: it adds none.

    Source: the descriptors, for `__slots__` may have been an iterator, and private names are mangled in it.
    """
    own = vars(cls)
    if "__slots__" not in own:
        return None
    names = [
        name for name, value in own.items() if isinstance(value, MemberDescriptorType) and value.__objclass__ is cls
    ]
    return (*names, *(name for name in ("__dict__", "__weakref__") if name in own)) if names else None


def make_module(name: str) -> ModuleType:
    """Return an empty module that travels by value; `fill_module` puts what it holds into it."""
    return ModuleType(name)


def fill_module(module: ModuleType, held: dict[str, Any]) -> None:
    """Put into a module what it held where it was sent."""
    vars(module).update(held, __builtins__=builtins)
