"""`History`: the turns of a conversation so far."""

from __future__ import annotations

from typing import Any, Self

from pydantic import BaseModel, ConfigDict, model_validator


class History(BaseModel):
    """A conversation so far: an adapter expands it into one user and one assistant message per turn.

        history = dspex.History(messages=[{"question": "Capital of France?", "answer": "Paris"}])
        dspex.Predict("question, history: dspex.History -> answer")(question="And of Italy?", history=history)

    Args:
        messages: the turns, each a dict with the signature's fields.
    """

    model_config = ConfigDict(frozen=True, str_strip_whitespace=True, extra="forbid")

    messages: list[dict[str, Any]]

    @model_validator(mode="before")
    @classmethod
    def _validated(cls, value: Any) -> Any:
        return {"messages": value} if isinstance(value, list) else value

    def __dspex_plain__(self) -> dict[str, Any]:
        """Return the turns as plain data."""
        return {"messages": self.messages}

    @classmethod
    def _from_plain(cls, data: dict[str, Any]) -> Self:
        return cls.model_construct(**data)
