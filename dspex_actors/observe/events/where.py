"""Filters of events as SQL: values go in as parameters, names of fields as paths of JSON, which are parameters too."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from dspex_actors.errors import ConfigError

#: Names that are columns: every event has them.
COLUMNS = ("id", "type", "at", "correlation_id", "parent_id", "node", "actor")
_MAX_INT = 1 << 63
#: A filter has so many fields, and a list so many values, at most.
MAX_FIELDS, MAX_VALUES = 32, 100


def compiled(where: Mapping[str, Any] | None) -> tuple[str, list[Any]]:
    """Return a condition and its parameters; all of the fields have to be as they are asked for.

    Args:
        where: field → value: text, number, True, False, None (not there, or null), or a list: any of these. A field in
            an object is written with dots: `usage.total_tokens`. None: no condition.

    Raises:
        ConfigError: a field or a value is none of these.
    """
    if where is None:
        return "1", []
    if not isinstance(where, Mapping) or len(where) > MAX_FIELDS:
        raise ConfigError(f"where is invalid: got {where!r:.100}, expected a mapping of at most {MAX_FIELDS} fields")
    parts, values = ["1"], []
    for field, wanted in where.items():
        found = _field(field, wanted)
        parts.append(found[0])
        values += found[1]
    return " AND ".join(parts), values


def _field(field: Any, wanted: Any) -> tuple[str, list[Any]]:
    if not isinstance(field, str) or not all(field.split(".")) or '"' in field or "\0" in field or _is_half(field):
        raise ConfigError(
            f"where is invalid: got the field {field!r:.100}, expected a name, or names with dots between"
        )
    several = wanted if isinstance(wanted, (list, tuple, set, frozenset)) else [wanted]
    if len(several) > MAX_VALUES:
        raise ConfigError(f"where[{field!r}] is invalid: got {len(several)} values, expected at most {MAX_VALUES}")
    conditions = [_one(field, value) for value in several]
    if not conditions:
        return "0", []
    text = " OR ".join(condition for condition, _ in conditions)
    return f"({text})", [value for _, some in conditions for value in some]


def _one(field: str, value: Any) -> tuple[str, list[Any]]:
    _check(field, value)
    if field in COLUMNS:
        return (f"{field} IS NULL", []) if value is None else (f"{field} = ?", [value])
    path = "$." + ".".join(f'"{part}"' for part in field.split("."))
    if value is None:
        return "coalesce(json_type(data, ?), 'null') = 'null'", [path]
    if isinstance(value, bool):
        return "json_type(data, ?) = ?", [path, "true" if value else "false"]
    if isinstance(value, str):
        return "(json_type(data, ?) = 'text' AND json_extract(data, ?) = ?)", [path, path, value]
    return "(json_type(data, ?) IN ('integer', 'real') AND json_extract(data, ?) = ?)", [path, path, value]


def is_value(value: Any) -> bool:
    """Tell whether a field can be asked for by a value: text, a finite number of 64 bits, a bool or None."""
    if isinstance(value, int):
        return -_MAX_INT <= value < _MAX_INT
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, str):
        return not _is_half(value)
    return value is None


def _check(field: str, value: Any) -> None:
    if not is_value(value):
        raise ConfigError(
            f"where[{field!r}] is invalid: got {value!r:.100}, "
            "expected text, a number of 64 bits, a bool, None or a list of these"
        )


def _is_half(text: str) -> bool:
    """Tell whether a text has halves of surrogate pairs, which SQLite cannot be asked for."""
    return not text.isascii() and any("\ud800" <= one <= "\udfff" for one in text)
