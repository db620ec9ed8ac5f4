"""User classes and arguments as bytes, so that only the process that runs them opens them.

A class that the node can import is sent as its name; any other one (from `__main__`, a notebook, a test, a module
beside the user's script) is sent by value. Its code says on the node which file it is from, so a traceback there
shows its lines as long as the file can be read.

Public: programs on top of supervisors may import it.
"""

from __future__ import annotations

import io
import pickle
import sys
import sysconfig
import threading
from collections.abc import Callable
from dataclasses import replace
from functools import cache, lru_cache
from importlib import metadata
from importlib.machinery import PathFinder
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any

import cloudpickle

from supervisors.terms.errors import CallFailed, SpecError, SupervisorsError
from supervisors.terms.showing import shown_error
from supervisors.terms.spec import ChildSpec, SealedStart, SupervisorSpec
from supervisors.wire import fresh

_SEALED_KWARGS = "sealed"
_OWN_PACKAGE = __name__.partition(".")[0]
_registering = threading.RLock()


@cache
def _installed_packages() -> frozenset[str]:
    return frozenset(metadata.packages_distributions()) | sys.stdlib_module_names


@cache
def _library_folders() -> tuple[Path, ...]:
    paths = sysconfig.get_paths()
    return tuple({Path(paths[key]).resolve() for key in ("purelib", "platlib", "stdlib", "platstdlib")})


@cache
def _found_elsewhere(name: str) -> tuple[Path, ...]:
    """Return where an interpreter that was not started beside the user's script finds a package: file or folders."""
    script = getattr(sys.modules.get("__main__"), "__file__", None)
    beside = {Path.cwd(), *([Path(script).resolve().parent] if script else [])}
    path = [entry for entry in sys.path if entry and Path(entry).resolve() not in beside]
    folders: list[str] = []
    for finder in sys.meta_path:
        spec = finder.find_spec(name, path if finder is PathFinder else None)
        if spec is not None and spec.origin is not None:
            return (Path(spec.origin).resolve(),)
        if spec is not None:  # folders without __init__.py, such as tests/NAME: a package goes before them
            folders += spec.submodule_search_locations or ()
    return tuple(Path(each).resolve() for each in folders)


@cache
def travels_by_value(module: ModuleType) -> bool:
    """Whether a module's classes and functions are sent by value: it is not part of an installed package.

    Its file decides, and not its name: a `utils.py` beside the script is not the `utils` that somebody has installed.
    """
    top = module.__name__.partition(".")[0]
    if top in ("__main__", "__mp_main__"):
        return True
    file = getattr(module, "__file__", None)
    if file is None:  # one that the program has made by hand, and nobody can import; not one that is built in
        made = getattr(module, "__spec__", None) is None and not hasattr(module, "__path__")
        return made and top not in _installed_packages()
    if top == _OWN_PACKAGE or any(folder in Path(file).resolve().parents for folder in _library_folders()):
        return False
    if top not in _installed_packages():
        return True
    package = sys.modules.get(top, module)  # installed in place (editable), or of the same name as what is installed
    places = [package.__file__] if getattr(package, "__file__", None) else list(getattr(package, "__path__", ()))
    return not any(Path(each).resolve() in _found_elsewhere(top) for each in places if each)


@lru_cache(maxsize=1)
def _by_value_modules(count: int) -> tuple[ModuleType, ...]:
    """Return the modules that travel by value; `count`, how many are loaded, is only the cache's key."""
    return tuple(
        module
        for module in list(sys.modules.values())
        if isinstance(module, ModuleType) and module.__name__ != "__main__" and travels_by_value(module)
    )


class _Step:
    """Pickled before and after what a function, a class or a module holds: the pickler knows then where it is."""

    __slots__ = ("by",)

    def __init__(self, by: int) -> None:
        self.by = by


def _fill(made: Any, held: tuple[Any, Any, Any, Any]) -> None:
    _, setter, state, _ = held
    setter(made, state)


class _Pickler(cloudpickle.Pickler):  # type: ignore[misc]
    """cloudpickle's, with three differences.

    Code keeps the name of its file: cloudpickle 3.1.3 and later put a word in its place. A class keeps its slots. And
    what the code holds (locks, caches, context variables: fresh.py) is made anew where it arrives.
    """

    #: In how many functions, classes and modules what is being pickled is held.
    _within = 0

    def reducer_override(self, obj: Any) -> Any:
        kind = type(obj)
        if kind is FunctionType:
            return self._held(super().reducer_override(obj))
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
        return fresh.reduced(obj) if self._within else NotImplemented

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


def _pickled(value: Any) -> bytes:
    with io.BytesIO() as buffer:
        _Pickler(buffer).dump(value)
        return buffer.getvalue()


def dumps(value: Any) -> bytes:
    """Pickle `value`; what is not installed goes in by value, its own modules' helpers too."""
    by_value = _by_value_modules(len(sys.modules))
    if not by_value:
        return _pickled(value)
    # cloudpickle knows such modules by a list of the whole process: one thread at a time, and left as it was.
    with _registering:
        registered = []
        try:
            for module in by_value:
                name = module.__name__
                if name in sys.modules and name not in cloudpickle.list_registry_pickle_by_value():
                    cloudpickle.register_pickle_by_value(module)
                    registered.append(module)
            return _pickled(value)
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
