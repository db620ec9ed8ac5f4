"""What a run may cost, at the side of who starts it: kept from before, checked, and told when it is used up."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from typing import Any

from dspex_actors.errors import BudgetExceeded, RunInterrupted
from dspex_actors.journal.budget import check_more
from dspex_actors.journal.reader import JournalReader
from dspex_actors.journal.records import RunRow
from dspex_actors.lm.prices import unknown_price
from dspex_actors.lm.usage import LONGEST_OUTPUT
from dspex_actors.names import run_command, worker_name
from dspex_actors.runs.budget import BUDGET, priced_parts
from supervisors import Node
from supervisors.errors import SupervisorsError

_NAMES = ("budget", "unknown_price")


def money_settings(journal: JournalReader, run_id: str | None, told: dict[str, Any], budget: Any) -> dict[str, Any]:
    """Return the settings of a run for what it may cost.

    Args:
        journal: that may have the run.
        run_id: the run; None: a new one.
        told: what its user says, checked.
        budget: as it was given; None: nothing was, and a run that has one keeps it.

    Raises:
        ConfigError: the run has cost as much already.
    """
    row = None if run_id is None else journal.get_run(run_id)
    if row is None or row.state == "finished":
        return told
    if budget is None:
        return {name: value for name in _NAMES if (value := row.spec.settings.get(name)) is not None}
    check_more(row, told.get("budget"))
    return told


def check_prices(node: Node, program: Any, lm: Any, settings: dict[str, Any], others: Iterable[Any] = ()) -> None:
    """Refuse a run with a budget whose LMs have no known price, by what the node's workers know.

    Args:
        node: the node.
        program: what is run.
        lm: of predictors that have none of their own.
        settings: of the run.
        others: LMs that are asked beside these.

    Raises:
        ConfigError: names the LM, and how to give a price.
    """
    if settings.get("budget") is None or settings.get("unknown_price") != "refuse":
        return
    predictors = program.predictors() if hasattr(program, "predictors") else []
    asked = priced_parts([lm, *(predictor.lm for predictor in predictors), *others])
    with contextlib.suppress(SupervisorsError):  # a worker that does not answer now refuses it later
        for model in node.call(worker_name(1), ("unpriced", asked)):
            raise unknown_price(model)


def _dollars(amount: float | None) -> str:
    amount = amount or 0.0
    return f"${amount:,.4f}" if amount == 0 or amount >= 0.001 else f"${amount:.2g}"


def why_paused(row: RunRow) -> RunInterrupted:
    """Return the error for a run that was paused."""
    budget = row.spec.settings.get("budget")
    if row.reason is None or not row.reason.startswith(BUDGET):
        return RunInterrupted(
            f"run {row.run_id} is paused ({row.reason or row.state}); resume with "
            f"`{run_command('resume', row.run_id)}` or system.resume({row.run_id!r})",
            run_id=row.run_id,
        )
    if row.reason != BUDGET:  # that of a day or a tag
        return BudgetExceeded(
            f"run {row.run_id} is paused ({row.reason}); resume it another day, or with a larger limit: "
            f"`{run_command('resume', row.run_id)}` or system.resume({row.run_id!r})",
            run_id=row.run_id,
            spent=row.cost,
            budget=budget,
        )
    more = f"{2 * (budget or 0):g}"
    resume = run_command("resume", row.run_id)
    return BudgetExceeded(
        f"run {row.run_id} is paused: {_dollars(row.cost)} of its budget of {_dollars(budget or 0.0)} are spent, and "
        f"the next request may cost more than is left (for each its longest reply is held back: max_tokens, or "
        f"{LONGEST_OUTPUT:,} tokens where none is set); go on with `{resume} --budget {more}` or "
        f"system.resume({row.run_id!r}, budget={more})",
        run_id=row.run_id,
        spent=row.cost,
        budget=budget,
    )
