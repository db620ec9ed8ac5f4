"""Messages of a program's own as values: dataclasses that travel by number, without a pickle.

A frozen dataclass that is no plain data is pickled when it is sent, which costs tens of microseconds and ties both ends
to one layout of the class. One that has a number travels as that, its version and its fields.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass
from operator import attrgetter
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from supervisors.terms.errors import SpecError

T = TypeVar("T")
_letters: dict[type, Letter] = {}
_by_number: dict[int, Letter] = {}


@dataclass(frozen=True, slots=True)
class UnknownMessage:
    """What a message opens as where its number is not known, or its version is another one.

    Args:
        number: the message's.
        version: the sender's.
        name: the class that has the number here; None: none has.
    """

    number: int
    version: int
    name: str | None = None


class Letter:
    """How a class travels.

    A field that is a list of such messages (`list[Row]`) travels as a table, without a wrapping for each of them.

    Args:
        cls: the dataclass.
        number: its number.
        version: the version of its fields.
    """

    def __init__(self, cls: type, number: int, version: int) -> None:
        """Look at its fields."""
        self.cls, self.number, self.version = cls, number, version
        self._names = [item.name for item in fields(cls)]
        hints = get_type_hints(cls)
        self._tables = [
            (place, letter)
            for place, name in enumerate(self._names)
            if get_origin(hints[name]) is list and (letter := _letters.get(get_args(hints[name])[0])) is not None
        ]
        self._read = attrgetter(*self._names) if len(self._names) > 1 else None
        self._by_name = any(item.kw_only for item in fields(cls))

    def read(self, value: Any) -> list[Any]:
        """Return the fields of a message, in order."""
        values = [getattr(value, name) for name in self._names] if self._read is None else list(self._read(value))
        for place, letter in self._tables:
            rows = values[place]
            if type(rows) is list and all(type(row) is letter.cls for row in rows):
                values[place] = [letter.version, [letter.read(row) for row in rows]]
            else:
                values[place] = [0, rows]  # something else in their place: each for itself
        return values

    def make(self, values: list[Any]) -> Any:
        """Return the message with these fields.

        Raises:
            LookupError: the rows of a table are of another version.
        """
        for place, letter in self._tables:
            version, rows = values[place]
            if version not in (0, letter.version):
                raise LookupError(f"rows of version {version}, expected {letter.version}")
            values[place] = letter.make_all(rows) if version else rows
        return self.cls(**dict(zip(self._names, values, strict=True))) if self._by_name else self.cls(*values)

    def make_all(self, rows: list[list[Any]]) -> list[Any]:
        """Return the messages of a table."""
        if self._tables or self._by_name:
            return [self.make(row) for row in rows]
        cls = self.cls
        return [cls(*row) for row in rows]


def message(number: int) -> Callable[[type[T]], type[T]]:
    """Have a dataclass travel by number: the same in every program, and never given to another class.

    Both ends import the class. Its class constant `VERSION` (1 where it has none) goes up whenever its fields change;
    whoever gets another version than its own finds an `UnknownMessage` in its place.

        @message(901)
        @dataclass(frozen=True, slots=True)
        class Results:
            VERSION: ClassVar[int] = 1
            run_id: str
            rows: list[Row]

    Fields are plain data and other such messages; with anything else in it the whole message is pickled, as ever. What
    stands in it twice arrives as two.

    Args:
        number: 1 or more; from 900 on they are free for everybody.

    Raises:
        SpecError: it is no number, or no dataclass, or the number is another class's.
    """
    if type(number) is not int or number < 1:
        raise SpecError.of("number", number, "a whole number, 1 or more")

    def register(cls: type[T]) -> type[T]:
        if not is_dataclass(cls):
            raise SpecError.of("message", cls, "a dataclass: put @message above @dataclass")
        there = _by_number.get(number)
        if there is not None and (there.cls.__module__, there.cls.__qualname__) != (cls.__module__, cls.__qualname__):
            raise SpecError.of("number", number, f"one that no other class has; this is {there.cls.__qualname__}'s")
        letter = Letter(cls, number, getattr(cls, "VERSION", 1))
        _letters[cls] = _by_number[number] = letter
        return cls

    return register


def letter_of(cls: type) -> Letter | None:
    """Return how a class travels; None: not by number."""
    return _letters.get(cls)


def opened(number: int, version: int, values: list[Any]) -> Any:
    """Return the message of a number."""
    letter = _by_number.get(number)
    if letter is not None and letter.version == version:
        with contextlib.suppress(LookupError):
            return letter.make(values)
    return UnknownMessage(number, version, None if letter is None else letter.cls.__qualname__)
