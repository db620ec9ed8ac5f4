"""Messages of a program's own as values: dataclasses that travel by number, without a pickle.

A frozen dataclass that is no plain data is pickled when it is sent, which costs tens of microseconds and ties both ends
to one layout of the class. One that has a number travels as that, its version and its fields.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass
from operator import attrgetter
from typing import Any, TypeVar

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


@dataclass(frozen=True, slots=True)
class Letter:
    """How a class travels."""

    cls: type
    number: int
    version: int
    #: Returns the fields of a message, in order.
    read: Callable[[Any], Any]
    #: Makes one of its fields, in order.
    make: Callable[..., Any]


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
        names = [item.name for item in fields(cls)]
        named = any(item.kw_only for item in fields(cls))
        letter = Letter(
            cls=cls,
            number=number,
            version=getattr(cls, "VERSION", 1),
            read=attrgetter(*names) if len(names) > 1 else lambda value: [getattr(value, name) for name in names],
            make=(lambda *values: cls(**dict(zip(names, values, strict=True)))) if named else cls,
        )
        _letters[cls] = _by_number[number] = letter
        return cls

    return register


def letter_of(cls: type) -> Letter | None:
    """Return how a class travels; None: not by number."""
    return _letters.get(cls)


def opened(number: int, version: int, values: list[Any]) -> Any:
    """Return the message of a number."""
    letter = _by_number.get(number)
    if letter is None or letter.version != version:
        return UnknownMessage(number, version, None if letter is None else letter.cls.__qualname__)
    return letter.make(*values)
