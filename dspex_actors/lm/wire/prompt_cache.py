"""Marks up to where a provider keeps a prompt in its cache: DSPy's `prompt_cache` in Anthropic's words. Pure."""

from __future__ import annotations

from typing import Any

from dspex_actors.lm.wire.content import refuse


def mark_of(wanted: dict[str, Any]) -> dict[str, str]:
    """Return the mark itself."""
    return {"type": "ephemeral", "ttl": "1h"} if wanted.get("retention") == "long" else {"type": "ephemeral"}


def mark_messages(messages: list[dict[str, Any]], wanted: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the messages after the system's, with a mark at the end of one of them where that is wanted.

    Args:
        messages: plain ones.
        wanted: `prompt_cache`, checked.

    Raises:
        InvalidRequest: there is no such message.
    """
    place = wanted.get("prefix_until_index")
    if wanted.get("prefix") == "history":
        place = len(messages) - 1
    if place is None or not messages:
        return messages
    if place >= len(messages):
        raise refuse(
            "anthropic", f"prompt_cache: prefix_until_index is {place}, and there are {len(messages)} messages"
        )
    message = dict(messages[place])
    content, calls = message.get("content"), message.get("tool_calls")
    if calls:
        message["tool_calls"] = [*calls[:-1], {**calls[-1], "cache_control": mark_of(wanted)}]
    elif isinstance(content, str) and content:
        message["content"] = [{"type": "text", "text": content, "cache_control": mark_of(wanted)}]
    elif isinstance(content, list) and content:
        last = {"type": "text", "text": content[-1]} if isinstance(content[-1], str) else content[-1]
        message["content"] = [*content[:-1], {**last, "cache_control": mark_of(wanted)}]
    return [*messages[:place], message, *messages[place + 1 :]]


def mark_beginning(payload: dict[str, Any], wanted: dict[str, Any]) -> None:
    """Put a mark at the end of what does not change from call to call, the tools and the system's text, if wanted."""
    if wanted.get("prefix") == "history" or wanted.get("prefix_until_index") is not None:
        return
    if system := payload.get("system"):
        blocks = [{"type": "text", "text": system}] if isinstance(system, str) else list(system)
        payload["system"] = [*blocks[:-1], {**blocks[-1], "cache_control": mark_of(wanted)}]
    elif tools := payload.get("tools"):
        payload["tools"] = [*tools[:-1], {**tools[-1], "cache_control": mark_of(wanted)}]
