"""What an LM call gives back."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from dspex_actors.lm.content.logprobs import Logprob
from dspex_actors.lm.content.messages import Message
from dspex_actors.lm.content.parts import Part, Text, Thinking, ToolCall, part_from_plain
from dspex_actors.lm.usage import Usage

#: The finish reason of an answer that was cut at `max_tokens`.
CUT = "length"


@dataclass(frozen=True, slots=True)
class LMReply:
    """The answer of a language model.

    Args:
        text: the reply's text; empty when the model said nothing.
        usage: tokens of the request that was answered.
        cost: USD at list price; None when the price is unknown.
        model: the model that answered, as the provider names it (often a dated snapshot).
        latency: seconds from the call to the answer, waits and retries included.
        finish_reason: stop, length (cut at max_tokens or the window's end), tool_calls, or the provider's own word in
            lower case; None when it did not say.
        request_id: the provider's id of the request, for its support.
        asked: HTTP requests made for this call, retries included.
        provider: openai, anthropic, gemini, cohere or embedded.
        content: what it says where that is more than one text; None: `text` is all. Read `parts` instead.
        logprobs: how likely its tokens were, where that was asked for and told; None: it was not.
        cached: where the answer came from when no request was made for it: memory, disk or semantic; None: it was
            asked for.
        fallback: where another LM than the one that was asked has answered: `instead_of` (its model string), `because`
            (the name of its error) and `message`; None: the one that was asked.
    """

    text: str
    usage: Usage = field(default_factory=Usage)
    cost: float | None = None
    model: str = ""
    latency: float = 0.0
    finish_reason: str | None = None
    request_id: str | None = None
    asked: int = 1
    provider: str = ""
    content: tuple[Part, ...] | None = None
    logprobs: tuple[Logprob, ...] | None = None
    cached: str | None = None
    fallback: dict[str, Any] | None = None

    @property
    def parts(self) -> tuple[Part, ...]:
        """What it says, in its order: texts, tool calls, thoughts."""
        if self.content is None:
            return (Text(self.text),) if self.text else ()
        return self.content

    @property
    def tool_calls(self) -> tuple[ToolCall, ...]:
        """The tools that the model asks to call."""
        return tuple(part for part in self.content or () if isinstance(part, ToolCall))

    @property
    def reasoning(self) -> str | None:
        """What the model has thought before it answered, as far as the provider shows it; None: nothing."""
        thoughts = [part.text for part in self.content or () if isinstance(part, Thinking) and part.text]
        return "\n\n".join(thoughts) if thoughts else None

    @property
    def message(self) -> Message:
        """The reply as a message, for the conversation to go on with."""
        return Message("assistant", self.parts)

    def __str__(self) -> str:
        """Return the text."""
        return self.text

    def to_dict(self) -> dict[str, Any]:
        """Return the reply as plain data; what is rare only where it is there."""
        data: dict[str, Any] = {
            "text": self.text,
            "usage": self.usage.to_dict(),
            "cost": self.cost,
            "model": self.model,
            "latency": self.latency,
            "finish_reason": self.finish_reason,
            "request_id": self.request_id,
            "asked": self.asked,
            "provider": self.provider,
            "fallback": self.fallback,
        }
        if self.content is not None:
            data["content"] = [part.to_plain() for part in self.content]
        if self.logprobs is not None:
            data["logprobs"] = [each.to_plain() for each in self.logprobs]
        if self.cached is not None:
            data["cached"] = self.cached
        return data

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> LMReply:
        """Rebuild the reply from `to_dict`'s data; unknown keys are ignored."""
        content, logprobs = data.get("content"), data.get("logprobs")
        return cls(
            text=data["text"],
            usage=Usage.from_dict(data.get("usage") or {}),
            cost=data.get("cost"),
            model=data.get("model", ""),
            latency=data.get("latency", 0.0),
            finish_reason=data.get("finish_reason"),
            request_id=data.get("request_id"),
            asked=data.get("asked", 1),
            provider=data.get("provider", ""),
            content=None if content is None else tuple(part_from_plain(part) for part in content),
            logprobs=None if logprobs is None else tuple(Logprob.from_plain(each) for each in logprobs),
            cached=data.get("cached"),
            fallback=data.get("fallback"),
        )
