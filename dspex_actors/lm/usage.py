"""Tokens that calls used, in one form for every provider, and a rough guess where a provider does not say.

Providers count differently: OpenAI's and Gemini's cached tokens are inside the prompt's count, Anthropic's
are outside; Gemini's thinking is outside the reply's count, OpenAI's inside; Cohere bills other numbers than
it counts. `wire/` maps all of them to `Usage`, and nothing above ever asks which provider it was.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from dspex_actors.foundation.tokens import PER_MESSAGE, count

#: What a picture, sound or file is taken for; their real price depends on resolution and length.
TOKENS_PER_ATTACHMENT = 1000
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
                text = part.get("text") if isinstance(part, dict) else None
                tokens += count(text) if isinstance(text, str) else TOKENS_PER_ATTACHMENT
    return tokens


def longest_reply(params: dict[str, Any]) -> int:
    """Return how many tokens the reply of a call may have, about: `max_tokens` or `max_completion_tokens` in full.

    With those of the prompt, it is what a call reserves from a budget before it is made.
    """
    return int(params.get("max_tokens") or params.get("max_completion_tokens") or DEFAULT_OUTPUT)


def estimate_usage(messages: list[dict[str, Any]], text: str) -> Usage:
    """Guess the usage of an answered call whose provider did not tell it; marked as estimated."""
    return Usage(input_total=prompt_tokens(messages), output_total=count(text), estimated=True)
