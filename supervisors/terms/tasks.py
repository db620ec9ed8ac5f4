"""TaskSupervisorSpec: what a supervisor of tasks is told."""

from __future__ import annotations

from dataclasses import dataclass

from supervisors.terms.checks import check_shutdown
from supervisors.terms.dynamic import DynamicSupervisorSpec
from supervisors.terms.errors import SpecError
from supervisors.terms.spec import Shutdown


@dataclass(frozen=True)
class TaskSupervisorSpec(DynamicSupervisorSpec):
    """A dynamic supervisor whose children are tasks: processes that run one function each (task/supervisor.ex).

    Args:
        max_children: how many tasks may run at the same time; None - no limit.
        shutdown: what a task gets when it is stopped and has no `shutdown` of its own: seconds, "brutal_kill",
            "infinity".
        name: registered while it lives.
        intensity, period: for tasks that are restarted (`start_child(..., restart="permanent")`).

    Raises:
        SpecError: names the field, the value and what is legal.
    """

    shutdown: Shutdown = 5.0

    def __post_init__(self) -> None:
        """Validate the whole before anything starts."""
        if self.extra_arguments:
            raise SpecError(f"extra_arguments={self.extra_arguments!r:.100}: expected none for a task supervisor")
        if self.shutdown is None:
            raise SpecError('shutdown=None: expected seconds >= 0, "brutal_kill" or "infinity"')
        check_shutdown(self.shutdown)
        super().__post_init__()
