"""What a supervisor is told: ChildSpec and SupervisorSpec, frozen, validated whole, sendable."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal

from supervisors.terms.errors import SpecError
from supervisors.terms.via import Via

STRATEGIES = ("one_for_one", "one_for_all", "rest_for_one", "simple_one_for_one")
RESTARTS = ("permanent", "transient", "temporary")
AUTO_SHUTDOWNS = ("never", "any_significant", "all_significant")

Shutdown = float | int | Literal["brutal_kill", "infinity"] | None


def _refuse(field_name: str, value: Any, legal: str) -> SpecError:
    return SpecError(f"{field_name}={value!r}: expected {legal}")


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value == value  # not NaN


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
        if not _number(self.first) or self.first < 0:
            raise _refuse("backoff.first", self.first, "seconds >= 0")
        if not _number(self.factor) or self.factor < 1:
            raise _refuse("backoff.factor", self.factor, "a number >= 1")
        if not _number(self.limit) or self.limit < self.first:
            raise _refuse("backoff.limit", self.limit, "seconds >= backoff.first")
        if not _number(self.jitter) or not 0 <= self.jitter <= 1:
            raise _refuse("backoff.jitter", self.jitter, "a share from 0 to 1")

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
        name: registered while it lives, unique on the node; a Via: in the registry that it names.
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
        if not isinstance(self.id, str) or not self.id:
            raise _refuse("id", self.id, "a non-empty text")
        self._check_start()
        if not isinstance(self.args, tuple | list):
            raise _refuse("args", self.args, "a tuple")
        object.__setattr__(self, "args", tuple(self.args))
        if not isinstance(self.kwargs, dict) or any(not isinstance(key, str) for key in self.kwargs):
            raise _refuse("kwargs", self.kwargs, "a dict with text keys")
        if self.restart not in RESTARTS:
            raise _refuse("restart", self.restart, "one of " + ", ".join(RESTARTS))
        if (
            self.shutdown is not None
            and self.shutdown not in ("brutal_kill", "infinity")
            and not (
                _number(self.shutdown) and self.shutdown >= 0  # type: ignore[operator]
            )
        ):
            raise _refuse("shutdown", self.shutdown, 'seconds >= 0, "brutal_kill", "infinity" or None')
        if not isinstance(self.significant, bool):
            raise _refuse("significant", self.significant, "True or False")
        if self.significant and self.restart == "permanent":
            raise _refuse(
                "significant",
                True,
                "restart transient or temporary beside it (a permanent child never ends for good)",
            )
        if not (self.name is None or isinstance(self.name, Via) or (isinstance(self.name, str) and self.name)):
            raise _refuse("name", self.name, "a non-empty text, a Via or None")
        if not _number(self.start_timeout) or self.start_timeout <= 0:
            raise _refuse("start_timeout", self.start_timeout, "seconds > 0")
        if self.backoff is not None and not isinstance(self.backoff, Backoff):
            raise _refuse("backoff", self.backoff, "a Backoff or None")

    def _check_start(self) -> None:
        from supervisors.genserver import GenServer

        if not isinstance(self.start, type) and hasattr(self.start, "as_supervisor"):  # a PoolSpec is a small tree
            object.__setattr__(self, "start", self.start.as_supervisor())
        if isinstance(self.start, SupervisorSpec | SealedStart):
            return
        if not (isinstance(self.start, type) and issubclass(self.start, GenServer)):
            raise _refuse("start", self.start, "a GenServer class or a SupervisorSpec")

    @property
    def type(self) -> str:
        """Return "supervisor" or "worker"."""
        return "supervisor" if isinstance(self.start, SupervisorSpec) else "worker"

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
        name: registered while it lives.

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
            raise _refuse("children", self.children, "a list of ChildSpec")
        object.__setattr__(self, "children", tuple(self.children))
        for child in self.children:
            if not isinstance(child, ChildSpec):
                raise _refuse("children", child, "ChildSpec items")
        if self.strategy not in STRATEGIES:
            raise _refuse("strategy", self.strategy, "one of " + ", ".join(STRATEGIES))
        if not isinstance(self.intensity, int) or isinstance(self.intensity, bool) or self.intensity < 0:
            raise _refuse("intensity", self.intensity, "a whole number >= 0")
        if not _number(self.period) or self.period <= 0:
            raise _refuse("period", self.period, "seconds > 0")
        if self.auto_shutdown not in AUTO_SHUTDOWNS:
            raise _refuse("auto_shutdown", self.auto_shutdown, "one of " + ", ".join(AUTO_SHUTDOWNS))
        if not (self.name is None or isinstance(self.name, Via) or (isinstance(self.name, str) and self.name)):
            raise _refuse("name", self.name, "a non-empty text, a Via or None")
        ids = [child.id for child in self.children]
        if self.strategy == "simple_one_for_one":
            if len(ids) != 1:
                raise _refuse("children", ids, "exactly one template with simple_one_for_one")
            if self.auto_shutdown != "never":
                raise _refuse("auto_shutdown", self.auto_shutdown, '"never" with simple_one_for_one')
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
        raise _refuse("children", children, "a list of ChildSpec")
    if auto_shutdown not in AUTO_SHUTDOWNS:
        raise _refuse("auto_shutdown", auto_shutdown, "one of " + ", ".join(AUTO_SHUTDOWNS))
    seen = set()
    for child in children:
        if not isinstance(child, ChildSpec):
            raise _refuse("children", child, "ChildSpec items")
        if child.id in seen:
            raise _refuse("children", child.id, "each id once")
        seen.add(child.id)
        check_significant(child, auto_shutdown)


def check_significant(child: ChildSpec, auto_shutdown: str) -> None:
    """Refuse a significant child under a supervisor that never shuts down by itself.

    Raises:
        SpecError: names the child.
    """
    if child.significant and auto_shutdown == "never":
        raise _refuse("significant", True, f'False for child {child.id!r}: the supervisor\'s auto_shutdown is "never"')


def spec_fields(spec: Any) -> tuple[Any, ...]:
    """Return a spec's field values in order, for sending."""
    return tuple(getattr(spec, item.name) for item in fields(spec))
