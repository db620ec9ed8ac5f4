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


def split_system(
    provider: str, messages: list[dict[str, Any]]
) -> tuple[str | list[dict[str, Any]], list[dict[str, Any]]]:
    """Return what all system messages say, and the other messages in order.

    Returns:
        The system's text, one paragraph a message; as parts where one has more to say than text, such as Anthropic's
        `cache_control`.

    Raises:
        InvalidRequest: there is something else than text in a system message.
    """
    system = [message.get("content") for message in messages if message["role"] in SYSTEM_ROLES]
    rest = [message for message in messages if message["role"] not in SYSTEM_ROLES]
    if all(isinstance(content, str) for content in system):
        return "\n\n".join(system), rest  # type: ignore[arg-type]
    parts = [part for content in system for part in parts_of(content)]
    for part in parts:
        if part.get("type") != "text":
            raise refuse(provider, f"a system message can only be text, got a part of type '{part.get('type')}'")
    if all(part.keys() == {"type", "text"} for part in parts):
        return "\n\n".join(text_of(content) for content in system), rest
    return parts, rest


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
