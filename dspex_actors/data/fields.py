"""An example as two dicts: what the program is given (inputs), and what the metric compares with (labels)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dspex_actors.errors import ConfigError
from dspex_actors.example import Example, parted
from dspex_actors.foundation.codec import CodecError, Objects, pack, unpack


def split(item: Any, input_names: Sequence[str] | None = None) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the inputs and the labels of an example.

    Args:
        item: an Example, or any mapping of fields.
        input_names: the fields that the program takes; None leaves it to the example's own `with_inputs`,
            and for a plain mapping makes every field an input.

    Raises:
        ConfigError: it is no mapping, or a field of `input_names` is not there; says which, and what is
            there.
    """
    if input_names is None and not isinstance(item, dict):
        own = getattr(item, "inputs", None)
        if callable(own):
            return _own_split(item)
    fields = _fields(item)
    if input_names is None:
        return fields, {}
    try:
        inputs = {name: fields.pop(name) for name in input_names}
    except KeyError as error:
        there = ", ".join(map(str, fields)) or "nothing"
        raise ConfigError(f"no field {error.args[0]!r}, an input of the program; it has: {there}") from None
    return inputs, fields


def pack_example(item: Any, input_names: Sequence[str] | None = None) -> bytes:
    """Return the example as bytes: the form it has in spools, chunks of work and the journal."""
    inputs, labels = split(item, input_names)
    return pack([inputs, labels])


def unpack_example(data: bytes, *, objects: Objects = "show") -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the inputs and the labels that `pack_example` put together.

    Args:
        data: what `pack_example` returned.
        objects: what becomes of pickled objects; see `codec.unpack`.

    Raises:
        CodecError: the bytes are something else.
    """
    found = unpack(data, objects=objects)
    if not (isinstance(found, list) and len(found) == 2 and all(isinstance(part, dict) for part in found)):
        raise CodecError(f"expected a packed example (inputs and labels), got a packed {type(found).__name__}")
    return found[0], found[1]


def _fields(item: Any) -> dict[str, Any]:
    if isinstance(item, dict):
        return dict(item)
    if isinstance(item, Mapping) or callable(getattr(item, "items", None)):
        return dict(item.items())
    raise ConfigError(f"expected an Example or a dict of fields, got {type(item).__name__}")


def _own_split(item: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    try:
        if type(item) is Example:
            return parted(item)
        return _fields(item.inputs()), _fields(item.labels())
    except ValueError as error:
        raise ConfigError(f"an Example without inputs: say which with .with_inputs(...) ({error})") from error
