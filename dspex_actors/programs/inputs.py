"""The inputs of a call: defaults are added, and what looks wrong is warned about. The call goes on all the same, as
DSPy's does: the LM may make sense of it.
"""

from __future__ import annotations

import logging
import types
import typing
import weakref
from collections.abc import Container, Mapping
from functools import lru_cache
from typing import Any

from pydantic.fields import FieldInfo

from dspex_actors.adapters.given import given as as_typed
from dspex_actors.adapters.types import type_name
from dspex_actors.signatures.fields import UNDEFINED_TYPE, extras
from dspex_actors.signatures.signature import SignatureMeta
from dspex_actors.signatures.validating import validated

_log = logging.getLogger(__name__)

#: Warnings given already, per signature: a hundred thousand examples with the same flaw are worth one line.
_warned: weakref.WeakKeyDictionary[SignatureMeta, set[str]] = weakref.WeakKeyDictionary()


def with_defaults(
    signature: SignatureMeta, fields: Mapping[str, FieldInfo], given: Mapping[str, Any], *, warn_on_type_mismatch: bool
) -> dict[str, Any]:
    """Return the inputs with their defaults, and in types of ours where fields have them.

    Inputs that are missing, unknown or of a wrong type are warned about.

    Args:
        signature: what is called.
        fields: its input fields.
        given: the call's inputs by name.
        warn_on_type_mismatch: the setting.

    Raises:
        ConfigValueError: an input of a type of ours (an Image, a Tool ...) is none, or a validator refuses it.
    """
    inputs = dict(given)
    if given.keys() != fields.keys():
        inputs = _completed(signature, fields, given)
    typed = signature._typed[0]
    for name, field in typed.items() if typed else ():
        if name in inputs:
            inputs[name] = as_typed(signature.__name__, name, field, inputs[name])
    if signature._validated:
        for name, field in signature._validated.items():
            if name in inputs:
                inputs[name] = validated(signature.__name__, name, field, inputs[name])
    if warn_on_type_mismatch:
        for name, field in fields.items():
            value = inputs.get(name)
            if value is not None and not fits(value, field.annotation) and UNDEFINED_TYPE not in extras(field):
                kind = type(value).__name__
                _warn(
                    signature,
                    f"Type mismatch for field '{name}': expected {type_name(field.annotation)}, got {kind}; "
                    "sent as it is",
                )
    return inputs


def _completed(signature: SignatureMeta, fields: Mapping[str, FieldInfo], given: Mapping[str, Any]) -> dict[str, Any]:
    """Return inputs that are not those of the signature with the defaults of what is missing."""
    inputs = {
        name: field.get_default(call_default_factory=True)
        for name, field in fields.items()
        if name not in given and not field.is_required()
    }
    inputs.update(given)
    if missing := missing_in(fields, inputs):
        _warn(signature, f"Not all input fields were provided. Missing: {missing}; the prompt goes without")
    extra = [name for name in inputs if name not in fields]
    if extra:
        _warn(signature, f"Input fields not in signature: {extra}; the prompt goes without")
    return inputs


def missing_in(fields: Mapping[str, FieldInfo], given: Container[str]) -> list[str]:
    """Return the inputs that are not given, and that neither have a default nor may be None."""
    return [
        name
        for name, field in fields.items()
        if name not in given and field.is_required() and not _allows_none(field.annotation)
    ]


def fits(value: Any, annotation: Any) -> bool:
    """Tell whether a value is of a type, members of containers too; in doubt yes.

    A list of texts fits `str`: it becomes passages. True and False are no numbers, although Python counts with them:
    who gives one for a number has mistaken a field.
    """
    if type(value) is annotation:
        return True
    if isinstance(value, bool) and annotation in (int, float, complex):
        return False
    if annotation is str and isinstance(value, list):
        return all(isinstance(item, str) for item in value)
    if annotation is float:
        return isinstance(value, int | float)
    try:
        origin, arguments = _parts(annotation)
    except TypeError:
        return True  # not hashable, such as a Literal of a list
    if origin is None:
        return _is_instance(value, arguments[0])
    if origin in (typing.Union, types.UnionType):
        return any(fits(value, part) for part in arguments)
    if origin is typing.Literal:
        return value in arguments
    if origin is typing.Annotated:
        return fits(value, arguments[0])
    return _is_instance(value, origin) and _members_fit(value, origin, arguments)


@lru_cache(maxsize=1024)
def _parts(annotation: Any) -> tuple[Any, tuple[Any, ...]]:
    """Return a type's origin and arguments; of a plain type None, and what a value has to be an instance of."""
    origin = typing.get_origin(annotation)
    if origin is not None:
        return origin, typing.get_args(annotation)
    return None, (dict if typing.is_typeddict(annotation) else getattr(annotation, "__supertype__", annotation),)


def _is_instance(value: Any, kind: Any) -> bool:
    if kind is None:
        return value is None
    if not isinstance(kind, type):
        return True
    try:
        return isinstance(value, kind)
    except TypeError:
        return True  # a protocol, for example: it does not say


def _members_fit(value: Any, origin: Any, arguments: tuple[Any, ...]) -> bool:
    if origin is tuple and arguments[1:] != (...,):
        return len(value) == len(arguments) and all(map(fits, value, arguments))
    if origin in (list, set, frozenset, tuple) and arguments:
        kind = arguments[0]
        return all(type(item) is kind or fits(item, kind) for item in value)
    if origin is dict and len(arguments) == 2:
        return all(fits(name, arguments[0]) and fits(item, arguments[1]) for name, item in value.items())
    return True


def _allows_none(annotation: Any) -> bool:
    return types.NoneType in typing.get_args(annotation)


def _warn(signature: SignatureMeta, message: str) -> None:
    known = _warned.setdefault(signature, set())
    if message not in known:
        known.add(message)
        _log.warning("%s: %s", signature.__name__, message)
