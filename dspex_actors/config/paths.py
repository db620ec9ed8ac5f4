"""Paths: `optimisation.copro.breadth`, which setting one means, and what there is to know of that setting."""

from __future__ import annotations

import difflib
import functools
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import NoneType
from typing import Any, Literal, get_args, get_origin

from annotated_types import Ge, Gt, Le, MinLen
from pydantic.fields import FieldInfo

from dspex_actors.config.schema import Schema, Section
from dspex_actors.errors import ConfigError

Path = tuple[str, ...]

#: Other names of sections, at the top.
ALIASES = {"optimization": "optimisation"}
#: What the description of a setting ends with that changes nothing.
UNHEEDED = " (nothing heeds it yet)"
_PART = re.compile(r'"([^"]*)"|([^."]+)')
_KINDS = {int: "a whole number", float: "a number", str: "a text", bool: "true or false"}


@dataclass(frozen=True, slots=True)
class Setting:
    """What there is to know of one setting.

    Args:
        path: where it stands.
        description: what it means.
        unit: of a number; None: it has none.
        bounds: what is legal, in words.
        default: what holds where nobody says anything.
        fixed: it is read when the node starts, and cannot be updated.
        field: pydantic's description of it; None: a setting of an LM, which `dspex.LM` checks.
    """

    path: Path
    description: str
    unit: str | None
    bounds: str
    default: Any
    fixed: bool
    field: FieldInfo | None


@functools.cache
def settings() -> Mapping[Path, Setting]:
    """Return all settings of the schema by path; those of LMs, whose names are free, are not in it."""
    return {found.path: found for found in _walk(Schema, (), is_heeded=True)}


@functools.cache
def sections() -> frozenset[Path]:
    """Return the paths that have settings below them."""
    return frozenset(path[:length] for path in settings() for length in range(len(path))) | {(), ("lm",)}


def _walk(section: type[Section], above: Path, *, is_heeded: bool) -> Iterable[Setting]:
    is_heeded = is_heeded and section.is_heeded
    for name, field in section.model_fields.items():
        path = (*above, name)
        if isinstance(field.annotation, type) and issubclass(field.annotation, Section):
            yield from _walk(field.annotation, path, is_heeded=is_heeded)
        elif path != ("lm",):
            extra: Any = field.json_schema_extra or {}
            description = f"{field.description}{'' if is_heeded else UNHEEDED}"
            legal = extra["legal"] or _legal(field)
            yield Setting(path, description, extra["unit"], legal, field.default, extra["fixed"], field)


def _legal(field: FieldInfo) -> str:
    """Return what is legal, in words: "a whole number, 2 to 1000, or none"."""
    options = [kind for kind in get_args(field.annotation) if kind is not NoneType]
    is_optional = NoneType in get_args(field.annotation)
    kind = options[0] if is_optional else field.annotation
    if get_origin(kind) is Literal:
        return f"one of {', '.join(map(str, get_args(kind)))}{' or none' if is_optional else ''}"
    words = [_KINDS[kind]]  # type: ignore[index]  # a test goes through all of them
    least = next((rule.ge for rule in field.metadata if isinstance(rule, Ge)), None)
    above = next((rule.gt for rule in field.metadata if isinstance(rule, Gt)), None)
    most = next((rule.le for rule in field.metadata if isinstance(rule, Le)), None)
    if least is not None:
        words.append(f"{least} to {most}" if most is not None else f"{least} or more")
    elif above is not None:
        words.append(f"above {above}" + (f", at most {most}" if most is not None else ""))
    if any(isinstance(rule, MinLen) for rule in field.metadata):
        words.append("not empty")
    return ", ".join(words) + (", or none" if is_optional else "")


# --- from text to path and back -------------------------------------------------------------------------------------


def joined(path: Iterable[str]) -> str:
    """Return a path as text; a name with a dot in it is quoted."""
    return ".".join(f'"{part}"' if "." in part else part for part in path)


