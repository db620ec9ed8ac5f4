"""`Reasoning`: what an LM thought before it answered. A text to whoever reads it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Self

from pydantic import model_validator

from dspex_actors.foundation import media
from dspex_actors.foundation.config_errors import ConfigValueError
from dspex_actors.types.base import Type


class Reasoning(Type):
    """The reasoning of an LM, as an output field: from the model's own where it tells it, else written as a text.

    It is used as a text: compared, indexed, joined, with all methods of one.

    Args:
        content: the text.
    """

    is_text: ClassVar[bool] = True

    content: str

    @model_validator(mode="before")
    @classmethod
    def _validated(cls, value: Any) -> Any:
        if isinstance(value, cls):
            return value
        if isinstance(value, str):
            return {"content": value}
        if isinstance(value, dict) and isinstance(value.get("content"), str):
            return {"content": value["content"]}
        raise ConfigValueError(f"Reasoning is invalid: got {media.shortened(value)}, expected a text")

    def format(self) -> str:
        """Return the text."""
        return self.content

    @classmethod
    def native_effort(cls, lm: Any, params: Mapping[str, Any]) -> str | None:
        """Return the effort to ask an LM's own reasoning with; None: it is written as a text.

        Args:
            lm: whom it is asked of.
            params: of the call; `reasoning_effort=None` in them, or in the LM's, means no reasoning of its own.
        """
        if not getattr(lm, "supports_reasoning", False):
            return None
        own = getattr(lm, "kwargs", None) or {}
        effort: str | None = params.get("reasoning_effort", own.get("reasoning_effort", "low"))
        return effort

    @classmethod
    def parse_lm_response(cls, response: dict[str, Any]) -> Reasoning | None:
        """Return the LM's own reasoning, where it told it."""
        told = response.get("reasoning_content")
        return cls(content=told) if told else None

    def __dspex_plain__(self) -> str:
        """Return the text."""
        return self.content

    @classmethod
    def _from_plain(cls, data: str) -> Self:
        return cls.model_construct(content=data)

    def __repr__(self) -> str:
        """Show the text."""
        return repr(self.content)

    def __str__(self) -> str:
        """Return the text."""
        return self.content

    def __eq__(self, other: object) -> bool:
        """Compare with a text or another reasoning."""
        return self.content == (other.content if isinstance(other, Reasoning) else other)

    def __hash__(self) -> int:
        """Hash as the text does."""
        return hash(self.content)

    def __len__(self) -> int:
        """Return the length of the text."""
        return len(self.content)

    def __getitem__(self, key: Any) -> str:
        """Return a piece of the text."""
        return self.content[key]

    def __contains__(self, item: object) -> bool:
        """Tell whether a text stands in it."""
        return isinstance(item, str | Reasoning) and str(item) in self.content

    def __iter__(self) -> Iterator[str]:  # type: ignore[override]
        """Iterate over the characters."""
        return iter(self.content)

    def __add__(self, other: Any) -> Any:
        """Join with what comes after it."""
        if isinstance(other, Reasoning):
            return Reasoning(content=self.content + other.content)
        return self.content + other if isinstance(other, str) else NotImplemented

    def __radd__(self, other: Any) -> Any:
        """Join with what comes before it."""
        return other + self.content if isinstance(other, str) else NotImplemented

    def __getattr__(self, name: str) -> Any:
        """Return a method of the text."""
        if not name.startswith("_") and hasattr(str, name):
            return getattr(self.content, name)
        raise AttributeError(
            f"`{type(self).__name__}` object has no attribute {name!r}: it is used as a text; str(reasoning) is one"
        )
