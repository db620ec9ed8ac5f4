"""Servers of a node that are started when they are first needed, under a branch of their own: until then no process.

The branch is between them and the root, so that servers that fall again and again end with it, and not with the node.
Many may need the same server at the same moment: one of them starts it, and all have it.
"""

from __future__ import annotations

import asyncio
import contextlib
import time

from supervisors.genserver import GenServer
from supervisors.terms.errors import (
    AlreadyPresent,
    AlreadyStarted,
    ChildRestarting,
    NoProcess,
    ServerExited,
    SupervisorsError,
)
from supervisors.terms.ports import Outside
from supervisors.terms.ref import Ref
from supervisors.terms.spec import ChildSpec
from supervisors.wire.pickles import seal_start

#: A server that is being started or brought back is waited for so long, and looked for this often, in seconds.
WAIT_SECONDS, LOOK_SECONDS = 10.0, 0.02
#: It, or what it would be under, is just being started or brought back.
_PASSING = (AlreadyPresent, ChildRestarting, NoProcess, ServerExited)


async def ensure_branch(server: GenServer, branch: ChildSpec) -> None:
    """Have a branch started, from inside a server; one that is just being brought back is not waited for.

    Args:
        server: who asks.
        branch: a child of the root; its id is its registered name.
    """
    if await server.whereis(branch.id) is None:
        with contextlib.suppress(AlreadyStarted, *_PASSING):
            await server.start_child(Ref(**server.node["root"]), branch)


def ensure_branch_outside(node: Outside, branch: ChildSpec) -> None:
    """Do what `ensure_branch` does, from a program outside."""
    if node.whereis(branch.id) is None:
        with contextlib.suppress(AlreadyStarted, *_PASSING):
            node.supervise(Ref(**node.info["root"]), "start_child", seal_start(branch))


async def ensure(server: GenServer, branch: ChildSpec, spec: ChildSpec) -> Ref:
    """Return a server of a branch, started if need be, from inside another server.

    Args:
        server: who asks.
        branch: a child of the root; its id is its registered name. It may bring the server along.
        spec: of the server; its id is its registered name.

    Raises:
        SupervisorsError: it does not start, or does not come back.
    """
    until = time.monotonic() + WAIT_SECONDS
    while (ref := await server.whereis(spec.id)) is None:
        await ensure_branch(server, branch)
        try:
            ref = await server.start_child(branch.id, spec)
        except SupervisorsError as error:
            ref = _there(error, spec, until)
        if ref is not None:
            break
        await asyncio.sleep(LOOK_SECONDS)
    return ref


def ensure_outside(node: Outside, branch: ChildSpec, spec: ChildSpec) -> None:
    """Have a server of a branch run, as `ensure` does, from a program outside."""
    until = time.monotonic() + WAIT_SECONDS
    while node.whereis(spec.id) is None:
        ensure_branch_outside(node, branch)
        try:
            node.supervise(branch.id, "start_child", seal_start(spec))
        except SupervisorsError as error:
            if _there(error, spec, until) is not None:
                return
            time.sleep(LOOK_SECONDS)


def _there(error: SupervisorsError, spec: ChildSpec, until: float) -> Ref | None:
    """Return who was started meanwhile by somebody else, None where it is worth to look again; or raise the error."""
    if isinstance(error, AlreadyStarted):
        return error.ref if error.id == spec.id else None
    if isinstance(error, _PASSING) and time.monotonic() < until:
        return None
    raise error
