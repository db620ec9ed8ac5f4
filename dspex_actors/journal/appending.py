"""A batch of rows into a run that is locked: rows, counters and log entry, the same in a journal and in its copies."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from dspex_actors.journal import log, rows
from dspex_actors.journal.schema import Values
from dspex_actors.journal.store import Batch
from dspex_actors.journal.tally import Tally
from dspex_actors.lm.attempts import Attempt


class Written(NamedTuple):
    """What was new of a batch.

    Args:
        results: the results that were not there.
        attempts: the requests that count now.
        replaced: requests that were lost, and count no more.
        tally: the counts of all of it.
    """

    results: Sequence[Values]
    attempts: Sequence[Values]
    replaced: Sequence[Attempt]
    tally: Tally


def write_batch(
    db: Any, held: log.Held, batch: Batch, results: Sequence[Values], attempts: Sequence[Values]
) -> Written:
    """Write a batch that was not there before; inside the caller's transaction. The run's number rises by 1.

    Args:
        db: the journal.
        held: the run, locked.
        batch: which one it is.
        results: values by column.
        attempts: values by column.
    """
    results = rows.add_results(db, held.base, results)
    attempts, replaced = rows.add_attempts(db, held.base, attempts)
    tally = Tally.of(results, attempts)
    tally.take_back(*replaced)
    log.enter(db, held, batch, results, attempts)
    tally.add_to(db, held.number, held.seq + 1, log.last_batch(held, batch))
    return Written(results, attempts, replaced, tally)
