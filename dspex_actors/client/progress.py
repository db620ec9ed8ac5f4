"""The progress bar of a run: done, rate, failures, time left, cost; silent where nobody looks."""

from __future__ import annotations

import sys
import time
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)


class RunProgress:
    """Shows a run's progress on standard error.

    Args:
        label: what is being done.
        console: where; None: standard error, and only if that is a terminal.
    """

    def __init__(self, label: str, console: Console | None = None) -> None:
        """Make it; it shows itself inside a `with`."""
        self._console = console or Console(stderr=True)
        self._bar = Progress(
            SpinnerColumn(style="cyan"),
            TextColumn("[bold]{task.description}"),
            BarColumn(bar_width=32),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TextColumn("{task.fields[failed]}"),
            TimeRemainingColumn(compact=True),
            TextColumn("{task.fields[cost]}"),
            TextColumn("{task.fields[note]}"),
            console=self._console,
            transient=False,
        )
        self._label = label
        self._task: TaskID | None = None
        self._first: tuple[float, int] | None = None
        self._shown = console is not None or sys.stderr.isatty()

    def __enter__(self) -> RunProgress:
        """Begin."""
        if self._shown:
            self._bar.start()
            self._task = self._bar.add_task(self._label, total=None, rate="", failed="", cost="", note="")
        return self

    def __exit__(self, *error: object) -> None:
        """Leave the last state on the screen."""
        if self._shown:
            self._bar.stop()

    def update(self, summary: dict[str, Any], note: dict[str, Any]) -> None:
        """Show a run's summary (`run_summary`) and its evaluator's note."""
        if self._task is None:
            return
        done, now = int(summary["done"]), time.monotonic()
        if self._first is None:
            self._first = (now, done)
        seconds, base = now - self._first[0], self._first[1]
        rate = (done - base) / seconds if seconds > 0.5 else 0.0
        failed, cost = summary["failed"], summary["cost"]
        trouble = note.get("trouble")
        self._bar.update(
            self._task,
            completed=done,
            total=summary["total"],
            rate=f"[cyan]{rate:,.0f}/s" if rate else "",
            failed=f"[red]{failed:,} failed" if failed else "",
            cost=f"${cost:,.4f}" if cost else "",
            note=f"[yellow]waiting: {trouble}" if trouble else "",
        )
