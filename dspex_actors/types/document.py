"""`Document`: a text or PDF that the LM may cite."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import ValidationInfo, model_validator

from dspex_actors.foundation import media
from dspex_actors.foundation.config_errors import ConfigValueError
from dspex_actors.types.base import CHECKED, Type, only_part


class Document(Type):
    """A document for an LM; Anthropic's models cite it.

    Args:
        data: its text; of a PDF the bytes as base64 text.
        title: what it is called.
        media_type: text/plain or application/pdf.
        context: words about it that are not cited.

    Raises:
        ConfigValueError: a value is of another type, or a PDF is none.
    """

    data: str
    title: str | None = None
    media_type: Literal["text/plain", "application/pdf"] = "text/plain"
    context: str | None = None

    def __init__(self, **data: Any) -> None:
        """Check the fields; see the class."""
        self._make(_checked(data))

    # Validation goes by `_validated` alone, not by `__init__` a second time.
    __init__.__pydantic_base_init__ = True  # type: ignore[attr-defined]

    @model_validator(mode="before")
    @classmethod
    def _validated(cls, value: Any, info: ValidationInfo) -> Any:
        if info.context is CHECKED or isinstance(value, cls):
            return value
        if isinstance(value, str):
            return _of_part(part) if (part := only_part(value, "document")) is not None else {"data": value}
        if isinstance(value, dict):
            return _checked(value)
        raise ConfigValueError(f"Document is invalid: got {media.shortened(value)}, expected a text or a dict")

    def format(self) -> list[dict[str, Any]]:
        """Return the document as Anthropic's content block, with citations on."""
        kind = "base64" if self.media_type == "application/pdf" else "text"
        block: dict[str, Any] = {
            "type": "document",
            "source": {"type": kind, "media_type": self.media_type, "data": self.data},
            "citations": {"enabled": True},
        }
        if self.title:
            block["title"] = self.title
        if self.context:
            block["context"] = self.context
        return [block]

    @classmethod
    def description(cls) -> str:
        """Return words about documents for the LM."""
        return "A document whose content may be quoted and cited, with a title where it has one."

    @classmethod
    def _from_plain(cls, data: dict[str, Any]) -> Self:
        return cls.model_construct(**data)

    def __repr__(self) -> str:
        """Show the fields, of the content its beginning."""
        data = repr(self.data) if len(self.data) <= 200 else f"<{len(self.data)} chars>"
        return f"Document(data={data}, title={self.title!r}, media_type={self.media_type!r}, context={self.context!r})"

    def __str__(self) -> str:
        """Show title and length."""
        title = f"{self.title!r}: " if self.title else ""
        return f"Document({title}{len(self.data)} chars)"


def _checked(data: dict[str, Any]) -> dict[str, Any]:
    if data.get("media_type") == "application/pdf" and isinstance(data.get("data"), str):
        problem = ""
        try:
            found = media.kind_of(media.decoded(data["data"]))
            problem = "" if found == "application/pdf" else f"bytes that are {found or 'something else'}"
        except media.NoMedia as error:
            problem = str(error)
        if problem:
            raise ConfigValueError(f"Document is invalid: data: got {problem}, expected a PDF as base64 text")
    return data


def _of_part(part: dict[str, Any]) -> dict[str, Any]:
    source = part.get("source") or {}
    return {name: value for name, value in {**source, **part}.items() if name in Document.model_fields}
