"""The state machine of a supervisor of tasks."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from typing import Any

from supervisors.supervisor.children import Child
from supervisors.supervisor.dynamic import DynamicCore
from supervisors.supervisor.events import Effect
from supervisors.supervisor.operations import Operation
from supervisors.terms.checks import check_shutdown
from supervisors.terms.errors import ChildNotFound, SpecError, SupervisorsError
from supervisors.terms.spec import ChildSpec
from supervisors.terms.tasks import TaskSupervisorSpec


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
            match argument:
                case [list() | tuple() as refs, shutdown]:
                    check_shutdown(shutdown)
                case _:
                    raise SpecError.of("argument", argument, "(the tasks' refs, a shutdown or None)")
            for ref in refs:
                with contextlib.suppress(ChildNotFound):
                    children.append(self._named(ref))
        except SupervisorsError as error:
            self._answer(caller, error=error)
            return
        if shutdown is not None:
            for child in children:
                child.spec = replace(child.spec, shutdown=shutdown)
        yield from self._stop(children)
        for child in children:
            self._forget(child)
        self._answer(caller)
