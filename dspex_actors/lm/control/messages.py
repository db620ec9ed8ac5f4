"""What a deployment's client actor and the workers say to each other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from supervisors import Ref, message

#: The fields of `Limits`: rpm, tpm, max_in_flight.
PlainLimits = tuple[float | None, float | None, int | None]
#: Limits that LMs told, each with the seconds since one of them asked last.
Ages = tuple[tuple[PlainLimits, float], ...]


@message(60)
@dataclass(frozen=True, slots=True)
class Join:
    """A worker has a session with the deployment. A cast to the client actor.

    Args:
        worker: the worker.
        told: the limits that its LMs tell.
    """

    VERSION: ClassVar[int] = 1

    worker: Ref
    told: Ages = ()


@message(61)
@dataclass(frozen=True, slots=True)
class Leave:
    """A worker has closed its session. A cast to the client actor."""

    VERSION: ClassVar[int] = 1

    worker: Ref


@message(62)
@dataclass(frozen=True, slots=True)
class Lease:
    """A worker asks when so many requests may start; the reply is the seconds from now of each, ascending.

    Args:
        tokens: estimated tokens of each request.
        told: as in `Join`: a client actor that has just been restarted knows of no limits.
    """

    VERSION: ClassVar[int] = 1

    tokens: list[int]
    told: Ages = ()


@message(63)
@dataclass(frozen=True, slots=True)
class Outcomes:
    """What became of a worker's requests since the last time. A cast to the client actor.

    Args:
        worker: the worker.
        told: as in `Join`.
        counts: how many ended how ("answered", "cancelled", an error's name), and "tokens".
        unused: tokens that were reserved and not used; negative: used beyond what was reserved.
    """

    VERSION: ClassVar[int] = 1

    worker: Ref
    told: Ages
    counts: dict[str, float]
    unused: int = 0


@message(64)
@dataclass(frozen=True, slots=True)
class Pause:
    """The provider told a worker to wait. A cast to the client actor, and from it to the other workers.

    Args:
        deployment: digest of the deployment.
        seconds: how long.
        worker: whom it was told.
    """

    VERSION: ClassVar[int] = 1

    deployment: str
    seconds: float
    worker: Ref


@message(65)
@dataclass(frozen=True, slots=True)
class InForce:
    """The limits that hold from now on. A cast to the workers.

    Args:
        deployment: digest of the deployment.
        limits: the smallest that was told in the last minute.
    """

    VERSION: ClassVar[int] = 1

    deployment: str
    limits: PlainLimits
