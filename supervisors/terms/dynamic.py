"""DynamicSupervisorSpec: the spec of a supervisor whose children come and go while it runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from supervisors.terms.checks import check_count
from supervisors.terms.errors import SpecError
from supervisors.terms.spec import ChildSpec, SupervisorSpec
from supervisors.terms.via import Via


@dataclass(frozen=True)
class DynamicSupervisorSpec(SupervisorSpec):
    """A supervisor that begins with no children and takes any by `start_child`.

    Usable wherever a SupervisorSpec is. Children are restarted one by one, and stopped all at once, each with its
    own `shutdown`.

    Args:
        max_children: how many it takes at most, those that are being restarted included; None - no limit.
        extra_arguments: put before every child's own `args`, at start and restart.
        intensity: restarts allowed within `period`; one more ends the supervisor.
        period: the window in seconds.
        name: as a ChildSpec's.
        children, strategy, auto_shutdown: of every supervisor; here they are (), "one_for_one" and "never".

    Raises:
        SpecError: names the field, the value and what is legal.
    """

    max_children: int | None = None
    extra_arguments: tuple[Any, ...] = ()
    children: Sequence[ChildSpec] = field(default=(), kw_only=True)
    strategy: str = field(default="one_for_one", kw_only=True)
    intensity: int = field(default=3, kw_only=True)
    period: float = field(default=5.0, kw_only=True)
    auto_shutdown: str = field(default="never", kw_only=True)
    name: str | Via | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        """Validate the whole before anything starts."""
        check_count("max_children", self.max_children, optional=True)
        if not isinstance(self.extra_arguments, tuple | list):
            raise SpecError.of("extra_arguments", self.extra_arguments, "a tuple")
        object.__setattr__(self, "extra_arguments", tuple(self.extra_arguments))
        if self.children:
            raise SpecError.of("children", self.children, "none: a dynamic supervisor begins empty")
        if self.strategy != "one_for_one":
            raise SpecError.of("strategy", self.strategy, '"one_for_one", the only one of a dynamic supervisor')
        if self.auto_shutdown != "never":
            raise SpecError.of("auto_shutdown", self.auto_shutdown, '"never" for a dynamic supervisor')
        super().__post_init__()
