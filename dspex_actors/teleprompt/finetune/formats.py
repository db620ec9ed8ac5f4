"""A conversation as a line of a provider's training file. Pure.

openai      {"messages": [{"role", "content"}, ...]}, images as `image_url` parts of a user's message; what DSPy's
            `format_finetune_data` makes, and what vLLM, Together, Fireworks and others read, too
anthropic   {"system", "messages"}: Claude on Amazon Bedrock
gemini      {"systemInstruction", "contents"}: Vertex AI; media would have to lie in a bucket there
cohere      {"messages": [...]} with the roles System, User and Chatbot
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from dspex_actors.errors import ConfigError
from dspex_actors.foundation.config_errors import ConfigValueError

Message = Mapping[str, Any]
#: Who reads a file line by line may take these for the end of one: in JSON they can be written otherwise.
_LINE_ENDS = {"\u2028": "\\u2028", "\u2029": "\\u2029", "\x85": "\\u0085"}


def _openai(messages: Iterable[Message]) -> dict[str, Any]:
    return {"messages": [{"role": one["role"], "content": _with_images(one)} for one in messages]}


def _anthropic(messages: Iterable[Message]) -> dict[str, Any]:
    system, turns = _apart(messages, "anthropic")
    return {**({"system": system} if system else {}), "messages": [_plain(one, "anthropic") for one in turns]}


def _gemini(messages: Iterable[Message]) -> dict[str, Any]:
    system, turns = _apart(messages, "gemini")
    roles = {"user": "user", "assistant": "model"}
    contents = [{"role": roles[one["role"]], "parts": [{"text": _text(one, "gemini")}]} for one in turns]
    told = {"systemInstruction": {"role": "system", "parts": [{"text": system}]}} if system else {}
    return {**told, "contents": contents}


def _cohere(messages: Iterable[Message]) -> dict[str, Any]:
    roles = {"system": "System", "user": "User", "assistant": "Chatbot"}
    return {"messages": [{"role": roles[one["role"]], "content": _text(one, "cohere")} for one in messages]}


#: What makes a line of each format.
FORMATS: dict[str, Callable[[Iterable[Message]], dict[str, Any]]] = {
    "openai": _openai,
    "anthropic": _anthropic,
    "gemini": _gemini,
    "cohere": _cohere,
}
#: Formats in which a message may have images; no format takes sound or files.
WITH_IMAGES = frozenset({"openai"})


def checked_format(data_format: Any) -> str:
    """Return the name of a format.

    Raises:
        ConfigError: there is none of this name.
    """
    if not isinstance(data_format, str) or data_format not in FORMATS:
        raise ConfigValueError(f"data_format is invalid: got {data_format!r:.80}, expected one of {', '.join(FORMATS)}")
    return data_format


def line_of(messages: Iterable[Message], data_format: str) -> dict[str, Any]:
    """Return a conversation as a line of a format.

    Args:
        messages: role/content messages, the answer last.
        data_format: one of `FORMATS`.

    Raises:
        ConfigError: there is something in it that the format has no place for.
    """
    return FORMATS[data_format](messages)


def text_of(line: Mapping[str, Any]) -> str:
    """Return a line as JSON, which is a line for whoever reads it, in whatever language it is."""
    text = json.dumps(line, ensure_ascii=False)
    try:
        text.encode()
    except UnicodeEncodeError:  # half of a surrogate pair, which is no character
        return json.dumps(line)
    for end, written in _LINE_ENDS.items():
        text = text.replace(end, written)
    return text


def _apart(messages: Iterable[Message], data_format: str) -> tuple[str, list[Message]]:
    """Return the text of the system, and the other messages."""
    given = list(messages)
    system = [_text(one, data_format) for one in given if one["role"] == "system"]
    return "\n\n".join(system), [one for one in given if one["role"] != "system"]


def _plain(message: Message, data_format: str) -> dict[str, Any]:
    return {"role": message["role"], "content": _text(message, data_format)}


def _text(message: Message, data_format: str) -> str:
    content = message["content"]
    if isinstance(content, str):
        return str(content)
    for part in content:
        if part.get("type") != "text":
            raise _no_place(part.get("type"), data_format)
    return "".join(part["text"] for part in content)


def _with_images(message: Message) -> Any:
    content = message["content"]
    if isinstance(content, str):
        return str(content)
    return [_part(part) for part in content]


def _part(part: Mapping[str, Any]) -> dict[str, Any]:
    match part.get("type"):
        case "text":
            return {"type": "text", "text": part["text"]}
        case "image_url":
            image = part["image_url"]
            told = (
                {"url": image}
                if isinstance(image, str)
                else {key: image[key] for key in ("url", "detail") if key in image}
            )
            return {"type": "image_url", "image_url": told}
    raise _no_place(part.get("type"), "openai")


def _no_place(kind: Any, data_format: str) -> ConfigError:
    is_image = kind == "image_url"
    todo = "write it as openai, which takes images" if is_image else "leave that field out of the program"
    return ConfigError(f"the format {data_format} takes texts{_images(data_format)}, got {kind!s:.40}: {todo}")


def _images(data_format: str) -> str:
    return " and images" if data_format in WITH_IMAGES else " only"
