"""The report on a durable workflow for people: which of its steps are done, and how it goes on."""

from __future__ import annotations

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from dspex_actors.foundation.durations import duration_text
from dspex_actors.journal.records import RunRow, StepRow
from dspex_actors.journal.summary import duration_of
from dspex_actors.names import run_command, workflow_call

#: An error's text is cut here, in characters.
_LONGEST = 200


def workflow_parts(row: RunRow, steps: list[StepRow], now: float | None) -> list[RenderableType]:
    """Return what the report says: how far it is, and a line for each finished step.

    Args:
        row: the run.
        steps: those that are done, in the order in which they ended.
        now: wall-clock seconds, for a run that is running.
    """
    figures = Table.grid(padding=(0, 3))
    figures.add_column(style="dim")
    figures.add_column()
    of = "" if row.spec.total is None else f" of {row.spec.total:,}"
    figures.add_row("steps", f"{row.done:,}{of}")
    figures.add_row("time", duration_text(duration_of(row, now)))
    return [figures, Text(), _steps(steps)] if steps else [figures]


def _steps(steps: list[StepRow]) -> Table:
    table = Table(box=None, padding=(0, 3, 0, 0), header_style="dim")
    table.add_column("step", overflow="fold")
    table.add_column("state")
    table.add_column("time", justify="right")
    table.add_column("tries", justify="right")
    table.add_column("instead of", overflow="fold")
    for one in steps:
        error = " ".join((one.error or "").split())
        table.add_row(
            Text(one.step, style="bold"),
            Text(one.state, style="green" if one.error is None else "yellow"),
            duration_text(one.duration),
            f"{one.attempts:,}",
            Text(error if len(error) <= _LONGEST else error[: _LONGEST - 1] + "…", style="dim"),
        )
    if not any(one.error for one in steps):
        table.columns.pop()
    return table


def workflow_advice(row: RunRow) -> str | None:
    """Return how a workflow that did not end well goes on; None for a good one."""
    why = f" ({row.reason})" if row.reason else ""
    if row.state in ("paused", "failed"):
        return f"{row.state.capitalize()}{why}. It goes on in its program: {workflow_call(row.run_id)}"
    if row.state == "cancelled":
        return f"Cancelled{why}. What its steps gave: {run_command('export', row.run_id)}"
    return None
