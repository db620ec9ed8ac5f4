"""What goes with a message without being part of it: which operation it belongs to, say.

`carried` is a context variable of the code that sends. What it holds goes with every call, cast and message that this
code sends to another process, and is in the variable while they are handled there. This library does not look into it.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import Protocol

#: What is carried is dropped, and the message goes without it, when it is larger than this many bytes.
MAX_CARRIED = 4096


class Carried(Protocol):
    """What a program carries, as it is in the process where it was made."""

    def to_bytes(self) -> bytes:
        """Return it as it arrives elsewhere, at most `MAX_CARRIED` bytes."""
        ...


#: What goes with messages from here; where a message is handled, the bytes that came with it. None: nothing.
carried: ContextVar[Carried | bytes | None] = ContextVar("supervisors_carried", default=None)
