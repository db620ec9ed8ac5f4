"""Signatures: what a language-model program takes, what it gives, and its instructions.

Two ways to write the same one::

    Signature("ticket -> team: Literal['billing', 'bugs']", "Sort a support ticket.")

    class Triage(Signature):
        '''Sort a support ticket.'''
        ticket: str = InputField()
        team: Literal["billing", "bugs"] = OutputField(desc="who handles it")

A signature is a class. Everything that edits one returns a new class. An instance, `Triage(ticket="...", team="bugs")`,
holds checked values of its fields, and no program needs one.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Mapping
from typing import Any, cast

from pydantic.fields import FieldInfo

from dspex_actors.foundation.config_errors import ConfigTypeError, ConfigValueError
from dspex_actors.signatures.composing import Composable, is_written
from dspex_actors.signatures.dsl import parse_signature, parse_type, resolved
from dspex_actors.signatures.fields import (
    UNDEFINED_TYPE,
    check_field,
    check_names,
    complete_field,
    copy_field,
    default_instructions,
    extras,
    side_of,
    usable_type,
    words_of,
)
from dspex_actors.signatures.instances import checked
from dspex_actors.signatures.validating import same_rules, validated_fields
from dspex_actors.types.annotations import typed_fields

#: The name of a signature that was given none.
UNNAMED = "StringSignature"


class SignatureMeta(Composable):
    """What a signature can do; `Triage.fields` and `Triage.with_instructions(...)` are found here."""

    _fields: dict[str, FieldInfo]
    #: The inputs and the outputs that have types of ours in them (an Image, a Tool, a History ...); nearly always none.
    _typed: tuple[dict[str, FieldInfo], dict[str, FieldInfo]] = {}, {}
    #: The inputs that have validators; nearly always none.
    _validated: dict[str, FieldInfo] = {}  # noqa: RUF012 - never changed
    #: The fields it was made from, the inputs and the outputs.
    _sides: tuple[dict[str, FieldInfo], dict[str, FieldInfo], dict[str, FieldInfo]]

    def __new__(mcs, name: str, bases: tuple[type, ...], namespace: dict[str, Any], **options: Any) -> SignatureMeta:
        """Make a signature from a class body: collect its fields, inherit those of its bases."""
        declared = {key: value for key, value in namespace.items() if isinstance(value, FieldInfo)}
        body = {key: value for key, value in namespace.items() if key not in declared}
        # A rebuilt or derived class brings its fields ready-made.
        ready = body.pop("_ready_fields", None)
        cls = super().__new__(mcs, name, bases, body, **options)
        annotations = _own_annotations(cls, declared)
        inherited: dict[str, FieldInfo] = {}
        for base in reversed(bases):
            if isinstance(base, SignatureMeta):
                inherited.update(base._fields)
        own = ready if ready is not None else _own_fields(cls, declared, annotations)
        cls._fields = _ordered({**inherited, **own} if ready is None else own)
        cls._typed = typed_fields(cls.input_fields), typed_fields(cls.output_fields)
        cls._validated = validated_fields(cls.input_fields)
        if cls.__doc__ is None:
            docs = [base.__doc__ for base in bases if isinstance(base, SignatureMeta) and is_written(base)]
            cls.__doc__ = docs[0] if docs else default_instructions(cls._fields)
        return cls

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        """Make a signature from a string or from fields; of a signature, an instance that holds values."""
        if cls is Signature:
            return make_signature(*args, **kwargs)
        return super().__call__(*args, **kwargs)

    @property
    def instructions(cls) -> str:
        """The words that tell the LM what to do: the class's docstring."""
        return inspect.cleandoc(cls.__doc__ or "")

    @instructions.setter
    def instructions(cls, text: str) -> None:
        cls.__doc__ = words_of(text)

    @property
    def fields(cls) -> dict[str, FieldInfo]:
        """All fields by name, inputs first."""
        return dict(cls._fields)

    @property
    def input_fields(cls) -> dict[str, FieldInfo]:
        """The inputs by name."""
        return cls._by_side()[1].copy()

    @property
    def output_fields(cls) -> dict[str, FieldInfo]:
        """The outputs by name."""
        return cls._by_side()[2].copy()

    def _by_side(cls) -> tuple[dict[str, FieldInfo], dict[str, FieldInfo], dict[str, FieldInfo]]:
        known = cls.__dict__.get("_sides")
        # Unpickling makes the class first and sets its fields afterwards.
        if known is None or known[0] is not cls._fields:
            inputs = {name: field for name, field in cls._fields.items() if side_of(field) == "input"}
            known = (cls._fields, inputs, {name: field for name, field in cls._fields.items() if name not in inputs})
            cls._sides = known
        return cast("tuple[dict[str, FieldInfo], dict[str, FieldInfo], dict[str, FieldInfo]]", known)

    @property
    def signature(cls) -> str:
        """The names in the string form: `a, b -> c`."""
        return f"{', '.join(cls.input_fields)} -> {', '.join(cls.output_fields)}"

    def __repr__(cls) -> str:
        """Show names and instructions."""
        return f"{cls.__name__}({cls.signature}, instructions={cls.instructions!r})"

    def with_instructions(cls, instructions: str) -> type[Signature]:
        """Return the signature with other instructions."""
        return _derive(cls, cls._fields, instructions)

    def append_instructions(cls, text: str) -> type[Signature]:
        """Return the signature with `text` as a paragraph of its own after its instructions."""
        added = words_of(text, "text") or ""
        return _derive(cls, cls._fields, "\n\n".join(part for part in (cls.instructions, added) if part))

    def with_updated_fields(cls, name: str, type_: Any = None, **settings: Any) -> type[Signature]:
        """Return the signature with one field changed.

        Args:
            name: the field.
            type_: its new type; None keeps the one it has.
            **settings: `desc`, `prefix` and whatever else belongs into the field's `json_schema_extra`.

        Returns:
            A new signature.

        Raises:
            ConfigValueError: no such field.
        """
        if not isinstance(name, str) or name not in cls._fields:
            raise ConfigValueError(f"{cls.__name__} has no field {name!r}; it has {', '.join(cls._fields)}")
        fields = dict(cls._fields)
        field = fields[name] = copy_field(fields[name])
        for key in ("desc", "prefix"):
            words_of(settings.get(key), key)
        extras(field).update(settings)
        if type_ is not None:
            field.annotation = usable_type(name, _type(type_))
            extras(field).pop(UNDEFINED_TYPE, None)
        return _derive(cls, fields, cls.instructions)

    def prepend(cls, name: str, field: Any, type_: Any = None) -> type[Signature]:
        """Return the signature with one more field, first on its side."""
        return cls.insert(0, name, field, type_)

    def append(cls, name: str, field: Any, type_: Any = None) -> type[Signature]:
        """Return the signature with one more field, last on its side."""
        return cls.insert(-1, name, field, type_)

    def insert(cls, index: int, name: str, field: Any, type_: Any = None) -> type[Signature]:
        """Return the signature with one more field.

        Args:
            index: where among the fields of its side; negative counts from the end, -1 is the last place.
            name: the new name. A name that is there already keeps its definition, as in DSPy.
            field: `InputField(...)` or `OutputField(...)`.
            type_: its type; None means the field's own, else str.

        Returns:
            A new signature.

        Raises:
            ConfigValueError: no such place, or the name stands on the other side.
        """
        check_field(name, field)
        side = side_of(field)
        lanes = {"input": list(cls.input_fields.items()), "output": list(cls.output_fields.items())}
        other = "output" if side == "input" else "input"
        if name in dict(lanes[other]):
            raise ConfigValueError(f"{cls.__name__} has an {other} called {name!r}; an {side} needs another name")
        lane = lanes[side]
        if not isinstance(index, int) or isinstance(index, bool):
            raise ConfigTypeError(f"index is invalid: got {index!r:.80}, expected a whole number")
        place = index + len(lane) + 1 if index < 0 else index
        if not 0 <= place <= len(lane):
            raise ConfigValueError(
                f"no place {index} among the {len(lane)} {side} fields of {cls.__name__}; "
                f"use {-len(lane) - 1} to {len(lane)}"
            )
        annotation = _type(type_) if type_ is not None else (field.annotation or str)
        lane.insert(place, (name, complete_field(name, field, annotation)))
        return _derive(cls, dict(lanes["input"] + lanes["output"]), cls.instructions)

    def delete(cls, name: str) -> type[Signature]:
        """Return the signature without a field; an unknown name changes nothing."""
        fields = {key: field for key, field in cls._fields.items() if key != name}
        return _derive(cls, fields, cls.instructions)

    def equals(cls, other: Any) -> bool:
        """Tell whether `other` has the same instructions and the same fields with the same types and
        settings."""
        if not isinstance(other, SignatureMeta) or cls.instructions != other.instructions:
            return False
        mine, theirs = cls._fields, other._fields
        return list(mine) == list(theirs) and all(
            field.annotation == theirs[name].annotation
            and field.json_schema_extra == theirs[name].json_schema_extra
            and same_rules(field, theirs[name])
            for name, field in mine.items()
        )

    def dump_state(cls) -> dict[str, Any]:
        """Return the instructions and, by position, every field's prefix and description."""
        fields = [
            {"prefix": extras(field)["prefix"], "description": extras(field)["desc"]} for field in cls._fields.values()
        ]
        return {"instructions": cls.instructions, "fields": fields}

    def load_state(cls, state: Mapping[str, Any]) -> type[Signature]:
        """Return the signature with instructions, prefixes and descriptions from `dump_state`'s data.

        Args:
            state: what `dump_state` of a signature with as many fields returned; fields match by position.

        Returns:
            A new signature.

        Raises:
            ConfigValueError: the state has another number of fields, or lacks something.
        """
        try:
            instructions, saved = state["instructions"], list(state["fields"])
            settings = [{"prefix": item["prefix"], "desc": item["description"]} for item in saved]
        except (KeyError, TypeError) as error:
            raise ConfigValueError(
                f"this is no state of a signature: {error!r} is missing or of a wrong type"
            ) from error
        for text in (instructions, *(text for each in settings for text in each.values())):
            words_of(text, "a text of the state")
        if len(settings) != len(cls._fields):
            raise ConfigValueError(
                f"{cls.__name__} has {len(cls._fields)} fields ({', '.join(cls._fields)}), "
                f"the state has {len(settings)} ({', '.join(str(item['prefix']) for item in settings)})"
            )
        fields = {name: copy_field(field) for name, field in cls._fields.items()}
        for field, values in zip(fields.values(), settings, strict=True):
            extras(field).update(values)
        return _derive(cls, fields, instructions or "")


