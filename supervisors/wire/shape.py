"""Whether a value is a tree: then it travels as msgpack, else as one pickle, which keeps identity and cycles.

This is asked of every value that a user sends, so whole levels of it are looked at by functions of C, and a dict that
the garbage collector does not track is passed over: it holds no container (from Python 3.14 on all are tracked).
"""

from __future__ import annotations

from gc import is_tracked
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
#: In a list that is longer than this numbers are told by their sum.
FEW = 32

_TEXTS = frozenset((str, bytes))
_NUMBERS = frozenset((int, float))
_MUTABLE = frozenset((list, dict, set))
_CONTAINERS = _MUTABLE | {tuple, frozenset}
#: What msgpack takes by itself and gives back as something else.
_DISGUISED = frozenset((bytearray, memoryview, msgpack.ExtType, msgpack.Timestamp))


class TooDeep(ValueError):
    """A value is nested too deep to be sent."""

    def __init__(self) -> None:
        """Say how deep is too deep."""
        super().__init__(f"it is nested deeper than {MAX_DEPTH} levels")


def is_tree(value: Any, thorough: bool = False) -> bool:
    """Return whether each list, dict and set of a value is met once, and each large text; and it is not very deep.

    Only plain containers are looked into; what else there is, packing finds out.

    Args:
        value: anything.
        thorough: look for large texts in flat dicts and in very many parts too.

    Raises:
        TooDeep: it is nested beyond MAX_DEPTH.
    """
    level: list[Any] = [value]
    seen: set[int] = set()
    texts: set[int] = set()
    parts = 0
    for depth in range(MAX_DEPTH + 1):
        kinds = set(map(type, level))
        if not kinds.isdisjoint(_DISGUISED):
            return False
        parts += len(level)
        if not kinds.isdisjoint(_TEXTS) and (parts <= MANY or thorough):
            large = [id(each) for each in level if type(each) in _TEXTS and len(each) >= LARGE]
            if large and (not texts.isdisjoint(large) or len(set(large)) < len(large)):
                return False
            texts.update(large)
        if kinds.isdisjoint(_CONTAINERS):
            return depth <= PLAIN_DEPTH
        inner = [each for each in level if type(each) in _CONTAINERS]
        ids = set(map(id, inner))
        if (len(ids) < len(inner) or not ids.isdisjoint(seen)) and (parts > MANY or _a_mutable_twice(inner, seen)):
            return False
        seen |= ids
        level = []
        for each in inner:
            if type(each) is dict:
                if thorough or is_tracked(each):
                    level += each.values()
            elif len(each) <= FEW or not _are_numbers(each):
                level += each
    raise TooDeep


def _are_numbers(items: Any) -> bool:
    """Whether what is in a long list is numbers: a sum of them is quicker than a look at each."""
    if type(items) is not list or not {type(items[0]), type(items[-1])} <= _NUMBERS:
        return False
    try:
        sum(items, 0.0)
    except Exception:
        return False
    return True


def _a_mutable_twice(level: list[Any], seen: set[int]) -> bool:
    mutable = [id(each) for each in level if type(each) in _MUTABLE]
    return len(set(mutable)) < len(mutable) or not seen.isdisjoint(mutable)
