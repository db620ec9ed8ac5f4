"""What supervisors show of their children and of what happened to them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from supervisors.terms.reason import ExitReason
from supervisors.terms.ref import Ref
from supervisors.terms.via import Via


@dataclass(frozen=True)
class ChildInfo:
    """A row of `which_children`.

    Args:
        id: the child's id; None under simple_one_for_one.
        ref: its current process, or None.
        state: running, stopped or restarting.
        type: worker or supervisor.
        pid: process id, or None.
        restarts: how often this child has been restarted.
        name: the name it registers under, or None.
    """

    id: str | None
    ref: Ref | None
    state: str
    type: str
    pid: int | None
    restarts: int
    name: str | Via | None = None


@dataclass(frozen=True)
class ChildCounts:
    """What `count_children` returns: specs known, children alive, and both types dead or alive."""

    specs: int
    active: int
    supervisors: int
    workers: int


@dataclass(frozen=True)
class ProcessStats:
    """What a process of a node has counted of itself.

    Args:
        pid: process id.
        messages: how many it has taken since its start.
        mailbox: how many wait (what has come while a handler blocks its loop is counted in parcels).
        busy: seconds that it has been in its present handler; 0.0: in none.
    """

    pid: int
    messages: int
    mailbox: int
    busy: float


@dataclass(frozen=True)
class Report:
    """What a supervisor reported.

    Args:
        kind: progress, child_terminated, start_error, shutdown_error or reached_max_restart_intensity.
        supervisor: its name or id.
        id: the child's id.
        pid: the child's process id, or None.
        reason: why, or None.
        at: wall-clock time in seconds since the epoch.
        extra: the child's restart, shutdown and type; for an escalation count, intensity and period.
    """

    kind: str
    supervisor: str
    id: str | None
    pid: int | None
    reason: ExitReason | None
    at: float
    extra: dict[str, Any]
