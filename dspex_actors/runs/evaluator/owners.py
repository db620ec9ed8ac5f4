"""Owners of LMs' limits for the workers of other nodes: on the node of the evaluator, for all that work for its run."""

from __future__ import annotations

import contextlib

from dspex_actors.errors import DspexError
from dspex_actors.lm.control.client import spec_of
from dspex_actors.lm.control.messages import GetOwner
from dspex_actors.lm.control.starting import client_child
from supervisors import Caller, GenServer, Ref
from supervisors.errors import SupervisorsError


async def give_owner(server: GenServer, caller: Caller, request: GetOwner) -> None:
    """Reply with the owner of a deployment on this node, started if need be; with None where it does not start."""
    ref: Ref | None = None
    with contextlib.suppress(DspexError, SupervisorsError):
        ref = await client_child(server, spec_of(request.model, request.deployment))
    server.reply(caller, ref)
