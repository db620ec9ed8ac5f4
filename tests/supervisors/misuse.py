"""What strangers do: values that no public call expects, and the calls to throw them at."""

import enum
import io
import math
import socket
import sys
import threading
from collections.abc import Callable
from typing import Any

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


class Colour(enum.StrEnum):
    RED = "red"


class Number(enum.IntEnum):
    ONE = 1


class Text(str):
    __slots__ = ()


class Awkward:
    """Can be neither shown, compared, hashed nor sent."""

    def __repr__(self):
        raise RuntimeError("no repr")

    def __eq__(self, other):
        raise RuntimeError("no eq")

    __hash__ = None

    def __reduce__(self):
        raise RuntimeError("no pickle")


class Trap:
    """Can be sent, and not opened."""

    def __reduce__(self):
        return _spring, ()


def _spring():
    raise RuntimeError("cannot be opened")


def deep(levels):
    value = ()
    for _ in range(levels):
        value = (value,)
    return value


def cyclic():
    value = []
    value.append({"self": value})
    return value


DEAD = Ref("127.0.0.1", 1, 1, 1, "0" * 16)
#: Each makes its value anew: no test may harm the next one's.
VALUES: dict[str, Callable[[], Any]] = {
    "None": lambda: None, "True": lambda: True, "0": lambda: 0, "-1": lambda: -1, "big int": lambda: 10 ** 400,
    "nan": lambda: math.nan, "inf": lambda: math.inf, "-inf": lambda: -math.inf, "1e300": lambda: 1e+300,
    "maxsize": lambda: sys.maxsize, "empty text": lambda: "", "blank": lambda: " ", "text": lambda: "nobody",
    "surrogate": lambda: "\ud800", "emoji": lambda: "😀" * 300, "nul": lambda: "a\x00b",
    "long text": lambda: "x" * 100000, "bytes": lambda: b"nobody", "bytearray": lambda: bytearray(b"x"),
    "tuple": lambda: (), "pair": lambda: ("a", 1), "list": list, "list of list": lambda: ([], 1),
    "dict": dict, "dict key": lambda: ({}, 1), "set": lambda: {1}, "frozenset": lambda: frozenset(),
    "object": lambda: object(), "class": lambda: dict, "lambda": lambda: lambda: None, "ellipsis": lambda: ...,
    "StrEnum": lambda: Colour.RED, "IntEnum": lambda: Number.ONE, "str subclass": lambda: Text("nobody"),
    "range": lambda: range(3), "cycle": lambda: cyclic(), "deep 150": lambda: deep(150),
    "deep 195": lambda: deep(195), "deep 100,000": lambda: deep(100000), "dead ref": lambda: DEAD,
    "awkward": lambda: Awkward(), "trap": lambda: Trap(), "lock": lambda: threading.Lock(),
    "socket": lambda: socket.socket(), "file": lambda: io.StringIO(), "generator": lambda: (each for each in ()),
    "module": lambda: sys, "exception": lambda: ValueError("x"), "via nobody": lambda: Via("nobody", 1),
    "via cycle": lambda: Via("nobody", cyclic()), "via deep": lambda: Via("nobody", deep(100000)),
    "via awkward": lambda: Via("nobody", Awkward()), "reason": lambda: ExitReason("error", {"x": 1}),
    "spec": lambda: SupervisorSpec([]),
}  # fmt: skip


def calls(node, top):
    """Return name → a call that takes one value; `top` is a supervisor, below which a server `echo` runs."""
    return {
        "call": lambda x: node.call(x, 1, timeout=0.5),
        "call request": lambda x: node.call("echo", ("echo", x), timeout=5),
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
