"""Where code is from: an installed package, which others have too, or the user's own files, which have to be sent."""

from __future__ import annotations

import contextlib
import os
import sys
import sysconfig
from functools import cache
from importlib.machinery import PathFinder
from pathlib import Path
from types import ModuleType

_OWN_PACKAGE = __name__.partition(".")[0]


@cache
def _installed_packages() -> frozenset[str]:
    """Read what each distribution brings: tenths of a second, so the others are asked first."""
    from importlib import metadata

    return frozenset(metadata.packages_distributions())


@cache
def _is_installed(name: str) -> bool:
    """Whether some distribution, or Python itself, brings a package of this name."""
    if name in sys.stdlib_module_names:
        return True
    from importlib import metadata

    try:  # most distributions are called as their package is
        brought = metadata.distribution(name).read_text("top_level.txt") or ""
    except metadata.PackageNotFoundError:
        brought = ""
    return name in brought.split() or name in _installed_packages()


@cache
def _library_folders() -> tuple[str, ...]:
    """Return the real folders of installed packages and of Python itself, each with a / at its end."""
    paths = sysconfig.get_paths()
    folders = {os.path.realpath(paths[key]) for key in ("purelib", "platlib", "stdlib", "platstdlib")}
    return tuple(os.path.join(folder, "") for folder in folders)


@cache
def _is_library(folder: str) -> bool:
    """Whether a folder is one of the interpreter's, or below: asked once a folder, as there are hundreds of modules."""
    return os.path.join(os.path.realpath(folder), "").startswith(_library_folders())


def _lies_in_library(file: str) -> bool:
    """Whether a file lies in the folders of installed packages, links followed."""
    return _is_library(os.path.dirname(os.path.realpath(file) if os.path.islink(file) else file))


@cache
def _found_elsewhere(name: str) -> tuple[Path, ...]:
    """Return where an interpreter that was not started beside the user's script finds a package: file or folders."""
    script = getattr(sys.modules.get("__main__"), "__file__", None)
    beside = {Path(script).resolve().parent} if script else set()
    with contextlib.suppress(FileNotFoundError):  # it may have been deleted
        beside.add(Path.cwd())
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
def _is_elsewhere(name: str, places: tuple[str, ...]) -> bool:
    """Whether such an interpreter finds the package in one of these places."""
    elsewhere = _found_elsewhere(name)
    return any(Path(each).resolve() in elsewhere for each in places)


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
        return made and not (_found_elsewhere(top) and _is_installed(top))
    if top == _OWN_PACKAGE or _lies_in_library(file):
        return False
    package = sys.modules.get(top, module)  # may be installed in place (editable), or called as what is installed
    places = [package.__file__] if getattr(package, "__file__", None) else list(getattr(package, "__path__", ()))
    return not (_is_elsewhere(top, tuple(each for each in places if each)) and _is_installed(top))


def look_at_modules() -> None:
    """Find out of every module that is loaded whether it travels by value, which each pickle has to know.

    It takes hundredths of a second: so a node does it before it forks, and a program while its node begins.
    """
    for module in list(sys.modules.values()):
        if isinstance(module, ModuleType):
            with contextlib.suppress(Exception):  # one that is odd is an error where something is sent
                travels_by_value(module)
