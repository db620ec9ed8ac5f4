"""Signatures from data: what a spec has to be like."""

from __future__ import annotations

import json
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import SchemaError

from dspex_actors.foundation.config_errors import ConfigTypeError, ConfigValueError
from dspex_actors.signatures.dsl import parse_type
from dspex_actors.signatures.fields import InputField, OutputField, complete_field
from dspex_actors.types.base import told_in_a_line
from dspex_actors.types.validators import type_adapter

#: JSON's names of types.
_JSON_TYPES = {
    "string": "str",
    "integer": "int",
    "number": "float",
    "boolean": "bool",
    "array": "list",
    "object": "dict",
}
_KEYS = ("name", "instructions", "inputs", "outputs")
_EXPECTED = 'as {"inputs": {"question": "str"}, "outputs": {"answer": {"type": "str", "desc": "in one word"}}}'


@dataclass(frozen=True, slots=True)
class Read:
    """What a spec says."""

    name: str
    fields: dict[str, FieldInfo]
    instructions: str | None


def read(spec: Any, custom_types: Mapping[str, Any] | None = None) -> Read:
    """Return what a spec says.

    Raises:
        ConfigError: it is none; says what is wrong.
    """
    if isinstance(spec, str):
        try:
            spec = json.loads(spec)
        except (ValueError, RecursionError) as error:
            raise ConfigValueError(f"the spec is invalid: it is no JSON ({error}); expected one {_EXPECTED}") from None
    if not isinstance(spec, Mapping):
        raise ConfigTypeError(f"the spec is invalid: got {type(spec).__name__}, expected a dict {_EXPECTED}")
    unknown = [key for key in spec if key not in _KEYS]
    if unknown or "inputs" not in spec or "outputs" not in spec:
        got = ", ".join(map(str, spec)) or "nothing"
        raise ConfigValueError(
            f"the spec is invalid: got {got:.200}, expected inputs and outputs, and where wanted name and instructions"
        )
    name, instructions = spec.get("name", "SpecSignature"), spec.get("instructions")
    if not isinstance(name, str) or not name.isidentifier():
        raise ConfigValueError(f"the spec is invalid: got the name {name!r:.60}, expected one for a class")
    if instructions is not None and not isinstance(instructions, str):
        raise ConfigTypeError(
            f"the spec is invalid: got {type(instructions).__name__} as instructions, expected a text"
        )
    fields: dict[str, FieldInfo] = {}
    for side, make in (("inputs", InputField), ("outputs", OutputField)):
        for called, given in _rows(name, side, spec[side]):
            if called in fields:
                raise ConfigValueError(f"the spec of {name} is invalid: there are two fields called {called}")
            fields[called] = _field(name, called, given, make, custom_types)
    if not any(called for called, _ in _rows(name, "outputs", spec["outputs"])):
        raise ConfigValueError(f"the spec of {name} is invalid: got no outputs, expected at least one")
    return Read(name, fields, instructions)


def _rows(name: str, side: str, given: Any) -> list[tuple[str, Any]]:
    if isinstance(given, Mapping):
        rows = list(given.items())
    elif isinstance(given, list | tuple):
        rows = []
        for each in given:
            if isinstance(each, Mapping) and "name" in each:
                rows.append((each["name"], {key: value for key, value in each.items() if key != "name"}))
            else:
                rows.append((each, {}))
    else:
        raise ConfigTypeError(
            f"the spec of {name} is invalid: got {type(given).__name__} as {side}, expected a dict by name or a list"
        )
    for called, _ in rows:
        if not isinstance(called, str) or not called.isidentifier() or called.startswith("_"):
            raise ConfigValueError(
                f"the spec of {name} is invalid: {called!r:.60} among its {side} is no name of a field; use letters, "
                "digits and _"
            )
    return rows


def _field(name: str, called: str, given: Any, make: Any, custom_types: Mapping[str, Any] | None) -> FieldInfo:
    options = {"type": given} if isinstance(given, str) else given
    if not isinstance(options, Mapping):
        raise ConfigTypeError(
            f"the spec of {name} is invalid: got {type(given).__name__} as {called}, expected a type as text or a dict"
        )
    options = dict(options)
    kind, members = options.pop("type", None), options.pop("enum", None)
    if members is not None and kind not in (None, "str", "string"):
        raise ConfigValueError(f"the spec of {name} is invalid: {called} has a type and an enum, expected one of them")
    if code := [key for key in ("validator", "default_factory") if key in options]:
        raise ConfigValueError(f"the spec of {name} is invalid: {called} has a {code[0]}, which is code; expected data")
    try:
        annotation = _type(kind, custom_types) if members is None else _literal(members)
        made = complete_field(called, make(**options), annotation)
        if made.metadata or options.get("default") is not None:
            adapter = (
                type_adapter(Annotated[(annotation, *made.metadata)]) if made.metadata else type_adapter(annotation)
            )
            if options.get("default") is not None:
                adapter.validate_python(options["default"])
        return made
    except (ValueError, TypeError, SchemaError) as error:  # ours are both
        why = told_in_a_line(error) if isinstance(error, ValidationError) else " ".join(str(error).split())
        raise ConfigValueError(f"the spec of {name} is invalid: {called}: {why}") from None


def _literal(members: Any) -> Any:
    if not isinstance(members, list | tuple) or not members:
        raise ValueError(f"got the enum {members!r:.40}, expected a list of values")
    if not all(isinstance(each, str | int | bool) for each in members):
        raise ValueError(f"got the enum {members!r:.40}, expected texts and whole numbers")
    return typing.Literal[tuple(members)]


def _type(kind: Any, custom_types: Mapping[str, Any] | None) -> Any:
    if kind is None:
        return str
    if not isinstance(kind, str):
        raise TypeError(f"got {type(kind).__name__} as its type, expected a text as 'list[str]'")
    if kind in (custom_types or {}):
        return (custom_types or {})[kind]
    return parse_type(_JSON_TYPES.get(kind, kind), custom_types, trusted=False)
