"""Why a reply ended, in one vocabulary: every provider and every server that speaks like one has words of its own."""

from __future__ import annotations

#: The words in lower case. What is not here stays the provider's own word.
_NORMAL = {
    "stop": "stop",
    "end_turn": "stop",
    "stop_sequence": "stop",
    "complete": "stop",
    "eos": "stop",
    "eos_token": "stop",
    "length": "length",
    "max_tokens": "length",
    "max_output_tokens": "length",
    "model_length": "length",
    "model_context_window_exceeded": "length",
    "tool_calls": "tool_calls",
    "tool_call": "tool_calls",
    "tool_use": "tool_calls",
    "function_call": "tool_calls",
    "content_filter": "content_filter",
    "content_filtered": "content_filter",
    "refusal": "content_filter",
    "error": "error",
}


def finish(reason: object) -> str | None:
    """Return `stop`, `length`, `tool_calls`, `content_filter`, `error`, or the provider's own word in lower case.

    Args:
        reason: what the provider said; anything but a text that is not empty is None.
    """
    if not isinstance(reason, str) or not reason:
        return None
    word = reason.lower()
    return _NORMAL.get(word, word)
