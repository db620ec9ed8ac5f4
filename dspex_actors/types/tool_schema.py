"""What a function takes, as JSON schemas: from its signature, its annotations and its docstring."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from pydantic import BaseModel, PydanticUserError, TypeAdapter
from pydantic.errors import PydanticSchemaGenerationError
from pydantic_core import to_jsonable_python

from dspex_actors.foundation.config_errors import ConfigTypeError, ConfigValueError


@dataclass(frozen=True, slots=True)
class Described:
    """What a function says about itself.

    Args:
        name: its name.
        desc: its docstring; None: it has none.
        args: the JSON schema of each parameter by name.
        arg_types: the type of each.
        has_kwargs: it takes any other name too.
    """

    name: str
    desc: str | None
    args: dict[str, Any]
    arg_types: dict[str, Any]
    has_kwargs: bool


def described(func: Callable[..., Any], arg_desc: Mapping[str, str], *, needs_args: bool) -> Described:
    """Look at a function, a method, or an object that is called.

    Args:
        func: it.
        arg_desc: words about parameters, by name.
        needs_args: nobody has said what it takes: a parameter that has no schema, or cannot be given by name, is an
            error.

    Raises:
        ConfigTypeError: it cannot be called, or says not what it takes.
        ConfigValueError: a parameter has no schema; names it.
    """
    if not callable(func):
        raise ConfigTypeError(f"Tool: func is invalid: got {func!r:.80}, expected something that can be called")
    is_plain = inspect.isfunction(func) or inspect.ismethod(func)
    looked_at = func if is_plain or inspect.isbuiltin(func) or isinstance(func, type) else func.__call__  # type: ignore[operator]
    name = str(getattr(func, "__name__", None) or type(func).__name__)
    desc = getattr(func, "__doc__", None) or getattr(looked_at, "__doc__", None)
    try:
        parameters = inspect.signature(looked_at).parameters
    except (TypeError, ValueError):
        if needs_args:
            raise ConfigTypeError(
                f"Tool {name!r} is invalid: it does not say what it takes; wrap it in a function with annotations"
            ) from None
        parameters = inspect.Signature().parameters
    has_kwargs = any(one.kind is one.VAR_KEYWORD for one in parameters.values())
    hints = _hints(name, looked_at, parameters, needs_args)
    if not needs_args:
        return Described(name, desc, {}, {one: hints.get(one, Any) for one in parameters}, has_kwargs)
    args: dict[str, Any] = {}
    for one, parameter in parameters.items():
        if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.VAR_POSITIONAL):
            raise ConfigValueError(
                f"Tool {name!r} is invalid: parameter {one!r} cannot be given by name, and a tool is called by names; "
                "wrap the function in one that names it"
            )
        schema = args[one] = _schema(name, one, hints.get(one, Any))
        if parameter.default is not parameter.empty:
            schema["default"] = _plain_default(parameter.default)
        if one in arg_desc:
            schema["description"] = arg_desc[one]
    if unknown := sorted(set(arg_desc) - set(args)):
        raise ConfigValueError(
            f"Tool {name!r}: arg_desc names {', '.join(unknown)}; it takes {', '.join(args) or 'nothing'}"
        )
    return Described(name, desc, args, {one: hints.get(one, Any) for one in parameters}, has_kwargs)


def _hints(name: str, func: Any, parameters: Mapping[str, inspect.Parameter], is_needed: bool) -> dict[str, Any]:
    """Return the parameters' types; one that is a text which names nothing is an error, or Any."""
    target: Any = vars(func).get("__init__", func) if isinstance(func, type) else func
    try:
        return typing.get_type_hints(target, include_extras=True)
    except Exception:  # one of them names nothing, or raises: which?
        found: dict[str, Any] = {}
    scope = getattr(inspect.unwrap(func), "__globals__", {})
    for one, parameter in parameters.items():
        if parameter.annotation is parameter.empty:
            continue
        holder = type("_", (), {"__annotations__": {one: parameter.annotation}})
        problem = ""
        try:
            found[one] = typing.get_type_hints(holder, scope, {}, include_extras=True)[one]
        except Exception as error:
            problem = f"{type(error).__name__}: {error}"
        if problem and is_needed:
            raise ConfigValueError(
                f"Tool {name!r} is invalid: parameter {one!r} has the annotation {parameter.annotation!r:.80}, "
                f"which names no type ({problem:.100})"
            )
    return found


def _schema(tool: str, parameter: str, kind: Any) -> dict[str, Any]:
    try:
        is_model = isinstance(kind, type) and issubclass(kind, BaseModel)
        schema = kind.model_json_schema() if is_model else TypeAdapter(kind).json_schema()
        return without_references(schema)
    except (PydanticUserError, PydanticSchemaGenerationError, RecursionError, TypeError, ValueError, KeyError) as error:
        why = str(error).splitlines()[0] if str(error) else type(error).__name__
    shown = getattr(kind, "__name__", None) or str(kind)
    raise ConfigValueError(
        f"Tool {tool!r} is invalid: no JSON schema can be made of parameter {parameter!r} of type {shown:.80} "
        f"({why:.120}); annotate it with a type of JSON data, or give args={{{parameter!r}: schema}}"
    )


def without_references(schema: dict[str, Any]) -> dict[str, Any]:
    """Return a JSON schema with its definitions in the places that name them, as DSPy tells tools.

    Raises:
        ValueError: a type holds itself.
    """
    if "$defs" not in schema and "definitions" not in schema:
        return schema
    known: dict[str, Any] = {**schema.get("definitions", {}), **schema.get("$defs", {})}

    def resolved(part: Any, inside: tuple[str, ...]) -> Any:
        if isinstance(part, list):
            return [resolved(item, inside) for item in part]
        if not isinstance(part, dict):
            return part
        if "$ref" in part:
            name = str(part["$ref"]).rpartition("/")[2]
            if name in inside:
                raise ValueError(f"the type {name} holds itself")
            return resolved(known[name], (*inside, name))
        return {key: resolved(item, inside) for key, item in part.items() if key not in ("$defs", "definitions")}

    made: dict[str, Any] = resolved(schema, ())
    return made


def _plain_default(value: Any) -> Any:
    if isinstance(value, Decimal):
        return float(value)  # a number, as the schema says
    try:
        return to_jsonable_python(value)
    except Exception:
        return value


#: The Python types of JSON schema's words.
_JSON_TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "array": (list, tuple),
    "object": (dict,),
    "null": (type(None),),
}


def misfit(schema: Mapping[str, Any], value: Any) -> str:
    """Return why a value does not fit the outermost words of a JSON schema; empty where it does."""
    wanted = schema.get("type")
    names = [wanted] if isinstance(wanted, str) else wanted if isinstance(wanted, list) else []
    known = [name for name in names if name in _JSON_TYPES]
    if known and not any(_is(value, name) for name in known):
        return f"{value!r:.80} is not of type {' or '.join(map(repr, known))}"
    if isinstance(allowed := schema.get("enum"), list) and value not in allowed:
        return f"{value!r:.80} is not one of {allowed}"
    return ""


def _is(value: Any, name: str) -> bool:
    if isinstance(value, bool):
        return name == "boolean"
    return isinstance(value, _JSON_TYPES[name]) or (
        name == "integer" and isinstance(value, float) and value.is_integer()
    )
