"""Whole programs in a folder: `metadata.json`, and the file that it names.

A program that can be data (`recipes`) is JSON: nothing is imported or run when it is opened. Any other one is code, a
pickle, and to open it is to run it. Beside a pickle stands which Python wrote it: code by value is that of one Python,
another one may crash over it. Each file is replaced in one step, and `metadata.json` is the last: who is killed in
between leaves a whole program.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any

import cloudpickle

from dspex_actors.errors import ConfigError
from dspex_actors.foundation import moved
from dspex_actors.foundation.carried import refuse_keys
from dspex_actors.foundation.config_errors import (
    ConfigFolderError,
    ConfigRuntimeError,
    ConfigTypeError,
    ConfigValueError,
)
from dspex_actors.foundation.files import replaced, write_whole
from dspex_actors.programs import recipes
from dspex_actors.programs.reading import read_bytes, read_object
from dspex_actors.programs.walk import Part
from supervisors.wire import pickles

_log = logging.getLogger(__name__)

#: DSPy's names of the two files; and what a program is called that is data.
_PROGRAM, _ABOUT, _DATA = "program.pkl", "metadata.json", "program.json"


def save_whole(program: Any, folder: Path, modules: Any = None) -> None:
    """Write a program as data, or where that would lose some of it with its code.

    Args:
        program: it.
        folder: where; made if it is not there. What another program has left in it is replaced.
        modules: installed modules whose code goes along too; code that is not installed always does.

    Raises:
        ConfigError: a name with an ending, a folder that cannot be written to, a program that cannot be pickled, or
            that has a key in it.
    """
    if folder.suffix:
        raise ConfigValueError(f"a whole program is saved into a folder: give a name without an ending, not {folder}")
    if folder.exists() and not folder.is_dir():
        raise ConfigFolderError(f"a whole program is saved into a folder: {folder} is a file")
    with _along(modules) as given:
        text = None if given else recipes.written(program)
        code = _pickled(program) if text is None else b""
    about = {"dependency_versions": _versions(), **({} if text is None else {"dspex": {"program": _DATA}})}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if text is None:
            write_whole(folder / _PROGRAM, code)
        else:
            with replaced(folder / _DATA) as file:
                file.write(f"{text}\n")
        with replaced(folder / _ABOUT) as file:
            file.write(json.dumps(about, indent=2) + "\n")
        (folder / (_DATA if text is None else _PROGRAM)).unlink(missing_ok=True)
    except OSError as error:
        raise ConfigError(f"cannot write to {folder}: {error.strerror or error}") from None


def _pickled(program: Any) -> bytes:
    try:
        data = pickles.dumps(program)
    except Exception as error:
        why = " ".join(str(error).split())
        raise ConfigRuntimeError(
            f"the program cannot be saved whole: {type(error).__name__}: {why:.300}; take out what cannot be "
            "pickled, or save its state: save('NAME.json')"
        ) from error
    refuse_keys(data, program)
    return data


def load(path: str | Path, allow_pickle: bool = False, *, allow_unsafe_lm_state: bool = False) -> Any:
    """Open a program that was saved whole, `program.save(folder, save_program=True)`.

    One that is made of Predict, ChainOfThought, MultiHopQA and MultiChainComparison alone is data, and its folder may
    come from anybody: nothing is imported or run for it. Any other one is code, which is run.

    Args:
        path: the folder.
        allow_pickle: True: the folder is to be trusted as code is.
        allow_unsafe_lm_state: for data, take the servers of LMs from it. `allow_pickle` allows that, too.

    Returns:
        The program.

    Raises:
        ConfigError: it is code, and that is not allowed; there is no such folder, or no program in it; another Python
            has written it.
    """
    folder = Path(path)
    about = read_object(folder / _ABOUT, _called(_ABOUT, path))
    ours = about.get("dspex")
    if ours is not None:
        if not isinstance(ours, dict) or ours.get("program") != _DATA:
            raise ConfigValueError(f"{str(folder / _ABOUT)!r} does not say where the program is: save it again")
        data = read_object(folder / _DATA, _called(_DATA, path))
        try:
            return recipes.read(data, trusted=allow_pickle is True or allow_unsafe_lm_state is True)
        except (ConfigError, RecursionError) as error:
            raise ConfigValueError(f"the program in {str(path)!r} is invalid: {error}") from None
    if allow_pickle is not True:
        raise ConfigValueError(
            "to open a whole program is to run its code: load(path, allow_pickle=True) does it for a folder that you "
            "trust as you trust code; a state that was saved as JSON is loaded by program.load('NAME.json')"
        )
    return _opened(folder, about, path)


def _called(name: str, path: str | Path) -> str:
    """Return what errors call a file of a program."""
    return f"the program in {str(path)!r}: {name}"


def _opened(folder: Path, about: dict[str, Any], path: str | Path) -> Any:
    data = read_bytes(folder / _PROGRAM, _called(_PROGRAM, path))
    _check_versions(str(path), about.get("dependency_versions"))
    try:
        program = moved.loads(data)
    except Exception as error:
        why = " ".join(str(error).split())
        raise ConfigError(
            f"the program in {str(path)!r} cannot be opened: {type(error).__name__}: {why:.300}"
        ) from error
    if not isinstance(program, Part) and not hasattr(program, "named_predictors"):  # one of DSPy's
        raise ConfigTypeError(f"{str(path)!r} holds no program, but a {type(program).__name__}")
    return program


def _versions() -> dict[str, str]:
    return {
        "python": f"{sys.version_info.major}.{sys.version_info.minor}",
        "dspex-actors": metadata.version("dspex-actors"),
    }


def _check_versions(path: str, saved: Any) -> None:
    here = _versions()
    saved = saved if isinstance(saved, dict) else {}
    if saved.get("python") != here["python"]:
        raise ConfigError(
            f"the program in {path!r} was saved by Python {saved.get('python', 'of an unknown version')}, this is "
            f"{here['python']}: code does not travel between them; save it again there, or its state as JSON"
        )
    if saved.get("dspex-actors") != here["dspex-actors"]:
        _log.warning(
            "the program in %r was saved by dspex-actors %s, this is %s",
            path,
            saved.get("dspex-actors", "of an unknown version"),
            here["dspex-actors"],
        )


@contextmanager
def _along(modules: Any) -> Iterator[list[ModuleType]]:
    """Have the code of some installed modules go along."""
    if isinstance(modules, str | ModuleType) or not isinstance(modules or (), Iterable):
        raise ConfigTypeError(f"modules_to_serialize is invalid: got {modules!r:.80}, expected a list of modules")
    given = list(modules or ())
    if wrong := [module for module in given if not isinstance(module, ModuleType)]:
        raise ConfigTypeError(f"modules_to_serialize is invalid: got {wrong[0]!r:.80}, expected a list of modules")
    known = cloudpickle.list_registry_pickle_by_value()
    added = [module for module in dict.fromkeys(given) if module.__name__ not in known]
    for module in added:
        cloudpickle.register_pickle_by_value(module)
    try:
        yield given
    finally:
        for module in added:
            cloudpickle.unregister_pickle_by_value(module)
