"""Children of the clients' branch, started on first use: the owners of deployments, and the embedded LM."""

from __future__ import annotations

import asyncio
import contextlib

from dspex_actors.errors import Overloaded
from dspex_actors.foundation.branches import branch_spec
from dspex_actors.names import CLIENTS
from supervisors import ChildSpec, GenServer, Ref
from supervisors.errors import AlreadyPresent, AlreadyStarted, NoProcess, ServerExited, SupervisorsError
from supervisors.first_use import ensure_branch

#: How often, and how far apart in seconds, a child that is being restarted (or its whole branch) is looked for.
TRIES, TRY_SECONDS = 250, 0.02


async def client_child(server: GenServer, spec: ChildSpec) -> Ref:
    """Return a supervised child of the clients' branch of this node.

    Args:
        server: who asks.
        spec: the child; its id is its registered name.

    Raises:
        Overloaded: it does not start.
    """
    for _ in range(TRIES):
        ref = await server.whereis(spec.id)
        if ref is not None:
            return ref
        await ensure_branch(server, branch_spec(CLIENTS))
        try:
            ref = await server.start_child(CLIENTS, spec)
        except AlreadyStarted as error:
            ref = error.ref
        except AlreadyPresent:
            # It ended since nobody needed it, or it is being restarted: then it cannot be deleted.
            with contextlib.suppress(SupervisorsError):
                await server.delete_child(CLIENTS, spec.id)
                continue
        except (NoProcess, ServerExited):
            ref = None  # it or its branch is being restarted
        except SupervisorsError as error:
            raise Overloaded(f"{spec.id} did not start: {error}") from None
        if ref is not None:
            return ref
        await asyncio.sleep(TRY_SECONDS)
    raise Overloaded(f"{spec.id} did not start")
