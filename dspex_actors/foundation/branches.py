"""What every branch of a dspex node is: children that fall often end it, and not the node."""

from __future__ import annotations

from collections.abc import Sequence

from supervisors import ChildSpec, SupervisorSpec


def branch_spec(name: str, children: Sequence[ChildSpec] = ()) -> ChildSpec:
    """Return a branch as a child of the root; its children may fall often before it gives up: each fall costs little.

    Args:
        name: its id, and its registered name.
        children: what is there from the start.
    """
    return ChildSpec(name, SupervisorSpec(children, name=name, intensity=30, period=10.0))
