"""Every validator of arguments and specs. Each raises SpecError, in one shape of words, for what is not legal.

Those of seconds and texts return what they have checked as plain data: a scalar of numpy's as a number, a StrEnum as
text, endless seconds as many. Use what they return.
"""

from __future__ import annotations

import numbers
from collections.abc import Collection
from itertools import chain
from typing import Any, Literal

from supervisors.terms.errors import ChildNotFound, SpecError
from supervisors.terms.ref import Ref
from supervisors.terms.showing import shown
from supervisors.terms.via import Via

#: Whom a call, a cast or a question is for: a process, or a name that is registered.
Target = Ref | str | Via

#: More parts than this has no key, group or registered value.
MAX_PARTS = 1_000_000
_CONTAINERS = (list, tuple, set, frozenset, dict)

#: What is longer, in seconds, is as long as this (23 days): timers of the system count milliseconds in 32 bits.
MAX_SECONDS = 2_000_000.0

#: How long a process gets to stop before it is killed.
Shutdown = float | int | Literal["brutal_kill", "infinity"] | None


def is_number(value: Any) -> bool:
    """Whether `value` is a number (one of numpy's too): no bool, no NaN."""
    return isinstance(value, numbers.Real) and not isinstance(value, bool) and bool(value == value)


def is_text(value: Any) -> bool:
    """Whether `value` is a text that can be written: not empty, and no half of a surrogate pair in it."""
    if not isinstance(value, str) or not value:
        return False
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            return False
    return True


def _seconds(value: Any) -> float:
    """Return a legal number of seconds as a plain number that every clock and timer takes."""
    return MAX_SECONDS if value > MAX_SECONDS else value if type(value) in (int, float) else float(value)


