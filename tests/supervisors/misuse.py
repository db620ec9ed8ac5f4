"""The public calls that take a value, to throw values of every kind at."""

import math
import sys

from value_kinds import KINDS, cycle, nested

from supervisors import (
    Application,
    ChildSpec,
    ExitReason,
    Groups,
    PartitionSupervisor,
    Pool,
    Ref,
    RegistryHandle,
    SupervisorSpec,
    TaskSupervisor,
    Via,
)

#: What is no value for a message only, but stands where a target, a name or a time is expected; each makes its value.
VALUES = {
    **KINDS,
    "nan": lambda: math.nan, "inf": lambda: math.inf, "-inf": lambda: -math.inf, "1e300": lambda: 1e300,
    "maxsize": lambda: sys.maxsize, "empty text": str, "blank": lambda: " ", "name of nobody": lambda: "nobody",
    "name in bytes": lambda: b"nobody", "unhashable and a number": lambda: ([], 1),
    "dead ref": lambda: Ref("127.0.0.1", 1, 1, 1, "0" * 16), "via nobody": lambda: Via("nobody", 1),
    "via a cycle": lambda: Via("nobody", cycle()), "via an endless key": lambda: Via("nobody", nested(tuple, 100_000)),
    "reason": lambda: ExitReason("error", {"x": 1}), "spec": lambda: SupervisorSpec([]),
}  # fmt: skip


def calls(node, top):
    """Return name → a call that takes one value; `top` is a supervisor, below which a server `echo` runs."""
    return {
        "call": lambda x: node.call(x, 1, timeout=0.5),
        "call request": lambda x: node.call("echo", ("echo", x), timeout=5),
        "call bare request": lambda x: node.call("echo", x, timeout=5),
        "call timeout": lambda x: node.call("echo", ("echo", 1), timeout=x),
        "call a supervisor": lambda x: node.call(top, x, timeout=5),
        "call a supervisor by hand": lambda x: node.call(top, ("which_child", x), timeout=5),
        "call a supervisor's operation": lambda x: node.call(top, (x, None), timeout=5),
        "cast": lambda x: node.cast(x, 1),
        "cast message": lambda x: node.cast("echo", x),
        "cast a supervisor": lambda x: node.cast(top, x),
        "send": lambda x: node.send(x, 1),
        "send message": lambda x: node.send("echo", x),
        "send request": lambda x: node.send_request(x, 1).receive_response(0.5),
        "monitor": lambda x: node.monitor(x).wait(0.5),
        "pid": node.pid,
        "whereis": node.whereis,
        "exit": lambda x: node.exit(x, "normal"),
        "exit reason": lambda x: node.exit("nobody", x),
        "stop": lambda x: node.stop(x, timeout=0.5),
        "stop reason": lambda x: node.stop("nobody", x),
        "stop timeout": lambda x: node.stop("nobody", timeout=x),
        "start_supervisor": node.start_supervisor,
        "start_child below": lambda x: node.start_child(x, ChildSpec("never", dict)),
        "start_child": lambda x: node.start_child(top, x),
        "start_child id": lambda x: node.start_child(top, ChildSpec(x, SupervisorSpec([]), restart="temporary")),
        "restart_child": lambda x: node.restart_child(top, x),
        "terminate_child": lambda x: node.terminate_child(top, x),
        "delete_child": lambda x: node.delete_child(top, x),
        "get_childspec": lambda x: node.get_childspec(top, x),
        "which_child": lambda x: node.which_child(top, x),
        "which_children": node.which_children,
        "count_children": node.count_children,
        "ping": lambda x: node.ping(x, timeout=0.5),
        "get_state": lambda x: node.get_state(x, timeout=0.5),
        "replace_state": lambda x: node.replace_state("echo", x),
        "get_status": lambda x: node.get_status(x, timeout=0.5),
        "suspend": lambda x: node.suspend(x, timeout=0.5),
        "reports": node.reports,
        "start_application": node.start_application,
        "ensure_all_started": node.ensure_all_started,
        "application": lambda x: Application(x, SupervisorSpec([])),
        "stop_application": node.stop_application,
        "pool": lambda x: Pool(node, x).transaction(1, timeout=0.5),
        "pool request": lambda x: Pool(node, "pool").transaction(x, timeout=5),
        "registry": lambda x: RegistryHandle(node, x).lookup(1),
        "registry key": lambda x: RegistryHandle(node, "reg").register(x, 1, owner=top),
        "registry pattern": lambda x: RegistryHandle(node, "reg").match(x, x),
        "groups": lambda x: Groups(node, x).members(1),
        "group": lambda x: Groups(node, "groups").members(x),
        "group member": lambda x: Groups(node, "groups").join("g", x),
        "partitions": lambda x: PartitionSupervisor(node, x).ref(1),
        "partition key": lambda x: PartitionSupervisor(node, "parts").ref(x),
        "resize": lambda x: PartitionSupervisor(node, "parts").resize(x),
        "tasks": lambda x: TaskSupervisor(node, x).children(),
        "task": lambda x: TaskSupervisor(node, "tasks").async_(x).await_(5),
        "task timeout": lambda x: TaskSupervisor(node, "tasks").async_nolink(int).yield_(x),
    }
