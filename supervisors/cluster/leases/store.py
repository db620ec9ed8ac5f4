"""What every store of leases can do, whatever it keeps them in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, Protocol

from supervisors.cluster.leases.core import CONFLICT, FENCED, FULL, HELD, MAX_BYTES, Outcome, Row
from supervisors.terms.checks import check_count, check_number, check_text
from supervisors.terms.errors import (
    CallFailed,
    Fenced,
    LeaseHeld,
    LeaseLost,
    SpecError,
    VersionConflict,
)
from supervisors.terms.letters import message
from supervisors.wire.values import pack_message, unpack

#: The folder in a node's data folder, and the file in it that says where the leases are, if not there.
FOLDER, ADDRESS = "leases", "address"
#: A lease is given for so many seconds where nobody says another time, and may be given for so many.
TTL_SECONDS = 5.0
LEAST_TTL, MOST_TTL = 0.5, 3600.0
#: Names have at most so many characters, and values so many bytes: a store keeps all of them in memory.
MAX_NAME, MAX_VALUE = 300, 65_536


@message(195)
@dataclass(frozen=True, slots=True)
class Lease:
    """A lease as the store has it.

    Args:
        name: what is owned.
        holder: who has it; "": nobody.
        epoch: how often it has been given to a new holder; it rises for ever. 0: never.
        ttl: for how long it is given, in seconds.
        value: small plain data that its holder has put with it; it stays when the lease ends.
        left: for how many seconds the store waits at most until it gives it to another one, if it is not renewed.
    """

    name: str
    holder: str
    epoch: int
    ttl: float
    value: Any
    left: float = 0.0


class LeaseStore(Protocol):
    """Who owns what, and since which epoch.

    Values are bytes here: nobody but who reads them opens them. All of it raises NoMajority where the store gives no
    answer in time; then what was asked may have been done or not, and asking again does it once.
    """

    async def acquire(self, name: str, holder: str, ttl: float, value: bytes | None) -> Row:
        """Give the lease to `holder`; its own one it keeps. `value` None: what the holder before has put there stays.

        Raises:
            LeaseHeld: another one has it.
        """

    async def renew(self, name: str, holder: str, epoch: int, value: bytes | None) -> Row:
        """Begin the lease's time anew.

        Raises:
            LeaseLost: it is not the holder's any more.
        """

    async def release(self, name: str, holder: str, epoch: int) -> None:
        """End a lease; one that has ended is none."""

    async def get(self, name: str) -> tuple[Row | None, float]:
        """Return the lease, and for how many seconds it lasts at most if it is not renewed."""

    async def raise_floor(self, epoch: int) -> None:
        """Have all leases that get another holder from now on have a greater epoch than this."""

    async def put(self, name: str, value: bytes, version: int | None, lease: str = "", epoch: int = 0) -> int:
        """Set a value if it has this version (None: whatever it has; 0: it is not there); return its new version.

        The value b"" deletes it, and its version is 0; set again, it has a greater version than it ever had.

        Raises:
            VersionConflict: it has another one.
            CallFailed: the store is full.
            Fenced: a lease is named under which it is to be written, and that one has another epoch.
        """

    async def read(self, name: str) -> tuple[bytes, int]:
        """Return a value and its version; version 0: it is not there."""

    async def names(self, prefix: str) -> list[str]:
        """Return the names of the leases that somebody holds."""

    def watch(self, changed: Callable[[str, str], None]) -> None:
        """Have `changed(kind, name)` called whenever a "lease" has another holder or value, or a "value" is set."""

    async def close(self) -> None:
        """Let go of what it has open."""


def refused(name: str, outcome: Outcome, left: float = 0.0) -> NoReturn:
    """Raise the error of a command that was not carried out."""
    row = outcome.row
    match outcome.word:
        case word if word == HELD:
            assert row is not None
            raise LeaseHeld(
                f"the lease {name} has another holder, {row.holder} (epoch {row.epoch}), for {left:.1f} s at most",
                id=row.holder,
            )
        case word if word == CONFLICT:
            raise VersionConflict(f"the value {name} has version {outcome.version} by now: read it and try again")
        case word if word == FULL:
            raise CallFailed(
                f"{name} was not written: the store of leases has {MAX_BYTES >> 20} MB, its limit; delete values that "
                "nobody needs: `system.state(name).delete()`"
            )
        case word if word == FENCED:
            assert row is not None
            who = row.holder or "nobody"
            raise Fenced(f"{name} was not written: the lease has epoch {row.epoch} now, held by {who}")
    assert row is not None
    raise LeaseLost(f"the lease {name} is lost: it has epoch {row.epoch} now, held by {row.holder or 'nobody'}")


def check_lease_name(name: Any, what: str = "name") -> str:
    """Return the name of a lease or value; refuse what is none."""
    text = check_text(what, name)
    if len(text) > MAX_NAME:
        raise SpecError.of(what, name, f"at most {MAX_NAME} characters")
    return text


def check_claim(name: Any, holder: Any, epoch: Any) -> None:
    """Refuse what names no lease of a holder."""
    check_lease_name(name)
    check_text("holder", holder)
    check_count("epoch", epoch)


def check_ttl(ttl: Any) -> float:
    """Return for how long a lease is given; refuse what is too short to be renewed, or no number."""
    check_number("ttl", ttl, LEAST_TTL, MOST_TTL)
    return float(ttl)


def packed_value(value: Any) -> bytes:
    """Return plain data as a store keeps it.

    Raises:
        CallFailed: it is none.
        SpecError: it is too large.
    """
    data = pack_message(value, "value of a lease")
    if len(data) > MAX_VALUE:
        raise SpecError(
            f"the value is invalid: got one of {len(data):,} bytes, expected at most {MAX_VALUE:,}: the cluster keeps "
            "small ones"
        )
    return data


def opened_value(data: bytes) -> Any:
    """Return what `packed_value` made this of; None: there is nothing."""
    return unpack(data) if data else None


def as_lease(name: str, row: Row | None, left: float) -> Lease:
    """Return a row as its users see it."""
    if row is None:
        return Lease(name, "", 0, 0.0, None)
    return Lease(name, row.holder, row.epoch, row.ttl, opened_value(row.value), left if row.holder else 0.0)


def read_address(data_dir: Path) -> str | None:
    """Return the address of the server that has the leases of the cluster; None: its nodes have them."""
    try:
        return (data_dir / FOLDER / ADDRESS).read_text().strip() or None
    except FileNotFoundError:
        return None


def write_address(data_dir: Path, address: str | None) -> None:
    """Have the leases of the cluster in a PostgreSQL server, from the node's next start on; None: its nodes have them.

    Args:
        data_dir: the node's data folder.
        address: `postgresql://USER@HOST:PORT/DATABASE`, the same on all nodes.
    """
    path = data_dir / FOLDER / ADDRESS
    if address is None:
        path.unlink(missing_ok=True)
        return
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    part = path.with_name("address.part")
    part.touch(mode=0o600)
    part.write_text(address + "\n")
    part.replace(path)
