"""How commands print: consoles, JSON, tables of one look, sizes and times as people say them."""

from __future__ import annotations

import datetime as dt
import json
import os
import re
import sys
import time
from collections.abc import Callable
from typing import Any

import click
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

#: Where output goes to a file or pipe nobody has said how wide it is; nothing should be cut for that.
PIPE_WIDTH = 140
#: Wider than this a report is no easier to read.
REPORT_WIDTH = 100

#: What stands in texts only, and may be escaped there.
_OTHER = re.compile(r"[^\x00-\x7f]")

RUN_STYLES = {"finished": "green", "running": "cyan", "paused": "yellow", "failed": "red", "cancelled": "yellow"}
STATE_STYLES = {"running": "green", "healthy": "green", "stopped": "red", "restarting": "yellow", "degraded": "yellow"}


def json_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add `--json`."""
    return click.option("--json", "as_json", is_flag=True, help="One JSON document instead of a page for people.")(
        command
    )


def console(*, err: bool = False) -> Console:
    """Return a console for standard output, or standard error."""
    stream = sys.stderr if err else sys.stdout
    wide = None if stream.isatty() or os.environ.get("COLUMNS") else PIPE_WIDTH
    return Console(stderr=err, width=wide, highlight=False)


def show(what: RenderableType, most: int | None = None) -> None:
    """Print something on standard output, at most so many columns wide."""
    out = console()
    out.print(what, width=None if most is None else min(out.width, most))


def print_json(value: Any) -> None:
    """Print one JSON document."""
    from dspex_actors.foundation.codec import json_text

    print_data(json_text(value))


def printable(text: str) -> str:
    """Return a text of somebody else's for a terminal: what would move the cursor, or worse, is a dot."""
    return text if text.isprintable() else "".join(one if one.isprintable() else "·" for one in text)


def print_data(text: str) -> None:
    """Print a JSON document or line; characters that the terminal or pipe has no place for are escaped, as JSON may."""
    try:
        text.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        text = _OTHER.sub(lambda found: json.dumps(found[0])[1:-1], text)
    sys.stdout.write(text + "\n")


def table(*columns: str | tuple[str, dict[str, Any]], title: str | None = None) -> Table:
    """Return an empty table of the look that all commands share."""
    made = Table(
        box=None,
        padding=(0, 2, 0, 0),
        header_style="dim",
        title=title,
        title_justify="left",
        title_style="bold",
        pad_edge=False,
    )
    for column in columns:
        name, options = (column, {}) if isinstance(column, str) else column
        made.add_column(name, **options)
    return made


def grid(rows: list[tuple[str, RenderableType]]) -> Table:
    """Return rows of a name and a value."""
    made = Table.grid(padding=(0, 3, 0, 0))
    made.add_column(style="dim", no_wrap=True)
    made.add_column(overflow="fold")
    for name, value in rows:
        made.add_row(name, value)
    return made


def state_text(state: str) -> Text:
    """Return a state in its colour."""
    return Text(state, style=STATE_STYLES.get(state) or RUN_STYLES.get(state, ""))


def size_text(count: float | None) -> str:
    """Return bytes as people say them: 812 B, 34 MB, 1.2 GB."""
    if count is None:
        return "–"
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if count >= 10 or unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def counted(number: int, what: str) -> str:
    """Return a number of things: 0 restarts, 1 restart, 2 restarts."""
    return f"{number} {what}{'' if number == 1 else 's'}"


def clock_text(seconds: float | None) -> str:
    """Return a moment in local time, to the second; only the time of day for today, and seconds where it is none."""
    if seconds is None:
        return "–"
    try:
        moment, today = dt.datetime.fromtimestamp(seconds), dt.datetime.fromtimestamp(time.time()).date()
    except (OverflowError, ValueError, OSError):  # of a clock that counts in something else
        return f"{seconds:g} s"
    return f"{moment:%H:%M:%S}" if moment.date() == today else f"{moment:%Y-%m-%d %H:%M:%S}"


def iso_seconds(text: str | None) -> float | None:
    """Return the seconds since 1970 of an ISO time; None for none."""
    if not text:
        return None
    try:
        return dt.datetime.fromisoformat(text).timestamp()
    except ValueError:
        return None
