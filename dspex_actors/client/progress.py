"""The progress bar of a run: done, rate, failures, time left, cost; silent where nobody looks."""

from __future__ import annotations

import logging
import sys
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, TaskID


#: Where no bar is shown, what a run has waited for so long is said in the log, and again after so long, in seconds.
SAY_SECONDS, SAY_AGAIN_SECONDS = 10.0, 600.0
_log = logging.getLogger(__name__)


class RunProgress:
    """Shows a run's progress on standard error.

    Args:
        label: what is being done.
        console: where; None: standard error, and only if that is a terminal.
    """

    def __init__(self, label: str, console: Console | None = None) -> None:
        """Make it; it shows itself inside a `with`."""
        self._bar = _bar(console) if console is not None or sys.stderr.isatty() else None
        self._label = label
        self._task: TaskID | None = None
        self._first: tuple[float, int] | None = None
        self._since: float | None = None
        self._silent_until = 0.0

    def __enter__(self) -> RunProgress:
        """Begin."""
        if self._bar is not None:
            self._bar.start()
            self._task = self._bar.add_task(self._label, total=None, rate="", failed="", cost="", note="")
        return self

    def __exit__(self, *error: object) -> None:
        """Leave the last state on the screen."""
        if self._bar is not None:
            self._bar.stop()

    def update(self, summary: dict[str, Any], note: dict[str, Any], label: str | None = None) -> None:
        """Show a run's summary (`run_summary`) and its evaluator's note; and from now on another label."""
        if self._bar is None or self._task is None:
            self._say(note.get("trouble"), time.monotonic())
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
            description=label or self._label,
            completed=done,
            total=summary["total"],
            rate=f"[cyan]{rate:,.0f}/s" if rate else "",
            failed=f"[red]{failed:,} failed" if failed else "",
            cost=_money(cost, summary.get("spent"), summary.get("budget")),
            note=f"[yellow]waiting: {trouble}" if trouble else "",
        )

    def _say(self, trouble: str | None, now: float) -> None:
        """Say in the log what a run waits for, where no bar shows it: when it has waited for a while, then seldom."""
        self._since = None if trouble is None else self._since if self._since is not None else now
        if self._since is None or now - self._since < SAY_SECONDS or now < self._silent_until:
            return
        self._silent_until = now + SAY_AGAIN_SECONDS
        _log.warning("%s: waiting: %s", self._label, trouble)


def _money(cost: float | None, spent: float | None, budget: float | None) -> str:
    if budget is not None:
        return f"${spent or 0.0:,.4f} of ${budget:,.2f}"
    return f"${cost:,.4f}" if cost else ""


def _bar(console: Console | None) -> Progress:
    """Return an empty bar; rich is loaded only where somebody looks."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        SpinnerColumn,
        TextColumn,
        TimeRemainingColumn,
    )

    return Progress(
        SpinnerColumn(style="cyan"),
        TextColumn("[bold]{task.description}"),
        BarColumn(bar_width=32),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TextColumn("{task.fields[failed]}"),
        TimeRemainingColumn(compact=True),
        TextColumn("{task.fields[cost]}"),
        TextColumn("{task.fields[note]}"),
        console=console or Console(stderr=True),
        transient=False,
    )
