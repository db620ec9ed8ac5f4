"""Why a process ended: ExitReason, and how it looks as plain data."""

from __future__ import annotations

import traceback as _traceback
from dataclasses import dataclass, field
from typing import Any

#: A longer message or traceback is cut in the middle.
MAX_TEXT = 20_000


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
        return self.kind if self.detail is None else f"{self.kind}: {self.detail!r}"

    @classmethod
    def of(cls, reason: Any) -> ExitReason:
        """Turn what a program gives as a reason ("normal", "shutdown", ("shutdown", info), anything) into one."""
        if isinstance(reason, ExitReason):
            return cls(reason.kind, _plain(reason.detail))
        if isinstance(reason, str) and reason in ("normal", "shutdown"):
            return cls(reason)
        if isinstance(reason, tuple | list) and len(reason) == 2 and reason[0] == "shutdown":
            return cls("shutdown", _plain(reason[1]))
        if isinstance(reason, BaseException):
            return cls.crash(reason)
        return cls("error", {"type": type(reason).__name__, "message": _text(reason), "traceback": ""})

    @classmethod
    def crash(cls, error: BaseException) -> ExitReason:
        """Describe an exception as text; the exception object itself never travels."""
        try:
            text = "".join(_traceback.format_exception(type(error), error, error.__traceback__))
        except Exception as failed:  # an exception with a broken __str__ or __cause__
            text = f"no traceback: {failed!r}"
        return cls("error", {"type": type(error).__name__, "message": _text(error), "traceback": _text(text)})


def _text(value: Any) -> str:
    """Return `str(value)` such that it can be sent and logged whatever it is, and is not endless."""
    try:
        text = str(value)
    except Exception:
        text = f"<{type(value).__name__} that cannot be printed>"
    if len(text) > MAX_TEXT:
        text = f"{text[: MAX_TEXT // 2]} ... {text[-MAX_TEXT // 2 :]}"
    return text.encode("utf-8", "backslashreplace").decode()


def _plain(value: Any) -> Any:
    """Return plain data as it is, anything else as text: reasons pass through processes that open no user objects."""
    match value:
        case None | bool():
            return value
        case int():
            return int(value)
        case float():
            return float(value)
        case bytes():
            return bytes(value)
        case str():
            return _text(value)
        case tuple():
            return tuple(_plain(item) for item in value)
        case list():
            return [_plain(item) for item in value]
        case dict():
            return {_plain(key): _plain(item) for key, item in value.items()}
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
