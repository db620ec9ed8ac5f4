"""The supervisor of tasks, without processes: TaskSupervisorSpec and its state machine."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from supervisors.supervisor.children import Child
from supervisors.supervisor.dynamic import DynamicCore, DynamicSupervisorSpec
from supervisors.supervisor.events import Effect
from supervisors.supervisor.operations import Operation
from supervisors.terms.errors import ChildNotFound, SpecError
from supervisors.terms.spec import ChildSpec, Shutdown


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
        _check_shutdown(self.shutdown)
        super().__post_init__()


def _check_shutdown(shutdown: Any) -> None:
    from supervisors.genserver import GenServer

    ChildSpec("task", GenServer, shutdown=shutdown)  # the one place that knows what is legal


class TaskCore(DynamicCore):
    """The state machine of a task supervisor: a dynamic one's, that can stop many tasks at once."""

    spec: TaskSupervisorSpec

    def call(self, caller: Any, name: str, argument: Any, now: float) -> list[Effect]:
        """Answer ("shutdown_tasks", (refs, shutdown)), and what every dynamic supervisor answers."""
        if self.finished or name != "shutdown_tasks":
            return super().call(caller, name, argument, now)
        self._now = now
        self._queue.append((lambda: self._shutdown_tasks(caller, argument), caller))
        return self._drain()

    def _new_spec(self, argument: Any) -> ChildSpec:
        spec = super()._new_spec(argument)
        return replace(spec, shutdown=self.spec.shutdown) if spec.shutdown is None else spec

    def _shutdown_tasks(self, caller: Any, argument: Any) -> Operation:
        """Stop tasks at the same time; one that has ended already is no error. `shutdown` None: each its own."""
        children: list[Child] = []
        try:
            refs, shutdown = argument
            for ref in refs:
                try:
                    child = self._named(ref)
                except ChildNotFound:
                    continue
                if shutdown is not None:
                    child.spec = replace(child.spec, shutdown=shutdown)
                children.append(child)
        except SpecError as error:
            self._answer(caller, error=error)
            return
        yield from self._stop(children)
        for child in children:
            self._forget(child)
        self._answer(caller)
