"""OTP's supervision for Python, on Thespian actors: supervisors, GenServers, nodes.

Start with `Node.start()`, describe a tree with `SupervisorSpec` and `ChildSpec`, write servers as `GenServer`
subclasses, and call them from anywhere with `node.call`.
"""

from supervisors import errors
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
from supervisors.terms.dynamic import DynamicSupervisorSpec
from supervisors.terms.letters import UnknownMessage, message
from supervisors.terms.partition import PartitionSupervisorSpec
from supervisors.terms.reason import ExitReason
from supervisors.terms.ref import Caller, Down, Ref
from supervisors.terms.spec import Backoff, ChildSpec, SupervisorSpec, check_childspecs
from supervisors.terms.tasks import TaskSupervisorSpec
from supervisors.terms.via import Via
from supervisors.terms.views import ChildCounts, ChildInfo, ProcessStats, Report
from supervisors.version import __version__ as __version__

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
    "check_childspecs",
    "errors",
    "message",
]
