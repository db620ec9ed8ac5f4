"""OTP's supervision for Python, on Thespian actors: supervisors, GenServers, nodes.

Start with `Node.start()`, describe a tree with `SupervisorSpec` and `ChildSpec`, write servers as `GenServer`
subclasses, and call them from anywhere with `node.call`.
"""

from supervisors import errors
from supervisors.application import Application, ApplicationInfo
from supervisors.dynamic import DynamicSupervisorSpec
from supervisors.genserver import IGNORE, NO_REPLY, Extra, GenServer, Stop
from supervisors.groups import GroupChange, ProcessGroups
from supervisors.matching import ANY, Var
from supervisors.node import Monitor, Node
from supervisors.partition import PartitionSupervisor, PartitionSupervisorSpec
from supervisors.pool import Pool
from supervisors.pool_spec import PoolSpec
from supervisors.pool_stats import PoolStats, PoolStatus
from supervisors.reason import Caller, Down, ExitReason, Ref
from supervisors.registry import Registry
from supervisors.requests import Request, RequestIds, Response
from supervisors.spec import Backoff, ChildSpec, SupervisorSpec, check_childspecs
from supervisors.task_inside import ServerTasks
from supervisors.task_server import callers
from supervisors.task_spec import TaskSupervisorSpec
from supervisors.tasks import Task, TaskSupervisor
from supervisors.via import Via
from supervisors.views import ChildCounts, ChildInfo, ProcessStats, Report

__version__ = "0.1.0"

__all__ = [
    "ANY",
    "IGNORE",
    "NO_REPLY",
    "Application",
    "ApplicationInfo",
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
    "Report",
    "Request",
    "RequestIds",
    "Response",
    "ServerTasks",
    "Stop",
    "SupervisorSpec",
    "Task",
    "TaskSupervisor",
    "TaskSupervisorSpec",
    "Var",
    "Via",
    "callers",
    "check_childspecs",
    "errors",
]
