"""Every kind of value at every public call: a result, or an error of this library at the caller, and no harm.

What servers give, and what specs hold, is in test_misuse_of_servers.py.
"""

import contextlib

import pytest
from misuse import VALUES, calls
from value_kinds import ALIKE

from supervisors import (
    ChildSpec,
    GenServer,
    PartitionSupervisorSpec,
    PoolSpec,
    ProcessGroups,
    Registry,
    SupervisorSpec,
    TaskSupervisorSpec,
    errors,
)


class Echo(GenServer):
    """Gives back what it is given."""

    def handle_call(self, request, caller):
        # No pattern: to compare with it would run a value's own code.
        return request[1] if type(request) is tuple and type(request[0]) is str and len(request) == 2 else None

    def handle_cast(self, message):
        pass

    def handle_info(self, message):
        pass


def servers():
    return SupervisorSpec(
        [
            ChildSpec("echo", Echo, name="echo"),
            ChildSpec("reg", Registry, kwargs={"keys": "unique"}, name="reg"),
            ChildSpec("groups", ProcessGroups, name="groups"),
            ChildSpec("tasks", TaskSupervisorSpec(name="tasks")),
            ChildSpec("parts", PartitionSupervisorSpec(ChildSpec("p", Echo), partitions=2, name="parts")),
            ChildSpec("pool", PoolSpec(ChildSpec("w", Echo), name="pool", size=1)),
        ]
    )


@pytest.fixture(scope="module")
def top(node):
    return node.start_supervisor(servers())


def pids(node, top):
    """The processes that no misuse may end."""
    tree = {row["id"]: row["pid"] for row in node.tree()["children"] if row["id"] in ("registry", "door")}
    return tree | {row.id: row.pid for row in node.which_children(top) if row.id in SERVERS}


SERVERS = ("echo", "reg", "groups", "tasks", "parts", "pool")


def outcome(call, value):
    """Return "result" or the error's class; any other exception fails the test."""
    try:
        call(value)
    except errors.SupervisorsError as error:
        return type(error)
    return "result"


#: They take 20 s each: every call makes them anew, and looks at all of them.
LONG = {"deep lists", "deep tuples", "via an endless key", "too large", "one block eighty times", "1e300"}
#: They go the ways that another value goes.
SAME = ALIKE | {"nan", "-inf", "maxsize", "blank", "name in bytes", "via a cycle", "subclass of list"}
NAMES = [pytest.param(name, marks=pytest.mark.soak) if name in LONG | SAME else name for name in sorted(VALUES)]


@pytest.mark.parametrize("name", NAMES)
def test_a_value_of_this_kind_harms_nobody_at_any_public_call(node, top, name):
    before, wrong = pids(node, top), []
    for what, call in calls(node, top).items():
        try:
            outcome(call, VALUES[name]())
        except Exception as error:
            wrong.append(f"{what}: {type(error).__name__}: {str(error)[:150]}")
    assert not wrong, "\n".join(wrong)
    assert node.status()["incarnation"] == 0
    assert pids(node, top) == before
    with contextlib.suppress(errors.SupervisorsError):
        node.resume("echo")
    assert node.call("echo", ("echo", "still here")) == "still here"
