"""Whether a message that came to a supervisor is what its kind says.

A process with the key can send anything. What is malformed harms nobody: it is dropped here, before it is looked at.
"""

from __future__ import annotations

from typing import Any

from supervisors.terms.reason import ExitReason
from supervisors.terms.ref import Ref
from supervisors.wire.messages import (
    Boot,
    BootResult,
    Call,
    ChildExited,
    Link,
    Message,
    RegistryIs,
    Reply,
    Stop,
    System,
    Unlink,
    Unwatch,
    Watch,
)

_ASKED = {"id": int, "sender": Ref}
_CHILDS = {"key": int, "generation": int}

#: What a supervisor reads of a message, and of which type it has to be.
_FIELDS: dict[type, dict[str, Any]] = {
    Boot: {"node": dict},
    BootResult: {**_CHILDS, "ref": Ref | None, "reason": ExitReason | None, "info": bytes | None},
    Call: {**_ASKED, "request": bytes},
    ChildExited: {**_CHILDS, "reason": ExitReason},
    Link: {"sender": Ref},
    RegistryIs: {"registry": Ref},
    Reply: {"id": int, "value": bytes},
    Stop: {"reason": ExitReason},
    System: {**_ASKED, "name": str},
    Unlink: {"sender": Ref},
    Unwatch: {"id": int, "watcher": Ref},
    Watch: {"id": int, "watcher": Ref},
}


def malformed(message: Message) -> str:
    """Return what is wrong with a message, in words; empty: nothing."""
    for name, kind in _FIELDS.get(type(message), {}).items():
        value = getattr(message, name)
        if not isinstance(value, kind):
            return f"{type(message).__name__}.{name} is {type(value).__name__}, expected {kind}"
    return ""
