"""What a pool's core is told and what it answers: rules, and the effects that its server carries out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple


@dataclass(frozen=True)
class PoolRules:
    """The numbers that a pool goes by; as in PoolSpec, which checks them."""

    size: int = 5
    max_overflow: int = 10
    strategy: str = "lifo"
    min_size: int = 5
    max_size: int = 5
    idle_seconds: float = 60.0
    health_interval: float | None = None
    stats_window: float = 60.0


class StartWorker(NamedTuple):
    """Start a worker; answer with `started` or `start_failed` and this ticket."""

    ticket: int


class StopWorker(NamedTuple):
    """Stop a worker, which is no part of the pool any more, in its own time."""

    worker: Any


class KillWorker(NamedTuple):
    """Kill a worker, which is no part of the pool any more: the work under this lease took too long or broke off."""

    worker: Any
    lease: str


class CheckWorker(NamedTuple):
    """Ask a worker whether it is well; answer with `checked`."""

    worker: Any


class Grant(NamedTuple):
    """Answer a checkout with a worker."""

    lease: str
    worker: Any


class Refuse(NamedTuple):
    """Answer a checkout by an error. `why`: full, timeout, or start with the error of the start."""

    lease: str
    why: str
    error: Any = None


class Monitor(NamedTuple):
    """Tell with `down` when this process, which borrows, ends."""

    process: Any


class Demonitor(NamedTuple):
    """Do not watch this process any more."""

    process: Any


Effect = StartWorker | StopWorker | KillWorker | CheckWorker | Grant | Refuse | Monitor | Demonitor
