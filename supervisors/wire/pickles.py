"""User classes and arguments as bytes, so that only the process that runs them opens them.

A class that the node can import is sent as its name; any other one (from `__main__`, a notebook, a test, a module
beside the user's script) is sent by value. Its code says on the node which file it is from, so a traceback there
shows its lines as long as the file can be read.

Public: programs on top of supervisors may import it.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import pickle
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from itertools import takewhile
from types import CodeType, FunctionType, ModuleType
from typing import Any, TypeVar

import cloudpickle
from cloudpickle import cloudpickle as _cloud

from supervisors.terms.errors import CallFailed, SpecError, SupervisorsError
from supervisors.terms.showing import shown_error
from supervisors.terms.spec import ChildSpec, SealedStart, SupervisorSpec
from supervisors.wire import fresh, imports
from supervisors.wire.origin import look_at_modules as look_at_each
from supervisors.wire.origin import travels_by_value as travels_by_value

T = TypeVar("T")

_SEALED_KWARGS = "sealed"
_registering = threading.RLock()


class _Seen:
    """Which of the loaded modules travel by value. Only those that came since are looked at.

    In a process that was forked each look at a module copies pages that were shared: 4 MB for all of them.
    """

    def __init__(self) -> None:
        self._by_value: dict[str, ModuleType] = {}
        self._last: str | None = None

    def by_value(self) -> tuple[ModuleType, ...]:
        """Return those that travel by value, oldest first."""
        new = self._newer()
        self._by_value = {name: module for name, module in self._by_value.items() if sys.modules.get(name) is module}
        for name in reversed(new):
            module = sys.modules.get(name)
            if isinstance(module, ModuleType) and module.__name__ != "__main__" and travels_by_value(module):
                self._by_value[name] = module
        if new:  # one that is odd has raised, and will again
            self._last = new[0]
        return tuple(self._by_value.values())

    def _newer(self) -> list[str]:
        """Return the names that came after the last one of before, newest first; all where that is not there now."""
        try:
            return list(takewhile(lambda name: name != self._last, reversed(sys.modules)))
        except RuntimeError:  # another thread imports
            return list(sys.modules)[::-1]


_seen = _Seen()


def look_at_modules() -> None:
    """Find out of every module that is loaded whether it travels by value; for a node, before it forks."""
    look_at_each()
    with _registering, contextlib.suppress(Exception):  # one that is odd is an error where something is sent
        _seen.by_value()


class _Step:
    """Pickled before and after what a function, a class or a module holds: the pickler knows then where it is."""

    __slots__ = ("by",)

    def __init__(self, by: int) -> None:
        self.by = by


def _fill(made: Any, held: tuple[Any, Any, Any, Any]) -> None:
    _, setter, state, _ = held
    setter(made, state)


def _fill_function(made: FunctionType, state: tuple[Any, Any, imports.Importer, dict[str, Any]]) -> None:
    setter, held, importer, modules = state
    setter(made, held)
    importer.add(modules)
    if importer:  # what the setter put there is for functions that bring nothing
        made.__globals__["__builtins__"] = importer.builtins


class _Pickler(cloudpickle.Pickler):  # type: ignore[misc]
    """cloudpickle's, with three differences.

    Code keeps the name of its file: cloudpickle 3.1.3 and later put a word in its place. A class keeps its slots. And
    what the code holds (locks, caches, context variables: fresh.py) is made anew where it arrives.
    """

    #: In how many functions, classes and modules what is being pickled is held.
    _within = 0

    def __init__(self, buffer: io.BytesIO) -> None:
        super().__init__(buffer)
        self._importer = imports.Importer()
        #: Modules that functions import in their bodies: whether they can be sent as they are.
        self._sendable: dict[ModuleType, bool] | None = {}

    def reducer_override(self, obj: Any) -> Any:
        kind = type(obj)
        if kind is FunctionType:
            return self._held(self._function(obj))
        if kind is _Step:
            self._within += obj.by
            return int, ()
        if kind is CodeType:
            return self._code(obj)
        if isinstance(obj, type):
            return self._class(obj)
        if kind is ModuleType and not self._by_reference(obj):
            held = {
                name: value
                for name, value in vars(obj).items()
                if name not in ("__builtins__", "__spec__", "__loader__")
            }
            return self._held((fresh.make_module, (obj.__name__,), held, None, None, fresh.fill_module))
        if kind is fresh.CACHED and not self._by_reference(obj):
            return fresh.reduce_cached(obj)
        if isinstance(obj, BaseException):
            return fresh.reduce_exception(obj)
        found = fresh.reduced(obj) if self._within else NotImplemented
        return fresh.sentinel(obj, self._by_reference) if found is NotImplemented else found

    def _function(self, function: FunctionType) -> Any:
        reduced = super().reducer_override(function)
        if reduced is NotImplemented or len(reduced) < 6:
            return reduced
        _, parts, state, items, pairs, setter = reduced
        modules = imports.brought(function, travels_by_value, self._can_send) if self._sendable is not None else {}
        parts = (self._importer, bool(modules), *parts)
        return imports.make_function, parts, (setter, state, self._importer, modules), items, pairs, _fill_function

    def _can_send(self, module: ModuleType) -> bool:
        assert self._sendable is not None
        if module not in self._sendable:
            trial = _Pickler(io.BytesIO())
            trial._sendable = None
            try:
                trial.dump(module)
            except Exception:  # it holds an open file, a connection: its source is sent instead
                self._sendable[module] = False
            else:
                self._sendable[module] = True
        return self._sendable[module]

    def _held(self, reduced: Any) -> Any:
        """Mark what an object holds as held by code; what travels by reference holds nothing."""
        if reduced is NotImplemented or len(reduced) < 6:
            return reduced
        make, parts, state, items, pairs, setter = reduced
        return make, parts, (_Step(1), setter, state, _Step(-1)), items, pairs, _fill

    def _code(self, code: CodeType) -> Any:
        make, parts = self.dispatch_table[CodeType](code)
        word = make(*parts).co_filename
        # One string object for one name: equal code gives equal bytes, whoever compiled it.
        file = sys.intern(code.co_filename)
        return make, tuple(file if isinstance(part, str) and part == word else part for part in parts)

    def _class(self, cls: type) -> Any:
        reduced = super().reducer_override(cls)
        slots = fresh.slots_of(cls)
        if slots is None or reduced is NotImplemented or len(reduced) < 6:
            return self._held(reduced)
        make, parts, (state, slot_state), *rest = reduced
        if len(parts) == 6:  # an enumeration has more, and no slots of its own
            kind, name, bases, keywords, number, extra = parts
            parts = (kind, name, bases, {**keywords, "__slots__": slots}, number, extra)
            state = {name: value for name, value in state.items() if name not in slots and name != "__slots__"}
        return self._held((make, parts, (state, slot_state), *rest))

    @staticmethod
    def _by_reference(obj: Any) -> bool:
        """Whether a cached function or a module is found by its name where it arrives."""
        if isinstance(obj, ModuleType):
            name = obj.__name__
            return (
                name in sys.modules
                and name not in cloudpickle.list_registry_pickle_by_value()
                and (not travels_by_value(obj))
            )
        module = sys.modules.get(getattr(obj, "__module__", None) or "")
        if module is None or travels_by_value(module):
            return False
        found: Any = module
        for part in obj.__qualname__.split("."):
            found = getattr(found, part, None)
        return found is obj


class _NamingPickler(_Pickler):
    """Pickler of values: names the classes that travel by value, and does not hold their code."""

    def __init__(self, buffer: io.BytesIO, every: bool) -> None:
        super().__init__(buffer)
        self.named: set[type] = set()
        self._every = every

    def persistent_id(self, obj: Any) -> Any:
        if not isinstance(obj, type) or _cloud._should_pickle_by_reference(obj):
            return None
        if not self._every and obj not in _cloud._DYNAMIC_CLASS_TRACKER_BY_CLASS:
            return None
        self.named.add(obj)
        return _cloud._get_or_create_tracker_id(obj), obj.__module__, obj.__qualname__


def named_class(name: Any) -> type:
    """Return the class that `dumps_naming` named: one that is or came here by value, else one found by its name.

    For the `persistent_load` of an unpickler.

    Raises:
        UnpicklingError: there is none.
    """
    tracker_id, module_name, path = name
    known = _cloud._DYNAMIC_CLASS_TRACKER_BY_ID.get(tracker_id)
    if known is None:
        known = sys.modules.get(module_name)
        if known is None:
            with contextlib.suppress(ImportError):
                known = importlib.import_module(module_name)
        for part in path.split("."):
            known = getattr(known, part, None)
    if not isinstance(known, type):
        raise pickle.UnpicklingError(f"the class {module_name}.{path} is not here")
    return known


def dumps_naming(value: Any, *, every: bool) -> tuple[bytes, set[type]]:
    """Pickle a value without the code of its classes.

    Args:
        value: what to pickle.
        every: name all classes that would travel by value: their code is sent otherwise. False: those that others
            know, since they came from there or were sent there by value; the code of the rest goes in.

    Returns:
        The bytes, for an unpickler that finds classes with `named_class`; and the classes that are named in them.
    """

    def dump() -> tuple[bytes, set[type]]:
        with io.BytesIO() as buffer:
            pickler = _NamingPickler(buffer, every)
            pickler.dump(value)
            return buffer.getvalue(), pickler.named

    return _with_modules_by_value(dump)


def dumps(value: Any) -> bytes:
    """Pickle `value`; what is not installed goes in by value, its own modules' helpers too."""

    def dump() -> bytes:
        with io.BytesIO() as buffer:
            _Pickler(buffer).dump(value)
            return buffer.getvalue()

    return _with_modules_by_value(dump)