def make_signature(
    signature: str | Mapping[str, Any] | type[Signature],
    instructions: str | None = None,
    signature_name: str = UNNAMED,
    custom_types: Mapping[str, Any] | None = None,
    *,
    trusted: bool = True,
) -> type[Signature]:
    """Make a signature from a string or from fields.

    Args:
        signature: `"a, b: int -> c"`, or name → field, or name → (type, field).
        instructions: what the LM is to do; None gives a plain sentence that names the fields.
        signature_name: the new class's name.
        custom_types: types that the string names, if they are not in reach of the caller.
        trusted: False for a string from a file: nothing is imported for it.

    Returns:
        A new signature; one given as a class is returned as it is unless `instructions` are given.

    Raises:
        ConfigError: what is wrong with it, in one line; also a ValueError or a TypeError, as in DSPy.
    """
    if isinstance(signature, SignatureMeta):
        chosen = signature
        return chosen if instructions is None else chosen.with_instructions(instructions)
    check_names(signature_name, custom_types)
    if isinstance(signature, str):
        fields = parse_signature(signature, custom_types, trusted=trusted)
    elif isinstance(signature, Mapping):
        fields = {name: _given_field(name, value) for name, value in signature.items()}
    else:
        raise ConfigTypeError(f"a signature is a string, a class or a dict of fields; got {type(signature).__name__}")
    if instructions is None:
        instructions = default_instructions(fields)
    return _build(signature_name, fields, instructions, _module_of_caller())


