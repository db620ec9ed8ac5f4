"""What processes tell the actor `telemetry`, and what it is asked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from supervisors import message


@message(77)
@dataclass(frozen=True, slots=True)
class Tell:
    """A process tells what is new. A call; the reply is `Heard`.

    Args:
        incarnation: of the process; unique.
        actor: its name.
        pid: its process id.
        born: when that began, see `host.processes.born`.
        rows: as `Recorder.take` returns them.
        is_again: the rows hold what an actor of before was told.
        is_last: the process is about to end: nobody could tell this again.
    """

    VERSION: ClassVar[int] = 1

    incarnation: str
    actor: str
    pid: int
    born: int
    rows: list[Any]
    is_again: bool = False
    is_last: bool = False


@message(69)
@dataclass(frozen=True, slots=True)
class Heard:
    """The reply to `Tell`.

    Args:
        epoch: the actor's: another one has to be told all.
        interval: seconds after which what is new is to be told.
        is_on: whether anything is to be recorded.
    """

    VERSION: ClassVar[int] = 1

    epoch: str
    interval: float
    is_on: bool


@message(78)
@dataclass(frozen=True, slots=True)
class Await:
    """A process waits to be asked. A call; it is answered when somebody wants to read what is so now."""

    VERSION: ClassVar[int] = 1

    incarnation: str


@message(79)
@dataclass(frozen=True, slots=True)
class Read:
    """What is known. A call.

    Args:
        prefix: only series whose name begins with it.
        fresh: ask all processes first.
        form: "figures": `merge.view` of the node; "actors": the same by actor; "rows": rows as they are told.
    """

    VERSION: ClassVar[int] = 1

    prefix: str = ""
    fresh: bool = True
    form: str = "figures"
