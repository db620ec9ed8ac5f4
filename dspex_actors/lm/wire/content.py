"""Takes messages in our normal form (OpenAI's, as DSPy's) apart, for the providers that say it otherwise."""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote_to_bytes

from dspex_actors.errors import InvalidRequest

SYSTEM_ROLES = frozenset({"system", "developer"})


def refuse(provider: str, what: str) -> InvalidRequest:
    """Return the error for something that this provider has no way to say."""
    return InvalidRequest(f"{provider}: {what}", retryable=False)


def parts_of(content: object) -> list[dict[str, Any]]:
    """Return a message's content as parts; a plain string is one text part, null is none."""
    if content is None:
        return []
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    if isinstance(content, list):
        return [{"type": "text", "text": part} if isinstance(part, str) else part for part in content]
    raise TypeError(f"content of a message must be a string or a list of parts, got {type(content).__name__}")


def text_of(content: object) -> str:
    """Return the text of a message's content; parts that are not text are left out."""
    if isinstance(content, str):
        return content
    return "\n".join(str(part.get("text", "")) for part in parts_of(content) if part.get("type") == "text")


def split_system(messages: list[dict[str, Any]]) -> tuple[str, list[dict[str, Any]]]:
    """Return the text of all system messages, one paragraph each, and the other messages in order."""
    system = [text_of(message.get("content")) for message in messages if message["role"] in SYSTEM_ROLES]
    return "\n\n".join(system), [message for message in messages if message["role"] not in SYSTEM_ROLES]


def data_url(url: str) -> tuple[str, str] | None:
    """Return media type and base64 text of a `data:…;base64,…` URL; None for any other address."""
    if not url.startswith("data:") or "," not in url:
        return None
    head, data = url[5:].split(",", 1)
    media, *flags = head.split(";")
    if "base64" not in flags:
        return None
    return unquote_to_bytes(media).decode("ascii", "replace") or "application/octet-stream", data


def image_url(part: dict[str, Any]) -> str:
    """Return the address in an `image_url` part, in either of the two ways it is written."""
    image = part["image_url"]
    return str(image["url"] if isinstance(image, dict) else image)
