"""Anything as a short text: cut before it is rendered, and whatever its own code does."""

from __future__ import annotations

import reprlib
from dataclasses import fields, is_dataclass
from typing import Any

#: A longer text is cut in the middle.
MAX_SHOWN = 4000
#: A longer text is a user's data (a prompt, an example) and is only sketched.
LONGEST_TEXT = 40


class _Short(reprlib.Repr):
    """reprlib's, which cuts containers and texts first; also where they are in exceptions and dataclasses."""

    def __init__(self, limit: int, longest_text: int | None = None) -> None:
        super().__init__()
        self._longest_text = limit if longest_text is None else longest_text
        self.maxlevel = 4
        self.maxtuple = self.maxlist = self.maxdict = self.maxset = self.maxfrozenset = self.maxdeque = 20
        self.maxarray = 20
        self.maxstring = self.maxother = self.maxlong = limit

    def repr1(self, x: Any, level: int) -> str:
        # By what it is a subclass of: a subclass of list that has no repr of its own is cut as one.
        try:
            kind: Any = type(x)
            for base, name in _SHOWERS.items():
                if isinstance(x, base) and kind.__repr__ is base.__repr__:
                    return str(getattr(self, name)(x, level))
            if isinstance(x, BaseException) and kind.__repr__ is vars(BaseException)["__repr__"]:
                return f"{kind.__name__}{self.repr_tuple(x.args, level)}"
            if is_dataclass(kind) and "__create_fn__" in kind.__repr__.__qualname__:
                return self._fields(x, level)
            if isinstance(x, tuple) and hasattr(kind, "_fields"):
                return f"{kind.__name__}{self.repr_tuple(tuple(x), level)}"
            return self.repr_instance(x, level)
        except Exception:
            return f"<{type(x).__name__} that cannot be shown>"

    def _fields(self, x: Any, level: int) -> str:
        if level <= 0:
            return f"{type(x).__name__}(...)"
        parts = [f"{item.name}={self.repr1(getattr(x, item.name), level - 1)}" for item in fields(x) if item.repr]
        return f"{type(x).__name__}({', '.join(parts)})"

    def repr_bytes(self, x: bytes, level: int) -> str:
        if len(x) > self._longest_text != self.maxstring:
            return f"<{len(x):,} bytes>"
        if len(x) <= self.maxstring:
            return repr(x)
        half = self.maxstring // 2
        return f"{x[:half]!r}...{x[-half:]!r}"

    def repr_str(self, x: str, level: int) -> str:
        if len(x) > self._longest_text != self.maxstring:
            return f"<text of {len(x):,} characters>"
        if len(x) <= self.maxstring:
            return str.__repr__(x)
        half = self.maxstring // 2
        return f"{x[:half]}...{x[-half:]}".__repr__()

    def repr_int(self, x: int, level: int) -> str:
        bits = x.bit_length()
        return int.__repr__(x) if bits < 4096 else f"<int of {bits:,} bits>"


_SHOWERS: dict[Any, str] = {
    str: "repr_str",
    list: "repr_list",
    tuple: "repr_tuple",
    dict: "repr_dict",
    set: "repr_set",
    frozenset: "repr_frozenset",
    bytes: "repr_bytes",
    bytearray: "repr_bytes",
    int: "repr_int",
}


def shown(value: Any, limit: int = MAX_SHOWN) -> str:
    """Return what `repr` would say of anything, in at most about `limit` characters."""
    return cut(_Short(limit).repr(value), limit)


def sketched(value: Any, limit: int = MAX_SHOWN) -> str:
    """Return what `shown` does, with the lengths of texts in the place of long ones: they are a user's data."""
    return cut(_Short(limit, LONGEST_TEXT).repr(value), limit)


def shown_error(error: BaseException, limit: int = MAX_SHOWN) -> str:
    """Return an exception as people write it: its class, and what it says."""
    said = cut(text_of(error), limit)
    return f"{type(error).__name__}: {said}" if said else type(error).__name__


def text_of(value: Any, limit: int = MAX_SHOWN) -> str:
    """Return `str(value)` such that it can be sent and logged whatever it is, and is not endless."""
    try:
        text = str(value) if isinstance(value, str | BaseException) else shown(value, limit)
    except Exception:
        text = f"<{type(value).__name__} that cannot be printed>"
    return cut(text, limit).encode("utf-8", "backslashreplace").decode()


def cut(text: str, limit: int = MAX_SHOWN) -> str:
    """Return a text, without its middle where it is longer than `limit`."""
    return text if len(text) <= limit else f"{text[: limit // 2]} ... {text[-limit // 2 :]}"
