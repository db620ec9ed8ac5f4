"""What workers, the keeper of runs and the collector of batches say to each other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from supervisors import Ref, message

#: The registered name of the collector.
BATCHES = "batches"

#: Example, sending and number of the request that is in the books.
Place = tuple[int, int, int]


@message(160)
@dataclass(frozen=True, slots=True)
class AskInBatch:
    """One request for the next batch of its run. The reply comes when the batch has it, which may take a day.

    The reply is ("answer", HTTP status, the provider's id of the request, body, `Place` or None, when it was asked in
    seconds since 1970) or ("error", record). The place says as what the request is in the books; None: it is another
    example's.

    Args:
        run: the run.
        key: what is asked; the same again is not asked again.
        deployment: its fields.
        model_type: in which of the provider's formats.
        body: JSON.
        place: as what it is in the books, if it is new.
        settings: `BatchSettings` as a tuple.
        worker: who asks.
    """

    VERSION: ClassVar[int] = 1

    run: str
    key: bytes
    deployment: dict[str, Any]
    model_type: str
    body: bytes
    place: Place
    settings: tuple[float, float]
    worker: Ref


@message(161)
@dataclass(frozen=True, slots=True)
class KnowsRequest:
    """Asks whether a request is in a batch, or answered, already: then no money has to be held back for it."""

    VERSION: ClassVar[int] = 1

    run: str
    key: bytes


@message(162)
@dataclass(frozen=True, slots=True)
class EndBatches:
    """A run is over: what is under way for it is cancelled, what it has kept is dropped. The reply is None."""

    VERSION: ClassVar[int] = 1

    run: str


@message(163)
@dataclass(frozen=True, slots=True)
class InBatch:
    """Requests are in a batch that is, or will be, paid. A cast to the worker that waits for them.

    Args:
        run: the run.
        keys: the requests'.
        places: as what each is in the books.
    """

    VERSION: ClassVar[int] = 1

    run: str
    keys: list[bytes]
    places: list[Place]


@message(164)
@dataclass(frozen=True, slots=True)
class BatchNews:
    """How the batches of a run stand. A cast to the workers that wait for them.

    Args:
        run: the run.
        text: in words.
    """

    VERSION: ClassVar[int] = 1

    run: str
    text: str
