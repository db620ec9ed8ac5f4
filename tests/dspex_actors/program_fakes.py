"""A stand-in for an LM: says what it is told to, and remembers what it was asked."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass
class Reply:
    text: str
    usage: dict[str, int] = field(default_factory=lambda: {"input_total": 10, "output_total": 2})
    cost: float | None = 0.5
    model: str = "fake"
    latency: float = 0.1
    asked: int = 1


class FakeLM:
    def __init__(self, *answers: str) -> None:
        self.answers = list(answers)
        self.asked: list[tuple[list[dict[str, Any]], dict[str, Any]]] = []

    def __call__(self, messages: Any, **params: Any) -> Reply:
        self.asked.append((messages, params))
        return Reply(self.answers[min(len(self.asked), len(self.answers)) - 1])

    async def acall(self, messages: Any, **params: Any) -> Reply:
        return self(messages, **params)


def chat(**fields: Any) -> str:
    return "\n\n".join(f"[[ ## {name} ## ]]\n{value}" for name, value in fields.items()) + "\n\n[[ ## completed ## ]]"
