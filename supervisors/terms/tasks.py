"""TaskSupervisorSpec: the spec of a supervisor of tasks."""

from __future__ import annotations

from dataclasses import dataclass

from supervisors.terms.checks import Shutdown, check_shutdown
from supervisors.terms.dynamic import DynamicSupervisorSpec
from supervisors.terms.errors import SpecError


@dataclass(frozen=True)
class TaskSupervisorSpec(DynamicSupervisorSpec):
    """A dynamic supervisor whose children are tasks: processes that run one function each (task/supervisor.ex).

    Args:
        max_children: how many tasks may run at the same time; None - no limit.
        shutdown: what a task gets when it is stopped and has no `shutdown` of its own: seconds, "brutal_kill",
            "infinity".
        name: as a ChildSpec's.
        intensity, period: for tasks that are restarted (`start_child(..., restart="permanent")`).

    Raises:
        SpecError: names the field, the value and what is legal.
    """

    shutdown: Shutdown = 5.0

    def __post_init__(self) -> None:
        """Validate the whole before anything starts."""
        if self.extra_arguments:
            raise SpecError.of("extra_arguments", self.extra_arguments, "none for a task supervisor")
        object.__setattr__(self, "shutdown", check_shutdown(self.shutdown, optional=False))
        super().__post_init__()
