"""Which state machine a supervisor's spec asks for."""

from __future__ import annotations

from collections.abc import Callable

from supervisors.supervisor.core import SupervisorCore
from supervisors.supervisor.dynamic import DynamicCore
from supervisors.supervisor.partition import PartitionCore
from supervisors.supervisor.tasks import TaskCore
from supervisors.terms.dynamic import DynamicSupervisorSpec
from supervisors.terms.partition import PartitionSupervisorSpec
from supervisors.terms.ref import Ref
from supervisors.terms.spec import SupervisorSpec
from supervisors.terms.tasks import TaskSupervisorSpec


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
