"""What a node tells the others of the cluster of its part in runs: how many workers there are, and what is in work."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from dspex_actors.names import worker_name
from dspex_actors.runs.keeper.lacking import forget_others, notes_of
from supervisors import GenServer
from supervisors.cluster.membership.messages import ALIVE, DRAINING, MEMBERSHIP, Tell
from supervisors.errors import SupervisorsError

#: They are told this often, in seconds; and so long a worker may take to say what it has, which else counts as busy.
TELL_SECONDS, STATS_SECONDS = 2.0, 1.0


async def tell_cluster(
    server: GenServer,
    workers: int,
    runs: Callable[[], int],
    own: Callable[[], int] | None = None,
    look: Callable[[], Awaitable[list[str]]] | None = None,
) -> None:
    """Tell the membership of the node again and again; where there is none, nothing.

    Args:
        server: who tells.
        workers: how many http workers the node has.
        runs: returns how many runs are kept going here.
        own: where `server` is a worker itself: returns what it has in hand. Others may not have been started then.
        look: looks whether there is a membership, and returns what people should know of the node.
    """
    state = ALIVE
    forget_others(server.node)
    said = [] if look is None else await look()
    while True:
        await asyncio.sleep(TELL_SECONDS)
        try:
            if look is not None:
                if await server.whereis(MEMBERSHIP) is None:
                    continue
                said = await look()
            # Only a node that is to leave is asked whether it has anything in hand for runs of others.
            work = runs() + (await _in_hand(server, workers, own) if state == DRAINING else 0)
            facts = {"workers": workers, "work": work, "notes": [*notes_of(server.node), *said]}
            state = await server.call(MEMBERSHIP, Tell(facts))
        except SupervisorsError:
            state = ALIVE  # it is just being brought back


async def _in_hand(server: GenServer, workers: int, own: Callable[[], int] | None) -> int:
    names = [worker_name(number) for number in range(1, workers + 1)]
    others = [name for name in names if own is None or (name != server.name and await server.whereis(name) is not None)]
    mine = 0 if own is None else own()
    return mine + sum(await asyncio.gather(*(_of_worker(server, name) for name in others)))


async def _of_worker(server: GenServer, name: str) -> int:
    try:
        stats = await server.call(name, "stats", STATS_SECONDS)
    except SupervisorsError:
        return 1
    return sum(active + queued for active, queued in stats["runs"].values())
