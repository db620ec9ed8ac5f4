"""The fresh interpreter of a node: how it is started, whatever the surroundings of the program that starts it.

It finds modules where the program does, with two differences: the very package `supervisors` that the program has
imported is taken, wherever that lies; and the working folder and the folder of the program's script come last, so that
no file in them (queue.py, secrets.py) takes the place of a module that the node needs.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import supervisors.version
from supervisors.terms.errors import NodeDown

#: The word by which a daemon is known among the processes of a host.
DAEMON_MODULE = "supervisors.runtime.node"

#: Run with the arguments DAEMON_MODULE and those of the daemon's `main`, whose start file has `module_places` too.
#: Modules are no garbage: nobody looks for some before all are loaded (`Daemon.preload`), and nobody takes them down
#: one by one at the end.
_BOOTSTRAP = """\
import atexit, gc, json, os, sys
gc.disable()
try:
    with open(sys.argv[2], encoding="utf-8") as file:
        start = json.load(file)
    sys.path[:] = start["path"]
    from importlib.machinery import PathFinder
    from importlib.util import module_from_spec
    spec = PathFinder.find_spec("supervisors", [start["root"]])
    package = sys.modules["supervisors"] = module_from_spec(spec)
    spec.loader.exec_module(package)
    from supervisors.runtime.node.__main__ import main
except Exception as error:
    text = f"the node's interpreter cannot load it: {type(error).__name__}: {error}"
    os.write(int(sys.argv[3]), json.dumps({"error": text}).encode() + b"\\n")
    sys.exit(1)
status = main(sys.argv[2:])
try:
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
finally:
    os._exit(status)
"""


def command(*arguments: str) -> list[str]:
    """Return the command that starts a daemon.

    Args:
        *arguments: of its `main`; the first one is the start file.

    Raises:
        NodeDown: this program has no interpreter that could be started.
    """
    if not sys.executable or getattr(sys, "frozen", False):
        raise NodeDown(
            f"no Python interpreter is known to start a node with (sys.executable is {sys.executable!r}): start the "
            "node from a program that is run by one, and attach to it"
        )
    flags = [
        *(["-I"] if sys.flags.isolated else ["-P"]),
        *(["-E"] if sys.flags.ignore_environment else []),
        *(["-s"] if sys.flags.no_user_site else []),
        *(["-S"] if sys.flags.no_site else []),
        *(["-" + "O" * sys.flags.optimize] if sys.flags.optimize else []),
        *("-X", f"utf8={sys.flags.utf8_mode}"),
    ]
    return [sys.executable, *flags, "-c", _BOOTSTRAP, DAEMON_MODULE, *arguments]


def module_places() -> dict[str, object]:
    """Return what the start file says about modules: `root`, where this package lies, and `path`, for `sys.path`."""
    here = working_folder()

    def absolute(entry: str) -> str | None:
        if os.path.isabs(entry):
            return os.path.normpath(entry)
        return None if here is None else os.path.normpath(os.path.join(here, entry))

    last = [place for place in (_script_folder(), here) if place is not None]
    path = [place for each in sys.path if isinstance(each, str) and (place := absolute(each)) is not None]
    unsafe = [place for place in last if place in path or not sys.flags.safe_path]
    root = os.path.dirname(os.path.dirname(os.path.abspath(supervisors.version.__file__)))
    return {"root": root, "path": [*(place for place in path if place not in last), *unsafe]}


def working_folder() -> str | None:
    """Return the working folder; None: it is gone, or cannot be seen."""
    try:
        return os.getcwd()
    except OSError:
        return None


def _script_folder() -> str | None:
    file = getattr(sys.modules.get("__main__"), "__file__", None)
    if not isinstance(file, str) or not (os.path.isabs(file) or working_folder()):
        return None
    return str(Path(os.path.abspath(file)).parent)
