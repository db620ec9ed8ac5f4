"""Where settings are written: `dspex.toml`, the variables of nodes and LMs, and what a table of an LM may hold."""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from dspex_actors.errors import ConfigError
from dspex_actors.lm.deployment import NEWER
from dspex_actors.lm.lm import LM

FILE_NAME = "dspex.toml"
FILE_VARIABLE = "DSPEX_CONFIG"

NODE_KEYS: dict[str, type] = {"name": str, "host": str, "port": int, "workers": int}
_LM_SETTINGS = ("model", "base_url", "api_key", "rpm", "tpm", *NEWER, "max_in_flight", "timeout", "deadline",
                "fallbacks", "cache", "context_fallbacks", "content_fallbacks", "circuit", "hedge",
                "params")  # fmt: skip
_LM_PARAMS = ("temperature", "max_tokens", "max_completion_tokens", "stop", "top_p", "top_k", "seed",
              "frequency_penalty", "presence_penalty")  # fmt: skip
#: What no variable can hold.
_TABLES_ONLY = ("params", "fallbacks", "context_fallbacks", "content_fallbacks", "circuit")
_TEXTS = ("model", "base_url", "api_key", "stop")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def read_file(path: str | Path | None, environ: Mapping[str, str]) -> tuple[Path | None, dict[str, Any]]:
    """Return the file that holds, and its tables; None and nothing where there is none.

    Args:
        path: the file given; None: that of DSPEX_CONFIG, else `dspex.toml` in the working folder if it is there.
        environ: variables.

    Raises:
        ConfigError: a file that was named is not there, or it is no TOML.
    """
    named = path or environ.get(FILE_VARIABLE)
    file = Path(named) if named else Path(FILE_NAME)
    if not named and not file.is_file():
        return None, {}
    return file, _read(file)


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


def node_variables(environ: Mapping[str, str]) -> Iterator[tuple[str, str, Any]]:
    """Give each DSPEX_NODE_<SETTING> as (variable, setting, value)."""
    prefix = "DSPEX_NODE_"
    for variable, text in environ.items():
        if not variable.startswith(prefix):
            continue
        key = variable.removeprefix(prefix).lower()
        if key not in NODE_KEYS:
            raise unknown("environment", variable, [f"{prefix}{name.upper()}" for name in NODE_KEYS])
        try:
            yield variable, key, NODE_KEYS[key](text)
        except ValueError:
            raise ConfigError(f"{variable} is a whole number, got {text!r}") from None


def lm_variables(environ: Mapping[str, str], tables: Iterable[str]) -> Iterator[tuple[str, str, str, Any]]:
    """Give each DSPEX_LM_<NAME>_<SETTING> as (variable, the LM's name, setting, value).

    Args:
        environ: variables.
        tables: names of LMs that there are: a variable has them in capitals.
    """
    settings = {key.upper(): key for key in (*_LM_SETTINGS, *_LM_PARAMS) if key not in _TABLES_ONLY}
    for variable, text in environ.items():
        if not variable.startswith("DSPEX_LM_"):
            continue
        rest = variable.removeprefix("DSPEX_LM_")
        # The longest setting first: MAX_IN_FLIGHT is not the setting FLIGHT of an LM called ..._MAX_IN.
        setting = next((s for s in sorted(settings, key=len, reverse=True) if rest.endswith(f"_{s}")), None)
        if setting is None:
            word = rest.rpartition("_")[2].lower()
            raise unknown(variable, word, settings.values())
        upper = rest[: -len(setting) - 1]
        name = next((name for name in tables if re.sub(r"[^A-Za-z0-9]", "_", name).upper() == upper), upper.lower())
        key = settings[setting]
        yield variable, name, key, text if key in _TEXTS else _number(variable, text)


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


def lm_of(name: str, table: Mapping[str, Any], where: str) -> LM:
    """Return the LM of a table.

    Args:
        name: of the table.
        table: its settings, parameters and `params`.
        where: who says it, for messages.

    Raises:
        ConfigError: something in it is not usable. A key is not repeated.
    """
    place = f"{where} [lm.{name}]"
    if not _NAME.fullmatch(name):
        raise ConfigError(f"{place}: an LM's name has letters, digits, '.', '_' and '-' only")
    for key in table:
        if key not in _LM_SETTINGS and key not in _LM_PARAMS:
            raise unknown(place, key, (*_LM_SETTINGS, *_LM_PARAMS),
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


def unknown(place: str, key: str, known: Iterable[str], hint: str = "") -> ConfigError:
    """Return the error for a setting that there is not; names the nearest one."""
    known = list(known)
    return ConfigError(f"{place}: unknown setting {key!r}{guess(key, known)}; there are {', '.join(known)}{hint}")


def guess(word: str, known: Iterable[str]) -> str:
    """Return ", did you mean 'x'?", or nothing where nothing is near."""
    close = difflib.get_close_matches(word, list(known), 1)
    return f", did you mean {close[0]!r}?" if close else ""
