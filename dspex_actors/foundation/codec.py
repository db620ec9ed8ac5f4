"""Values as bytes: what example fields and predictions are in messages, in the journal and in spools.

The format is msgpack. Plain JSON-like data is packed by one call into C. What msgpack has no word for
gets an extension type of its own (tuple, set, dates, Decimal, integers over 64 bits); anything else
(pydantic models, enums, dataclasses, objects of the user's) goes by cloudpickle as the last resort, together
with the name of its type and a plain view of it. Classes of the user's script are only named in it: the code of
those that stand in a dataset is gathered (`gathering_classes`) and sent once per run.

Pickled bytes can run code when they are loaded, so `unpack` loads them only for a caller that says it
trusts where they come from (a worker that got them over the cluster's own link). Everybody else, such as
the CLI reading a journal, gets an `Opaque`: the type's name and the plain view, and nothing is run.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import enum
import importlib
import json
import math
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from decimal import Decimal
from functools import partial
from typing import Any, Literal, get_args

import msgpack  # type: ignore[import-untyped,unused-ignore]
import orjson
from pydantic import BaseModel

from dspex_actors.errors import DspexError
from dspex_actors.foundation import moved
from supervisors.wire import pickles

_TUPLE, _SET, _FROZENSET, _DATETIME, _DATE, _TIME, _DECIMAL, _INT, _OBJECT, _TYPED = range(1, 11)
#: Where the classes are whose values have a form of their own: `__dspex_plain__` and `_from_plain`, no pickle.
_TYPES = "dspex_actors.types."
_TEXT_LIMIT = 500
#: How msgpack begins an extension of type `_OBJECT`, of any length.
_LIKE_AN_OBJECT = re.compile(rb"\xc7.\x09|\xc8..\x09|\xc9....\x09|[\xd4-\xd8]\x09", re.DOTALL)
#: Arrays of numpy's with so many items, or more, are shown by their repr.
_ARRAY_LIMIT = 1000

#: What becomes of pickled objects: an `Opaque` is shown in their place; they are loaded (an error where that is not
#: possible); loaded where that is possible and shown where not; or refused.
Objects = Literal["show", "load", "try", "refuse"]

_gathered: ContextVar[set[type] | None] = ContextVar("dspex_gathered_classes", default=None)


class CodecError(DspexError):
    """A value cannot be turned into bytes, or bytes are not what `pack` made."""


class HoldsObjects(Exception):
    """Bytes that were not to hold pickled objects do."""


@contextmanager
def gathering_classes() -> Iterator[set[type]]:
    """Gather the classes of the user's script, or of a module beside it, of all objects that are packed in the `with`.

    Whoever unpacks the objects elsewhere has to be sent these, by `pickles.dumps`, first.

    Yields:
        The classes, as they are found.
    """
    classes: set[type] = set()
    token = _gathered.set(classes)
    try:
        yield classes
    finally:
        _gathered.reset(token)


@dataclasses.dataclass(frozen=True, slots=True)
class Opaque:
    """Stand-in for an object whose pickle was not loaded: its origin is not trusted, or its class is not here.

    Args:
        type: the dotted name of the object's class.
        plain: what it holds, as JSON-like data where the type has such a view, else its `repr`, shortened.
    """

    type: str
    plain: Any

    def __str__(self) -> str:
        """Return the plain view as text, so that a table or a report shows what was in it."""
        return str(self.plain)


def pack(value: Any) -> bytes:
    """Return `value` as bytes.

    Args:
        value: JSON-like data, the types listed at the top of this module, or anything that cloudpickle takes.

    Raises:
        CodecError: nothing can pack it (a lock, an open file, a generator); says which type.
    """
    try:
        # strict_types: a tuple must come back as a tuple, and an Enum that is also a str as itself.
        return _packb(value)
    except UnicodeEncodeError:
        # JSON may hold half of a surrogate pair; rare, so only then the slower encoder.
        return _packb(value, unicode_errors="surrogatepass")
    except (ValueError, RecursionError, OverflowError):  # too deep for msgpack, or over 4 GB
        return bytes(msgpack.packb(_by_pickle(value), use_bin_type=True))


def unpack(data: bytes, *, objects: Objects = "show") -> Any:
    """Return the value that `pack` made the bytes from.

    Args:
        data: what `pack` returned.
        objects: what becomes of pickled objects; anything but "show" and "refuse" only where user code may run.

    Raises:
        CodecError: the bytes are cut short or were never made by `pack`, or an object cannot be loaded.
        HoldsObjects: they hold an object, and `objects` is "refuse".
    """
    try:
        return msgpack.unpackb(data, ext_hook=_HOOKS[objects], strict_map_key=False, unicode_errors="surrogatepass")
    except (CodecError, HoldsObjects):
        raise
    except Exception as error:
        # msgpack's own errors, a wrong Decimal, a class that is gone: to the caller all the same.
        text = f"{type(error).__name__}: {error}"
        raise CodecError(f"these {len(data):,} bytes are not a packed value: {text}") from error


def may_hold_objects(data: bytes) -> bool:
    """Whether something in what `pack` made went by pickle: then the same value has other bytes in another process.

    Never False where it did; now and then True where bytes only look like it.
    """
    return _LIKE_AN_OBJECT.search(data) is not None


def to_plain(value: Any) -> Any:
    """Return the value as JSON has it: dicts with text keys, lists, text, finite numbers, booleans, None.

    Tuples and sets become lists, dates ISO text, Decimal and bytes text, models their fields, an `Opaque`
    its view.
    """
    if value is None or type(value) in (str, bool, int):
        return value
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else str(value)
    if isinstance(value, dict):
        return {k if type(k) is str else str(to_plain(k)): to_plain(item) for k, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_plain(item) for item in value]
    if isinstance(value, (set, frozenset)):
        return [to_plain(item) for item in _ordered(value)]
    return _plain_object(value)


def json_text(value: Any) -> str:
    """Return plain data as JSON text, also where it has integers over 64 bits or half surrogate pairs."""
    try:
        return orjson.dumps(value).decode()
    except TypeError:
        return json.dumps(value, allow_nan=False)


def _plain_object(value: Any) -> Any:
    if isinstance(value, Opaque):
        return value.plain
    if plain := getattr(type(value), "__dspex_plain__", None):
        return to_plain(plain(value))
    if isinstance(value, enum.Enum):
        return to_plain(value.value)
    if isinstance(value, BaseModel):
        return to_plain(value.model_dump())
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: to_plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, (dt.datetime, dt.date, dt.time)):
        return value.isoformat()
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(value).decode("utf-8", "backslashreplace")
    for kind in (int, str):
        if isinstance(value, kind):
            return kind(value)
    if callable(getattr(value, "toDict", None)):
        return to_plain(value.toDict())  # an Example in an Example
    if type(value).__module__ == "numpy" and getattr(value, "size", _ARRAY_LIMIT) < _ARRAY_LIMIT:
        return to_plain(value.tolist())
    return str(value) if isinstance(value, Decimal) else _shortened(value)


def _packb(value: Any, **options: Any) -> bytes:
    # msgpack's own buffer is a megabyte, which the kernel gives and takes back each time.
    return bytes(msgpack.packb(value, default=_default, strict_types=True, use_bin_type=True, buf_size=1024, **options))


def _default(value: Any) -> Any:
    kind = type(value)
    make = _MAKERS.get(kind)
    if make:
        return make(value)
    if kind.__module__.startswith(_TYPES) and hasattr(kind, "_from_plain"):
        name = f"{kind.__module__}:{kind.__qualname__}"
        return msgpack.ExtType(_TYPED, msgpack.packb([name, pack(value.__dspex_plain__())]))
    return _by_pickle(value)


def _ext(code: int, payload: Any) -> msgpack.ExtType:
    return msgpack.ExtType(code, pack(payload))


def _text(code: int, text: str) -> msgpack.ExtType:
    return msgpack.ExtType(code, text.encode())


_MAKERS: dict[type, Callable[[Any], Any]] = {
    tuple: lambda value: _ext(_TUPLE, list(value)),
    set: lambda value: _ext(_SET, _ordered(value)),
    frozenset: lambda value: _ext(_FROZENSET, _ordered(value)),
    dt.datetime: lambda value: _pickled_zone(value) or _text(_DATETIME, value.isoformat()),
    dt.date: lambda value: _text(_DATE, value.isoformat()),
    dt.time: lambda value: _pickled_zone(value) or _text(_TIME, value.isoformat()),
    Decimal: lambda value: _text(_DECIMAL, str(value)),
    # Hexadecimal: decimal text of more than 4,300 digits is refused by int().
    int: lambda value: _text(_INT, format(value, "x")),
}


def _pickled_zone(value: dt.datetime | dt.time) -> msgpack.ExtType | None:
    # ISO text keeps the offset but not the zone's name: a ZoneInfo travels whole, and fold with it.
    if not (value.tzinfo is None or isinstance(value.tzinfo, dt.timezone)):
        return _by_pickle(value)
    return None


def _ordered(value: Any) -> list[Any]:
    # Same set, same bytes: digests of datasets are made from packed rows, and hashes of text are salted.
    try:
        return sorted(value)
    except TypeError:
        return sorted(value, key=repr)


def _by_pickle(value: Any) -> msgpack.ExtType:
    kind, gathered = type(value), _gathered.get()
    try:
        pickled, classes = pickles.dumps_naming(value, every=gathered is not None)
    except Exception as error:
        raise CodecError(f"a {kind.__module__}.{kind.__qualname__} cannot be packed: {error}") from error
    if gathered is not None:
        gathered.update(classes)
    try:
        plain = to_plain(value)
        view = msgpack.packb(plain, use_bin_type=True, unicode_errors="surrogatepass")
    except Exception:
        # The view is a courtesy: a broken __repr__, or data too deep for it, must not lose the object.
        view = msgpack.packb(f"<{kind.__qualname__}>", use_bin_type=True)
    return msgpack.ExtType(_OBJECT, msgpack.packb([f"{kind.__module__}.{kind.__qualname__}", view, pickled]))


def _shortened(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _TEXT_LIMIT else text[:_TEXT_LIMIT] + "…"


def _ext_hook(objects: Objects, code: int, data: bytes) -> Any:
    match code:
        case 1:
            return tuple(unpack(data, objects=objects))
        case 2:
            return set(unpack(data, objects=objects))
        case 3:
            return frozenset(unpack(data, objects=objects))
        case 4:
            return dt.datetime.fromisoformat(data.decode())
        case 5:
            return dt.date.fromisoformat(data.decode())
        case 6:
            return dt.time.fromisoformat(data.decode())
        case 7:
            return Decimal(data.decode())
        case 8:
            return int(data.decode(), 16)
        case 9:
            return _object(objects, data)
        case 10:
            return _typed(objects, data)
    raise CodecError(f"extension type {code} is unknown: written by a newer version, or not by dspex")


_HOOKS = {name: partial(_ext_hook, name) for name in get_args(Objects)}


def _object(objects: Objects, data: bytes) -> Any:
    if objects == "refuse":
        raise HoldsObjects
    name, view, pickled = msgpack.unpackb(data)
    if objects == "load":
        return moved.loads(pickled)
    if objects == "try":
        try:
            return moved.loads(pickled)
        except Exception:  # its class is gone, or is of another script
            return _shown(name, view)
    return _shown(name, view)


def _typed(objects: Objects, data: bytes) -> Any:
    """Return a value of a type of ours; where its module is not loaded, and no user code may run, what it holds."""
    name, held = msgpack.unpackb(data)
    plain = unpack(held, objects=objects)
    module, _, qualname = name.partition(":")
    if module.startswith(_TYPES) and qualname.isidentifier():
        found = sys.modules.get(module) or (importlib.import_module(module) if objects in ("load", "try") else None)
        if found is not None:
            return getattr(found, qualname)._from_plain(plain)
    return _opaque(name.replace(":", "."), plain)


def _shown(name: str, view: bytes) -> Opaque:
    plain = msgpack.unpackb(view, strict_map_key=False, unicode_errors="surrogatepass")
    return _opaque(name, plain)


def _opaque(name: str, plain: Any) -> Opaque:
    return _HashableOpaque(name, plain) if isinstance(plain, (dict, list)) else Opaque(name, plain)


class _HashableOpaque(Opaque):
    """An `Opaque` over a dict or list: it may stand in a set, or be a key, where the real object did."""

    __slots__ = ()

    def __hash__(self) -> int:
        return hash((self.type, str(self.plain)))
