"""Batches of a run that is over: what is under way is cancelled, and what was kept for it is dropped."""

from __future__ import annotations

import asyncio
import itertools
from pathlib import Path

from dspex_actors.errors import DspexError
from dspex_actors.journal.base import JournalBase
from dspex_actors.journal.records import RunRow
from dspex_actors.lm.batches.messages import BATCHES, EndBatches
from dspex_actors.observe.branch import ensure
from supervisors import GenServer
from supervisors.errors import SupervisorsError

#: The collector is asked again after so many seconds, then more and more seldom, at the last so many. When it was asked
#: so often it is said that it does not answer.
TRY_FIRST, TRY_LAST, SAID_AFTER = 0.2, 30.0, 20
#: Beside the journal, where any run has gone through batches.
_FILE = "batches.db"


async def end_batches(server: GenServer, row: RunRow, journal: JournalBase) -> None:
    """Tell the collector that a run is over which goes through batches; again and again, until it knows.

    What it does not know of, the provider goes on with, and it is paid.

    Args:
        server: who tells.
        row: the run.
        journal: says whether it is over still: nobody has had it go on meanwhile.
    """
    if not (Path(server.node["data_dir"]) / _FILE).exists():
        return  # it had asked nothing yet
    from dspex_actors.lm.batches.collector import batches_spec

    for tries in itertools.count(1):
        try:
            await ensure(server, batches_spec())
            await server.call(BATCHES, EndBatches(row.run_id), timeout=30.0)
            return
        except SupervisorsError as error:
            if tries == SAID_AFTER:
                server.log.error("batches of a run are not known to be cancelled yet", run=row.run_id, why=str(error))
        await asyncio.sleep(min(TRY_LAST, TRY_FIRST * 1.2**tries))
        try:
            now = journal.get_run(row.run_id)
            if now is not None and now.state not in ("finished", "cancelled"):
                return
        except DspexError:
            continue  # the journal is away
