"""What the owner of all protected keys takes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

from supervisors import message

#: A process: its pid, and when it was born.
Holder = tuple[int, int]
#: A call that has ended: its key, its name, whether it failed (None: nobody will know), and why.
Ended = tuple[str, str, bool | None, str]


@message(134)
@dataclass(frozen=True, slots=True)
class Configure:
    """Protect a key so from now on. A call; the reply is True.

    Args:
        key: the key.
        protection: `Protection.to_plain`'s data.
    """

    VERSION: ClassVar[int] = 1

    key: str
    protection: dict[str, Any]


@message(135)
@dataclass(frozen=True, slots=True)
class Enter:
    """A call wants in. The reply is ("in",), or ("error", the error's record); it may come late.

    Args:
        key: the key.
        call: its name; asked again it is the same call.
        holder: its process.
        costs: bucket → amount.
        user: for whom.
        seconds: it waits so long; None: as long as it takes.
        ended: calls of its process that have ended and were perhaps not told yet: what they did counts for it.
    """

    VERSION: ClassVar[int] = 1

    key: str
    call: str
    holder: Holder
    costs: dict[str, float] | None
    user: str | None
    seconds: float | None
    ended: list[Ended] = field(default_factory=list)


@message(136)
@dataclass(frozen=True, slots=True)
class Leave:
    """Calls have ended. A call, told until it is heard: an owner that dies must not keep their places.

    Args:
        ended: of each its key, its name, whether it failed (None: nobody will know) and why.
    """

    VERSION: ClassVar[int] = 1

    ended: list[Ended]
