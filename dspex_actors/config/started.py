"""What a node is started with: the configuration file, what the command line gave. Written at each start."""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from dspex_actors.config.sources import FILE_NAME, FILE_VARIABLE
from dspex_actors.errors import ConfigError
from dspex_actors.foundation.files import replaced

#: What was updated, in the node's folder.
UPDATES_FILE = "config.json"
_FILE = "started_with.json"
#: The sections that actors of the node follow.
_FOLLOWED = re.compile(r"\b(providers|infrastructure)\b")
#: There while limits of money may hold: a worker waits then until it knows them.
LIMITED_FILE = "run/money_limited"
_BUDGETS = re.compile(r"\bbudgets\b")
_METRICS_PORT = re.compile(r"\bmetrics_port\b")
_VARIABLES = ("DSPEX_PROVIDERS__", "DSPEX_INFRASTRUCTURE__")


def write_started(data_dir: str | Path, config_file: str | None, given: dict[str, tuple[Any, str]]) -> None:
    """Keep what a node is started with for its configuration actor.

    Args:
        data_dir: the node's folder.
        config_file: the file given; None: DSPEX_CONFIG, or dspex.toml in the node's working folder.
        given: on the command line: path → (value, the option).
    """
    # A full disk is no reason for a node not to start: then the configuration does without this layer.
    with (
        contextlib.suppress(OSError, ConfigError),
        replaced(Path(data_dir) / "run" / _FILE, 0o600) as file,
    ):
        json.dump({"config_file": config_file, "given": given}, file)


def read_started(data_dir: str | Path) -> tuple[str | None, dict[str, tuple[Any, str]]]:
    """Return what `write_started` has kept; nothing where it is not there."""
    try:
        found = json.loads((Path(data_dir) / "run" / _FILE).read_text())
    except (OSError, ValueError):
        return None, {}
    return found["config_file"], {path: (value, option) for path, (value, option) in found["given"].items()}


def is_needed(
    data_dir: str | Path,
    config_file: str | None,
    given: Iterable[str] = (),
    environ: Mapping[str, str] | None = None,
) -> bool:
    """Whether actors have to be told something at the start of a node: what they follow may differ from the defaults.

    A node without such settings does without the configuration actor until somebody asks for it.

    Args:
        data_dir: the node's folder.
        config_file: as in `write_started`.
        given: paths that the command line gave.
        environ: variables; None: this process's.
    """
    environ = os.environ if environ is None else environ
    return any(name.startswith(_VARIABLES) for name in environ) or _mentioned(
        _FOLLOWED, data_dir, config_file, given, environ
    )


def mark_limited(
    data_dir: str | Path,
    config_file: str | None,
    given: Iterable[str] = (),
    environ: Mapping[str, str] | None = None,
) -> None:
    """Leave a mark for workers where limits of money may hold from the start; arguments as of `is_needed`."""
    environ = os.environ if environ is None else environ
    named = any(name.startswith("DSPEX_INFRASTRUCTURE__BUDGETS") for name in environ)
    marker = Path(data_dir) / LIMITED_FILE
    with contextlib.suppress(OSError):
        if named or _mentioned(_BUDGETS, data_dir, config_file, given, environ):
            marker.touch(mode=0o600)
        else:
            marker.unlink(missing_ok=True)


def serves_metrics(
    data_dir: str | Path,
    config_file: str | None,
    given: Iterable[str] = (),
    environ: Mapping[str, str] | None = None,
) -> bool:
    """Whether /metrics may have to be served from the start; arguments as of `is_needed`."""
    environ = os.environ if environ is None else environ
    return any(name.endswith("__METRICS_PORT") for name in environ) or _mentioned(
        _METRICS_PORT, data_dir, config_file, given, environ
    )


def _mentioned(
    word: re.Pattern[str],
    data_dir: str | Path,
    config_file: str | None,
    given: Iterable[str],
    environ: Mapping[str, str],
) -> bool:
    file = config_file or environ.get(FILE_VARIABLE) or FILE_NAME
    files = (Path(data_dir) / UPDATES_FILE, Path(file))
    return any(word.search(text) for text in [*given, *map(_text, files)])


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError):
        return ""
