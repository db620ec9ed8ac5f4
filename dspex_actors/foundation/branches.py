"""What every branch of a dspex node is: children that fall often end it, and not the node."""

from __future__ import annotations

from collections.abc import Sequence

from supervisors import ChildSpec, SupervisorSpec
from supervisors.errors import SupervisorsError


def branch_spec(name: str, children: Sequence[ChildSpec] = ()) -> ChildSpec:
    """Return a branch as a child of the root; its children may fall often before it gives up: each fall costs little.

    Args:
        name: its id, and its registered name.
        children: what is there from the start.
    """
    return ChildSpec(name, SupervisorSpec(children, name=name, intensity=30, period=10.0))


def why_not_started(error: SupervisorsError) -> str:
    """Return why a child did not start, in one line."""
    detail = error.reason.detail if error.reason is not None else None
    return str(detail["message"]) if isinstance(detail, dict) and detail.get("message") else str(error)
