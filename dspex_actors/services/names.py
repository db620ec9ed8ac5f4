"""Names of services, and what may stand in an entry."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from dspex_actors.errors import ConfigError
from dspex_actors.names import SERVICES
from supervisors import Via


def via(namespace: str, name: str, **metadata: Any) -> Via:
    """Return the name of a service for a ChildSpec, or as a target of calls.

    Raises:
        ConfigError: an argument is not usable.
    """
    key = check_key(namespace, name)
    return Via(SERVICES, key, check_metadata(key, metadata))


def check_text(what: str, value: Any) -> str:
    """Return a name, or refuse it by a ConfigError."""
    if not isinstance(value, str) or not value or len(value) > 200:
        raise ConfigError(f"the {what} is invalid: got {value!r:.60}, expected a text of 1 to 200 characters")
    return value


def check_key(namespace: Any, name: Any) -> tuple[str, str]:
    """Return the key of a service, or refuse it by a ConfigError."""
    return check_text("namespace", namespace), check_text("name", name)


def check_metadata(key: tuple[str, str], metadata: Any) -> dict[str, Any]:
    """Return metadata as plain data: who reads them has none of this program's classes. Else a ConfigError."""
    if metadata is not None and not isinstance(metadata, Mapping):
        raise ConfigError(
            f"the metadata of {'/'.join(key)} is invalid: got {type(metadata).__name__}, expected a dict of plain data"
        )
    plain = {str(name): _plain(key, name, value) for name, value in (metadata or {}).items()}
    if not isinstance(plain.get("health", False), bool):
        raise ConfigError(
            f"the health of {'/'.join(key)} is invalid: got {plain['health']!r:.100}, expected True (it answers the "
            'call "health") or False'
        )
    return plain


def _plain(key: tuple[str, str], name: Any, value: Any) -> Any:
    try:
        return json.loads(json.dumps(value, allow_nan=False))
    except (TypeError, ValueError, RecursionError):
        raise ConfigError(
            f"the metadata of {'/'.join(key)} is invalid: got {type(value).__name__} as {name}, expected plain data"
        ) from None
