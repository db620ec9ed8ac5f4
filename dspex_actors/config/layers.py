"""The layers of a configuration, each with where its values come from: defaults, file, environment, command line.

The last one that says something holds. Above all of them stands what `update` has set (core.py).
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path as FilePath
from typing import Any

from dspex_actors.config import sources
from dspex_actors.config.checking import checked, from_text
from dspex_actors.config.paths import ALIASES, Path, check_known, flat, joined, sections, settings
from dspex_actors.errors import ConfigError

DEFAULT, FILE, ENVIRONMENT, COMMAND_LINE, UPDATE = "default", "file", "environment", "command line", "update"

_HEADER = re.compile(r"\s*\[([^\[\]]+)\]")
_KEY = re.compile(r"""\s*((?:"[^"]*"|'[^']*'|[A-Za-z0-9_-]+)(?:\s*\.\s*(?:"[^"]*"|'[^']*'|[A-Za-z0-9_-]+))*)\s*=""")
_PART = re.compile(r"""\s*(?:"([^"]*)"|'([^']*)'|([A-Za-z0-9_-]+))\s*\.?""")


@dataclass(frozen=True, slots=True)
class Layer:
    """What one source says.

    Args:
        name: file, environment or command line.
        values: by path.
        where: by path: file and line, the variable's name, the option.
    """

    name: str
    values: dict[Path, Any] = field(default_factory=dict)
    where: dict[Path, str] = field(default_factory=dict)


def read_layers(
    file: str | os.PathLike[str] | None = None,
    environ: Mapping[str, str] | None = None,
    given: Mapping[str, tuple[Any, str]] | None = None,
) -> list[Layer]:
    """Read and check what stands above the defaults, lowest first.

    Args:
        file: the file; None: DSPEX_CONFIG, else `dspex.toml` in the working folder, which need not be there.
        environ: variables; None: this process's.
        given: on the command line: path → (value, the option).

    Raises:
        ConfigError: something in it is not usable; one line that names it and where it stands.
    """
    environ = os.environ if environ is None else environ
    found, data = sources.read_file(None if file is None else FilePath(file), environ)
    layers = [file_layer(found, data), environment_layer(environ, data)]
    given = given or {}
    texts = {option_path(text): value for text, value in given.items()}
    layers.append(
        Layer(
            COMMAND_LINE,
            {path: each[0] for path, each in texts.items()},
            {path: each[1] for path, each in texts.items()},
        )
    )
    values: dict[Path, Any] = {}
    where: dict[Path, str] = {}
    for layer in layers:
        values.update(layer.values)
        where.update(layer.where)
        values = checked(values, where)
        layer.values.update({path: values[path] for path in layer.values})
    return layers


def option_path(text: str) -> Path:
    """Return the path of a setting that a command line gives."""
    path = tuple(text.split("."))
    check_known(path)
    return path


def file_layer(file: FilePath | None, data: Mapping[str, Any]) -> Layer:
    """Return what a file says."""
    try:
        values = flat(data)
    except ConfigError as error:
        raise ConfigError(f"{file}: {error.message}") from None
    lines = {} if file is None else line_numbers(file.read_text(encoding="utf-8"))
    place = None if file is None else file.absolute()
    where = {path: f"{place}:{lines[path]}" if path in lines else str(place) for path in values}
    return Layer(FILE, values, where)


def line_numbers(text: str) -> dict[Path, int]:
    """Return the line of each key of a TOML text, as far as tables are written in the usual way."""
    found: dict[Path, int] = {}
    table: Path = ()
    for number, line in enumerate(text.splitlines(), 1):
        if header := _HEADER.match(line):
            table = _parts(header[1])
        elif key := _KEY.match(line):
            path = (*table, *_parts(key[1]))
            found.setdefault((ALIASES.get(path[0], path[0]), *path[1:]), number)
    return found


def _parts(text: str) -> Path:
    return tuple(next(part for part in found.groups() if part is not None) for found in _PART.finditer(text))


def environment_layer(environ: Mapping[str, str], file: Mapping[str, Any]) -> Layer:
    """Return what variables say.

    DSPEX_NODE_<SETTING> and DSPEX_LM_<NAME>_<SETTING> as ever, all others as DSPEX_<SECTION>__<SETTING>, with two
    underscores where the path has a dot.

    Args:
        environ: variables.
        file: what the file says: its LMs are found by their names.
    """
    layer = Layer(ENVIRONMENT)
    for variable, path, value in _variables(environ, file):
        layer.values[path] = value
        layer.where[path] = variable
    return layer


def _variables(environ: Mapping[str, str], file: Mapping[str, Any]) -> Iterable[tuple[str, Path, Any]]:
    for variable, key, value in sources.node_variables(environ):
        yield variable, ("node", key), value
    for variable, name, key, value in sources.lm_variables(environ, file.get("lm", {})):
        yield variable, ("lm", name, key), value
    for variable, path in nested_variables(environ):
        try:
            yield variable, path, from_text(path, environ[variable])
        except ConfigError as error:
            raise ConfigError(f"{variable}: {error.message}") from None


def nested_variables(environ: Mapping[str, str]) -> list[tuple[str, Path]]:
    """Return the variables with two underscores, and the settings that they mean.

    Raises:
        ConfigError: one means none, or two mean the same.
    """
    found: list[tuple[str, Path]] = []
    for variable in environ:
        if (
            not variable.startswith("DSPEX_")
            or "__" not in variable
            or variable.startswith(("DSPEX_NODE_", "DSPEX_LM_"))
        ):
            continue
        parts = variable.removeprefix("DSPEX_").lower().split("__")
        path = (ALIASES.get(parts[0], parts[0]), *parts[1:])
        if path not in settings():
            try:
                check_known(path)
            except ConfigError as error:
                raise ConfigError(f"environment: {variable}: {error.message}") from None
            raise ConfigError(f"environment: {variable}: {joined(path)} is a table, which no variable sets")
        found.append((variable, path))
    for (one, path), (other, again) in combinations(found, 2):
        if path == again:
            raise ConfigError(f"environment: {one} and {other} are the same: keep one")
    return found


def value_from_text(path: Path, text: str) -> Any:
    """Return the value that a command line's text means: as TOML writes it, or bare where the setting says what it is.

    Raises:
        ConfigError: it means none.
    """
    if path in settings():
        return from_text(path, text)
    if path in sections():
        raise ConfigError(f"{joined(path)} is a table: set one of its settings")
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text
