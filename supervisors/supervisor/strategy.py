"""The decisions of a supervisor as pure functions (supervisor.erl, do_restart/3 and restart/2)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, TypeVar

from supervisors.terms.reason import ExitReason

Key = TypeVar("Key")


def restart_wanted(restart: str, reason: ExitReason) -> bool:
    """Whether a child that ended with `reason` is restarted.

    Args:
        restart: permanent, transient or temporary.
        reason: why it ended.
    """
    match restart:
        case "permanent":
            return True
        case "transient":
            return reason.abnormal
        case _:
            return False


class RestartPlan(NamedTuple):
    """What to stop, then what to start, each in this order."""

    stop: tuple[object, ...]
    start: tuple[object, ...]


def restart_plan(strategy: str, order: Sequence[Key], ended: Key) -> RestartPlan:
    """Return which children to stop and which to start after `ended` has ended.

    Args:
        strategy: the supervisor's.
        order: all children in start order.
        ended: the one that ended, or that failed to start.

    Returns:
        Children to stop (reverse start order, `ended` not among them) and to start (start order).
    """
    match strategy:
        case "one_for_all":
            affected = list(order)
        case "rest_for_one":
            affected = list(order[list(order).index(ended) :])
        case _:
            affected = [ended]
    return RestartPlan(tuple(key for key in reversed(affected) if key != ended), tuple(affected))


def expected_at_shutdown(restart: str, brutal: bool, reason: ExitReason) -> bool:
    """Whether a child that its supervisor stopped ended as it should; if not, it is reported (OTP.md, row 57)."""
    if reason.kind == "shutdown":
        return reason.detail is None or restart != "permanent"
    if reason.kind == "killed":
        return brutal
    return reason.kind == "normal" and restart != "permanent"


def ends_supervisor(auto_shutdown: str, significant_running: int) -> bool:
    """Whether the end of a significant child ends its supervisor.

    Args:
        auto_shutdown: the supervisor's rule.
        significant_running: significant children that still run.
    """
    return auto_shutdown == "any_significant" or (auto_shutdown == "all_significant" and significant_running == 0)
