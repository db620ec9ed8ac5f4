"""OTP's supervision for Python, on Thespian actors: supervisors, GenServers, nodes.

Start with `Node.start()`, describe a tree with `SupervisorSpec` and `ChildSpec`, write servers as `GenServer`
subclasses, and call them from anywhere with `node.call`.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from supervisors import errors
from supervisors.version import __version__ as __version__

if TYPE_CHECKING:
    from supervisors.application.application import Application, ApplicationInfo
    from supervisors.client.home import Home
    from supervisors.client.node import Monitor, Node
    from supervisors.client.requests import Request, RequestIds, Response
    from supervisors.genserver import IGNORE, NO_REPLY, Extra, GenServer, Stop
    from supervisors.groups.handle import AsyncGroups, GroupChange, Groups
    from supervisors.groups.server import ProcessGroups
    from supervisors.partition.handle import AsyncPartitionSupervisor, PartitionSupervisor
    from supervisors.pool.handle import AsyncPool, Pool
    from supervisors.pool.spec import PoolSpec
    from supervisors.pool.stats import PoolStats, PoolStatus
    from supervisors.registry.handle import AsyncRegistryHandle, RegistryHandle
    from supervisors.registry.matching import ANY, Var
    from supervisors.registry.server import Registry
    from supervisors.tasks.inside import AsyncTask, AsyncTaskSupervisor
    from supervisors.tasks.outside import Task, TaskSupervisor
    from supervisors.tasks.server import callers
    from supervisors.terms.carried import carried
    from supervisors.terms.dynamic import DynamicSupervisorSpec
    from supervisors.terms.letters import UnknownMessage, message
    from supervisors.terms.partition import PartitionSupervisorSpec
    from supervisors.terms.reason import ExitReason
    from supervisors.terms.ref import Caller, Down, Ref
    from supervisors.terms.spec import Backoff, ChildSpec, SupervisorSpec, check_childspecs
    from supervisors.terms.tasks import TaskSupervisorSpec
    from supervisors.terms.via import Via
    from supervisors.terms.views import ChildCounts, ChildInfo, ProcessStats, Report

__all__ = [
    "ANY",
    "IGNORE",
    "NO_REPLY",
    "Application",
    "ApplicationInfo",
    "AsyncGroups",
    "AsyncPartitionSupervisor",
    "AsyncPool",
    "AsyncRegistryHandle",
    "AsyncTask",
    "AsyncTaskSupervisor",
    "Backoff",
    "Caller",
    "ChildCounts",
    "ChildInfo",
    "ChildSpec",
    "Down",
    "DynamicSupervisorSpec",
    "ExitReason",
    "Extra",
    "GenServer",
    "GroupChange",
    "Groups",
    "Home",
    "Monitor",
    "Node",
    "PartitionSupervisor",
    "PartitionSupervisorSpec",
    "Pool",
    "PoolSpec",
    "PoolStats",
    "PoolStatus",
    "ProcessGroups",
    "ProcessStats",
    "Ref",
    "Registry",
    "RegistryHandle",
    "Report",
    "Request",
    "RequestIds",
    "Response",
    "Stop",
    "SupervisorSpec",
    "Task",
    "TaskSupervisor",
    "TaskSupervisorSpec",
    "UnknownMessage",
    "Var",
    "Via",
    "callers",
    "carried",
    "check_childspecs",
    "errors",
    "message",
]

#: Where the rest is: each part is imported at its first use.
_LATER = {
    "ANY": "registry.matching",
    "Application": "application.application",
    "ApplicationInfo": "application.application",
    "AsyncGroups": "groups.handle",
    "AsyncPartitionSupervisor": "partition.handle",
    "AsyncPool": "pool.handle",
    "AsyncRegistryHandle": "registry.handle",
    "AsyncTask": "tasks.inside",
    "AsyncTaskSupervisor": "tasks.inside",
    "Backoff": "terms.spec",
    "Caller": "terms.ref",
    "ChildCounts": "terms.views",
    "ChildInfo": "terms.views",
    "ChildSpec": "terms.spec",
    "Down": "terms.ref",
    "DynamicSupervisorSpec": "terms.dynamic",
    "ExitReason": "terms.reason",
    "Extra": "genserver",
    "GenServer": "genserver",
    "GroupChange": "groups.handle",
    "Groups": "groups.handle",
    "Home": "client.home",
    "IGNORE": "genserver",
    "Monitor": "client.node",
    "NO_REPLY": "genserver",
    "Node": "client.node",
    "PartitionSupervisor": "partition.handle",
    "PartitionSupervisorSpec": "terms.partition",
    "Pool": "pool.handle",
    "PoolSpec": "pool.spec",
    "PoolStats": "pool.stats",
    "PoolStatus": "pool.stats",
    "ProcessGroups": "groups.server",
    "ProcessStats": "terms.views",
    "Ref": "terms.ref",
    "Registry": "registry.server",
    "RegistryHandle": "registry.handle",
    "Report": "terms.views",
    "Request": "client.requests",
    "RequestIds": "client.requests",
    "Response": "client.requests",
    "Stop": "genserver",
    "SupervisorSpec": "terms.spec",
    "Task": "tasks.outside",
    "TaskSupervisor": "tasks.outside",
    "TaskSupervisorSpec": "terms.tasks",
    "UnknownMessage": "terms.letters",
    "Var": "registry.matching",
    "Via": "terms.via",
    "callers": "tasks.server",
    "carried": "terms.carried",
    "check_childspecs": "terms.spec",
    "message": "terms.letters",
}


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


if not TYPE_CHECKING:  # else a type checker would take every name to be there

    def __getattr__(name: str) -> Any:
        """Import a part at its first use."""
        if name not in _LATER:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        module = import_module(f"{__name__}.{_LATER[name]}")
        globals()[name] = found = getattr(module, name)
        return found
