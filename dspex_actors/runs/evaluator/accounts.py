"""The accounts of a run's limits of money and calls are made by its own node, whoever works for it.

Its workers make them with their first request. Where none of these is asked for anything (the run is one for other
nodes, or its own one is cordoned or lacks a key) the others would wait for ever: so its evaluator sees to it, too.
"""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import Any

from dspex_actors.lm.control.spending import spending_spec
from dspex_actors.lm.control.spending_messages import SPENDING, CloseSlot, Fund
from dspex_actors.observe.branch import ensure
from dspex_actors.runs.budget import run_budget
from supervisors import GenServer
from supervisors.cluster.handle import others_of
from supervisors.errors import SupervisorsError

#: What is over sooner needs nobody for it; so often it is tried again, too, in seconds.
LOOK_SECONDS = 1.0


async def make_accounts(server: GenServer, run_id: str, settings: dict[str, Any]) -> None:
    """Have the accounts of a run be there, where other nodes may work for it.

    Args:
        server: its evaluator.
        run_id: the run.
        settings: what it is opened with.
    """
    budget = run_budget(run_id, settings)
    if budget is None:
        return
    accounts = sorted(one for one in (budget.account, *budget.above, budget.calls) if one is not None)
    holder = f"{server.ref.pid}-{server.ref.born}"
    verdict = "wait"
    while verdict == "wait":
        await asyncio.sleep(LOOK_SECONDS)
        if not others_of(Path(server.node["data_dir"])):
            continue  # it may join others at any time
        with contextlib.suppress(SupervisorsError):
            await ensure(server, spending_spec())
            kind, told = await server.call(SPENDING, Fund(server.ref, holder, 0, accounts, 0, 0, 0))
            verdict = told[0] if kind == "ok" else "wait"
            await server.call(SPENDING, CloseSlot(holder, 0))  # nothing is in it
