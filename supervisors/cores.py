"""Which state machine a supervisor's spec asks for."""

from __future__ import annotations

from collections.abc import Callable

from supervisors.core import SupervisorCore
from supervisors.dynamic import DynamicCore, DynamicSupervisorSpec
from supervisors.partition import PartitionCore, PartitionSupervisorSpec
from supervisors.reason import Ref
from supervisors.spec import SupervisorSpec
from supervisors.task_spec import TaskCore, TaskSupervisorSpec


def core_for(spec: SupervisorSpec, alive: Callable[[Ref], bool] = lambda ref: True) -> SupervisorCore:
    """Return the state machine of a supervisor; see `SupervisorCore` for the arguments."""
    match spec:
        case TaskSupervisorSpec():
            return TaskCore(spec, alive=alive)
        case DynamicSupervisorSpec():
            return DynamicCore(spec, alive=alive)
        case PartitionSupervisorSpec():
            return PartitionCore(spec, alive=alive)
    return SupervisorCore(spec, alive=alive)