def _given_field(name: Any, value: Any) -> FieldInfo:
    kind, field = value if isinstance(value, tuple) and len(value) == 2 else (None, value)
    check_field(name, field)
    side_of(field)
    return complete_field(name, field, _type(kind) if kind is not None else (field.annotation or str))


def _type(kind: Any) -> Any:
    """Return a type; one that is given as text as in the string form."""
    return parse_type(kind) if isinstance(kind, str) else kind


def _build(name: str, fields: Mapping[str, FieldInfo], instructions: str, module: str) -> type[Signature]:
    namespace = {"__doc__": words_of(instructions), "__module__": module, "_ready_fields": dict(fields)}
    return cast("type[Signature]", SignatureMeta(name, (Signature,), namespace))


def _derive(cls: SignatureMeta, fields: Mapping[str, FieldInfo], instructions: str) -> type[Signature]:
    return _build(cls.__name__, fields, instructions, cls.__module__)


def _ordered(fields: Mapping[str, FieldInfo]) -> dict[str, FieldInfo]:
    inputs = {name: field for name, field in fields.items() if side_of(field) == "input"}
    return {**inputs, **{name: field for name, field in fields.items() if name not in inputs}}


def _own_annotations(cls: SignatureMeta, declared: Mapping[str, FieldInfo]) -> dict[str, Any]:
    annotations: dict[str, Any] = dict(inspect.get_annotations(cls))
    for name, kind in annotations.items():
        if name in declared or "ClassVar" in str(kind) or (name.startswith("_") and name not in declared):
            continue
        raise ConfigTypeError(
            f"field {name!r} of signature {cls.__name__} is a plain annotation; "
            f"write `{name}: ... = InputField()` or `= OutputField()`"
        )
    return annotations


