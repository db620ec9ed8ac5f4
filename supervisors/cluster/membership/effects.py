"""What the core of a membership wants done. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from supervisors.cluster.membership.messages import Member


@dataclass(frozen=True, slots=True)
class Send:
    """Send a datagram."""

    host: str
    port: int
    payload: bytes


@dataclass(frozen=True, slots=True)
class Dial:
    """Dial a member's door, and say by `dialled` what came of it."""

    member: Member


@dataclass(frozen=True, slots=True)
class Swap:
    """Exchange all that is known with a member, by `merge` of what it answers."""

    member: Member


@dataclass(frozen=True, slots=True)
class Up:
    """A member is up that was not."""

    member: Member


@dataclass(frozen=True, slots=True)
class Down:
    """A member is down that was up."""

    member: Member
    why: str


@dataclass(frozen=True, slots=True)
class Changed:
    """A member that is up is another than before."""

    member: Member


@dataclass(frozen=True, slots=True)
class Twin:
    """Another node says that it is this one: a copied data folder."""

    address: str


Effect = Send | Dial | Swap | Up | Down | Changed | Twin
