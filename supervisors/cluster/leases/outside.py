"""For programs outside: they have the branch `cluster` of their node started, and what of it they need."""

from __future__ import annotations

from supervisors import first_use
from supervisors.cluster.branch import branch
from supervisors.cluster.leases.server import leases_spec
from supervisors.terms.ports import Outside
from supervisors.terms.spec import ChildSpec


def ensure_outside(node: Outside, spec: ChildSpec | None = None) -> None:
    """Have a server of the branch run, behind the server of leases.

    Args:
        node: the program's.
        spec: of the server; its id is its registered name. None: the server of leases.

    Raises:
        SupervisorsError: it does not start, or does not come back.
    """
    for each in (leases_spec(), *([spec] if spec is not None else [])):
        first_use.ensure_outside(node, branch(), each)
