"""What the words of a command line stand for: programs, metrics and LMs."""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import inspect
import os
import sys
import traceback
from pathlib import Path
from typing import Any

from dspex_actors import metrics
from dspex_actors.config import Config
from dspex_actors.dspy.program import as_program
from dspex_actors.errors import ConfigError, DspexError
from dspex_actors.foundation.secrets import scrub
from dspex_actors.lm.lm import LM
from dspex_actors.programs.module import Module
from dspex_actors.programs.rebuild import rebuild
from dspex_actors.programs.whole import load

#: Metrics that need no import; their names win over modules of the user's.
BUILT_IN = ("exact_match", "contains", "f1", "numeric")


def load_program(text: str, signature: str | None = None, state: str | None = None, *, own_lm: bool = True) -> Any:
    """Return the program that a word stands for.

    Args:
        text: a saved program (`NAME.json`, or the folder of a whole one, if it is data), or `pkg.mod:object`: a
            program, its class, or a function without arguments that makes one.
        signature: of a saved program that does not say it.
        state: a saved state to load into a program given as `pkg.mod:object`.
        own_lm: False: not the LM that a saved program has; another was named.

    Raises:
        ConfigError: what is wrong with it.
    """
    if ":" not in text and Path(text).is_dir():
        if state is not None or signature is not None:
            raise ConfigError("--load and --signature do not go with the folder of a whole program, which has both")
        whole = load(text)
        if not own_lm:
            whole.set_lm(None)
        return whole
    if text.endswith(".json"):
        if state is not None:
            raise ConfigError("--load goes with a program given as pkg.mod:object; a saved program is a state itself")
        saved = rebuild(Path(text), signature)
        if not own_lm:
            saved.set_lm(None)
        return saved
    if signature is not None:
        raise ConfigError("--signature goes with a saved program (JSON); a program given as pkg.mod:object has its own")
    found = import_object(text, "program", "a saved program (NAME.json) or pkg.mod:object")
    program = as_program(_made(found, text))
    if state is not None:
        if not isinstance(program, Module):
            raise ConfigError(f"--load needs a dspex.Module, and {text} is a {type(program).__name__}")
        program.load(state)
    return program


def _made(found: Any, text: str) -> Any:
    if isinstance(found, Module):
        return found
    if not callable(found):
        raise ConfigError(
            f"{text} is a {type(found).__name__}: expected a dspex.Module, its class, or a function that makes one"
        )
    if not isinstance(found, type) and _needs_arguments(found):
        return found  # a program in the form of a plain function
    try:
        made = found()
    except DspexError:
        raise
    except Exception as error:
        raise ConfigError(f"{text} cannot be made without arguments: {_told(error)}") from None
    if not callable(made):
        raise ConfigError(f"{text}() gave a {type(made).__name__}, no program")
    return made


def _needs_arguments(function: Any) -> bool:
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return False
    return any(one.default is one.empty and one.kind not in (one.VAR_POSITIONAL, one.VAR_KEYWORD) for one in parameters)


def load_metric(text: str) -> Any:
    """Return the metric that a word stands for: a built-in such as `exact_match:FIELD`, or `pkg.mod:function`.

    Raises:
        ConfigError: there is none, or it cannot be called as a metric is.
    """
    module, colon, _ = text.partition(":")
    if not colon or module in BUILT_IN:
        return metrics.parse(text)
    _working_folder()
    if "." not in module and "/" not in module and not _can_be_found(module):
        close = difflib.get_close_matches(module, BUILT_IN, 1)
        guess = f", did you mean {close[0]!r}?" if close else ""
        raise ConfigError(
            f"metric {text!r}: neither a built-in ({', '.join(BUILT_IN)}) nor a module in {Path.cwd()}{guess}"
        )
    found = import_object(text, "metric", "a built-in such as exact_match:FIELD, or pkg.mod:function")
    if isinstance(found, type) or not callable(found):
        raise ConfigError(
            f"metric {text}: expected a function metric(example, prediction, trace=None), got {_kind(found)}"
        )
    _check_parameters(found, text)
    return found