def parse(text: Any, lms: Iterable[str] = (), *, known: bool = True) -> Path:
    """Return the path that a text means.

    Args:
        text: "optimisation.copro.breadth", a section such as "optimisation", or "" for all.
        lms: names of LMs that there are: one with a dot in it need not be quoted.
        known: refuse what is neither a setting nor a section; the name of an LM is free.

    Raises:
        ConfigError: it is no path, or there is no such setting; names the nearest one.
    """
    if not isinstance(text, str):
        raise ConfigError(
            f"the path is invalid: got {type(text).__name__}, expected a text such as 'optimisation.copro.breadth'"
        )
    parts: list[str] = []
    rest = text
    while rest:
        found = _PART.match(rest)
        if found is None or rest[found.end() : found.end() + 1] not in ("", ".") or rest[found.end() :] == ".":
            raise ConfigError(
                f"the path is invalid: got {text!r:.100}, expected names with dots between them, "
                "such as 'optimisation.copro.breadth'"
            )
        parts.append(found[1] if found[1] is not None else found[2])
        rest = rest[found.end() + 1 :]
    path = _folded(parts, lms)
    if known:
        check_known(path)
    return path


def _folded(parts: list[str], lms: Iterable[str]) -> Path:
    """Return the parts with aliases resolved, and the parts of an LM's name put together."""
    if parts and parts[0] in ALIASES:
        parts = [ALIASES[parts[0]], *parts[1:]]
    names = set(lms)
    if parts[:1] == ["lm"]:
        for end in range(len(parts), 2, -1):
            if ".".join(parts[1:end]) in names:
                return ("lm", ".".join(parts[1:end]), *parts[end:])
    return tuple(parts)


def check_known(path: Path) -> None:
    """Refuse a path at which nothing can stand.

    Raises:
        ConfigError: names the nearest one there is.
    """
    if path in sections() or path in settings() or path[:1] == ("lm",):
        return
    texts = sorted({joined(each) for each in (*settings(), *sections()) if each})
    raise ConfigError(f"there is no setting {joined(path)!r:.100}{guess(joined(path), texts)}")


def guess(word: str, known: Iterable[str]) -> str:
    """Return ", did you mean 'x'?", or nothing where nothing is near."""
    names = list(known)
    close = difflib.get_close_matches(word, names, 1)
    if not close:  # the last name may be right, and the section forgotten
        last = word.rpartition(".")[2]
        close = [name for name in names if name.rpartition(".")[2] == last] or difflib.get_close_matches(
            last, [name.rpartition(".")[2] for name in names], 1
        )
        close = [name for name in names if close and name.rpartition(".")[2] == close[0].rpartition(".")[2]]
    return f", did you mean {close[0]!r}?" if close else f"; there are {', '.join(sorted(Schema.model_fields))}"


def is_below(path: Path, prefix: Path) -> bool:
    """Whether a path stands at a prefix or below it."""
    return path[: len(prefix)] == prefix


def flat(tree: Mapping[str, Any], above: Path = ()) -> dict[Path, Any]:
    """Return nested tables as path → value. What is unknown is in it as it stands.

    Raises:
        ConfigError: a section stands there as a value, or both names of one do.
    """
    found: dict[Path, Any] = {}
    for name, value in tree.items():
        path = (*above, str(name))
        if not above and name in ALIASES:
            if ALIASES[name] in tree:
                raise ConfigError(f"[{name}] and [{ALIASES[name]}] are the same: keep one")
            path = (ALIASES[name],)
        is_section = path in sections() or (path[0] == "lm" and (len(path) == 2 or path[2:] == ("params",)))
        if isinstance(value, Mapping) and (is_section or (path not in settings() and path[0] != "lm")):
            found.update(flat(value, path))
        elif is_section:
            raise ConfigError(f"{joined(path)} is a table, got {shown(value)}")
        else:
            found[path] = value
    return found


def nested(values: Mapping[Path, Any]) -> dict[str, Any]:
    """Return path → value as nested tables."""
    tree: dict[str, Any] = {}
    for path, value in values.items():
        table = tree
        for part in path[:-1]:
            table = table.setdefault(part, {})
        table[path[-1]] = value
    return tree


def shown(value: Any) -> str:
    """Return a value for a message; a text is not repeated, it may be a key."""
    if isinstance(value, bool) or value is None:
        return str(value).lower()
    if isinstance(value, (int, float)):
        return f"{value!r:.40}"
    names: dict[type, str] = {str: "a text", list: "a list", tuple: "a list", dict: "a table"}
    return names.get(type(value), type(value).__name__)
