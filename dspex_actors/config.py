"""`dspex.toml` and the `DSPEX_*` variables: the node's settings and LMs by name.

::

    [node]
    name = "lab"
    port = 7401
    workers = 4

    [lm.fast]
    model = "openai/gpt-4o-mini"
    api_key = "env:OPENAI_API_KEY"     # where the key is, never the key
    rpm = 500
    [lm.fast.params]                   # what only this provider knows
    reasoning_effort = "low"

The file is the one given, else that of DSPEX_CONFIG, else `dspex.toml` in the working folder, else none. Variables
stand above the file: DSPEX_NODE_NAME, DSPEX_NODE_HOST, DSPEX_NODE_PORT, DSPEX_NODE_WORKERS, and
DSPEX_LM_<NAME>_<SETTING> for the settings of `[lm.<name>]`, such as DSPEX_LM_FAST_RPM. An LM called `default` is
taken where a command is given none.
"""

from __future__ import annotations

import difflib
import os
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from dspex_actors.errors import ConfigError
from dspex_actors.lm.lm import LM

FILE_NAME = "dspex.toml"
FILE_VARIABLE = "DSPEX_CONFIG"
DEFAULT_LM = "default"

_NODE_KEYS: dict[str, type] = {"name": str, "host": str, "port": int, "workers": int}
_LM_SETTINGS = ("model", "base_url", "api_key", "rpm", "tpm", "max_in_flight", "timeout", "deadline", "fallbacks",
                "cache", "params")  # fmt: skip
_LM_PARAMS = ("temperature", "max_tokens", "max_completion_tokens", "stop", "top_p", "top_k", "seed",
              "frequency_penalty", "presence_penalty")  # fmt: skip
_TEXTS = ("model", "base_url", "api_key", "stop")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True, slots=True)
class NodeSettings:
    """What `[node]` says; None where it says nothing.

    Args:
        name: the node's name.
        host: address that everything of the node listens on.
        port: of the door; 0 picks a free one.
        workers: http workers.
    """

    name: str | None = None
    host: str | None = None
    port: int | None = None
    workers: int | None = None


@dataclass(frozen=True, slots=True)
class Config:
    """A configuration that was read and checked.

    Args:
        node: the node's settings.
        lms: LMs by the names of their tables.
        path: the file; None where there is none.
    """

    node: NodeSettings = NodeSettings()
    lms: dict[str, LM] = field(default_factory=dict)
    path: Path | None = None

    def lm(self, name: str | None) -> LM | None:
        """Return the LM of a name, or of a model string; without one, the one called `default` if there is any.

        Raises:
            ConfigError: it is neither a name nor a model string.
        """
        if name is None:
            return self.lms.get(DEFAULT_LM)
        if name in self.lms:
            return self.lms[name]
        if "/" not in name and self.lms:
            raise ConfigError(
                f"no LM {name!r}: {self.path or 'the environment'} has {', '.join(self.lms)}{_guess(name, self.lms)}; "
                "or give a model string such as openai/gpt-4o-mini"
            )
        try:
            return LM(name)
        except ConfigError as error:
            if "/" in name:
                raise
            raise ConfigError(f"{error.message}, or the name of an [lm.NAME] table in {FILE_NAME}") from None


def load_config(path: str | os.PathLike[str] | None = None, environ: Mapping[str, str] | None = None) -> Config:
    """Read the configuration.

    Args:
        path: the file; None: DSPEX_CONFIG, else `dspex.toml` in the working folder, which need not be there.
        environ: variables; None: this process's.

    Raises:
        ConfigError: a file that was named is not there, or something in it is not usable; one line that names it.
    """
    environ = os.environ if environ is None else environ
    named = path or environ.get(FILE_VARIABLE)
    file = Path(named) if named else Path(FILE_NAME)
    data: dict[str, Any] = {}
    found = None
    if named or file.is_file():
        data, found = _read(file), file
    where = str(file)
    unknown = [key for key in data if key not in ("node", "lm")]
    if unknown:
        guess = _guess(unknown[0], ("node", "lm"))
        raise ConfigError(f"{where}: unknown table [{unknown[0]}]{guess}; there are [node] and [lm.NAME]")
    node = _node(data.get("node", {}), where)
    tables = data.get("lm", {})
    if not isinstance(tables, dict) or not all(isinstance(table, dict) for table in tables.values()):
        raise ConfigError(f'{where}: an LM is a table of its own: [lm.NAME] with model = "provider/model"')
    tables = {name: dict(table) for name, table in tables.items()}
    node = _node_from(environ, node)
    _lms_from(environ, tables)
    return Config(node, {name: _lm(name, table, where) for name, table in tables.items()}, found)


