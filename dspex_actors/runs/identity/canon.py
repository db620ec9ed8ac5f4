"""Any value as a text that every process computes alike: no address, no order of a set, no pickle, no line number.

Plain data is told by its contents. The user's own functions are told by their source and all that they read (closure,
defaults, attributes, globals: helpers too); own classes by their source, that of their bases and their attributes;
objects by their class and attributes; what an installed package has by its name. Of what has no identity (a lock, a
connection, a generator) only the type is told.
"""

from __future__ import annotations

import datetime as dt
import enum
import functools
import hashlib
import io
import pathlib
import queue
import random
import re
import threading
import types
import typing
import uuid
import weakref
import zoneinfo
from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal
from fractions import Fraction
from typing import Any

import orjson
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from dspex_actors.lm.lm import LM
from dspex_actors.runs.identity.source import is_found_by_name, is_own, name_of, source_of, used_globals
from dspex_actors.signatures.fields import extras
from dspex_actors.signatures.signature import Signature

#: Longer texts are told by their digest.
LONG = 300
#: So many members, and plain data is told as JSON: ten times as fast.
MANY = 1000
_JSON = orjson.OPT_SORT_KEYS | orjson.OPT_PASSTHROUGH_SUBCLASS | orjson.OPT_PASSTHROUGH_DATACLASS
#: What programs, predictors and LMs note down while they run.
NOTES = frozenset(
    {
        "_compiled", "callbacks", "candidate_programs", "history", "mb_candidate_programs", "prompt_model_total_calls",
        "results_best", "results_latest", "total_calls", "train", "traces", "trial_logs",
    }
)  # fmt: skip


class Noted(float):
    """A number noted down on a program under a name that programs use themselves (`score`): no part of what it is."""

    #: Values of classes that say this are no part of what the program is on which they are noted down.
    is_noted = True


#: Members of classes that say nothing about what they do.
_QUIET = frozenset(
    {
        "__abstractmethods__", "__annotations__", "__dict__", "__doc__", "__firstlineno__", "__hash__", "__module__",
        "__orig_bases__", "__parameters__", "__qualname__", "__static_attributes__", "__slots__", "__weakref__",
        "__match_args__", "__dataclass_fields__", "__dataclass_params__", "_abc_impl", "__signature__",
        "__slotnames__",  # put in by the first copy or pickle of an object
    }
)  # fmt: skip
_BY_REPR = (
    dt.date, dt.time, dt.timedelta, dt.timezone, zoneinfo.ZoneInfo, Decimal, Fraction, uuid.UUID, range, slice, complex,
)  # fmt: skip
_WITHOUT = (
    types.GeneratorType, types.CoroutineType, types.AsyncGeneratorType, io.IOBase, threading.local, queue.Queue,
    random.Random, weakref.ref, type(threading.Lock()), type(threading.RLock()),
)  # fmt: skip


_CODE = (type, types.FunctionType, types.ModuleType)


