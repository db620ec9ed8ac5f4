"""`Type`: what a field's type is made of that is told to the LM in parts, or in words of its own."""

from __future__ import annotations

import json
import typing
from collections.abc import Mapping
from typing import Any, ClassVar, Protocol, runtime_checkable

from pydantic import BaseModel, SerializationInfo, ValidationError, model_serializer

from dspex_actors.foundation.config_errors import ConfigValueError

#: Around the parts of a value in plain data: in saved programs and `model_dump()`, DSPy's and ours. Texts that hold
#: them are texts like any other in our prompts; only where a field has a `Type` they are read back.
START = "<<CUSTOM-TYPE-START-IDENTIFIER>>"
END = "<<CUSTOM-TYPE-END-IDENTIFIER>>"

#: In the context of a validation: the values have been checked already.
CHECKED: dict[str, bool] = {"checked": True}


@runtime_checkable
class Collects(Protocol):
    """The context of a serialisation that wants to have parts beside the text, not in it."""

    def put(self, parts: list[dict[str, Any]]) -> str:
        """Keep the parts, and return what stands for them in the text."""
        ...


class Type(BaseModel):
    """A type of one's own for fields of signatures: subclass it and write `format`.

        class Event(dspex.Type):
            name: str
            day: str

            def format(self):
                return f"{self.name} on {self.day}"

    What `format` returns is what the LM gets: a text, or a list of content parts as OpenAI writes them
    (`{"type": "image_url", ...}`), which split the user message around the value.
    """

    #: Whether the value is text to the LM, and its type is called `str` in prompts.
    is_text: ClassVar[bool] = False

    def format(self) -> list[dict[str, Any]] | str:
        """Return what the LM gets: a text, or content parts."""
        raise NotImplementedError(f"{type(self).__name__} has no format()")

    @classmethod
    def description(cls) -> str:
        """Return words about the type for the LM; they stand under the field's own."""
        return ""

    @classmethod
    def extract_custom_type_from_annotation(cls, annotation: Any) -> list[type[Any]]:
        """Return the types of this kind that stand in an annotation, `list[dict[str, Tool]]` for example."""
        if isinstance(annotation, type) and typing.get_origin(annotation) is None:
            return [annotation] if issubclass(annotation, cls) else []
        return [kind for part in typing.get_args(annotation) for kind in cls.extract_custom_type_from_annotation(part)]

    @classmethod
    def adapt_to_native_lm_feature(cls, signature: Any, field_name: str, lm: Any, lm_kwargs: dict[str, Any]) -> Any:
        """Return the signature without the field where the LM gives it by itself (DSPy's hook).

        Args:
            signature: the program's.
            field_name: the output of this type.
            lm: whom it is asked of.
            lm_kwargs: the call's parameters, to be changed in place.
        """
        return signature

    @classmethod
    def parse_lm_response(cls, response: dict[str, Any]) -> Any:
        """Return the value that an LM gave beside its text; None: it gave none (DSPy's hook).

        Args:
            response: `text`, and `reasoning_content` where there is one.
        """
        return None

    @model_serializer()
    def serialize_model(self, info: SerializationInfo) -> Any:
        """Return the value as plain data: what `format` gives, parts between markers."""
        told = self.format()
        if not isinstance(told, list):
            return told
        if isinstance(info.context, Collects):
            return info.context.put(told)
        return marked(told)

    def __dspex_plain__(self) -> Any:
        """Return the value as data that validation takes back, for exports and journals."""
        return {name: getattr(self, name) for name in type(self).model_fields if getattr(self, name) is not None}

    def _make(self, data: Mapping[str, Any]) -> None:
        """Fill a new instance with values that were checked.

        Raises:
            ConfigValueError: a name that is no field, or a value of another type; in one line.
        """
        try:
            self.__pydantic_validator__.validate_python(dict(data), self_instance=self, context=CHECKED)
        except ValidationError as error:
            raise ConfigValueError(f"{type(self).__name__} is invalid: {told_in_a_line(error)}") from None


def marked(parts: list[dict[str, Any]]) -> str:
    """Return parts as the text that stands for them in plain data."""
    return f"{START}{json.dumps(parts, ensure_ascii=False)}{END}"


def unmarked(text: str) -> list[Any] | None:
    """Return the parts in a text that is nothing but marked parts; None: it is not."""
    if not (text.startswith(START) and text.endswith(END)):
        return None
    try:
        parts = json.loads(text[len(START) : -len(END)])
    except ValueError:
        return None
    return parts if isinstance(parts, list) else None


def only_part(text: str, kind: str) -> dict[str, Any] | None:
    """Return the part of a kind that a marked text holds alone; None: it is another text."""
    parts = unmarked(text)
    if parts is None or len(parts) != 1 or not isinstance(parts[0], dict) or parts[0].get("type") != kind:
        return None
    return parts[0]


def told_in_a_line(error: ValidationError) -> str:
    """Return what a validation says, on one line and without values."""
    told = []
    for item in error.errors(include_input=False, include_url=False, include_context=False)[:3]:
        where = ".".join(map(str, item["loc"]))
        words = " ".join(item["msg"].removeprefix("Value error, ").split())
        told.append(f"{where}: {words}" if where else words)
    return "; ".join(told)
