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
from dataclasses import replace
from functools import cache, lru_cache
from importlib import metadata
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

import cloudpickle

from supervisors.terms.errors import SpecError, SupervisorsError
from supervisors.terms.spec import ChildSpec, SealedStart, SupervisorSpec

_SEALED_KWARGS = "sealed"
_registering = threading.RLock()


@cache
def _installed_packages() -> frozenset[str]:
    return frozenset(metadata.packages_distributions()) | sys.stdlib_module_names


@cache
def _library_folders() -> tuple[Path, ...]:
    paths = sysconfig.get_paths()
    return tuple({Path(paths[key]).resolve() for key in ("purelib", "platlib", "stdlib", "platstdlib")})


@cache
def travels_by_value(module: ModuleType) -> bool:
    """Whether a module's classes and functions are sent by value: it is not part of an installed package."""
    top = module.__name__.partition(".")[0]
    if top in ("__main__", "__mp_main__"):
        return True
    if top in _installed_packages() or top in sys.builtin_module_names:
        return False
    file = getattr(module, "__file__", None)
    return file is not None and not any(folder in Path(file).resolve().parents for folder in _library_folders())


@lru_cache(maxsize=1)
def _by_value_modules(count: int) -> tuple[ModuleType, ...]:
    """Return the modules that travel by value; `count`, how many are loaded, is only the cache's key."""
    return tuple(
        module
        for module in list(sys.modules.values())
        if isinstance(module, ModuleType) and module.__name__ != "__main__" and travels_by_value(module)
    )


class _Pickler(cloudpickle.Pickler):  # type: ignore[misc]
    """cloudpickle's, but code keeps the name of its file: cloudpickle 3.1.3 and later put a word in its place."""

    def reducer_override(self, obj: Any) -> Any:
        if type(obj) is not CodeType:
            return super().reducer_override(obj)
        make, parts = self.dispatch_table[CodeType](obj)
        word = make(*parts).co_filename
        # One string object for one name: equal code gives equal bytes, whoever compiled it.
        file = sys.intern(obj.co_filename)
        return make, tuple(file if isinstance(part, str) and part == word else part for part in parts)


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
    cls, args, kwargs = open_start(spec.start, spec.args, spec.kwargs)
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
    try:
        return seal(spec)
    except SupervisorsError:
        raise
    except Exception as error:
        raise SpecError(f"the class or arguments of {getattr(spec, 'id', spec)!r} cannot be sent: {error}") from None


def seal_start(child: Any) -> Any:
    """Return what start_child was given as it is sent: a ChildSpec, or the arguments that a template's child gets.

    Raises:
        SpecError: it is neither, or cannot be sent.
    """
    if isinstance(child, tuple | list):
        return (seal_args(tuple(child)),)
    if not isinstance(child, ChildSpec):
        raise SpecError.of("spec", child, "a ChildSpec (or, under simple_one_for_one, a tuple of arguments)")
    return seal_spec(child)
