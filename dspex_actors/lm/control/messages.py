"""What a deployment's client actor and the workers say to each other."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from dspex_actors.lm.deployment import PlainLimits
from supervisors import Ref, message

#: Limits that LMs told, each with the seconds since one of them asked last.
Ages = tuple[tuple[PlainLimits, float], ...]
#: A request that waits: its number, input and output tokens, seconds that it waits at most, for whom, and what for.
Ask = tuple[int, int, int, float, str | None, dict[str, str] | None]
#: A lease, requests made under it (0 or 1), input and output tokens (negative: as reserved).
Settled = tuple[int, int, int, int]


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
    """A worker asks for the turns of all requests that wait with him; the reply is a `Leased`.

    Args:
        worker: the worker.
        told: as in `Join`: a client actor that has just been restarted knows of no limits.
        asks: all that waits with him.
        settled: what was used under leases since he said so last.
        late: leases whose requests were begun after their turn, by so many seconds.
        spare: a request as it may come soon; None: none is wanted.
        count: how many of them.
    """

    VERSION: ClassVar[int] = 2

    worker: Ref
    told: Ages
    asks: list[Ask]
    settled: list[Settled]
    late: list[tuple[int, float]] = field(default_factory=list)
    spare: Ask | None = None
    count: int = 0


@message(120)
@dataclass(frozen=True, slots=True)
class Leased:
    """The turns of a worker's requests.

    Args:
        turns: number of the ask, lease, seconds from now.
        refusals: number of the ask, seconds after which it could be (infinite: never; None: unknown), and the limits
            that are in its way.
        spares: leases for requests that may come soon.
        again: he asks again after so many seconds if somebody still waits.
        late: a request that is begun so many seconds after its turn needs another one.
    """

    VERSION: ClassVar[int] = 1

    turns: list[tuple[int, int, float]]
    refusals: list[tuple[int, float | None, str]]
    spares: list[int]
    again: float
    late: float


@message(63)
@dataclass(frozen=True, slots=True)
class Outcomes:
    """What became of a worker's requests since the last time. A cast to the client actor.

    Args:
        worker: the worker.
        told: as in `Join`.
        counts: how many ended how ("answered", "cancelled", an error's name), and "tokens".
        settled: what was used under leases.
        late: as in `Lease`.
        left: what the provider says is left of "requests", "tokens", "input" and "output", and for how many seconds.
    """

    VERSION: ClassVar[int] = 2

    worker: Ref
    told: Ages
    counts: dict[str, float]
    settled: list[Settled]
    late: list[tuple[int, float]] = field(default_factory=list)
    left: dict[str, tuple[float, float]] = field(default_factory=dict)


@message(121)
@dataclass(frozen=True, slots=True)
class Refused:
    """A worker sees that the provider refuses many requests for their speed. A cast to the client actor.

    Args:
        worker: the worker.
        admitted: what was admitted of its requests in the last second.
        retry_after: seconds that the provider asks to wait; None: it does not say.
    """

    VERSION: ClassVar[int] = 1

    worker: Ref
    admitted: int
    retry_after: float | None = None


@message(122)
@dataclass(frozen=True, slots=True)
class ForgetLearnt:
    """What was learnt of a deployment's limits is to be forgotten. A cast to the client actor."""

    VERSION: ClassVar[int] = 1

    deployment: str


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
        kinds: for whom there are limits of his own: "user", "tag".
        learnt: requests per second, as they were learnt; None: nothing was.
    """

    VERSION: ClassVar[int] = 2

    deployment: str
    limits: PlainLimits
    kinds: tuple[str, ...] = ()
    learnt: float | None = None


@message(223)
@dataclass(frozen=True, slots=True)
class GetOwner:
    """A worker of another node asks a run's evaluator for the owner of a deployment there.

    The reply is its Ref; None: it did not start.

    Args:
        model: model string of the deployment.
        deployment: its digest.
    """

    VERSION: ClassVar[int] = 1

    model: str
    deployment: str


@message(260)
@dataclass(frozen=True, slots=True)
class Owned:
    """The limits of a deployment are not this process's: a cast to workers, and what they are told who ask for turns.

    Args:
        deployment: digest of the deployment.
        owner: whose they are; None: nobody's now, or nobody knows.
        why: then, in a few words.
    """

    VERSION: ClassVar[int] = 1

    deployment: str
    owner: Ref | None = None
    why: str = ""


@message(261)
@dataclass(frozen=True, slots=True)
class HandOver:
    """The first owner in a cluster asks a node's client actor for what it has given while its node was alone.

    From then on that one gives nothing. The reply is what `Kept` is made of; None: it has given nothing.
    """

    VERSION: ClassVar[int] = 1

    deployment: str
