"""The fields of a signature: what goes in, what comes out.

A field is a pydantic `FieldInfo`, so types, defaults and constraints mean what they mean everywhere in
pydantic. What pydantic has no place for (which side the field is on, its description) stands in
`json_schema_extra`, under the keys that DSPy's users know: `desc`, `prefix`.
"""

from __future__ import annotations

import copy
import inspect
import re
import typing
from collections.abc import Iterator, Mapping
from typing import Any, Literal

from pydantic import Field
from pydantic.fields import FieldInfo

from dspex_actors.foundation.config_errors import ConfigTypeError, ConfigValueError
from dspex_actors.signatures.validating import validators_of

Side = Literal["input", "output"]

#: Key of `json_schema_extra` that says which side a field is on.
SIDE = "field_side"

#: Key of `json_schema_extra` set on a field whose type nobody wrote; it takes any value without a warning.
UNDEFINED_TYPE = "IS_TYPE_UNDEFINED"

_OWN_KEYS = ("desc", "prefix", "format", "parser")
_PYDANTIC_OPTIONS = frozenset(inspect.signature(Field).parameters) - {"extra"}


def InputField(**options: Any) -> Any:  # noqa: N802 - DSPy's name
    """Declare an input of a signature.

    Args:
        **options: `desc` (words for the LM), `default`, `validator` (a function of the value, or several: each returns
            the value, or another one, or raises ValueError: then nothing is asked), and pydantic's constraints
            (`gt`, `ge`, `lt`, `le`, `min_length`, `max_length`, `multiple_of`, `pattern` ...). `prefix`, `format` and
            `parser` are accepted as DSPy accepts them, and not rendered.

    Returns:
        A field, to stand on the right of an annotated name in the class.

    Raises:
        ConfigTypeError: an option that neither pydantic nor DSPy knows.
    """
    return _make_field("input", options)


def OutputField(**options: Any) -> Any:  # noqa: N802 - DSPy's name
    """Declare an output of a signature.

    Args:
        **options: as in `InputField`; an output with a `default` may be missing from the LM's answer. Constraints
            are told to the LM and checked in its answer (DSPy only tells them), and so are validators, which are not
            told.

    Returns:
        A field, to stand on the right of an annotated name in the class.

    Raises:
        ConfigTypeError: an option that neither pydantic nor DSPy knows.
    """
    return _make_field("output", options)


def _make_field(side: Side, options: dict[str, Any]) -> FieldInfo:
    extra: dict[str, Any] = {key: options.pop(key) for key in _OWN_KEYS if key in options}
    for key in ("desc", "prefix"):
        words_of(extra.get(key), f"{key} of an {side}")
    described = options.get("description")
    if described is not None:
        extra.setdefault("desc", described)
    given = options.pop("json_schema_extra", None)
    if isinstance(given, dict):
        extra = {**given, **extra}
    extra[SIDE] = side
    validators = validators_of(side, options.pop("validator")) if "validator" in options else []
    if rules := ", ".join(_in_words(options)):
        extra["constraints"] = rules
    unknown = sorted(set(options) - _PYDANTIC_OPTIONS)
    if unknown:
        raise ConfigTypeError(
            f"{side.capitalize()}Field does not know {', '.join(unknown)}; it takes {', '.join(_OWN_KEYS)}, "
            "validator, default and pydantic's (gt, ge, lt, le, min_length, max_length, multiple_of, pattern)"
        )
    field: FieldInfo = Field(json_schema_extra=extra, **options)
    field.metadata += validators
    return field


def extras(field: FieldInfo) -> dict[str, Any]:
    """Return the field's own settings (desc, prefix, side) as the dict that the field holds."""
    extra = field.json_schema_extra
    if not isinstance(extra, dict):
        raise ConfigTypeError("a signature's field is made with InputField() or OutputField(); this one was not")
    return extra


def side_of(field: FieldInfo) -> Side:
    """Return "input" or "output".

    Raises:
        ConfigTypeError: the field was made by pydantic's `Field`, which has no side.
    """
    extra = field.json_schema_extra
    side = extra.get(SIDE) if isinstance(extra, dict) else None
    if side == "input":
        return "input"
    if side == "output":
        return "output"
    raise ConfigTypeError("a signature's field is made with InputField() or OutputField(); this one was not")


def check_field(name: Any, field: Any) -> None:
    """Refuse what is no field of a signature.

    Raises:
        ConfigError: the name is none, or the field was not made with `InputField` or `OutputField`.
    """
    if not isinstance(name, str) or not name.isidentifier():
        raise ConfigValueError(f"{name!r:.80} is not a field name; use letters, digits and _")
    if not isinstance(field, FieldInfo):
        raise ConfigTypeError(f"field {name!r} must be InputField(...) or OutputField(...), got {field!r:.80}")


