"""ChildSpec and SupervisorSpec: frozen, checked as a whole when they are made, and fit to be sent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

from supervisors.terms.behaviour import Behaviour
from supervisors.terms.checks import (
    Shutdown,
    check_choice,
    check_count,
    check_flag,
    check_name,
    check_number,
    check_seconds,
    check_shutdown,
    check_text,
    is_number,
)
from supervisors.terms.errors import SpecError
from supervisors.terms.via import Via

STRATEGIES = ("one_for_one", "one_for_all", "rest_for_one", "simple_one_for_one")
RESTARTS = ("permanent", "transient", "temporary")
AUTO_SHUTDOWNS = ("never", "any_significant", "all_significant")


@dataclass(frozen=True)
class Backoff:
    """Opt-in delay before a restart: first, first*factor, first*factor², ... seconds up to `limit`, jittered.

    Args:
        first: seconds before the first restart in a row.
        factor: how much longer each further one waits.
        limit: the longest wait in seconds.
        jitter: share of the wait that is random, 0 to 1.
    """

    first: float = 0.1
    factor: float = 2.0
    limit: float = 30.0
    jitter: float = 0.2

    def __post_init__(self) -> None:
        """Refuse what makes no sense."""
        object.__setattr__(self, "first", check_seconds("backoff.first", self.first))
        check_number("backoff.factor", self.factor, 1)
        if not is_number(self.limit) or self.limit < self.first:
            raise SpecError.of("backoff.limit", self.limit, "seconds >= backoff.first")
        object.__setattr__(self, "limit", check_seconds("backoff.limit", self.limit))
        check_number("backoff.jitter", self.jitter, 0, 1)

    def delay(self, in_row: int, luck: float) -> float:
        """Return the seconds to wait.

        Args:
            in_row: restarts in a row before this one. A child that ran for `limit` seconds begins anew.
            luck: a random number from 0 to 1.
        """
        try:
            seconds = min(self.limit, self.first * self.factor**in_row)
        except OverflowError:
            seconds = self.limit
        return float(seconds * (1 - self.jitter * luck))


@dataclass(frozen=True)
class ChildSpec:
    """How a supervisor starts, restarts and stops one child.

    Args:
        id: its name within the supervisor, a non-empty text.
        start: a GenServer class, or a SupervisorSpec for a nested supervisor (a process of its own).
        args: positional arguments of the server's `init`.
        kwargs: keyword arguments of the server's `init`.
        restart: permanent - always restarted; transient - only when it ended abnormally; temporary - never.
        shutdown: seconds it gets to stop before it is killed; "brutal_kill" - killed at once; "infinity" -
            waited for without end; None - 5.0 for a worker, infinity for a supervisor.
        significant: with the supervisor's auto_shutdown, its end can end the supervisor.
        name: registered while it lives, unique on the node; a Via: in the registry that it names; None: no name.
        start_timeout: seconds that `init` may take.
        backoff: wait before restarts; None - restart at once, as OTP does.

    Raises:
        SpecError: names the field, the value and what is legal.
    """

    id: str
    start: Any
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = field(default_factory=dict)
    restart: str = "permanent"
    shutdown: Shutdown = None
    significant: bool = False
    name: str | Via | None = None
    start_timeout: float = 60.0
    backoff: Backoff | None = None

    def __post_init__(self) -> None:
        """Validate every field; nothing is started with a spec that is not legal."""
        object.__setattr__(self, "id", check_text("id", self.id))
        self._check_start()
        if not isinstance(self.args, tuple | list):
            raise SpecError.of("args", self.args, "a tuple")
        object.__setattr__(self, "args", tuple(self.args))
        if not isinstance(self.kwargs, dict) or any(not isinstance(key, str) for key in self.kwargs):
            raise SpecError.of("kwargs", self.kwargs, "a dict with text keys")
        check_choice("restart", self.restart, RESTARTS)
        object.__setattr__(self, "shutdown", check_shutdown(self.shutdown))
        check_flag("significant", self.significant)
        if self.significant and self.restart == "permanent":
            raise SpecError.of(
                "significant",
                True,
                "restart transient or temporary beside it (a permanent child never ends for good)",
            )
        object.__setattr__(self, "name", check_name(self.name))
        self._take_name()
        seconds = check_seconds("start_timeout", self.start_timeout, positive=True)
        object.__setattr__(self, "start_timeout", seconds)
        if self.backoff is not None and not isinstance(self.backoff, Backoff):
            raise SpecError.of("backoff", self.backoff, "a Backoff or None")

    def _take_name(self) -> None:
        """The name of a nested supervisor may be given here or there, and means the same."""
        inner = self.start.name if isinstance(self.start, SupervisorSpec) else None
        if self.name is not None and inner is not None and inner != self.name:
            raise SpecError.of("name", self.name, f"the name of the supervisor that it starts, {inner!s}, or None")
        object.__setattr__(self, "name", self.name if inner is None else inner)

    def _check_start(self) -> None:
        if not isinstance(self.start, type) and hasattr(self.start, "as_supervisor"):  # a PoolSpec is a small tree
            object.__setattr__(self, "start", self.start.as_supervisor())
        if isinstance(self.start, SupervisorSpec | SealedStart):
            return
        if not (isinstance(self.start, type) and issubclass(self.start, Behaviour)):
            raise SpecError.of("start", self.start, "a GenServer class or a SupervisorSpec")

    @property
    def type(self) -> str:
        """Return "supervisor" or "worker"."""
        return "supervisor" if isinstance(self.start, SupervisorSpec) else "worker"

    @property
    def registers(self) -> str | Via | None:
        """Return the name that its process registers: its own, or that of the supervisor that it starts."""
        if self.name is None and isinstance(self.start, SupervisorSpec):
            return self.start.name
        return self.name

    @property
    def shutdown_limit(self) -> float | None:
        """Return the seconds that a stop may take: 0.0 for brutal_kill, None for infinity."""
        if self.shutdown is None:
            return 5.0 if self.type == "worker" else None
        if self.shutdown == "infinity":
            return None
        return 0.0 if self.shutdown == "brutal_kill" else float(self.shutdown)

    def with_defaults(self) -> ChildSpec:
        """Return the spec with the `shutdown` that None stands for written out."""
        if self.shutdown is not None:
            return self
        return replace(self, shutdown=5.0 if self.type == "worker" else "infinity")


@dataclass(frozen=True)
class SealedStart:
    """A GenServer class and its arguments as pickled bytes.

    Supervisors carry it without opening it: user code is imported only in the process that runs it.
    """

    blob: bytes
    label: str


@dataclass(frozen=True)
class SupervisorSpec:
    """A supervisor: its children, in start order, and its rules.

    Args:
        children: a list or tuple of ChildSpecs (a tuple once made); with simple_one_for_one exactly one, the template.
        strategy: one_for_one - only the child that ended is restarted; one_for_all - all are; rest_for_one - it
            and those started after it; simple_one_for_one - children of one template, started by start_child.
        intensity: restarts allowed within `period`; one more ends the supervisor.
        period: the window in seconds.
        auto_shutdown: never; any_significant; all_significant.
        name: as a ChildSpec's.

    Raises:
        SpecError: names the field, the value and what is legal.
    """

    children: Sequence[ChildSpec] = ()
    strategy: str = "one_for_one"
    intensity: int = 1
    period: float = 5.0
    auto_shutdown: str = "never"
    name: str | Via | None = None

    def __post_init__(self) -> None:
        """Validate the whole before anything starts."""
        if not isinstance(self.children, tuple | list):
            raise SpecError.of("children", self.children, "a list of ChildSpec")
        object.__setattr__(self, "children", tuple(self.children))
        for child in self.children:
            if not isinstance(child, ChildSpec):
                raise SpecError.of("children", child, "ChildSpec items")
        check_choice("strategy", self.strategy, STRATEGIES)
        check_count("intensity", self.intensity)
        object.__setattr__(self, "period", check_seconds("period", self.period, positive=True))
        check_choice("auto_shutdown", self.auto_shutdown, AUTO_SHUTDOWNS)
        object.__setattr__(self, "name", check_name(self.name))
        ids = [child.id for child in self.children]
        if self.strategy == "simple_one_for_one":
            if len(ids) != 1:
                raise SpecError.of("children", ids, "exactly one template with simple_one_for_one")
            if self.auto_shutdown != "never":
                raise SpecError.of("auto_shutdown", self.auto_shutdown, '"never" with simple_one_for_one')
        check_childspecs(self.children, self.auto_shutdown)


def check_childspecs(children: Any, auto_shutdown: str = "never") -> None:
    """Check child specs without starting anything.

    Args:
        children: a list or tuple of ChildSpecs (each has checked its own fields when it was made).
        auto_shutdown: of the supervisor that they are for: never, any_significant or all_significant.

    Raises:
        SpecError: not a list, an item that is no ChildSpec, an id twice, or a significant child under "never".

    Source: supervisor.erl, check_childspecs/2.
    """
    if not isinstance(children, tuple | list):
        raise SpecError.of("children", children, "a list of ChildSpec")
    check_choice("auto_shutdown", auto_shutdown, AUTO_SHUTDOWNS)
    seen = set()
    for child in children:
        if not isinstance(child, ChildSpec):
            raise SpecError.of("children", child, "ChildSpec items")
        if child.id in seen:
            raise SpecError.of("children", child.id, "each id once")
        seen.add(child.id)
        check_significant(child, auto_shutdown)


def check_significant(child: ChildSpec, auto_shutdown: str) -> None:
    """Refuse a significant child under a supervisor that never shuts down by itself.

    Raises:
        SpecError: names the child.
    """
    if child.significant and auto_shutdown == "never":
        raise SpecError.of(
            "significant", True, f'False for child {child.id!r}: the supervisor\'s auto_shutdown is "never"'
        )


def spec_fields(spec: Any) -> tuple[Any, ...]:
    """Return a spec's field values in order, for sending."""
    return tuple(getattr(spec, item.name) for item in fields(spec))
