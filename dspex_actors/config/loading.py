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

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from dspex_actors.config.sources import (
    FILE_NAME,
    NODE_KEYS,
    guess,
    lm_of,
    lm_variables,
    node_variables,
    read_file,
    unknown,
)
from dspex_actors.errors import ConfigError
from dspex_actors.lm.lm import LM

DEFAULT_LM = "default"
#: The tables of a file; those beside `node` and `lm` are in config/schema.py.
SECTIONS = ("node", "lm", "modules", "optimisation", "optimization", "providers", "infrastructure")


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
                f"no LM {name!r}: {self.path or 'the environment'} has {', '.join(self.lms)}{guess(name, self.lms)}; "
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
    found, data = read_file(None if path is None else Path(path), environ)
    where = str(found or FILE_NAME)
    unknown_tables = [key for key in data if key not in SECTIONS]
    if unknown_tables:
        close = guess(unknown_tables[0], SECTIONS)
        raise ConfigError(
            f"{where}: unknown table [{unknown_tables[0]}]{close}; there are [node], [lm.NAME] and "
            f"{', '.join(f'[{name}]' for name in SECTIONS[2:])}"
        )
    node = _node(data.get("node", {}), where)
    tables = data.get("lm", {})
    if not isinstance(tables, dict) or not all(isinstance(table, dict) for table in tables.values()):
        raise ConfigError(f'{where}: an LM is a table of its own: [lm.NAME] with model = "provider/model"')
    tables = {name: dict(table) for name, table in tables.items()}
    changes = {key: value for _, key, value in node_variables(environ)}
    node = _checked(replace(node, **changes), "DSPEX_NODE_") if changes else node
    for _, name, key, value in lm_variables(environ, list(tables)):
        tables.setdefault(name, {})[key] = value
    config = Config(node, {name: lm_of(name, table, where) for name, table in tables.items()}, found)
    if data.keys() - {"node", "lm"} or any("__" in name for name in environ if name.startswith("DSPEX_")):
        # Nobody who has no such settings waits for the schema to be imported.
        from dspex_actors.config.layers import read_layers

        read_layers(path, environ)
    return config


def _node(table: Any, where: str) -> NodeSettings:
    if not isinstance(table, dict):
        raise ConfigError(f"{where}: node is a table: [node]")
    for key, value in table.items():
        if key not in NODE_KEYS:
            raise unknown(f"{where} [node]", key, NODE_KEYS)
        kind = NODE_KEYS[key]
        if not isinstance(value, kind) or isinstance(value, bool):
            legal = "a text" if kind is str else "a whole number"
            raise ConfigError(f"{where} [node]: {key} is {legal}, got {value!r}")
    return _checked(NodeSettings(**table), f"{where} [node]: ")


def _checked(node: NodeSettings, where: str) -> NodeSettings:
    if node.port is not None and not 0 <= node.port <= 65535:
        raise ConfigError(f"{where}port is 0 (any free one) to 65535, got {node.port}")
    if node.workers is not None and node.workers < 1:
        raise ConfigError(f"{where}workers is 1 or more, got {node.workers}")
    return node
