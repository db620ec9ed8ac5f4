"""What a node's `leases` understands, and what it tells those that watch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from supervisors.cluster.leases.store import TTL_SECONDS
from supervisors.terms.letters import message
from supervisors.terms.ref import Ref

#: The name under which each node's server of leases is registered.
LEASES = "leases"


@message(196)
@dataclass(frozen=True, slots=True)
class Acquire:
    """Give `holder` a lease; answered by Lease, or LeaseHeld, NoMajority.

    Args:
        name: what is to be owned.
        holder: who asks; no two that could be at odds have the same. Its own lease it gets again, with its epoch.
        ttl: for how long, in seconds.
        value: small plain data to put with it; None: what is there stays.
        owner: a process of this node that ends the lease when it ends.
    """

    name: str
    holder: str
    ttl: float = TTL_SECONDS
    value: Any = None
    owner: Ref | None = None


@message(197)
@dataclass(frozen=True, slots=True)
class Renew:
    """Begin a lease's time anew; answered by Lease, or LeaseLost, NoMajority. `value` None: what is there stays."""

    name: str
    holder: str
    epoch: int
    value: Any = None


@message(198)
@dataclass(frozen=True, slots=True)
class Release:
    """End a lease; answered by None, also where it has ended."""

    name: str
    holder: str
    epoch: int


@message(199)
@dataclass(frozen=True, slots=True)
class Get:
    """Which lease is there: answered by Lease; without a holder nobody has it."""

    name: str


@message(200)
@dataclass(frozen=True, slots=True)
class Watch:
    """Tell `watcher` of each change of what begins with `prefix`; answered by the names of leases that are held now.

    It gets LeaseChanged and ValueChanged in handle_info. News may be late, and several may come as one.

    Args:
        prefix: of names of leases and values.
        watcher: a process of this node.
    """

    prefix: str
    watcher: Ref


@message(201)
@dataclass(frozen=True, slots=True)
class LeaseChanged:
    """A lease has another holder, or another value, or has ended."""

    lease: Any


@message(202)
@dataclass(frozen=True, slots=True)
class Put:
    """Set a value; answered by its new version, or VersionConflict, Fenced, NoMajority.

    Args:
        name: of the value.
        value: small plain data.
        version: that it must have; None: whatever it has; 0: it must not be there.
        lease: the lease under which it is written; "": none.
        epoch: that this lease must have.
    """

    name: str
    value: Any
    version: int | None = None
    lease: str = ""
    epoch: int = 0


@message(205)
@dataclass(frozen=True, slots=True)
class Delete:
    """Delete a value; answered by None, also where there is none, or VersionConflict, NoMajority.

    Args:
        name: of the value.
        version: that it must have; None: whatever it has.
    """

    name: str
    version: int | None = None


@message(203)
@dataclass(frozen=True, slots=True)
class Read:
    """Which value is there: answered by (value, version), (None, 0) where there is none."""

    name: str


@message(204)
@dataclass(frozen=True, slots=True)
class ValueChanged:
    """A value has been set, or (version 0) deleted."""

    name: str
    value: Any
    version: int
