"""OTP's supervision for Python, on Thespian actors: supervisors, GenServers, nodes.

Start with `Node.start()`, describe a tree with `SupervisorSpec` and `ChildSpec`, write servers as `GenServer`
subclasses, and call them from anywhere with `node.call`.
"""

from supervisors import errors
from supervisors.application import Application, ApplicationInfo
from supervisors.genserver import IGNORE, NO_REPLY, Extra, GenServer, Stop
from supervisors.node import Monitor, Node
from supervisors.reason import Down, ExitReason, Ref
from supervisors.spec import Backoff, ChildSpec, SupervisorSpec, check_childspecs
from supervisors.views import ChildCounts, ChildInfo, ProcessStats, Report

__version__ = "0.1.0"

__all__ = [
    "IGNORE",
    "NO_REPLY",
    "Application",
    "ApplicationInfo",
    "Backoff",
    "ChildCounts",
    "ChildInfo",
    "ChildSpec",
    "Down",
    "ExitReason",
    "Extra",
    "GenServer",
    "Monitor",
    "Node",
    "ProcessStats",
    "Ref",
    "Report",
    "Stop",
    "SupervisorSpec",
    "check_childspecs",
    "errors",
]
