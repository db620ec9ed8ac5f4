"""DynamicSupervisor: children that come and go while it runs, each with a spec of its own (dynamic_supervisor.ex).

Like simple_one_for_one, but without a template: `start_child` gets a whole ChildSpec. Children have no order and go
by Ref; their ids are labels and may repeat. A child that ends for good is forgotten.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from supervisors.supervisor.children import Child, Children
from supervisors.supervisor.core import SupervisorCore
from supervisors.terms.dynamic import DynamicSupervisorSpec
from supervisors.terms.errors import MaxChildren, NotAllowed, SpecError
from supervisors.terms.ref import Ref
from supervisors.terms.showing import shown
from supervisors.terms.spec import ChildSpec, check_significant
from supervisors.terms.views import ChildCounts


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
            raise SpecError.of("spec", argument, "a ChildSpec")
        check_significant(argument, "never")
        most = self.spec.max_children
        if most is not None and len(self.children) >= most:
            raise MaxChildren(f"the supervisor has {len(self.children)} children, max_children={most}: try again later")
        return replace(argument, args=(*self.spec.extra_arguments, *argument.args))

    def _named(self, which: Any) -> Child:
        if not isinstance(which, Ref):
            raise NotAllowed(f"got {shown(which, 100)}: a child of a dynamic supervisor is named by its Ref")
        return self.children.find(which)

    def _stopped(self, which: Any) -> Child:
        raise NotAllowed("a dynamic supervisor has no restart_child and no delete_child")
