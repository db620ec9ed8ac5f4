"""DynamicSupervisor: children that come and go while it runs, each with a spec of its own (dynamic_supervisor.ex).

Like simple_one_for_one, but without a template: `start_child` gets a whole ChildSpec. Children have no order and go
by Ref; their ids are labels and may repeat. A child that ends for good is forgotten.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from supervisors.supervisor.children import Child, Children
from supervisors.supervisor.core import SupervisorCore
from supervisors.terms.errors import MaxChildren, NotAllowed, SpecError
from supervisors.terms.reason import Ref
from supervisors.terms.spec import ChildSpec, SupervisorSpec, check_significant
from supervisors.terms.views import ChildCounts


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
        name: registered while it lives.
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
    name: str | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        """Validate the whole before anything starts."""
        most = self.max_children
        if most is not None and (not isinstance(most, int) or isinstance(most, bool) or most < 0):
            raise SpecError(f"max_children={most!r}: expected a whole number >= 0 or None")
        if not isinstance(self.extra_arguments, tuple | list):
            raise SpecError(f"extra_arguments={self.extra_arguments!r}: expected a tuple")
        object.__setattr__(self, "extra_arguments", tuple(self.extra_arguments))
        if self.children:
            raise SpecError(f"children={self.children!r:.100}: expected none, a dynamic supervisor begins empty")
        if self.strategy != "one_for_one":
            raise SpecError(f'strategy={self.strategy!r}: expected "one_for_one", the only one of a dynamic supervisor')
        if self.auto_shutdown != "never":
            raise SpecError(f'auto_shutdown={self.auto_shutdown!r}: expected "never" for a dynamic supervisor')
        super().__post_init__()


class DynamicChildren(Children):
    """Children that go by Ref, and are counted one by one."""

    def __init__(self) -> None:
        """Begin with none."""
        super().__init__(dynamic=True)

    def counts(self) -> ChildCounts:
        """Return the counts; every child is a spec of its own."""
        return replace(super().counts(), specs=len(self))


class DynamicCore(SupervisorCore):
    """The state machine of a dynamic supervisor."""

    spec: DynamicSupervisorSpec

    def __init__(
        self,
        spec: DynamicSupervisorSpec,
        rng: random.Random | None = None,
        alive: Callable[[Ref], bool] = lambda ref: True,
    ) -> None:
        """Make one that has not started anything yet; `alive` is not asked: a dead Ref is not found."""
        super().__init__(spec, rng)
        self.dynamic = True
        self.children = DynamicChildren()

    def _new_spec(self, argument: Any) -> ChildSpec:
        if not isinstance(argument, ChildSpec):
            raise SpecError(f"start_child got {argument!r:.100}: expected a ChildSpec")
        check_significant(argument, "never")
        most = self.spec.max_children
        if most is not None and len(self.children) >= most:
            raise MaxChildren(f"the supervisor has {len(self.children)} children, max_children={most}: try again later")
        return replace(argument, args=(*self.spec.extra_arguments, *argument.args))

    def _named(self, which: Any) -> Child:
        if not isinstance(which, Ref):
            raise NotAllowed(f"got {which!r:.100}: a child of a dynamic supervisor is named by its Ref")
        return self.children.find(which)

    def _stopped(self, which: Any) -> Child:
        raise NotAllowed("a dynamic supervisor has no restart_child and no delete_child")
