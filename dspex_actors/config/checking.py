"""Whether values are legal, all of them together: the schema's rules, and `dspex.LM`'s for the tables of LMs."""

from __future__ import annotations

from collections.abc import Mapping
from types import NoneType
from typing import Any, get_args, get_origin

from pydantic import TypeAdapter, ValidationError

from dspex_actors.config.paths import Path, check_known, joined, nested, settings, shown
from dspex_actors.config.schema import Schema
from dspex_actors.config.sources import lm_of
from dspex_actors.errors import ConfigError

#: What stands for "none" where everything is text.
NONE_WORDS = ("", "none", "null")


def checked(values: Mapping[Path, Any], where: Mapping[Path, str] | None = None) -> dict[Path, Any]:
    """Return values as the schema has them (a whole number for a number becomes one), if all are legal together.

    Args:
        values: what was said, without defaults.
        where: who said it, for messages.

    Raises:
        ConfigError: the first thing that is wrong: where it stands, what is legal and, unless it is a text, what was
            given.
    """
    where = where or {}
    for path in values:
        if path not in settings() and path[0] != "lm":
            _check_known(path, where)
            raise ConfigError(f"{_place(path, where)}{joined(path)} is a table, got {shown(values[path])}")
    tables = nested({path: value for path, value in values.items() if path[0] == "lm"}).get("lm", {})
    for name, table in tables.items():
        found = next((where[path] for path in values if path[:2] == ("lm", name) and path in where), "")
        lm_of(name, table, found or "configuration")
    try:
        schema = Schema.model_validate(nested(values))
    except ValidationError as error:
        raise _explained(error, values, where) from None
    dumped: dict[Path, Any] = {}
    for path, value in values.items():
        if path[0] == "lm":
            dumped[path] = value
        else:
            found_value: Any = schema
            for part in path:
                found_value = getattr(found_value, part)
            dumped[path] = found_value
    return dumped


def from_text(path: Path, text: str) -> Any:
    """Return the value that a variable's or a command line's text means for a setting.

    Raises:
        ConfigError: it means none; says what is legal.
    """
    setting = settings()[path]
    assert setting.field is not None
    annotation: Any = setting.field.annotation
    if NoneType in get_args(annotation) and text.strip().lower() in NONE_WORDS:
        return None
    if get_origin(annotation) is list:
        return [part.strip() for part in text.split(",") if part.strip()]
    try:
        if get_origin(annotation) is dict:
            return TypeAdapter(annotation).validate_json(text)
        return TypeAdapter(annotation).validate_strings(text.strip())
    except ValidationError:
        raise ConfigError(
            f"{joined(path)} is invalid: got a text that says something else, expected {setting.bounds}"
        ) from None


def _check_known(path: Path, where: Mapping[Path, str]) -> None:
    try:
        check_known(path)
    except ConfigError as error:
        raise ConfigError(f"{_place(path, where)}{error.message}") from None


def _place(path: Path, where: Mapping[Path, str]) -> str:
    return f"{where[path]}: " if where.get(path) else ""


def _explained(error: ValidationError, values: Mapping[Path, Any], where: Mapping[Path, str]) -> ConfigError:
    """Return what pydantic says, in our words: its own repeat the value."""
    first = error.errors(include_url=False, include_context=False)[0]
    path = tuple(str(part) for part in first["loc"])
    while path and path not in settings() and path not in values and len(path) > 1 and path[:-1] in settings():
        path = path[:-1]  # a member of a union
    if path in settings() and first["type"] == "value_error":  # a check of ours, which says what it got
        said = str(first["msg"]).removeprefix("Value error, ")
        return ConfigError(f"{_place(path, where)}{joined(path)} is invalid: {said}")
    if path in settings():
        given = shown(values.get(path))
        return ConfigError(
            f"{_place(path, where)}{joined(path)} is invalid: got {given}, expected {settings()[path].bounds}"
        )
    said = str(first["msg"]).removeprefix("Value error, ")
    place = next(
        (f"{where[each]}: " for each in reversed(list(values)) if each[: len(path)] == path and each in where), ""
    )
    return ConfigError(f"{place}{joined(path)} is invalid: {said}")
