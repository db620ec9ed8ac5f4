"""What workers and the owner of limits of money say to each other. Amounts are those of `foundation.purses`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from supervisors import Ref, message

#: The registered name of the owner.
SPENDING = "spending"


@message(151)
@dataclass(frozen=True, slots=True)
class Fund:
    """A worker needs money; the reply is an `Answer` as a tuple, after it is on the disk. Asked again it is no more.

    Args:
        worker: who asks.
        holder: its process, as "PID-BORN": the name of the file with what it has spent.
        slot: which of its purses, and where in the file it stands.
        accounts: name, limit, and what had been spent when nobody counted yet, of each account; sorted by name. That
            is below 0 where another node makes the account.
        returned: what this purse has given back in all.
        need: so much at least.
        want: so much where there is plenty.
    """

    VERSION: ClassVar[int] = 1

    worker: Ref
    holder: str
    slot: int
    accounts: list[tuple[str, int, int]]
    returned: int
    need: int
    want: int


@message(152)
@dataclass(frozen=True, slots=True)
class Returned:
    """What a purse has given back in all. A cast; one that is lost is told with the next `Fund` or `CloseSlot`."""

    VERSION: ClassVar[int] = 1

    holder: str
    slot: int
    returned: int


@message(153)
@dataclass(frozen=True, slots=True)
class CloseSlot:
    """A purse is not needed any more, and nothing is under way: what it has spent stands in its file."""

    VERSION: ClassVar[int] = 1

    holder: str
    slot: int


@message(154)
@dataclass(frozen=True, slots=True)
class GiveBack:
    """Others need what lies in purses of these accounts. A cast to workers."""

    VERSION: ClassVar[int] = 1

    accounts: list[str]


@message(262)
@dataclass(frozen=True, slots=True)
class ShareBack:
    """Another node needs what lies in the shares of these accounts. A cast between owners of limits of money."""

    VERSION: ClassVar[int] = 1

    accounts: list[str]
