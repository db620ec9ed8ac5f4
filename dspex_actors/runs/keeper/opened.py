"""What an evaluator is told of its run when it opens it."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from dspex_actors.journal.base import JournalBase
from dspex_actors.journal.errors import Fenced
from dspex_actors.journal.records import RunRow
from dspex_actors.runs.budget import WHOLE_BUDGET, WHOLE_CALLS


def opened(journal: JournalBase, run_id: str) -> dict[str, Any]:
    """Count that an evaluator opens a run, and return what it needs to begin or go on.

    Raises:
        Fenced: it was paused, or has ended, and does not go on. So may have happened while nobody could look: an
            evaluator that dies while the journal is away has a successor at once.
    """
    row = journal.next_epoch(run_id)
    if row.state != "running":
        raise Fenced(f"run {run_id} is {row.state}: nothing more is asked for it")
    outcomes = []
    if row.spec.settings.get("rule"):
        # A stop rule looks at every result in order, those of before a restart too.
        outcomes = [
            (one.index, one.error is None and bool(one.score), one.error is not None)
            for one in journal.iter_results(run_id)
        ]
    spec = row.spec
    return asdict(spec) | {
        # Runs of before the descriptor had it are compared too.
        "dataset": {"digest": spec.dataset_digest, **spec.dataset},
        "outcomes": outcomes,
        "done": journal.done_indices(run_id).to_bytes(),
        "failed": row.failed,
        "answered": row.succeeded > 0,
        # An optimisation compares what its evaluations come to; bootstraps count errors by their own rule.
        "decides": spec.parent_id is not None and not spec.settings.get("rule"),
        "settings": spec.settings | _money(journal, row),
        "epoch": row.epoch,
        "claimed": row.claimed,
    }


def _money(journal: JournalBase, row: RunRow) -> dict[str, Any]:
    """Return what those who ask its LMs know of what a run, and the optimisation that it is a part of, have cost."""
    settings = row.spec.settings
    if "budget" not in settings and WHOLE_CALLS not in settings:
        return {}
    money: dict[str, Any] = {"paid": row.cost, "began": row.created_at}
    whole = None if row.spec.parent_id is None else journal.get_run(row.spec.parent_id)
    if whole is None:
        return money
    parts = journal.parts_of(whole.run_id)
    paid = {WHOLE_BUDGET: sum(part.cost for part in parts), WHOLE_CALLS: sum(part.asked for part in parts)}
    for limit, name in ((WHOLE_BUDGET, "above"), (WHOLE_CALLS, "calls")):
        if limit in settings:
            told = {"run_id": whole.run_id, "began": whole.created_at}
            money[name] = told | {"budget": settings[limit], "paid": paid[limit]}
    return money
