"""Tokens that calls used, in one form for every provider, and a rough guess where a provider does not say.

Providers count differently: OpenAI's and Gemini's cached tokens are inside the prompt's count, Anthropic's
are outside; Gemini's thinking is outside the reply's count, OpenAI's inside; Cohere bills other numbers than
it counts. `wire/` maps all of them to `Usage`, and nothing above ever asks which provider it was.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import orjson

from dspex_actors.foundation.tokens import CHARS_PER_TOKEN, PER_MESSAGE, count

#: What a picture, sound or file is taken for; their real price depends on resolution and length.
TOKENS_PER_ATTACHMENT = 1000
#: A body of fewer bytes is guessed by its length.
SHORT_BODY = 4096
#: Reply length taken for a call that sets no `max_tokens`.
DEFAULT_OUTPUT = 256

_COUNTS = ("input_total", "cache_read", "cache_write", "output_total", "reasoning", "audio", "cache_write_1h")


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens used by one call or by many.

    Args:
        input_total: all tokens of the prompt, cached ones included.
        cache_read: of these, read from the provider's prompt cache.
        cache_write: of these, written to the provider's prompt cache.
        output_total: all tokens billed as output, hidden reasoning included.
        reasoning: of these, hidden reasoning.
        audio: audio tokens, of the prompt and of the reply.
        estimated: true when any part of it was guessed, not told by the provider.
        cache_write_1h: of `cache_write`, kept for an hour, which costs more.
    """

    input_total: int = 0
    cache_read: int = 0
    cache_write: int = 0
    output_total: int = 0
    reasoning: int = 0
    audio: int = 0
    estimated: bool = False
    cache_write_1h: int = 0

    def __add__(self, other: Usage) -> Usage:
        """Return the sum; one estimated part makes the sum estimated."""
        return Usage(
            self.input_total + other.input_total,
            self.cache_read + other.cache_read,
            self.cache_write + other.cache_write,
            self.output_total + other.output_total,
            self.reasoning + other.reasoning,
            self.audio + other.audio,
            self.estimated or other.estimated,
            self.cache_write_1h + other.cache_write_1h,
        )

    @property
    def total(self) -> int:
        """Tokens in and out together."""
        return self.input_total + self.output_total

    def to_dict(self) -> dict[str, Any]:
        """Return the counts as plain data; what is rare only where it is not 0."""
        data: dict[str, Any] = {
            "input_total": self.input_total,
            "cache_read": self.cache_read,
            "cache_write": self.cache_write,
            "output_total": self.output_total,
            "reasoning": self.reasoning,
            "audio": self.audio,
            "estimated": self.estimated,
        }
        if self.cache_write_1h:
            data["cache_write_1h"] = self.cache_write_1h
        return data

    def to_json(self) -> str:
        """Return `to_dict`'s data as JSON."""
        return orjson.dumps(self.to_dict()).decode()

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Usage:
        """Rebuild the usage from `to_dict`'s data; missing counts are 0, unknown keys are ignored."""
        counts = {name: int(data.get(name) or 0) for name in _COUNTS}
        return cls(**counts, estimated=bool(data.get("estimated", False)))


def prompt_tokens(messages: list[dict[str, Any]]) -> int:
    """Guess how many tokens the messages of a call are."""
    tokens = 0
    for message in messages:
        tokens += PER_MESSAGE
        content = message.get("content")
        if isinstance(content, str):
            tokens += count(content)
        elif isinstance(content, list):
            for part in content:
                text = part
                if isinstance(part, dict):
                    text = part.get("thinking" if part.get("type") == "thinking" else "text")
                tokens += count(text) if isinstance(text, str) else TOKENS_PER_ATTACHMENT
        if len(message) > 2 and isinstance(calls := message.get("tool_calls"), list):
            for call in calls:
                function = call.get("function") if isinstance(call, dict) else None
                written = function.get("arguments") if isinstance(function, dict) else None
                tokens += PER_MESSAGE + (count(written) if isinstance(written, str) else 0)
    return tokens


def guessed_tokens(body: bytes, messages: list[dict[str, Any]]) -> int:
    """Guess how many tokens a request's prompt is, in no time where it is short: only in case nothing is heard of it.

    Args:
        body: the request as it is sent; pictures and sound in it are no text.
        messages: what it is made of.
    """
    return len(body) // CHARS_PER_TOKEN if len(body) < SHORT_BODY else prompt_tokens(messages)


def longest_reply(params: dict[str, Any]) -> int:
    """Return how many tokens the reply of a call may have, about: its `max_tokens`, whatever it is called, in full.

    With those of the prompt, it is what a call reserves from a budget before it is made.
    """
    told = params.get("max_tokens") or params.get("max_completion_tokens") or params.get("max_output_tokens")
    return told if type(told) is int else DEFAULT_OUTPUT


#: The longest reply of a call that sets no `max_tokens`: what most models give at most.
LONGEST_OUTPUT = 16_384
#: What a provider may add to a request beside what is sent: marks of messages, words of its own; tokens.
ADDED = 64


def most_tokens(body: bytes, messages: list[dict[str, Any]], params: dict[str, Any]) -> tuple[int, int]:
    """Return how many tokens a request has at most, as far as anybody can tell: of its prompt and of its reply.

    A token is a byte at least. Only what the provider fetches by its address may be longer; a picture, sound or file is
    taken for ten times what is usual. The bytes of a picture are none of a text: it has as many tokens as its size.

    Args:
        body: the request as it is sent.
        messages: what it was made of.
        params: parameters of the call.
    """
    attached = pictures = 0
    for message in messages:
        for part in parts if isinstance(parts := message.get("content"), list) else ():
            if not (isinstance(part, dict) and isinstance(part.get("text"), str)):
                attached += 1
                pictures += _bytes_of_picture(part)
    reply = params.get("max_tokens") or params.get("max_completion_tokens") or LONGEST_OUTPUT
    return max(0, len(body) - pictures) + ADDED + 10 * TOKENS_PER_ATTACHMENT * attached, int(reply)


def _bytes_of_picture(part: Any) -> int:
    """Return how many characters of a request a picture in it is; 0: the part is none, or is told by an address."""
    image = part.get("image_url") if isinstance(part, dict) else None
    url = image.get("url") if isinstance(image, dict) else image
    return len(url) - url.find(",") - 1 if isinstance(url, str) and url.startswith("data:image/") else 0


def estimate_usage(messages: list[dict[str, Any]], text: str) -> Usage:
    """Guess the usage of an answered call whose provider did not tell it; marked as estimated."""
    return Usage(input_total=prompt_tokens(messages), output_total=count(text), estimated=True)


def usage_of(told: Usage | None, messages: list[dict[str, Any]], text: str) -> Usage:
    """Return the usage of an answered call: what the provider told, else a guess.

    Servers that do not count say nothing, or 0 for everything.
    """
    if told is not None and (told.total or not text):
        return told
    return estimate_usage(messages, text)
