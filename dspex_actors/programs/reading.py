"""Reading the files of saved programs: what cannot be read is told in one line, alike for states and whole programs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from dspex_actors.errors import ConfigError
from dspex_actors.foundation.config_errors import ConfigNotFoundError, ConfigValueError


def read_bytes(path: Path, what: str) -> bytes:
    """Return what is in a file.

    Args:
        path: the file.
        what: what errors call it.

    Raises:
        ConfigNotFoundError: it is not there.
        ConfigError: it cannot be read.
    """
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise ConfigNotFoundError(f"cannot read {what}: {error.strerror}") from None
    except OSError as error:
        raise ConfigError(f"cannot read {what}: {error.strerror or error}") from None


def read_object(path: Path, what: str) -> dict[str, Any]:
    """Return the JSON object that is in a file.

    Args:
        path: the file.
        what: what errors call it.

    Raises:
        ConfigError: as `read_bytes`.
        ConfigValueError: it holds something else.
    """
    data = read_bytes(path, what)
    try:
        found = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ConfigValueError(f"{what} is no JSON: {error}") from None
    if not isinstance(found, dict):
        raise ConfigValueError(f"{what} is no JSON object: it holds a {type(found).__name__}")
    return found
