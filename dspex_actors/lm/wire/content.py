"""Takes messages in our normal form (OpenAI's, as DSPy's) apart, for the providers that say it otherwise."""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote_to_bytes

from dspex_actors.errors import InvalidRequest
from dspex_actors.lm.capabilities import capabilities_of
from dspex_actors.lm.content.parts import EXTRA

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
        parts = [{"type": "text", "text": part} if isinstance(part, str) else part for part in content]
        if all(isinstance(part, dict) for part in parts):
            return parts
        raise TypeError("a part of a message must be a text or a dict")
    raise TypeError(f"content of a message must be a string or a list of parts, got {type(content).__name__}")


def are_texts(messages: list[dict[str, Any]]) -> bool:
    """Tell whether messages are a role and a text each, as nearly all are."""
    for message in messages:
        if type(message) is not dict or len(message) != 2 or type(message.get("content")) is not str:
            return False
    return True


#: Parts that not every model takes: how its capabilities call them, and what people do.
_MEDIA = {"image_url": ("images", "pictures"), "input_audio": ("audio", "sound"), "file": ("files", "files")}


def refuse_media(provider: str, model: str, messages: list[dict[str, Any]]) -> None:
    """Refuse what the model is known not to take; one that nobody has described is asked as it is told.

    Raises:
        InvalidRequest: there is a picture, sound or a file for a model that takes none.
    """
    for message in messages:
        content = message.get("content")
        for part in content if isinstance(content, list) else ():
            field, what = _MEDIA.get(str(part.get("type")), ("", "")) if isinstance(part, dict) else ("", "")
            if field and getattr(capabilities_of(provider, model), field) is False:
                raise refuse(provider, f"{model} takes no {what}; use another model for this prompt")


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
    # Gemini's signature of a text says nothing to anybody here.
    parts = [
        {name: value for name, value in part.items() if name != EXTRA} if EXTRA in part else part for part in parts
    ]
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


def image_url(provider: str, part: dict[str, Any]) -> str:
    """Return the address in an `image_url` part, in either of the two ways it is written.

    Raises:
        InvalidRequest: it is no address, and no picture.
    """
    image = part.get("image_url")
    url = image.get("url") if isinstance(image, dict) else image
    if isinstance(url, str) and (
        url.startswith(("https://", "http://")) or (data_url(url) or ("",))[0][:6] == "image/"
    ):
        return url
    shown = repr(url) if len(repr(url)) < 60 else repr(url)[:59] + "…"
    raise refuse(provider, f"an image needs an http(s) address or a 'data:image/...;base64,...' URL, got {shown}")


def without_document(part: dict[str, Any]) -> dict[str, Any]:
    """Return a part; a document, which Anthropic alone has, as a text, or as a file if it is a PDF."""
    if part.get("type") != "document":
        return part
    source = part.get("source")
    source = source if isinstance(source, dict) else {}
    title, context, data = part.get("title"), part.get("context"), source.get("data")
    if source.get("type") == "base64":
        file = {"filename": title or "document.pdf", "file_data": f"data:{source.get('media_type')};base64,{data}"}
        return {"type": "file", "file": file}
    if source.get("type") != "text":
        return part
    head = "".join(f"{name}: {text}\n" for name, text in (("Title", title), ("Context", context)) if text)
    return {"type": "text", "text": f"{head}\n{data}" if head else str(data)}


def thinking(part: dict[str, Any], provider: str) -> dict[str, Any] | None:
    """Return the block of a thinking part as its provider gave it; None: it is another one's, or has none.

    One without a provider is in somebody's own words, and stays.
    """
    if "provider" not in part:
        return part
    block = part.get("block")
    return block if part["provider"] == provider and isinstance(block, dict) else None