def is_count(value: Any) -> bool:
    """Whether `value` is a whole number that is not negative, and no bool."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def check_number(name: str, value: Any, least: float, most: float | None = None) -> None:
    """Refuse what is no number from `least` to `most` (None: no limit)."""
    if not is_number(value) or value < least or (most is not None and value > most):
        raise SpecError.of(name, value, f"a number >= {least:g}" if most is None else f"{least:g} to {most:g}")


def check_count(name: str, value: Any, least: int = 0, most: int | None = None, optional: bool = False) -> None:
    """Refuse what is no whole number from `least` to `most` (None: no limit); `optional`: None is fine too."""
    if value is None and optional:
        return
    if not is_count(value) or value < least or (most is not None and value > most):
        legal = f"a whole number >= {least}" if most is None else f"a whole number from {least} to {most}"
        raise SpecError.of(name, value, legal + (" or None" if optional else ""))


def check_seconds(name: str, value: Any, positive: bool = False, optional: bool = False) -> Any:
    """Return a time in seconds; refuse what is none. `positive`: 0 is none; `optional`: None is one too."""
    if value is None and optional:
        return None
    if not is_number(value) or value < 0 or (positive and value == 0):
        raise SpecError.of(name, value, f"seconds {'> 0' if positive else '>= 0'}" + (" or None" if optional else ""))
    return _seconds(value)


def check_timeout(timeout: Any, name: str = "timeout") -> float | None:
    """Return a time to wait; infinite seconds are None, no limit.

    Raises:
        SpecError: neither None nor a number of seconds that is not negative.
    """
    if timeout is None:
        return None
    if not is_number(timeout) or timeout < 0:
        raise SpecError.of(name, timeout, "seconds >= 0, or None for no limit")
    return None if timeout == float("inf") else _seconds(timeout)


def check_shutdown(shutdown: Any, optional: bool = True) -> Shutdown:
    """Return a way to stop a process; refuse what is none. `optional`: None, the default, is one."""
    if shutdown is None and optional:
        return None
    if isinstance(shutdown, str) and shutdown in ("brutal_kill", "infinity"):
        return "infinity" if shutdown == "infinity" else "brutal_kill"
    if not is_number(shutdown) or shutdown < 0:
        legal = (
            'seconds >= 0, "brutal_kill", "infinity" or None'
            if optional
            else 'seconds >= 0, "brutal_kill" or "infinity"'
        )
        raise SpecError.of("shutdown", shutdown, legal)
    return "infinity" if shutdown == float("inf") else _seconds(shutdown)


def check_flag(name: str, value: Any) -> None:
    """Refuse what is neither True nor False."""
    if not isinstance(value, bool):
        raise SpecError.of(name, value, "True or False")


def check_choice(name: str, value: Any, choices: Collection[str]) -> None:
    """Refuse what is not one of these words."""
    if not isinstance(value, str) or value not in choices:
        raise SpecError.of(name, value, "one of " + ", ".join(choices))


def check_address(name: str, value: Any) -> str:
    """Return the address of a node; refuse what is none."""
    host, _, port = value.rpartition(":") if isinstance(value, str) else ("", "", "")
    if not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise SpecError.of(name, value, "HOST:PORT, the address of a node of the cluster")
    return str(value)


def check_text(name: str, value: Any) -> str:
    """Return a text; refuse what is none, or an empty one."""
    if not is_text(value):
        raise SpecError.of(name, value, "a non-empty text without lone surrogates")
    return str.__str__(value)


def check_texts(name: str, value: Any) -> tuple[str, ...]:
    """Return non-empty texts as a tuple; refuse a single text, and anything else."""
    if not isinstance(value, tuple | list) or not all(map(is_text, value)):
        raise SpecError.of(name, value, "a list of non-empty texts")
    return tuple(str.__str__(each) for each in value)


def check_name(value: Any, name: str = "name", optional: bool = True) -> Any:
    """Return what a process can be registered under; refuse the rest. `optional`: None, no name, is fine too."""
    if isinstance(value, Via) or (value is None and optional):
        return value
    if not is_text(value):
        legal = "a non-empty text without lone surrogates, or a Via" + (", or None" if optional else "")
        raise SpecError.of(name, value, legal)
    return str.__str__(value)


def check_target(target: Any, name: str = "target") -> None:
    """Refuse what is no process: before anything is sent, at the caller."""
    if not isinstance(target, Ref | Via) and not is_text(target):
        raise SpecError.of(name, target, "a Ref, a registered name (a non-empty text) or a Via")


def check_ref(ref: Any, name: str = "target") -> None:
    """Refuse what is not the Ref of a process."""
    if not isinstance(ref, Ref):
        raise SpecError.of(name, ref, "the Ref of a process")


def check_child(child: Any) -> str | Ref:
    """Return what names a child of a supervisor.

    Raises:
        ChildNotFound: it is neither an id nor a Ref, so no child has it.
    """
    if not isinstance(child, str | Ref):
        raise ChildNotFound(f"no child {shown(child, 100)}: expected the id of a child (a text), or its Ref")
    return child


def check_function(name: str, value: Any, optional: bool = False) -> None:
    """Refuse what cannot be called; `optional`: None is fine too."""
    if not callable(value) and not (value is None and optional):
        raise SpecError.of(name, value, "a function" + (" or None" if optional else ""))


def check_size(name: str, value: Any) -> None:
    """Refuse a value of so many parts that nobody could compare it; a part that is shared counts wherever it is met."""
    level, parts = [value], 0
    while level:
        held = [each for each in level if isinstance(each, _CONTAINERS)]
        parts += len(level)
        if parts + sum(map(len, held)) > MAX_PARTS:
            raise SpecError.of(name, value, f"a value of at most {MAX_PARTS:,} parts")
        level = list(chain.from_iterable(held))
        for each in held:
            if isinstance(each, dict):
                level += each.values()


def check_keywords(function: str, given: Collection[str], known: Collection[str]) -> None:
    """Refuse keyword arguments that a function does not know."""
    for each in given:
        if each not in known:
            raise SpecError.of(f"{function}({each}=...)", each, "one of the further arguments " + ", ".join(known))
