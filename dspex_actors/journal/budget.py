"""A run's budget in the journal: what it may cost, which is another one where it goes on."""

from __future__ import annotations

from dspex_actors.errors import ConfigError
from dspex_actors.journal import log, queries
from dspex_actors.journal.base import JournalBase
from dspex_actors.journal.records import RunRow
from dspex_actors.journal.schema import to_json


def set_budget(journal: JournalBase, run_id: str, budget: float | None) -> RunRow:
    """Have a run cost so much at most from now on; one that is finished stays as it is.

    Args:
        journal: the journal.
        run_id: the run.
        budget: dollars; None: no limit.

    Raises:
        ConfigError: there is no such run, or it has cost as much already.
    """
    with journal.transaction() as db:
        row = queries.run(db, run_id)
        if row is None:
            raise queries.no_such_run(run_id)
        if row.state == "finished":
            return row
        check_more(row, budget)
        settings = {name: value for name, value in row.spec.settings.items() if name != "budget"}
        if budget is not None:
            settings = {"unknown_price": "refuse", **settings, "budget": budget}
        log.change(db, run_id, journal.owner)
        db.execute("UPDATE runs SET settings = ? WHERE run_id = ?", (to_json(settings), run_id))
        row = queries.run(db, run_id)
        assert row is not None
        return row


def check_more(row: RunRow, budget: float | None) -> None:
    """Refuse a budget that a run has used up already.

    Raises:
        ConfigError: says what it has cost.
    """
    if budget is not None and row.cost >= budget:
        raise ConfigError(
            f"budget is invalid: got {budget:g}, and run {row.run_id} has cost ${row.cost:,.4f} already; expected more"
        )
