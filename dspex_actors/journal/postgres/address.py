"""Where the server is: an address without secrets, that can be shown and written down."""

from __future__ import annotations

import os
from typing import Any
from urllib.parse import unquote, urlsplit, urlunsplit

from dspex_actors.errors import ConfigError

SCHEMES = ("postgresql", "postgres")
#: The password of an address: a reference to a variable of the environment.
_REFERENCE = "env:"
#: A server that does not answer is given up after so many seconds; one that went silent, after so many milliseconds.
CONNECT_SECONDS, SILENT_MS = 5, 10_000


def is_postgres(text: str) -> bool:
    """Whether an address is one of a PostgreSQL server."""
    return text.partition("://")[0].lower() in SCHEMES and "://" in text


def checked_address(text: str) -> str:
    """Return the address of a server as it can be shown; refuse one that has a password in it, or is none.

    Args:
        text: `postgresql://[USER@]HOST[:PORT]/DATABASE[?password=env:NAME&sslmode=...]`, as libpq takes it.

    Raises:
        ConfigError: says what is wrong, and never what the password is.
    """
    expected = "expected postgresql://USER@HOST:PORT/DATABASE"
    try:
        parts = urlsplit(text)
        named = parts.hostname, parts.port
    except ValueError:  # its words may repeat a part of a password
        raise ConfigError(f"journal is invalid: its host or its port cannot be read, {expected}") from None
    if parts.password is not None or any(
        name == "sslpassword" or (name == "password" and not value.startswith(_REFERENCE))
        for name, value in _options(parts.query)
    ):
        raise ConfigError(
            "journal is invalid: got an address with a password in it, which everybody on this host could see; "
            "expected none: put it into ~/.pgpass or PGPASSWORD, or write ?password=env:NAME"
        )
    if not is_postgres(text) or not (named[0] or _options(parts.query)):
        shown = urlunsplit(parts._replace(query="", fragment=""))
        raise ConfigError(f"journal is invalid: got {shown!r}, {expected}")
    return text


def connect_options(address: str) -> dict[str, Any]:
    """Return what `psycopg.connect` is given for an address: its password is read here, and kept nowhere.

    Raises:
        ConfigError: the variable that the password is to be in is not set; the address is none.
    """
    import psycopg
    from psycopg.conninfo import conninfo_to_dict

    try:
        found: dict[str, Any] = dict(conninfo_to_dict(checked_address(address)))
    except psycopg.ProgrammingError as error:
        raise ConfigError(f"journal is invalid: {' '.join(str(error).split())}") from None
    password = found.get("password")
    if isinstance(password, str):
        name = password.removeprefix(_REFERENCE)
        if (secret := os.environ.get(name)) is None:
            raise ConfigError(f"journal is invalid: its password is in {name}, which is not set here; set it")
        found["password"] = secret
    return {
        "connect_timeout": CONNECT_SECONDS,
        "tcp_user_timeout": SILENT_MS,
        "keepalives_idle": 5,
        "keepalives_interval": 2,
        "keepalives_count": 3,
        "application_name": "dspex",
    } | found


def shown(address: str) -> str:
    """Return an address for people: where it is, without its options."""
    return urlunsplit(urlsplit(address)._replace(query="", fragment=""))


def _options(query: str) -> list[tuple[str, str]]:
    # Names too are taken as libpq takes them: pass%77ord is a password.
    return [
        (unquote(name), unquote(value)) for name, _, value in (one.partition("=") for one in query.split("&")) if name
    ]
