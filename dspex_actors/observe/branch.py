"""The branch of the node's tree for actors that observe: it and they are started when they are first needed."""

from __future__ import annotations

from dspex_actors.foundation.branches import branch_spec
from supervisors import ChildSpec, GenServer, Node, Ref, first_use

#: The branch's name.
OBSERVERS = "observers"


def branch(*children: ChildSpec) -> ChildSpec:
    """Return the branch as a child of the root, with observers that are there from the start."""
    return branch_spec(OBSERVERS, children)


async def ensure(server: GenServer, spec: ChildSpec) -> Ref:
    """Return an observer of the node, started if need be; from inside an actor.

    Args:
        server: who asks.
        spec: of the observer; its id is its registered name.

    Raises:
        SupervisorsError: it does not start, or does not come back.
    """
    return await first_use.ensure(server, branch(), spec)


def ensure_from_program(node: Node, spec: ChildSpec) -> None:
    """Do what `ensure` does, from a program outside."""
    first_use.ensure_outside(node, branch(), spec)