def _read(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read the configuration {file}: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{file} is not UTF-8 text") from None
    except tomllib.TOMLDecodeError as error:
        # Its text may repeat a line of the file, and a line may hold a key that does not belong there.
        place = re.search(r"\(at (.*?)\)", str(error))
        raise ConfigError(f"{file} is not valid TOML{f': {place[1]}' if place else ''}") from None


def _node(table: Any, where: str) -> NodeSettings:
    if not isinstance(table, dict):
        raise ConfigError(f"{where}: node is a table: [node]")
    for key, value in table.items():
        if key not in _NODE_KEYS:
            raise _unknown(f"{where} [node]", key, _NODE_KEYS)
        kind = _NODE_KEYS[key]
        if not isinstance(value, kind) or isinstance(value, bool):
            legal = "a text" if kind is str else "a whole number"
            raise ConfigError(f"{where} [node]: {key} is {legal}, got {value!r}")
    return _checked(NodeSettings(**table), f"{where} [node]: ")


def _node_from(environ: Mapping[str, str], node: NodeSettings) -> NodeSettings:
    prefix = "DSPEX_NODE_"
    changes: dict[str, Any] = {}
    for variable, text in environ.items():
        if not variable.startswith(prefix):
            continue
        key = variable.removeprefix(prefix).lower()
        if key not in _NODE_KEYS:
            raise _unknown("environment", variable, [f"{prefix}{name.upper()}" for name in _NODE_KEYS])
        try:
            changes[key] = _NODE_KEYS[key](text)
        except ValueError:
            raise ConfigError(f"{variable} is a whole number, got {text!r}") from None
    return _checked(replace(node, **changes), prefix) if changes else node


def _checked(node: NodeSettings, where: str) -> NodeSettings:
    if node.port is not None and not 0 <= node.port <= 65535:
        raise ConfigError(f"{where}port is 0 (any free one) to 65535, got {node.port}")
    if node.workers is not None and node.workers < 1:
        raise ConfigError(f"{where}workers is 1 or more, got {node.workers}")
    return node


def _lms_from(environ: Mapping[str, str], tables: dict[str, dict[str, Any]]) -> None:
    """Put DSPEX_LM_<NAME>_<SETTING> over the tables."""
    settings = {key.upper(): key for key in (*_LM_SETTINGS, *_LM_PARAMS) if key not in ("params", "fallbacks")}
    for variable, text in environ.items():
        if not variable.startswith("DSPEX_LM_"):
            continue
        rest = variable.removeprefix("DSPEX_LM_")
        # The longest setting first: MAX_IN_FLIGHT is not the setting FLIGHT of an LM called ..._MAX_IN.
        setting = next((s for s in sorted(settings, key=len, reverse=True) if rest.endswith(f"_{s}")), None)
        if setting is None:
            word = rest.rpartition("_")[2].lower()
            raise _unknown(variable, word, settings.values())
        upper = rest[: -len(setting) - 1]
        name = next((name for name in tables if re.sub(r"[^A-Za-z0-9]", "_", name).upper() == upper), upper.lower())
        key = settings[setting]
        tables.setdefault(name, {})[key] = text if key in _TEXTS else _number(variable, text)


def _number(variable: str, text: str) -> Any:
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    try:
        return int(text)
    except ValueError:
        pass
    try:
        return float(text)
    except ValueError:
        raise ConfigError(f"{variable} is a number, got {text!r}") from None


def _lm(name: str, table: dict[str, Any], where: str) -> LM:
    place = f"{where} [lm.{name}]"
    if not _NAME.fullmatch(name):
        raise ConfigError(f"{place}: an LM's name has letters, digits, '.', '_' and '-' only")
    for key in table:
        if key not in _LM_SETTINGS and key not in _LM_PARAMS:
            raise _unknown(place, key, (*_LM_SETTINGS, *_LM_PARAMS),
                           f" (what only the provider knows goes into [lm.{name}.params])")  # fmt: skip
    if "model" not in table:
        raise ConfigError(f'{place}: no model; add model = "provider/model"')
    params = table.get("params", {})
    if not isinstance(params, dict):
        raise ConfigError(f"{place}: params is a table: [lm.{name}.params]")
    try:
        return LM(**{key: value for key, value in table.items() if key != "params"}, **params)
    except ConfigError as error:
        raise ConfigError(f"{place}: {error.message}") from None
    except TypeError:
        twice = sorted(set(params) & set(table))
        raise ConfigError(f"{place}: {', '.join(twice)} stands in the table and in its params; keep one") from None


def _unknown(place: str, key: str, known: Iterable[str], hint: str = "") -> ConfigError:
    known = list(known)
    return ConfigError(f"{place}: unknown setting {key!r}{_guess(key, known)}; there are {', '.join(known)}{hint}")


def _guess(word: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(word, list(known), 1)
    return f", did you mean {close[0]!r}?" if close else ""
