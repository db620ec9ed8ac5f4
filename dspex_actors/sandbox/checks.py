"""Checks of what an interpreter is given."""

from __future__ import annotations

import json
import keyword
import math
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from pydantic_core import PydanticSerializationError, to_jsonable_python

from dspex_actors.foundation.config_errors import ConfigTypeError, ConfigValueError
from dspex_actors.sandbox.errors import UnusableVariable

#: What has to be safe unless somebody says otherwise; all that can be: network, files, processes, memory.
REQUIRED = ("network", "files", "processes")
PROTECTIONS = (*REQUIRED, "memory")
#: As `checked_variables` returns none.
NO_VARIABLES: dict[str, dict[str, Any]] = {"variables": {}, "literals": {}}
#: Names that code gets from the interpreter.
_OWN = ("SUBMIT", "__builtins__")


def listed(name: str, value: Any) -> list[Any]:
    """Return what was given as a list."""
    if value is None:
        return []
    if isinstance(value, str | bytes | os.PathLike) or not isinstance(value, Iterable):
        raise ConfigTypeError(f"{name} is invalid: got {value!r:.80}, expected a list")
    return list(value)


def required(value: Any) -> tuple[str, ...]:
    """Return what has to be protected."""
    wanted = tuple(listed("require", value))
    if unknown := [name for name in wanted if name not in PROTECTIONS]:
        raise ConfigValueError(f"require is invalid: got {unknown[0]!r:.80}, expected some of {', '.join(PROTECTIONS)}")
    return wanted


def seconds(name: str, value: Any) -> float:
    """Return seconds."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < float("inf"):
        raise ConfigValueError(f"{name} is invalid: got {value!r:.60}, expected seconds, more than 0")
    return float(value)


def readable(value: Any) -> str:
    """Return a path that code may read."""
    path = os.path.realpath(os.path.expanduser(str(os.fspath(value))))
    if path == "/" or not os.path.exists(path):
        raise ConfigValueError(f"enable_read_paths is invalid: got {path!r}, expected a file or folder that is there")
    return path


def checked_tools(tools: Any) -> dict[str, Callable[..., Any]]:
    """Return functions by name."""
    if not isinstance(tools, Mapping):
        raise ConfigTypeError(f"tools is invalid: got {tools!r:.80}, expected functions by name")
    for name, tool in tools.items():
        if not is_name(name) or not callable(tool):
            raise ConfigValueError(f"tools is invalid: got {name!r:.80}: {tool!r:.80}, expected functions by name")
    return dict(tools)


def names_of(what: str, fields: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the names of output fields."""
    names = [field.get("name") for field in fields]
    if not all(map(is_name, names)) or len({*names}) != len(names):
        raise ConfigValueError(
            f"{what} is invalid: got {names!r:.80}, expected dicts with a `name` each, all different"
        )
    return [str(name) for name in names]


def checked_variables(variables: Any, tools: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return variables as they travel, copies.

    Returns:
        `variables`, JSON data by name; and `literals`, Python literals, of those with dicts whose keys are not texts:
        JSON would make texts of them.
    """
    if not isinstance(variables, Mapping):
        raise ConfigTypeError(f"variables is invalid: got {variables!r:.80}, expected values by name")
    for name in variables:
        if not is_name(name) or name in tools:
            raise UnusableVariable(f"variables is invalid: got the name {name!r:.80}, expected one that code can have")
    try:
        given = {name: _plain(value) for name, value in variables.items()}
        json.dumps(given, allow_nan=False)
    except (TypeError, ValueError, RecursionError, PydanticSerializationError) as error:
        raise UnusableVariable(f"variables is invalid: expected JSON data: {error}") from None
    literals = {name: repr(value) for name, value in given.items() if _has_other_keys(value)}
    return {"variables": {name: given[name] for name in given if name not in literals}, "literals": literals}


def _plain(value: Any) -> Any:
    """Return a value as JSON data, with DSPy's forms for what is none: a set is a list, sorted where it can be."""
    if value is None or type(value) in (str, bool, int, float):
        return value
    if isinstance(value, Mapping):
        return {_key(name): _plain(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    if isinstance(value, set | frozenset):
        try:
            return [_plain(one) for one in sorted(value)]
        except TypeError:
            return [_plain(one) for one in value]
    return to_jsonable_python(value)


def _key(key: Any) -> Any:
    plain = _plain(key)
    if isinstance(plain, list | dict) or (isinstance(plain, float) and not math.isfinite(plain)):
        raise TypeError(f"a dict has the key {key!r:.60}")
    return plain


def _has_other_keys(value: Any) -> bool:
    if isinstance(value, dict):
        return any(type(key) is not str or _has_other_keys(one) for key, one in value.items())
    return isinstance(value, list) and any(map(_has_other_keys, value))


def is_name(name: Any) -> bool:
    """Tell whether code can have a variable of that name."""
    return isinstance(name, str) and name.isidentifier() and not keyword.iskeyword(name) and name not in _OWN
