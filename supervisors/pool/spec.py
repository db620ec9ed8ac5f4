"""PoolSpec: the spec of a pool; it becomes a small supervision tree, as poolboy's does."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import Any

from supervisors.pool.effects import PoolRules
from supervisors.pool.server import WORKERS, PoolServer
from supervisors.terms.behaviour import Behaviour
from supervisors.terms.checks import check_choice, check_count, check_name, check_seconds
from supervisors.terms.errors import SpecError
from supervisors.terms.spec import ChildSpec, SealedStart, SupervisorSpec
from supervisors.terms.via import Via

POOL_STRATEGIES = ("lifo", "fifo")


@dataclass(frozen=True)
class PoolSpec:
    """A pool of workers of one kind, which borrow and return.

    Use it as `ChildSpec.start`, or give it to `Node.start_supervisor`. It is a supervisor (one_for_all) of two: a
    simple_one_for_one supervisor with the workers, which are temporary, and the pool's server, which replaces them.
    `size` workers have started when the pool has; one that cannot start fails the pool's start. Later, it fails
    one waiting checkout and nothing else.

    Args:
        worker: how a worker is started and stopped: a ChildSpec with a GenServer class and no name. Its `restart`
            does not matter.
        name: as a ChildSpec's; of the pool's server, which handles speak to.
        size: workers at the start.
        max_overflow: workers beyond that, started while others wait and stopped as soon as nobody does.
        strategy: lifo - the worker that was returned last is next; fifo - the one that has been idle for longest.
        min_size: the pool shrinks to so many when they are idle. None - `size`.
        max_size: the pool grows to so many when checkouts wait, before there is overflow. None - `size`.
        idle_seconds: a worker that is idle for so long is stopped, if there are more than `min_size`.
        work_timeout: seconds a borrower may keep a worker; then it is killed and replaced. None - without end.
        health_check: a request. A worker that answers False, or by an error, or too late is replaced. None - no check.
        health_interval: a worker whose last check is so many seconds ago is checked, while it is idle and before it
            is handed out; 0 - before every checkout.
        health_timeout: seconds that the answer may take.
        stats_window: seconds that the percentiles of the waits cover.
        intensity: restarts of the pool's server within `period`; one more ends the pool.
        period: the window in seconds.

    Raises:
        SpecError: names the field, the value and what is legal.
    """

    worker: ChildSpec
    name: str | Via | None = None
    size: int = 5
    max_overflow: int = 10
    strategy: str = "lifo"
    min_size: int | None = None
    max_size: int | None = None
    idle_seconds: float = 60.0
    work_timeout: float | None = None
    health_check: Any = None
    health_interval: float = 5.0
    health_timeout: float = 1.0
    stats_window: float = field(default=60.0, kw_only=True)
    intensity: int = field(default=1, kw_only=True)
    period: float = field(default=5.0, kw_only=True)

    def __post_init__(self) -> None:
        """Validate every field; nothing is started with a spec that is not legal."""
        worker = self.worker
        if not isinstance(worker, ChildSpec):
            raise SpecError.of("worker", worker, "a ChildSpec")
        if not isinstance(worker.start, SealedStart) and not (
            isinstance(worker.start, type) and issubclass(worker.start, Behaviour)
        ):
            raise SpecError.of("worker.start", worker.start, "a GenServer class")
        if worker.name is not None:
            raise SpecError.of("worker.name", worker.name, "None, for there are many workers")
        check_name(self.name)
        check_count("size", self.size)
        check_count("max_overflow", self.max_overflow)
        check_choice("strategy", self.strategy, POOL_STRATEGIES)
        check_count("min_size", self.min_size, most=self.size, optional=True)
        check_count("max_size", self.max_size, least=self.size, optional=True)
        for name in ("idle_seconds", "health_interval"):
            object.__setattr__(self, name, check_seconds(name, getattr(self, name)))
        for name in ("health_timeout", "stats_window"):
            object.__setattr__(self, name, check_seconds(name, getattr(self, name), positive=True))
        seconds = check_seconds("work_timeout", self.work_timeout, positive=True, optional=True)
        object.__setattr__(self, "work_timeout", seconds)
        self.as_supervisor()

    @property
    def rules(self) -> PoolRules:
        """Return the numbers that the pool's core goes by."""
        return PoolRules(
            size=self.size,
            max_overflow=self.max_overflow,
            strategy=self.strategy,
            min_size=self.size if self.min_size is None else self.min_size,
            max_size=self.size if self.max_size is None else self.max_size,
            idle_seconds=float(self.idle_seconds),
            health_interval=None if self.health_check is None else float(self.health_interval),
            stats_window=float(self.stats_window),
        )

    def as_supervisor(self) -> SupervisorSpec:
        """Return the pool as a supervisor; it ends when its server is stopped, for that is significant."""
        worker = replace(self.worker, restart="temporary", significant=False)
        workers = SupervisorSpec((worker,), "simple_one_for_one", intensity=0, period=1.0)
        arguments = {
            "rules": asdict(self.rules),
            "work_timeout": self.work_timeout,
            "health_check": self.health_check,
            "health_timeout": float(self.health_timeout),
            "shutdown_limit": worker.shutdown_limit,
        }
        server = ChildSpec(
            "pool",
            PoolServer,
            kwargs=arguments,
            name=self.name,
            restart="transient",
            significant=True,
            start_timeout=max(60.0, worker.start_timeout * (self.size + 1)),
        )
        return SupervisorSpec(
            (ChildSpec(WORKERS, workers), server), "one_for_all", self.intensity, self.period, "any_significant"
        )
