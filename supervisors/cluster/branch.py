"""The branch of a node's tree for what it has to do with other nodes. The first join starts it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from supervisors import first_use
from supervisors.cluster.membership import file
from supervisors.cluster.membership.messages import CLUSTER, FULL, MEMBERSHIP, Join
from supervisors.cluster.membership.server import membership_spec
from supervisors.cluster.membership.table import known_of, refusal
from supervisors.genserver import GenServer
from supervisors.host import security_log
from supervisors.terms.errors import NotAllowed
from supervisors.terms.ref import Ref
from supervisors.terms.spec import ChildSpec, SupervisorSpec


def branch(join: str | None = None, role: str = FULL) -> ChildSpec:
    """Return the branch as a child of the root.

    Args:
        join: "host:port" of a node whose cluster is joined.
        role: of the node: one that only works has its membership elsewhere (runtime/node/front.py), and no server of
            leases until it needs one.
    """
    children = []
    if role == FULL:
        from supervisors.cluster.leases.server import leases_spec

        children = [membership_spec(join), leases_spec(join)]
    return ChildSpec(CLUSTER, SupervisorSpec(children, intensity=30, period=10.0, name=CLUSTER))


def branches(node: Mapping[str, Any], join: str | None) -> list[ChildSpec]:
    """Return what stands under the root for the cluster when a full node starts: nothing where it is alone."""
    return [branch(join)] if join is not None or file.is_member(Path(node["data_dir"])) else []


async def ensure(server: GenServer, spec: ChildSpec | None = None) -> Ref:
    """Return a server of the branch, started if need be; from inside a server of the node.

    Args:
        server: who asks.
        spec: of the server; its id is its registered name. None: the membership.

    Raises:
        SupervisorsError: it does not start, or does not come back.
    """
    return await first_use.ensure(server, branch(role=server.node.get("role", FULL)), spec or membership_spec())


async def ensure_leases(server: GenServer) -> Ref:
    """Return the node's server of leases, started if need be; as `ensure`."""
    from supervisors.cluster.leases.server import leases_spec

    return await ensure(server, leases_spec())


async def let_join(server: GenServer, row: Any) -> None:
    """Have a node that asks at the door of this one checked by the membership, which is started if need be.

    Args:
        server: the door.
        row: the node, as table.py has it.

    Raises:
        NotAllowed: it may not join; the message says why.
    """
    try:
        new = known_of(row).member
    except ValueError as error:
        raise NotAllowed(str(error)) from None
    me = file.own_member(server.node, file.load(Path(server.node["data_dir"])))
    why = refusal([], new, me)
    if why is not None:
        security_log.note("refused join", new.host, why)
        raise NotAllowed(why)
    await ensure(server)
    await server.call(MEMBERSHIP, Join(row, True))