def digest(text: str) -> str:
    """Return a short digest of a text."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def lm_parts(lm: LM) -> dict[str, Any]:
    """Return what of an LM changes its answers: model and parameters, its own and its fallbacks'.

    Where it runs, with which key, how fast and how long it may take are not part of it.
    """
    params = {name: _number(value) for name, value in lm.parameters.items()}
    parts: dict[str, Any] = {"model": lm.model, **params}
    for kind, others in (("", lm.fallbacks), ("context ", lm.context_fallbacks), ("content ", lm.content_fallbacks)):
        for number, other in enumerate(others or (), 1):
            found = {"model": other} if isinstance(other, str) else lm_parts(other)
            parts |= {f"{kind}fallback {number}'s {name}": value for name, value in found.items()}
    return parts


def _number(value: Any) -> Any:
    """Return 1 for 1.0: to every provider they are the same."""
    return int(value) if isinstance(value, float) and value.is_integer() and abs(value) < 2**53 else value


class Canon:
    """Tells values; one for a whole identity, so that what stands in many places is looked at once."""

    def __init__(self) -> None:
        """Start with nothing told."""
        # With the value: as long as it is here, nothing else has its address.
        self._told: dict[int, tuple[Any, str]] = {}
        self._inside: list[int] = []

    def text(self, value: Any) -> str:
        """Return the text of a value; a long one's digest."""
        plain = _plain(value)
        if plain is not None:
            return _short(plain)
        key = id(value)
        if key in self._told:
            return self._told[key][1]
        if key in self._inside:
            return f"^{len(self._inside) - self._inside.index(key)}"  # it holds itself
        self._inside.append(key)
        try:
            told = _short(self._compound(value))
        except RecursionError:
            told = f"deep {type(value).__qualname__}"
        finally:
            self._inside.pop()
        self._told[key] = (value, told)
        return told

    def passing(self, value: Any) -> str:
        """Return the text of a value that is one of very many: of what it is made of only the code is remembered."""
        told = self.text(value)
        self._told = {key: kept for key, kept in self._told.items() if isinstance(kept[0], _CODE)}
        return told

    def members(self, members: Mapping[Any, Any]) -> str:
        """Return the texts of keys and values, in an order that does not depend on theirs."""
        told = sorted(f"{self.text(name)}={self.text(value)}" for name, value in members.items())
        return "{" + ",".join(told) + "}"

    def _compound(self, value: Any) -> str:
        if isinstance(value, type):
            return self._class(value)
        contents = self._contents(value)
        if contents is not None:
            kind = type(value)
            if kind in (list, tuple, dict, set, frozenset, types.MappingProxyType):
                return contents
            return f"{self.text(kind)} {contents} {self.members(attributes_of(value) or {})}"
        for types_, tell in self._tellers():
            if isinstance(value, types_):
                return tell(value)
        if typing.get_origin(value) is not None:
            return self._generic(value)
        return self._object(value)

    def _contents(self, value: Any) -> str | None:
        """Return what a collection holds, or a text or number of a class of its own; None: it is neither."""
        if isinstance(value, list | dict) and len(value) >= MANY:
            told = _try(lambda: orjson.dumps(value, option=_JSON))
            if told is not None:
                return f"{len(value)} {hashlib.sha256(told).hexdigest()[:32]}"
        if isinstance(value, list | tuple):
            return f"{'list' if isinstance(value, list) else 'tuple'}[{','.join(map(self.text, value))}]"
        if isinstance(value, dict | types.MappingProxyType):
            return self.members(value)
        if isinstance(value, set | frozenset):
            return f"set[{','.join(sorted(map(self.text, value)))}]"
        kinds: tuple[Callable[[Any], Any], ...] = (int, float, str, bytes)
        return next((repr(kind(value)) for kind in kinds if isinstance(value, kind)), None)  # type: ignore[arg-type]

    def _tellers(self) -> Iterator[tuple[Any, Callable[[Any], str]]]:
        yield types.FunctionType, self.function
        yield types.MethodType, lambda value: f"method {self.text(value.__func__)} of {self.text(value.__self__)}"
        yield types.BuiltinFunctionType, self._builtin
        yield types.ModuleType, lambda value: f"module {value.__name__}"
        yield functools.partial, self._partial
        yield (staticmethod, classmethod), lambda value: f"{type(value).__name__} {self.text(value.__func__)}"
        yield property, lambda value: f"property {self.text([value.fget, value.fset])}"
        yield functools.cached_property, lambda value: f"property {self.text(value.func)}"
        yield LM, lambda value: f"LM {self.members(lm_parts(value))}"
        yield re.Pattern, lambda value: f"pattern {value.pattern!r} {value.flags}"
        yield _WITHOUT, lambda value: f"some {type(value).__qualname__}"

    # --- code -------------------------------------------------------------------------------------------------------

    def function(self, function: types.FunctionType) -> str:
        """Return the text of a function: source, and what it reads."""
        if not is_own(function):
            if is_found_by_name(function):
                return f"function {name_of(function)}"
            return f"function {name_of(function)} {self.members(self.held_by(function))}"
        return f"function {function.__name__} {source_of(function)} {self.members(self.read_by(function))}"

    def held_by(self, function: types.FunctionType) -> dict[str, Any]:
        """Return what a function holds besides its code, by what people call it."""
        held: dict[str, Any] = {}
        for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=False):
            try:
                held[f"closure value {name!r}"] = cell.cell_contents
            except ValueError:
                held[f"closure value {name!r}"] = None  # not set yet
        places = function.__code__.co_varnames[: function.__code__.co_argcount]
        defaults = function.__defaults__ or ()
        given = zip(places[len(places) - len(defaults) :], defaults, strict=False)
        for name, value in [*given, *(function.__kwdefaults__ or {}).items()]:
            held[f"default {name!r}"] = value
        for name, value in list(vars(function).items()):
            if name != "__wrapped__":  # it is in the closure too
                held[f"attribute {name!r}"] = value
        return held

    def read_by(self, function: types.FunctionType) -> dict[str, Any]:
        """Return what a function holds and which globals it reads, by what people call it."""
        found = self.held_by(function)
        for name, value in used_globals(function):
            kind = "helper" if isinstance(value, types.FunctionType | type) else "global"
            found[f"{kind} {name!r}"] = value
        return found

    def _builtin(self, value: Any) -> str:
        owner = value.__self__
        if owner is None or isinstance(owner, types.ModuleType | type):
            return f"function {name_of(value)}"
        return f"method {value.__name__} of {self.text(owner)}"

    def _partial(self, value: functools.partial[Any]) -> str:
        return f"partial {self.text(value.func)} {self.text(value.args)} {self.members(value.keywords)}"

    def _generic(self, value: Any) -> str:
        origin, args = typing.get_origin(value), typing.get_args(value)
        name = getattr(origin, "__qualname__", None) or str(origin)
        told = [self.text(arg) for arg in args]
        if name in ("Union", "UnionType", "typing.Union"):
            name, told = "Union", sorted(told)
        return f"{name}[{','.join(told)}]"

    # --- classes and objects ----------------------------------------------------------------------------------------

    def _class(self, cls: type) -> str:
        if issubclass(cls, Signature):
            return f"signature {self.text(cls.instructions)} {self.signature(cls)}"
        if not is_own(cls):
            return f"class {name_of(cls)}"
        parts = [f"class {cls.__qualname__.rpartition('.')[2]}", source_of(cls)]
        parts += [self.text(base) for base in cls.__bases__ if base is not object]
        if issubclass(cls, enum.Enum):
            parts.append(self.members({name: member.value for name, member in cls.__members__.items()}))
        elif issubclass(cls, BaseModel):
            parts.append(self.members({name: self._field(field) for name, field in cls.model_fields.items()}))
            parts.append(self.members({k: v for k, v in list(vars(cls).items()) if isinstance(v, types.FunctionType)}))
        else:
            parts.append(self.members({name: self._member(value) for name, value in _telling(cls)}))
        return " ".join(parts)

    def _member(self, value: Any) -> Any:
        # What it does stands in the source of its class, what it reads does not.
        return self.read_by(value) if isinstance(value, types.FunctionType) else value

    def _field(self, field: FieldInfo) -> list[Any]:
        default = "required" if field.is_required() else field.default_factory or field.default
        return [field.annotation, default, list(field.metadata), field.description]

    def signature(self, signature: type[Signature]) -> str:
        """Return the text of a signature's fields; its instructions are another part."""
        return self.text([[name, self._field(field), extras(field)] for name, field in signature.fields.items()])

    def _object(self, value: Any) -> str:
        cls = type(value)
        if isinstance(value, BaseModel):
            held = [vars(value), value.__pydantic_extra__, value.__pydantic_private__]
            return f"{self.text(cls)} {self.text(held)}"
        if _has_own(cls, "__reduce__", "__reduce_ex__"):
            return f"{self.text(cls)} {self._made_of(value)}"
        if _has_own(cls, "__getstate__"):
            return f"{self.text(cls)} {self.text(_try(value.__getstate__))}"
        attributes = attributes_of(value)
        if attributes is not None:
            return f"{self.text(cls)} {self.members(attributes)}"
        return f"{self.text(cls)} {self._made_of(value)}"

    def _made_of(self, value: Any) -> str:
        """Return the text of what would make the object anew; nothing where nothing would."""
        made = _try(lambda: value.__reduce_ex__(2))
        if not isinstance(made, tuple):
            return str(made or "")
        return self.text([list(part) if isinstance(part, Iterator) else part for part in made])


