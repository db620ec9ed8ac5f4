"""Whether the outputs of a signature can be read: looked at where a program is made, before a call is paid."""

from __future__ import annotations

import typing
from collections.abc import Callable, Mapping

from pydantic import PydanticUndefinedAnnotation, PydanticUserError
from pydantic.fields import FieldInfo
from pydantic_core import SchemaError

from dspex_actors.adapters.types import type_name
from dspex_actors.adapters.values import Parser, parser_for
from dspex_actors.foundation.config_errors import ConfigTypeError, ConfigValueError

#: What is said of a type that names another one which is not there yet; it may be when the program is called.
_NOT_YET = ("class-not-fully-defined", "undefined-annotation")


def parsers_of(signature: str, outputs: Mapping[str, FieldInfo]) -> dict[str, Parser]:
    """Return how each output of a signature is read.

    Args:
        signature: what it is called, for the error.
        outputs: its outputs.

    Raises:
        ConfigError: an output has a type that no answer can be checked against, or a constraint that is none.
    """
    return {name: _parser(signature, name, field) for name, field in outputs.items()}


def check_outputs(signature: str, outputs: Mapping[str, FieldInfo]) -> None:
    """Refuse outputs that cannot be read; a type that is not defined yet may come.

    Raises:
        ConfigError: as of `parsers_of`.
    """
    for name, field in outputs.items():
        if field.annotation is not str or field.metadata:
            try:
                _parser(signature, name, field)
            except ConfigTypeError as error:
                if getattr(error.__cause__, "code", None) not in _NOT_YET:
                    raise


def _parser(signature: str, name: str, field: FieldInfo) -> Parser:
    kind, cause, why = field.annotation, None, ""
    origin = typing.get_origin(kind)
    is_none = kind in (None, type(None), Callable, typing.Callable) or origin is Callable
    try:
        if not is_none and (origin is not typing.Literal or typing.get_args(kind)):
            return parser_for(field)
    except SchemaError as error:
        why = " ".join(str(error).split())
        raise ConfigValueError(f"the constraints of output {name!r} of {signature} are invalid: {why:.200}") from None
    except (PydanticUserError, PydanticUndefinedAnnotation) as error:
        cause, why = error, f" ({str(error).splitlines()[0]:.160})"
    raise ConfigTypeError(
        f"the type of output {name!r} of {signature} is invalid: got {type_name(kind):.80}, expected one that answers "
        "can be checked against: a builtin one, an Enum, a dataclass, a pydantic model, or lists, dicts, unions of "
        f"them{why}"
    ) from cause
