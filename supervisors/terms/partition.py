"""PartitionSupervisorSpec: the spec of a supervisor of n copies of one child."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import InitVar, dataclass, field, replace
from typing import Any

from supervisors.terms.checks import check_count, check_function, check_name
from supervisors.terms.errors import SpecError
from supervisors.terms.spec import ChildSpec, SupervisorSpec
from supervisors.terms.via import Via

WithArguments = Callable[[tuple[Any, ...], int], tuple[Any, ...] | list[Any]]


@dataclass(frozen=True)
class PartitionSupervisorSpec(SupervisorSpec):
    """A supervisor of `partitions` copies of `child`, named "0", "1", ...

    Args:
        child: the spec of every copy; its id is not used, and it may have no name (all would claim the same).
        partitions: how many; None - the number of CPUs of the machine where the spec is made.
        with_arguments: `with_arguments(args, partition)` returns the args of that copy; called where the spec is made.
        name: as a ChildSpec's, but required, since keys are found by it.
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
    name: str | Via | None = field(default=None, kw_only=True)

    def __post_init__(self, child: ChildSpec | None, with_arguments: WithArguments | None) -> None:
        """Validate the whole, and make the copies."""
        count = os.cpu_count() or 1 if self.partitions is None else self.partitions
        check_count("partitions", count, least=1)
        object.__setattr__(self, "partitions", count)
        check_name(self.name, optional=False)
        if self.auto_shutdown != "never":
            raise SpecError.of("auto_shutdown", self.auto_shutdown, '"never" for a partition supervisor')
        if self.strategy != "one_for_one":
            raise SpecError.of("strategy", self.strategy, '"one_for_one" for a partition supervisor')
        if not self.children:
            object.__setattr__(self, "children", _copies(child, count, with_arguments))
        if len(self.children) != count:
            raise SpecError.of("children", f"{len(self.children)} specs", "one per partition: give `child` instead")
        super().__post_init__()


def _copies(child: Any, count: int, with_arguments: Any) -> tuple[ChildSpec, ...]:
    if not isinstance(child, ChildSpec):
        raise SpecError.of("child", child, "a ChildSpec, which is copied once per partition")
    if child.name is not None:
        raise SpecError.of("child.name", child.name, "None: all copies would claim the same name")
    if with_arguments is None:
        return tuple(replace(child, id=str(number)) for number in range(count))
    check_function("with_arguments", with_arguments)
    return tuple(
        replace(child, id=str(number), args=with_arguments(child.args, number))  # ChildSpec checks what it returns
        for number in range(count)
    )
