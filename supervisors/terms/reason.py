"""Why a process ended: ExitReason, and how it looks as plain data."""

from __future__ import annotations

import traceback as _traceback
from dataclasses import dataclass, field
from typing import Any

from supervisors.terms.showing import shown, text_of

#: A longer message or traceback is cut in the middle.
MAX_TEXT = 20_000
#: A detail that is nested deeper, has more parts or more bytes travels as text that is cut.
MAX_DETAIL_DEPTH, MAX_DETAIL_PARTS, MAX_DETAIL_BYTES = 16, 10_000, 1 << 20


@dataclass(frozen=True)
class ExitReason:
    """Why a process ended.

    Args:
        kind: normal (it was done), shutdown (it was asked to), killed (no word came from it: SIGKILL, a crash
            of the interpreter), error (an exception or an error reason), noproc (there was no such process),
            nodedown (its node went away).
        detail: for error a dict with `type`, `message` and `traceback` as text; for shutdown the info, if any.
    """

    kind: str
    detail: Any = field(default=None)

    @property
    def abnormal(self) -> bool:
        """Whether a transient child is restarted after it (all but normal and shutdown)."""
        return self.kind not in ("normal", "shutdown")

    def __str__(self) -> str:
        """Return one line: the kind, and what is known beside it."""
        if self.kind == "error" and isinstance(self.detail, dict):
            return f"error: {self.detail.get('type')}: {self.detail.get('message')}"
        return self.kind if self.detail is None else f"{self.kind}: {shown(self.detail)}"

    @classmethod
    def of(cls, reason: Any) -> ExitReason:
        """Turn what a program gives as a reason ("normal", "shutdown", ("shutdown", info), anything) into one."""
        if isinstance(reason, ExitReason):
            return cls(_text(reason.kind), _plain(reason.detail))
        if isinstance(reason, str) and reason in ("normal", "shutdown"):
            return cls(_text(reason))
        if isinstance(reason, tuple | list) and len(reason) == 2:
            kind, info = reason
            if isinstance(kind, str) and kind == "shutdown":
                return cls("shutdown", _plain(info))
        if isinstance(reason, BaseException):
            return cls.crash(reason)
        return cls("error", {"type": type(reason).__name__, "message": _text(reason), "traceback": ""})

    @classmethod
    def crash(cls, error: BaseException) -> ExitReason:
        """Describe an exception as text; the exception object itself never travels."""
        try:
            text = "".join(_traceback.format_exception(type(error), error, error.__traceback__))
        except Exception as failed:  # an exception with a broken __str__ or __cause__
            text = f"no traceback: {shown(failed)}"
        return cls("error", {"type": type(error).__name__, "message": _text(error), "traceback": _text(text)})


def _text(value: Any) -> str:
    return text_of(value, MAX_TEXT)


def _plain(value: Any) -> Any:
    """Return plain data as it is, anything else as text: reasons pass through processes that open no user objects."""
    try:
        return _Plain().of(value, MAX_DETAIL_DEPTH)
    except Exception:  # too deep, too large, or an object's own code
        return shown(value, MAX_TEXT)


class _Plain:
    """Makes plain data of one detail, and counts what it is made of."""

    def __init__(self) -> None:
        self._parts, self._bytes = MAX_DETAIL_PARTS, MAX_DETAIL_BYTES

    def of(self, value: Any, depth: int) -> Any:
        """Return it; raise ValueError where it is too deep (a cycle is) or too large."""
        self._parts -= 1
        if isinstance(value, str | bytes):
            self._bytes -= min(len(value), MAX_TEXT) if isinstance(value, str) else len(value)
        if depth < 0 or self._parts < 0 or self._bytes < 0:
            raise ValueError("too large for a reason")
        match value:
            case None | bool():
                return value
            case int():
                return int(value) if -(1 << 4096) < value < 1 << 4096 else _text(value)
            case float():
                return float(value)
            case bytes():
                return bytes(value)
            case str():
                return _text(value)
            case tuple():
                return tuple(self.of(item, depth - 1) for item in value)
            case list():
                return [self.of(item, depth - 1) for item in value]
            case dict():
                return {self.of(key, depth - 1): self.of(item, depth - 1) for key, item in value.items()}
        return _text(value)


NORMAL = ExitReason("normal")
SHUTDOWN = ExitReason("shutdown")
KILLED = ExitReason("killed")
NOPROC = ExitReason("noproc")
NODEDOWN = ExitReason("nodedown")
#: What `exit(target, "kill")` sends: it cannot be trapped, and others see `killed`.
KILL = ExitReason("kill")


def exit_reason(reason: Any) -> ExitReason:
    """Return the reason of an exit signal: "kill" is special there."""
    return KILL if isinstance(reason, str) and reason == "kill" else ExitReason.of(reason)
