"""How the keeper of runs reaches the coordinator of its node's optimisations, which stands above it."""

from __future__ import annotations

import asyncio
import importlib

from supervisors import GenServer
from supervisors.errors import SupervisorsError
from supervisors.first_use import ensure

#: Where its branch and its spec are: the coordinator is found by its name, as runners are.
_COORDINATOR = "dspex_actors.optimisation.coordinator"
#: One that does not start is tried again after so many seconds.
AGAIN_SECONDS = 0.5


async def revive(keeper: GenServer) -> None:
    """Have the coordinator look what is to go on; it is started where it does not run."""
    above = importlib.import_module(_COORDINATOR)
    while True:
        try:
            ref = await ensure(keeper, above.branch(), above.coordinator_spec())
        except SupervisorsError as error:
            keeper.log.warning("the coordinator of optimisations does not start; again", why=error.message)
            await asyncio.sleep(AGAIN_SECONDS)
            continue
        keeper.send(ref, "revive")
        return
