"""Whether a value is a tree: then it travels as msgpack, else as one pickle, which keeps identity and cycles.

This is asked of every value that a user sends, so whole levels of it are looked at by functions of C.
"""

from __future__ import annotations

from collections.abc import Collection
from itertools import chain
from typing import Any

import msgpack

#: A value may be nested so deep; what is deeper is refused where it is sent.
MAX_DEPTH = 400
#: A tree so deep travels as msgpack, a deeper one as a pickle: to open a tuple of msgpack's takes stack.
PLAIN_DEPTH = 24
#: A tuple may be met twice, since nobody can tell; but a value is not blown up beyond so many parts by that.
MANY = 10_000
#: Texts and bytes so long are sent once, however often they are met.
LARGE = 4096
#: In a container that holds more than this, numbers are told by their sum.
FEW = 32

_TEXTS = frozenset((str, bytes))
_NUMBERS = frozenset((int, float))
_DICT = frozenset((dict,))
_MUTABLE = frozenset((list, dict, set))
_CONTAINERS = _MUTABLE | {tuple, frozenset}
#: What msgpack takes by itself and gives back as something else.
_DISGUISED = frozenset((bytearray, memoryview, msgpack.ExtType, msgpack.Timestamp))
_KNOWN = _TEXTS | _NUMBERS | _CONTAINERS | _DISGUISED | {bool, type(None)}


class TooDeep(ValueError):
    """A value is nested too deep to be sent."""

    def __init__(self) -> None:
        """Say how deep is too deep."""
        super().__init__(f"it is nested deeper than {MAX_DEPTH} levels")


def is_tree(value: Any) -> bool:
    """Return whether each list, dict and set of a value is met once, and each large text; and it is not very deep.

    Only plain containers are looked into; what else there is, packing finds out.

    Raises:
        TooDeep: it is nested beyond MAX_DEPTH.
    """
    kind = type(value)
    if kind not in _CONTAINERS:
        return kind not in _DISGUISED
    level = _held_by((value,), frozenset((kind,)))
    seen = {id(value)}
    texts: set[int] = set()
    parts = 1
    for depth in range(1, MAX_DEPTH + 1):
        kinds = frozenset(map(type, level))
        has_disguised, has_texts, held = _known_facts.get(kinds) or _facts(kinds)
        if has_disguised:
            return False
        if has_texts and (large := _large_texts(level, kinds)):
            ids = set(map(id, large))
            if len(ids) < len(large) or not texts.isdisjoint(ids):
                return False
            texts |= ids
        if not held:
            return depth <= PLAIN_DEPTH
        parts += len(level)
        inner = level if len(held) == len(kinds) else [each for each in level if type(each) in held]
        ids = set(map(id, inner))
        if (len(ids) < len(inner) or not ids.isdisjoint(seen)) and (parts > MANY or _a_mutable_twice(inner, seen)):
            return False
        seen |= ids
        level = _held_by(inner, held)
    raise TooDeep


#: Of the types of a level: whether there are disguised ones and texts among them, and which are containers.
_Facts = tuple[bool, bool, frozenset[type]]
#: Those of sets of known types: there are some thousand at most.
_known_facts: dict[frozenset[type], _Facts] = {}


def _facts(kinds: frozenset[type]) -> _Facts:
    held = kinds if kinds <= _CONTAINERS else kinds & _CONTAINERS
    facts = not kinds.isdisjoint(_DISGUISED), not kinds.isdisjoint(_TEXTS), held
    if kinds <= _KNOWN:
        _known_facts[kinds] = facts
    return facts


def _large_texts(level: list[Any], kinds: frozenset[type]) -> list[Any]:
    found = level if kinds <= _TEXTS else [each for each in level if type(each) in _TEXTS]
    return [] if max(map(len, found)) < LARGE else [each for each in found if len(each) >= LARGE]


def _held_by(containers: Any, kinds: frozenset[type]) -> list[Any]:
    """Return what containers hold (of dicts the values), but for numbers in long ones."""
    if kinds == _DICT and len(containers) > 1:
        return list(chain.from_iterable(map(dict.values, containers)))
    held: list[Any] = []
    for each in containers:
        parts = each.values() if type(each) is dict else each
        if len(parts) <= FEW or not _are_numbers(parts):
            held += parts
    return held


def _are_numbers(parts: Collection[Any]) -> bool:
    """Whether these many parts are numbers: a sum of them is quicker than a look at each."""
    kind = type(next(iter(parts)))
    if kind not in _NUMBERS:
        return False
    try:
        sum(parts, kind())
    except Exception:
        return False
    return True


def _a_mutable_twice(level: list[Any], seen: set[int]) -> bool:
    mutable = [id(each) for each in level if type(each) in _MUTABLE]
    return len(set(mutable)) < len(mutable) or not seen.isdisjoint(mutable)
