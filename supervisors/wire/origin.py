"""Where code is from: an installed package, which others have too, or the user's own files, which have to be sent."""

from __future__ import annotations

import sys
import sysconfig
from functools import cache
from importlib import metadata
from importlib.machinery import PathFinder
from pathlib import Path
from types import ModuleType

_OWN_PACKAGE = __name__.partition(".")[0]


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
