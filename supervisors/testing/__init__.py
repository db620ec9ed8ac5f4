"""Tools for testing programs built on `supervisors`; public, as the rest of it.

::

    from supervisors.testing import assert_down, faulty, node, wait_until_restarted   # `node` is a pytest fixture

    def test_the_counter_comes_back(node):
        node.start_supervisor(SupervisorSpec([ChildSpec("c", faulty(Counter, kill_after=1), name="c")]))
        old = node.whereis("c")
        monitor = node.monitor(old)
        node.call("c", ("add", 1))
        node.cast("c", ("add", 1))                  # the second message kills it
        assert_down(monitor, "killed")
        wait_until_restarted(node, "c", old)

* `node` - a pytest fixture: a node of the test module's own, checked to leave no process behind.
* `wait_until`, `wait_until_async`, `wait_until_restarted`, `assert_down`, `assert_gone`, `processes_of` - wait for what
  is to be seen, with a deadline and without sleeping longer than needed.
* `CoreStepper` - a supervisor's decisions without a process: let children start, fail, end; see what it does.
* `Faulty`, `faulty` - servers that are slow to start, crash in init, or are killed after n messages.
* `LOST_NOTICES` - `Node.start(preload=[LOST_NOTICES])`: a node whose supervisors are never told that a child has ended.

Only the fixture needs pytest; it is imported when it is asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from supervisors.testing.faults import LOST_NOTICES, Faulty, faulty
from supervisors.testing.stepper import CoreStepper
from supervisors.testing.waiting import (
    assert_down,
    assert_gone,
    processes_of,
    wait_until,
    wait_until_async,
    wait_until_restarted,
)

if TYPE_CHECKING:
    from supervisors.testing.plugin import node

__all__ = [
    "LOST_NOTICES",
    "CoreStepper",
    "Faulty",
    "assert_down",
    "assert_gone",
    "faulty",
    "node",
    "processes_of",
    "wait_until",
    "wait_until_async",
    "wait_until_restarted",
]


def __getattr__(name: str) -> Any:
    if name == "node":
        from supervisors.testing.plugin import node

        return node
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
