"""What an LM call gives back."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

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

    def __str__(self) -> str:
        """Return the text."""
        return self.text

    def to_dict(self) -> dict[str, Any]:
        """Return the reply as plain data."""
        return {
            "text": self.text,
            "usage": self.usage.to_dict(),
            "cost": self.cost,
            "model": self.model,
            "latency": self.latency,
            "finish_reason": self.finish_reason,
            "request_id": self.request_id,
            "asked": self.asked,
            "provider": self.provider,
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> LMReply:
        """Rebuild the reply from `to_dict`'s data; unknown keys are ignored."""
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
        )