def _can_be_found(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):
        return False


def _check_parameters(metric: Any, text: str) -> None:
    try:
        inspect.signature(metric).bind(object(), object())
    except ValueError:
        return  # written in C: nobody can tell
    except TypeError as error:
        raise ConfigError(f"metric {text} cannot be called as metric(example, prediction): {error}") from None


def import_object(text: str, what: str, legal: str) -> Any:
    """Import `pkg.mod:object`, the working folder being importable.

    Raises:
        ConfigError: no such module or object, or the module fails; names the line.
    """
    module_name, colon, attribute = text.partition(":")
    if not colon or not module_name or not attribute:
        raise ConfigError(f"{what} {text!r}: expected {legal}")
    if module_name.endswith(".py") or os.sep in module_name:
        dotted = module_name.removesuffix(".py").strip("./").replace(os.sep, ".")
        raise ConfigError(f"{what} {text!r}: modules are named with dots and without .py: {dotted}:{attribute}")
    _working_folder()
    try:
        found: Any = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is not None and (module_name == error.name or module_name.startswith(f"{error.name}.")):
            raise ConfigError(
                f"{what} {text!r}: no module {error.name!r} in {Path.cwd()}, and none installed"
            ) from None
        raise ConfigError(f"{what} {text!r}: {module_name} needs {error.name!r}, which is not installed") from None
    except DspexError as error:
        raise ConfigError(f"{what} {text!r}: {error.message}") from None
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        raise ConfigError(f"{what} {text!r}: importing {module_name} failed: {_told(error)}") from None
    for name in attribute.split("."):
        if not hasattr(found, name):
            names = [key for key in vars(found) if not key.startswith("_")] if hasattr(found, "__dict__") else []
            close = difflib.get_close_matches(name, names, 1)
            guess = f", did you mean {close[0]!r}?" if close else ""
            raise ConfigError(f"{what} {text!r}: {module_name} has no {name!r}{guess}")
        found = getattr(found, name)
    return found


def _working_folder() -> None:
    """Make the working folder importable, as `python -m` does."""
    here = os.getcwd()
    if here not in sys.path:
        sys.path.insert(0, here)
    importlib.invalidate_caches()


def _told(error: BaseException) -> str:
    """Say what a user's code raised, and where."""
    frames = traceback.extract_tb(error.__traceback__)
    here = os.getcwd()
    own = [frame for frame in frames if frame.filename.startswith(here)]
    last = own[-1] if own else None
    where = f" ({Path(last.filename).name} line {last.lineno})" if last is not None else ""
    if isinstance(error, SyntaxError) and error.filename:
        where = f" ({Path(error.filename).name} line {error.lineno})"
        return f"SyntaxError: {error.msg}{where}"
    return scrub(f"{type(error).__name__}: {error}{where}")


def _kind(found: Any) -> str:
    return f"the class {found.__name__}" if isinstance(found, type) else f"a {type(found).__name__}"


def choose_lm(config: Config, name: str | None, changes: dict[str, Any]) -> LM | None:
    """Return the LM that the command line asks for, with the settings that it changes.

    Args:
        config: has LMs by name.
        name: a name or a model string; None: the LM called `default`, if there is one.
        changes: settings given on the command line, those left out being None.

    Raises:
        ConfigError: there is no such LM, or a setting is not usable.
    """
    lm = config.lm(name)
    given = {key: value for key, value in changes.items() if value is not None}
    if lm is None:
        if given:
            options = ", ".join(f"--{key.replace('_', '-')}" for key in given)
            raise ConfigError(f"{options} without an LM: add --lm provider/model, or [lm.default] in dspex.toml")
        return None
    return lm.copy(**given) if given else lm