def _own_fields(
    cls: SignatureMeta, declared: Mapping[str, FieldInfo], annotations: Mapping[str, Any]
) -> dict[str, FieldInfo]:
    fields: dict[str, FieldInfo] = {}
    for name, field in declared.items():
        try:
            side_of(field)
        except ConfigTypeError as error:
            raise ConfigTypeError(f"field {name!r} of signature {cls.__name__}: {error}") from None
        if name in annotations:
            fields[name] = complete_field(name, field, resolved(cls, name, annotations[name]))
        else:
            untyped = copy_field(field)
            extras(untyped)[UNDEFINED_TYPE] = True
            fields[name] = complete_field(name, untyped, str)
    return fields


def _module_of_caller() -> str:
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__") == __name__:
        frame = frame.f_back
    return str(frame.f_globals.get("__name__", __name__))


# The base comes last: its metaclass needs everything above. Its docstring would be inherited as
# instructions, so it has an empty one; what it would say stands at the top of the file.
class Signature(metaclass=SignatureMeta):
    """"""

    def __init__(self, /, **values: Any) -> None:
        """Hold values of the fields; see `instances.checked`."""
        self.__dict__.update(checked(type(self).__name__, type(self)._fields, values))

    def __repr__(self) -> str:
        """Show the values."""
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in self.__dict__.items())})"

    def __eq__(self, other: object) -> bool:
        """Tell whether `other` holds the same values for the same signature."""
        return type(self) is type(other) and self.__dict__ == other.__dict__

    __hash__ = None  # type: ignore[assignment]
