"""What processes of a node say to each other: frozen, numbered, packed many to a parcel.

A user's values (requests, replies, casts) ride as bytes that only the receiver's user side opens. `to` is the uid
of the incarnation a message is meant for; another one at the same port does not take it.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import msgpack

from supervisors.terms.reason import ExitReason
from supervisors.terms.ref import Ref
from supervisors.terms.via import Via
from supervisors.wire.values import VERSION, pack, unpack


@dataclass(frozen=True, slots=True)
class Boot:
    """The first message of a process: what it is. `start` is a SealedStart or a SupervisorSpec."""

    to: str
    key: int
    generation: int
    id: str
    name: str | Via | None
    start: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    parent: Ref | None
    registry: Ref | None
    node: dict[str, Any]


@dataclass(frozen=True, slots=True)
class BootResult:
    """A child's answer to Boot. `outcome` is started, ignored or failed; `info` is packed, for whoever started it."""

    to: str
    key: int
    generation: int
    outcome: str
    ref: Ref | None
    reason: ExitReason | None
    error: Any
    info: bytes | None = None


@dataclass(frozen=True, slots=True)
class Call:
    """A request that is answered by Reply to `sender`; `request` is packed."""

    to: str
    id: int
    sender: Ref
    request: bytes


@dataclass(frozen=True, slots=True)
class Reply:
    """The answer to a Call: `value` is packed if `ok`, else the error is."""

    to: str
    id: int
    ok: bool
    value: bytes


@dataclass(frozen=True, slots=True)
class Cast:
    """A message to handle_cast, packed."""

    to: str
    message: bytes


@dataclass(frozen=True, slots=True)
class Info:
    """A message to handle_info, packed."""

    to: str
    message: bytes


@dataclass(frozen=True, slots=True)
class Watch:
    """Send `watcher` an Ending when you end. Answered by a Reply with `id`, a number of the watcher's."""

    to: str
    id: int
    watcher: Ref


@dataclass(frozen=True, slots=True)
class Unwatch:
    """Forget an earlier Watch."""

    to: str
    id: int
    watcher: Ref


@dataclass(frozen=True, slots=True)
class Ending:
    """`ref`, which you watch or wait for, ends for this reason. You will see its death yourself."""

    to: str
    ref: Ref
    reason: ExitReason


@dataclass(frozen=True, slots=True)
class Stop:
    """End with this reason; from a supervisor (reason shutdown) or from `stop`."""

    to: str
    reason: ExitReason


@dataclass(frozen=True, slots=True)
class ChildExited:
    """A child's last word to its supervisor."""

    to: str
    key: int
    generation: int
    reason: ExitReason


@dataclass(frozen=True, slots=True)
class RegistryIs:
    """The registry has started, or started anew: register your name again, and tell your children."""

    to: str
    registry: Ref


@dataclass(frozen=True, slots=True)
class Abandon:
    """`sender` does not wait any more for the reply to its call `id`, or has got it from another process."""

    to: str
    id: int
    sender: Ref


@dataclass(frozen=True, slots=True)
class System:
    """A question about the server itself (get_state, suspend, ...), answered by Reply; `argument` is packed."""

    to: str
    id: int
    sender: Ref
    name: str
    argument: bytes


@dataclass(frozen=True, slots=True)
class Link:
    """From now on you and `sender` share the fate of ending abnormally."""

    to: str
    sender: Ref


@dataclass(frozen=True, slots=True)
class Unlink:
    """Undo Link."""

    to: str
    sender: Ref


@dataclass(frozen=True, slots=True)
class Exit:
    """An exit signal that was sent by hand. Kind `kill` cannot be trapped."""

    to: str
    sender: Ref
    reason: ExitReason


Message = (
    Boot
    | BootResult
    | Call
    | Reply
    | Cast
    | Info
    | Watch
    | Unwatch
    | Ending
    | Stop
    | ChildExited
    | RegistryIs
    | Abandon
    | System
    | Link
    | Unlink
    | Exit
)

_KINDS: tuple[type, ...] = (
    Boot,
    BootResult,
    Call,
    Reply,
    Cast,
    Info,
    Watch,
    Unwatch,
    Ending,
    Stop,
    ChildExited,
    RegistryIs,
    Abandon,
    System,
    Link,
    Unlink,
    Exit,
)
_NUMBER = {kind: number for number, kind in enumerate(_KINDS)}
_FIELDS = {kind: tuple(item.name for item in fields(kind)) for kind in _KINDS}


def encode(message: Message) -> bytes:
    """Return one message as bytes."""
    kind = type(message)
    return pack([_NUMBER[kind], *[getattr(message, name) for name in _FIELDS[kind]]])


def parcel(messages: list[bytes]) -> bytes:
    """Put encoded messages into one parcel."""
    return msgpack.packb([VERSION, messages])  # type: ignore[no-any-return]


def open_parcel(data: bytes) -> list[Message]:
    """Return the messages of a parcel.

    Raises:
        ValueError: not a parcel, or one of another version.
    """
    version, items = msgpack.unpackb(data)
    if version != VERSION:
        raise ValueError(f"a parcel of version {version}; this node speaks {VERSION}")
    messages: list[Message] = []
    for item in items:
        number, *values = unpack(item)
        messages.append(_KINDS[number](*values))
    return messages