def _has_own(cls: type, *names: str) -> bool:
    return any(getattr(cls, name, None) is not getattr(object, name, None) for name in names)


def attributes_of(value: Any) -> dict[str, Any] | None:
    """Return an object's attributes without what it only keeps or notes down; None: it has no place for any."""
    bases = type(value).__mro__
    slots = [name for base in bases for name in _slots(base)]
    if not hasattr(value, "__dict__") and not slots:
        return None
    kept = {name for base in bases for name, one in vars(base).items() if isinstance(one, functools.cached_property)}
    found = {name: getattr(value, name) for name in slots if hasattr(value, name)} | getattr(value, "__dict__", {})
    return {
        name: one
        for name, one in found.items()
        if name not in kept and name not in NOTES and getattr(type(one), "is_noted", None) is not True
    }


def _slots(cls: type) -> list[str]:
    slots = cls.__dict__.get("__slots__", ())
    names = [slots] if isinstance(slots, str) else list(slots)
    return [name for name in names if name not in ("__dict__", "__weakref__")]


def _telling(cls: type) -> Iterator[tuple[str, Any]]:
    """Give the members of a class that say what it does."""
    for name, value in list(vars(cls).items()):  # other threads may add to it meanwhile
        descriptor = isinstance(value, types.MemberDescriptorType | types.GetSetDescriptorType)
        made = isinstance(value, types.FunctionType) and value.__code__.co_filename.startswith("<string>")
        if name not in _QUIET and not descriptor and not made:
            yield name, value


def _plain(value: Any) -> str | None:
    kind = type(value)
    if kind in (str, bytes) and len(value) > LONG:
        return f"{kind.__name__} {digest(value) if kind is str else hashlib.sha256(value).hexdigest()[:32]}"
    if kind in (bool, int, str, bytes, float, type(None), type(Ellipsis), type(NotImplemented)):
        return repr(value)
    if isinstance(value, enum.Enum):
        return f"{kind.__qualname__}.{value.name}"
    if isinstance(value, pathlib.PurePath):
        return f"path {value}"
    if isinstance(value, _BY_REPR):
        return repr(value)
    return None


def _short(text: str) -> str:
    return text if len(text) <= LONG else f"~{digest(text)}"


def _try(ask: Callable[[], Any]) -> Any:
    try:
        return ask()
    except Exception:
        return None