def _with_modules_by_value(dump: Callable[[], T]) -> T:
    with _registering:
        by_value = _seen.by_value()
    if not by_value:
        return dump()
    # cloudpickle knows such modules by a list of the whole process: one thread at a time, and left as it was.
    with _registering:
        registered = []
        try:
            for module in by_value:
                name = module.__name__
                if name in sys.modules and name not in cloudpickle.list_registry_pickle_by_value():
                    cloudpickle.register_pickle_by_value(module)
                    registered.append(module)
            return dump()
        finally:
            for module in registered:
                cloudpickle.unregister_pickle_by_value(module)


def loads(blob: bytes) -> Any:
    """Open what `dumps` made; only where user code runs."""
    return pickle.loads(blob)  # noqa: S301 - from a holder of the cluster key


def seal_args(args: tuple[Any, ...]) -> SealedStart:
    """Return positional arguments as bytes."""
    return SealedStart(dumps(args), "args")


def seal(spec: ChildSpec | SupervisorSpec) -> Any:
    """Return the spec with every server class and argument below it as bytes."""
    if isinstance(spec, SupervisorSpec):
        sealed = replace(spec, children=tuple(seal(child) for child in spec.children))
        extra = getattr(spec, "extra_arguments", ())  # of a dynamic supervisor
        if extra and not isinstance(extra[0], SealedStart):
            sealed = replace(sealed, extra_arguments=(seal_args(extra),))  # type: ignore[call-arg]
        return sealed
    if isinstance(spec.start, SealedStart):
        return spec
    if isinstance(spec.start, SupervisorSpec):
        return replace(spec, start=seal(spec.start))
    return replace(
        spec,
        start=SealedStart(dumps(spec.start), f"{spec.start.__module__}.{spec.start.__qualname__}"),
        args=(seal_args(spec.args),) if spec.args else (),
        kwargs={_SEALED_KWARGS: SealedStart(dumps(spec.kwargs), "kwargs")} if spec.kwargs else {},
    )


