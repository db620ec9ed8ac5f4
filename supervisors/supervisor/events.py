"""What goes into `SupervisorCore` and what comes out of it: events, effects, and what it knows of a child."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from supervisors.terms.errors import StartError, SupervisorsError
from supervisors.terms.reason import ExitReason
from supervisors.terms.ref import Ref
from supervisors.terms.spec import ChildSpec

# --- events --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Started:
    """A child's init has returned. `info`: what it gave for whoever asked for the start, packed."""

    key: int
    generation: int
    ref: Ref
    info: bytes | None = None


@dataclass(frozen=True)
class StartFailed:
    """A child's init failed; its process is ending. `error`: AlreadyStarted when its name was taken."""

    key: int
    generation: int
    reason: ExitReason
    error: SupervisorsError | None = None


@dataclass(frozen=True)
class Ignored:
    """A child's init returned IGNORE; its process is ending."""

    key: int
    generation: int


@dataclass(frozen=True)
class Exited:
    """A child's process has ended."""

    key: int
    generation: int
    reason: ExitReason


@dataclass(frozen=True)
class Tick:
    """A timer that the core has set is due."""

    key: int
    generation: int
    what: str


Event = Started | StartFailed | Ignored | Exited | Tick

# --- effects -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Spawn:
    """Start a process for this child."""

    key: int
    generation: int
    spec: ChildSpec


@dataclass(frozen=True)
class AskShutdown:
    """Ask a child to end."""

    key: int
    generation: int


@dataclass(frozen=True)
class Kill:
    """Kill a child's process."""

    key: int
    generation: int


@dataclass(frozen=True)
class SetTimer:
    """Send `Tick(key, generation, what)` in so many seconds."""

    seconds: float
    key: int
    generation: int
    what: str


@dataclass(frozen=True)
class Answer:
    """Answer a call: a value, or an error to raise at the caller."""

    caller: Any
    value: Any = None
    error: SupervisorsError | None = None


@dataclass(frozen=True)
class Tell:
    """Report to log and report store; `kind` is one of OTP's five."""

    kind: str
    id: str | None
    pid: int | None
    reason: ExitReason | None
    extra: dict[str, Any]


@dataclass(frozen=True)
class Ready:
    """Every child of the initial list has started."""


@dataclass(frozen=True)
class Finished:
    """The supervisor itself ends; all its children are gone."""

    reason: ExitReason
    error: StartError | None = None


Effect = Spawn | AskShutdown | Kill | SetTimer | Answer | Tell | Ready | Finished