def check_names(name: Any, custom_types: Any) -> None:
    """Refuse a signature's name that is no text, and types of one's own that have no names.

    Raises:
        ConfigTypeError: which.
    """
    if not isinstance(name, str) or not name:
        raise ConfigTypeError(f"the name of a signature is invalid: got {name!r:.80}, expected a text")
    if custom_types is not None and not isinstance(custom_types, Mapping):
        raise ConfigTypeError(f"custom_types is invalid: got {custom_types!r:.80}, expected a dict of types by name")


def usable_type(name: str, annotation: Any) -> Any:
    """Return a field's type.

    Raises:
        ConfigTypeError: it is none: a number, a function, a module.
    """
    is_type = annotation is None or callable(annotation) or typing.get_origin(annotation) is not None
    if not is_type or inspect.isroutine(annotation):
        raise ConfigTypeError(f"the type of field {name!r} is invalid: got {annotation!r:.80}, expected a type")
    return annotation


def words_of(instructions: Any, what: str = "instructions") -> Any:
    """Return instructions; None: there are none.

    Args:
        instructions: they, or other words.
        what: what they are called, for the error.

    Raises:
        ConfigTypeError: they are no text.
    """
    if instructions is not None and not isinstance(instructions, str):
        raise ConfigTypeError(f"{what} is invalid: got {instructions!r:.80}, expected a text")
    return instructions


def copy_field(field: FieldInfo) -> FieldInfo:
    """Return a copy whose settings can be changed without the original noticing."""
    twin = copy.copy(field)
    twin.json_schema_extra = dict(extras(field))
    return twin


def complete_field(name: str, field: FieldInfo, annotation: Any) -> FieldInfo:
    """Return a copy of `field` with its type set, and prefix and description filled in where nobody wrote
    them."""
    twin = copy_field(field)
    twin.annotation = usable_type(name, annotation)
    extra = extras(twin)
    extra["prefix"] = extra.get("prefix") or infer_prefix(name)
    extra["desc"] = extra.get("desc") or f"${{{name}}}"
    return twin


def description_of(name: str, field: FieldInfo) -> str:
    """Return the words for the LM; empty when nobody wrote any."""
    desc = str(extras(field).get("desc") or "")
    return "" if desc == f"${{{name}}}" else desc


_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+|[^\W\d_a-zA-Z]+")


def infer_prefix(name: str) -> str:
    """Return the label that DSPy infers from a name: `snake_case` gives `Snake Case:`, `topK2` gives `Top K
    2:`."""
    words = _WORDS.findall(name)
    return " ".join(word if word.isupper() else word.capitalize() for word in words) + ":"


#: The first seven are DSPy's words: its users' prompts have them.
_CONSTRAINT_WORDS = {
    "gt": "greater than: {}",
    "ge": "greater than or equal to: {}",
    "lt": "less than: {}",
    "le": "less than or equal to: {}",
    "min_length": "minimum length: {}",
    "max_length": "maximum length: {}",
    "multiple_of": "a multiple of the given number: {}",
    "pattern": "matches {}",
    "max_digits": "at most {} digits",
    "decimal_places": "at most {} decimal places",
}


def _in_words(options: Mapping[str, Any]) -> Iterator[str]:
    """Say the constraints of a field in words for the LM, in the order in which they were written."""
    for key, bound in options.items():
        if key in _CONSTRAINT_WORDS and bound is not None:
            yield _CONSTRAINT_WORDS[key].format(bound)
        elif key == "allow_inf_nan" and bound is False:
            yield "a finite number"


def constraints_text(field: FieldInfo) -> str:
    """Return the field's constraints as words for the LM; empty when there are none."""
    told = extras(field).get("constraints")
    if told is None:
        # A field that was made elsewhere, or before they were kept.
        keys = (*_CONSTRAINT_WORDS, "allow_inf_nan")
        rules = ({key: getattr(rule, key, None) for key in keys} for rule in field.metadata)
        told = ", ".join(word for rule in rules for word in _in_words(rule))
    return str(told)


def default_instructions(fields: Mapping[str, FieldInfo]) -> str:
    """Return the sentence that stands where nobody wrote instructions."""
    inputs = [f"`{name}`" for name, field in fields.items() if side_of(field) == "input"]
    outputs = [f"`{name}`" for name, field in fields.items() if side_of(field) == "output"]
    return f"From {', '.join(inputs) or 'nothing'} work out {', '.join(outputs) or 'nothing'}."
