"""Checks of what parts are made from, each with its error."""

from __future__ import annotations

import base64
import binascii

from dspex_actors.errors import ConfigError

#: The marks of prompts to be kept in a provider's cache, by how long.
CACHES: dict[str | None, dict[str, str]] = {
    "5m": {"type": "ephemeral"},
    "1h": {"type": "ephemeral", "ttl": "1h"},
}


def check_cache(cache: str | None) -> None:
    """Refuse what is no mark for a cache."""
    if cache is not None and cache not in CACHES:
        raise ConfigError(f"cache of a part is invalid: got {short(cache)}, expected '5m', '1h' or None")


def want_text(what: str, value: object) -> str:
    """Return a text; refuse anything else."""
    if not isinstance(value, str):
        raise ConfigError(f"{what}: expected a text, got {type(value).__name__}")
    return value


def data_url(data: bytes, media_type: str) -> str:
    """Return bytes as a `data:` URL."""
    return f"data:{media_type};base64,{base64.b64encode(data).decode()}"


def check_data_url(what: str, url: str, media: str) -> None:
    """Refuse what is no `data:` URL of such a media type with something in it."""
    head, comma, data = url.partition(",")
    if not comma or not head.startswith(f"data:{media}") or not head.endswith(";base64"):
        where = "an http(s) address or " if media else ""
        raise ConfigError(f"{what}: expected {where}a 'data:{media or 'TYPE/'}...;base64,...' URL, got {short(url)}")
    check_base64(what, data)


def check_base64(what: str, data: str) -> None:
    """Refuse what is no base64, or empty."""
    try:
        if binascii.a2b_base64(data, strict_mode=True):
            return
    except ValueError:
        pass
    raise ConfigError(f"{what}: expected bytes in base64, got {short(data)}")


def said(kind: str, **fields: object) -> str:
    """Return a part as it is shown: fields that are given, and not all of what is long."""
    told = ", ".join(f"{name}={short(value)}" for name, value in fields.items() if value is not None)
    return f"{kind}({told})"


def short(value: object) -> str:
    """Return a value as an error shows it."""
    text = repr(value[:80] if isinstance(value, str | bytes) else value)
    return text if len(text) <= 60 else text[:59] + "…"
