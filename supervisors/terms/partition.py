"""PartitionSupervisorSpec: what a supervisor of n copies of one child is told."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import InitVar, dataclass, field, replace
from typing import Any

from supervisors.terms.errors import SpecError
from supervisors.terms.spec import ChildSpec, SupervisorSpec

WithArguments = Callable[[tuple[Any, ...], int], tuple[Any, ...] | list[Any]]


@dataclass(frozen=True)
class PartitionSupervisorSpec(SupervisorSpec):
    """A supervisor of `partitions` copies of `child`, named "0", "1", ...

    Args:
        child: the spec of every copy; its id is not used, and it may have no name (all would claim the same).
        partitions: how many; None - the number of CPUs of the machine where the spec is made.
        with_arguments: `with_arguments(args, partition)` returns the args of that copy; called where the spec is made.
        name: registered while it lives; required, since keys are found by it.
        intensity, period: restarts allowed within `period` seconds.
        auto_shutdown: only "never".
        children, strategy: what `child` becomes, under one_for_one; not to be given.

    Raises:
        SpecError: names the field, the value and what is legal.
    """

    child: InitVar[ChildSpec | None] = None
    partitions: int | None = None
    with_arguments: InitVar[WithArguments | None] = None
    children: Sequence[ChildSpec] = field(default=(), kw_only=True)
    strategy: str = field(default="one_for_one", kw_only=True)
    intensity: int = field(default=3, kw_only=True)
    period: float = field(default=5.0, kw_only=True)
    auto_shutdown: str = field(default="never", kw_only=True)
    name: str | None = field(default=None, kw_only=True)

    def __post_init__(self, child: ChildSpec | None, with_arguments: WithArguments | None) -> None:
        """Validate the whole, and make the copies."""
        if self.partitions is None:
            object.__setattr__(self, "partitions", os.cpu_count() or 1)
        count = self.partitions
        if not isinstance(count, int) or isinstance(count, bool) or count < 1:
            raise SpecError(f"partitions={count!r}: expected a whole number >= 1 or None")
        if not self.name:
            raise SpecError(f"name={self.name!r}: expected a non-empty text, a partition supervisor is found by it")
        if self.auto_shutdown != "never":
            raise SpecError(f'auto_shutdown={self.auto_shutdown!r}: expected "never" for a partition supervisor')
        if self.strategy != "one_for_one":
            raise SpecError(f'strategy={self.strategy!r}: expected "one_for_one" for a partition supervisor')
        if not self.children:
            object.__setattr__(self, "children", _copies(child, count, with_arguments))
        if len(self.children) != count:
            raise SpecError(f"children={len(self.children)} specs: expected one per partition, give `child` instead")
        super().__post_init__()


def _copies(child: Any, count: int, with_arguments: Any) -> tuple[ChildSpec, ...]:
    if not isinstance(child, ChildSpec):
        raise SpecError(f"child={child!r:.100}: expected a ChildSpec, copied once per partition")
    inner = child.start.name if isinstance(child.start, SupervisorSpec) else None
    if child.name is not None or inner is not None:
        raise SpecError(f"child.name={child.name or inner!r}: expected None, all copies would claim the same name")
    if with_arguments is None:
        return tuple(replace(child, id=str(number)) for number in range(count))
    if not callable(with_arguments):
        raise SpecError(f"with_arguments={with_arguments!r:.100}: expected a function of (args, partition), or None")
    return tuple(
        replace(child, id=str(number), args=with_arguments(child.args, number))  # ChildSpec checks what it returns
        for number in range(count)
    )
