"""Imports in the bodies of functions that travel by value: the modules beside the user's script go along.

What a module imports at its top is in its globals, and travels with them. An `import` inside a function runs where the
function runs, which may be another host, or the next run of a node that knows the file as it was before. So the
function brings such modules: one that is loaded already as it is, any other as its source, to be run when it is
imported. They are known to the functions of their pickle, and to nobody else.
"""

from __future__ import annotations

import builtins
import dis
import importlib.util
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from importlib.machinery import PathFinder, SourceFileLoader
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any


@dataclass(frozen=True, slots=True)
class Source:
    """A module that nobody has loaded where it was sent.

    Args:
        text: its source.
        file: where it stood.
        is_package: whether it is a package's `__init__`.
    """

    text: str
    file: str
    is_package: bool


_Test = Callable[[ModuleType], bool]

#: Files of modules that the node was told to have loaded: they are one for all its servers, and not run again.
_preloaded: set[tuple[str, str]] = set()


def preloaded() -> None:
    """Take note that what is loaded now was loaded for all processes that are forked from here on."""
    found = [(name, getattr(module, "__file__", None)) for name, module in list(sys.modules.items())]
    _preloaded.update((name, file) for name, file in found if file is not None)


class Importer:
    """The `import` of functions that came here together."""

    def __init__(self) -> None:
        """Know no module."""
        #: By full name.
        self.known: dict[str, ModuleType | Source] = {}
        self._lock = threading.RLock()
        #: For the globals of these functions.
        self.builtins = {**vars(builtins), "__import__": self._import}

    def __reduce__(self) -> tuple[Any, ...]:
        """Travel empty: each function brings its modules."""
        return Importer, ()

    def __bool__(self) -> bool:
        """Whether it knows any module."""
        return bool(self.known)

    def add(self, modules: dict[str, ModuleType | Source]) -> None:
        """Know these, too."""
        for name, module in modules.items():
            self.known.setdefault(name, module)

    def _import(
        self, name: str, space: Any = None, local: Any = None, fromlist: Any = (), level: int = 0
    ) -> ModuleType:
        full = absolute_name(name, level, space or {})
        if full is None or full not in self.known:
            return builtins.__import__(name, space, local, fromlist, level)
        module = self._load(full)
        for each in fromlist or ():
            if not hasattr(module, each) and f"{full}.{each}" in self.known:
                setattr(module, each, self._load(f"{full}.{each}"))
        return module if fromlist else self._load(full.partition(".")[0])

    def _load(self, name: str) -> ModuleType:
        with self._lock:
            found = self.known[name]
            if isinstance(found, Source):
                found = self._run(name, found)
            parent, _, own = name.rpartition(".")
            if parent in self.known:
                setattr(self._load(parent), own, found)
            return found

    def _run(self, name: str, source: Source) -> ModuleType:
        if (name, source.file) in _preloaded and name in sys.modules:
            self.known[name] = sys.modules[name]
            return sys.modules[name]
        module = ModuleType(name)
        package = name if source.is_package else name.rpartition(".")[0]
        vars(module).update(__file__=source.file, __package__=package, __builtins__=self.builtins)
        if source.is_package:
            module.__path__ = []
        self.known[name] = module
        try:
            exec(compile(source.text, source.file, "exec"), vars(module))  # noqa: S102 - the user's own code
        except BaseException:
            self.known[name] = source
            raise
        return module


def make_function(importer: Importer, needed: bool, *parts: Any) -> FunctionType:
    """Make a function that travelled; with `needed` its imports are the importer's."""
    _, space, *_ = parts
    space["__builtins__"] = importer.builtins if needed else builtins
    return FunctionType(*parts)


def absolute_name(name: str, level: int, space: dict[str, Any]) -> str | None:
    """Return the full name of what a module imports; None where it is in no package, and says `from .`."""
    if not level:
        return name
    package = space.get("__package__") or (
        space.get("__name__", "") if "__path__" in space else space.get("__name__", "").rpartition(".")[0]
    )
    try:
        return importlib.util.resolve_name("." * level + name, package)
    except ImportError:
        return None


@lru_cache(maxsize=4096)
def _statements(code: CodeType) -> tuple[tuple[str, int, tuple[str, ...]], ...]:
    """Return (name, level, names after `import`) of each import in a function's code, inner functions too."""
    found: list[tuple[str, int, tuple[str, ...]]] = []
    if any(each.opname == "IMPORT_NAME" for each in dis.get_instructions(code)):
        constants: list[Any] = []
        for each in dis.get_instructions(code):
            if each.opname == "IMPORT_NAME":
                level, names = constants[-2:]
                found.append((each.argval, level, tuple(names or ())))
            elif each.opname.startswith("LOAD_"):
                constants.append(each.argval)
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            found += _statements(constant)
    return tuple(found)


def brought(function: FunctionType, travels: _Test, can_send: _Test) -> dict[str, ModuleType | Source]:
    """Return the modules that a function imports in its body and has to bring, by name.

    Args:
        function: travels by value.
        travels: whether a module, of which name and file are told, is not installed where it will arrive.
        can_send: whether a loaded module can be sent as it is.
    """
    found: dict[str, ModuleType | Source] = {}
    space = function.__globals__.get("__builtins__")
    importer = getattr(space.get("__import__"), "__self__", None) if isinstance(space, dict) else None
    if isinstance(importer, Importer):  # it came here itself, and travels on
        found.update(importer.known)
    _gather(function.__code__, function.__globals__, travels, can_send, found)
    return found


def _gather(
    code: CodeType, space: dict[str, Any], travels: _Test, can_send: _Test, found: dict[str, ModuleType | Source]
) -> None:
    for name, level, names in _statements(code):
        full = absolute_name(name, level, space)
        if full is None or full.partition(".")[0] in sys.stdlib_module_names:
            continue
        for each in (*_parents(full), *(f"{full}.{item}" for item in names)):
            if each in found:
                continue
            loaded = sys.modules.get(each)
            if loaded is not None and (loaded.__name__ == "__main__" or not travels(loaded)):
                continue
            if loaded is not None and can_send(loaded):
                found[each] = loaded
            elif (source := _source_of(each, travels)) is not None:
                found[each] = source
                package = each if source.is_package else each.rpartition(".")[0]
                within = {"__name__": each, "__package__": package}
                _gather(compile(source.text, source.file, "exec"), within, travels, can_send, found)


def _parents(name: str) -> Iterator[str]:
    """Give `a`, `a.b` and `a.b.c` of `a.b.c`."""
    parts = name.split(".")
    return (".".join(parts[:count]) for count in range(1, len(parts) + 1))


def _source_of(name: str, travels: _Test) -> Source | None:
    """Find a module's file without running anything."""
    path: Any = None
    spec = None
    for each in _parents(name):
        spec = PathFinder.find_spec(each, path)
        if spec is None:
            return None
        path = spec.submodule_search_locations or []
    if spec is None or spec.origin is None or not isinstance(spec.loader, SourceFileLoader):
        return None
    stand_in = ModuleType(name)
    stand_in.__file__ = spec.origin
    if not travels(stand_in):
        return None
    try:
        text = importlib.util.decode_source(Path(spec.origin).read_bytes())
        compile(text, spec.origin, "exec")
    except (OSError, SyntaxError, ValueError):
        return None  # it can be imported nowhere: the import says so where the function runs
    return Source(text, spec.origin, spec.submodule_search_locations is not None)
