"""Addresses of language-model servers: checked when they are written down, compared, and joined with a path."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from dspex_actors.errors import ConfigError
from dspex_actors.foundation.secrets import looks_like_key
from dspex_actors.lm.hosts import address_of, is_metadata, is_trick
from dspex_actors.lm.settings import bad, shown

#: Characters that no host's name has, and that parsers of addresses disagree about.
_NO_HOST = frozenset("\\%<>\"{}|^`*,;!$&'()+=")
#: Names in a query whose values are secrets: an address is kept in journals and shown in logs.
_SECRET = re.compile(r"key|token|secret|sig|signature|password|code|auth|credential", re.IGNORECASE)
_LEGAL = "an address such as 'https://host:port/v1' or 'https://host?api-version=1', with no user or fragment"
_HIDDEN = "an address that is not shown because it may hold a password"
_PORTS = {"http": 80, "https": 443}


def base_url(value: Any) -> str | None:
    """Return a server's address without the slash at the end of its path; None: not given.

    Raises:
        ConfigError: not http or https, no host, credentials in it, or a cloud's metadata address.
    """
    if value is None:
        return None
    parts = None
    port: int | None = None
    try:
        parts = urlsplit(value.strip()) if isinstance(value, str) else None
        port = parts.port if parts else None
    except ValueError:
        parts = None
    if parts is None or parts.scheme not in _PORTS or not _is_host(parts.hostname) or port == 0:
        hidden = isinstance(value, str) and ("@" in value or "?" in value)
        raise ConfigError(f"base_url: expected {_LEGAL}, got {_HIDDEN if hidden else shown(value)}")
    if parts.username is not None or parts.fragment:
        raise ConfigError(f"base_url: expected {_LEGAL}, got {_HIDDEN}")
    secret = next((name for name, _ in parse_qsl(parts.query, True) if _SECRET.search(name)), None)
    if secret is not None:
        raise ConfigError(
            f"base_url: the query has {secret!r}, which looks like a secret (value not shown): "
            "name the key with api_key='env:NAME'"
        )
    if looks_like_key(unquote(str(value))):
        raise ConfigError("base_url: it holds what looks like a key (not shown): name it with api_key='env:NAME'")
    if is_metadata(str(parts.hostname)):
        raise bad("base_url", parts.hostname, "a language-model server, not a cloud's metadata service")
    if is_trick(str(parts.hostname)):
        raise bad(
            "base_url",
            parts.hostname,
            f"the host as it is reached ({address_of(str(parts.hostname)) or 'its plain name'})",
        )
    address, mark, query = str(value).strip().partition("?")
    return address.rstrip("/") + (mark + query if query else "")


def _is_host(host: str | None) -> bool:
    return bool(host) and not any(char.isspace() or not char.isprintable() or char in _NO_HOST for char in host or "")


def is_loopback(url: str) -> bool:
    """Tell whether an address is this machine's own."""
    host = urlsplit(url).hostname or ""
    found = address_of(host)
    return found.is_loopback if found is not None else host.lower() == "localhost"


def join(base: str, path: str) -> str:
    """Return the address of a path below a checked base URL; its query stays at the end, behind that of the path."""
    address, mark, query = base.partition("?")
    return address.rstrip("/") + path + ("&" if mark and "?" in path else mark) + query


def origin(url: str) -> str:
    """Return scheme, host and port of a checked address in their normal form: what a key is given to."""
    parts = urlsplit(url)
    return f"{parts.scheme.lower()}://{parts.hostname}:{parts.port or _PORTS.get(parts.scheme.lower())}"


def canonical(url: str) -> str:
    """Return an address in one form for all that mean the same server: `HTTPS://Host/v1` is `https://host:443/v1`."""
    parts = urlsplit(url)
    return f"{origin(url)}{parts.path.rstrip('/')}{f'?{parts.query}' if parts.query else ''}"