def unseal(spec: ChildSpec) -> ChildSpec:
    """Undo `seal`."""
    if isinstance(spec.start, SupervisorSpec):
        start = replace(spec.start, children=tuple(unseal(child) for child in spec.start.children))
        extra = getattr(start, "extra_arguments", ())
        if extra and isinstance(extra[0], SealedStart):
            start = replace(start, extra_arguments=loads(extra[0].blob))  # type: ignore[call-arg]
        return replace(spec, start=start)
    if not isinstance(spec.start, SealedStart):
        return spec
    try:
        cls, args, kwargs = open_start(spec.start, spec.args, spec.kwargs)
    except Exception as error:
        raise CallFailed(f"the class or arguments of {spec.id!r} cannot be opened here: {shown_error(error)}") from None
    return replace(spec, start=cls, args=args, kwargs=kwargs)


def open_start(
    start: SealedStart, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[Any, tuple[Any, ...], dict[str, Any]]:
    """Return class, arguments and keyword arguments of a sealed start."""
    opened: list[Any] = []
    for item in args:
        opened.extend(loads(item.blob) if isinstance(item, SealedStart) else [item])
    sealed = kwargs.get(_SEALED_KWARGS)
    return (
        loads(start.blob),
        tuple(opened),
        loads(sealed.blob) if isinstance(sealed, SealedStart) else dict(kwargs),
    )


def seal_spec(spec: ChildSpec | SupervisorSpec) -> Any:
    """Do what `seal` does, for a spec that a program has given.

    Raises:
        SpecError: its class or arguments cannot be sent.
    """
    return _sealed(lambda: seal(spec), f"the class or arguments of {getattr(spec, 'id', spec)!r}")


def _sealed(make: Callable[[], Any], what: str) -> Any:
    try:
        return make()
    except SupervisorsError:
        raise
    except Exception as error:
        raise SpecError(f"{what} cannot be sent: {shown_error(error)}") from None


def seal_start(child: Any) -> Any:
    """Return what start_child was given as it is sent: a ChildSpec, or the arguments that a template's child gets.

    Raises:
        SpecError: it is neither, or cannot be sent.
    """
    if isinstance(child, tuple | list):
        return (_sealed(lambda: seal_args(tuple(child)), "the arguments"),)
    if not isinstance(child, ChildSpec):
        raise SpecError.of("spec", child, "a ChildSpec (or, under simple_one_for_one, a tuple of arguments)")
    return seal_spec(child)
