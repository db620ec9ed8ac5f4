"""Values of every kind that a user may send by mistake, by the words that say what is wrong with them."""

import collections
import enum
import socket
import threading
import typing


class Colour(enum.StrEnum):
    RED = "red"


class Whole(int):
    pass


class Real(float):
    pass


class Words(str):
    __slots__ = ()


class Rows(list):
    pass


class Names(dict):
    pass


class Pair(typing.NamedTuple):
    left: object
    right: object = None


class Both:
    """An object whose own code raises in the method that it is told."""

    def __init__(self, method):
        self.method = method

    def __reduce__(self):
        if self.method == "reduce":
            raise RuntimeError("no pickle")
        return (_opened, (self.method,))

    def __repr__(self):
        if self.method == "repr":
            raise RuntimeError("no repr")
        return f"<Both {self.method}>"

    def __eq__(self, other):
        if self.method == "eq":
            raise RuntimeError("no eq")
        return self is other

    def __hash__(self):
        if self.method == "hash":
            raise RuntimeError("no hash")
        return 1


def _opened(method):
    if method == "open":
        raise RuntimeError("no opening")
    if method == "leave":
        raise SystemExit(3)
    return Both(method)


class Picky(Exception):
    """Wants more arguments than it keeps."""

    def __init__(self, what, where):
        super().__init__(f"{what} at {where}")
        self.where = where


def nested(kind, depth):
    value = kind()
    for _ in range(depth):
        value = kind((value,))
    return value


def cycle():
    value = [1]
    value.append({"again": value})
    return value


def parents(depth=3):
    """A tree whose nodes know their parents."""
    root = {"parent": None, "children": []}
    node = root
    for _ in range(depth):
        node["children"] += [{"parent": node, "children": []} for _ in range(2)]
        node = node["children"][0]
    return root


def doubled(depth=60):
    """Two to the 60 empty lists, if each were counted."""
    value = ()
    for _ in range(depth):
        value = (value, value)
    return value


#: name → how it is made: some are large, and some cannot be kept from one test to the next.
KINDS = {
    "None": lambda: None,
    "NaN": lambda: float("nan"),
    "infinite": lambda: float("inf"),
    "a large number": lambda: 10**6000,
    "negative": lambda: -1,
    "empty text": lambda: "",
    "half a surrogate pair": lambda: "a\ud800b",
    "emoji": lambda: "\N{GRINNING FACE}" * 300,
    "bytes": lambda: b"\xff\x00",
    "bytearray": lambda: bytearray(b"abc"),
    "an enum": lambda: Colour.RED,
    "subclass of int": lambda: Whole(5),
    "subclass of float": lambda: Real(0.5),
    "subclass of str": lambda: Words("red"),
    "subclass of list": lambda: Rows([1]),
    "subclass of dict": lambda: Names(a=1),
    "named tuple": lambda: Pair(1),
    "counter": lambda: collections.Counter("abca"),
    "cycle": cycle,
    "parents": parents,
    "doubled": doubled,
    "deep tuples": lambda: nested(tuple, 100_000),
    "deep lists": lambda: nested(list, 100_000),
    "rather deep tuples": lambda: nested(tuple, 195),
    "rather deep lists": lambda: nested(list, 510),
    "deep frozensets": lambda: nested(frozenset, 60),
    "one block eighty times": lambda: [bytes(1_000_000)] * 80,
    "too large": lambda: bytes(70_000_000),
    "lock": threading.Lock,
    "generator": lambda: (each for each in "abc"),
    "socket": socket.socket,
    "function": lambda: lambda: 1,
    "class": lambda: Colour,
    "module": lambda: threading,
    "exception": lambda: Picky("fire", "sea"),
    "an object": object,
    "raises in reduce": lambda: Both("reduce"),
    "raises when it is opened": lambda: Both("open"),
    "leaves when it is opened": lambda: Both("leave"),
    "raises in repr": lambda: Both("repr"),
    "raises in eq": lambda: Both("eq"),
    "raises in hash": lambda: Both("hash"),
    "raises in repr, in a tuple": lambda: ("add", Both("repr")),
    "raises in eq, in a tuple": lambda: (Both("eq"), Both("eq")),
}
#: They go the ways that another of KINDS goes, which is tried every day: these are for `make soak`.
ALIKE = {
    "NaN", "negative", "empty text", "emoji", "bytearray", "subclass of int", "subclass of float", "subclass of dict",
    "named tuple", "counter", "parents", "rather deep tuples", "generator", "socket", "module",
    "raises in repr, in a tuple",
}  # fmt: skip
