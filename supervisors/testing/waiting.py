"""Wait for what is to be seen: a condition, a successor, an end."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from typing import TypeVar

from supervisors.client.node import Monitor, Node
from supervisors.host import processes
from supervisors.terms.errors import SupervisorsError
from supervisors.terms.ref import Down, Ref

T = TypeVar("T")
#: What is waited for has failed after so many seconds: more than the busiest machine needs.
DEADLINE = 20.0


def wait_until(condition: Callable[[], T], deadline: float = DEADLINE, pause: float = 0.005) -> T:
    """Wait until `condition()` is true, and return what it returned.

    Args:
        condition: called again and again; what it raises is passed on.
        deadline: seconds after which the wait has failed.
        pause: seconds between two looks.

    Raises:
        AssertionError: it was not true in time.
    """
    end = time.monotonic() + deadline
    while not (value := condition()):
        if time.monotonic() >= end:
            raise AssertionError(f"not within {deadline:g} s: {condition}")
        time.sleep(pause)
    return value


async def wait_until_async(condition: Callable[[], T], deadline: float = DEADLINE, pause: float = 0.005) -> T:
    """Wait as `wait_until` does, and let the others of the event loop go on meanwhile."""
    end = time.monotonic() + deadline
    while not (value := condition()):
        if time.monotonic() >= end:
            raise AssertionError(f"not within {deadline:g} s: {condition}")
        await asyncio.sleep(pause)
    return value


def wait_until_restarted(
    node: Node, target: str | tuple[Ref | str, str], old: Ref | None, deadline: float = DEADLINE
) -> Ref:
    """Wait until another process than `old` runs, and return its Ref.

    Args:
        node: where.
        target: a registered name, or a supervisor and the id of its child.
        old: the process that ended (None: there was none).
        deadline: seconds after which the wait has failed.

    Raises:
        AssertionError: there was no successor in time.
    """

    def successor() -> Ref | None:
        try:
            if isinstance(target, str):
                ref = node.whereis(target)
            else:
                supervisor, child = target
                ref = next((row.ref for row in node.which_children(supervisor) if row.id == child), None)
        except SupervisorsError:
            return None
        return None if ref is None or ref == old or processes.has_ended(ref.pid, ref.born) else ref

    try:
        found = wait_until(successor, deadline)
    except AssertionError:
        raise AssertionError(f"no successor of {old} as {target!r} within {deadline:g} s") from None
    assert found is not None
    return found


def assert_down(monitor: Monitor, kind: str, deadline: float = DEADLINE) -> Down:
    """Wait for a monitored process to end, and return its Down.

    Args:
        monitor: from `node.monitor`.
        kind: of the reason: normal, shutdown, killed, error, noproc or nodedown.
        deadline: seconds after which the wait has failed.

    Raises:
        AssertionError: it runs on, or ended for a reason of another kind.
    """
    down = monitor.wait(deadline)
    if down is None:
        raise AssertionError(f"{monitor.ref} still runs after {deadline:g} s: expected it to end ({kind})")
    if down.reason.kind != kind:
        raise AssertionError(f"{monitor.ref} ended for {down.reason}: expected {kind}")
    return down


def processes_of(node: Node) -> set[int]:
    """Return the pids of a node: its daemon and everything below it (Linux; elsewhere the daemon only)."""
    daemon = int(node.info["pid"])
    return {daemon, *processes.descendants(daemon)}


def assert_gone(pids: Iterable[int], deadline: float = DEADLINE) -> None:
    """Wait until none of these processes runs.

    Args:
        pids: process ids.
        deadline: seconds after which the wait has failed.

    Raises:
        AssertionError: some run on; it names them.
    """
    left = set(pids)

    def gone() -> bool:
        left.difference_update([pid for pid in left if processes.has_ended(pid, 0)])
        return not left

    try:
        wait_until(gone, deadline)
    except AssertionError:
        raise AssertionError(f"processes {sorted(left)} still run after {deadline:g} s") from None
