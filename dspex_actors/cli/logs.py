"""`dspex logs`: what the node wrote down; works while no node runs, too."""

from __future__ import annotations

import io
import json
import os
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.text import Text

from dspex_actors.cli.output import clock_text, console, iso_seconds, json_option, print_json
from dspex_actors.cli.shell import DONE
from dspex_actors.errors import ConfigError
from dspex_actors.foundation.home import default_data_dir
from supervisors.host.log import LOG_FILE

LEVELS = ("debug", "info", "warning", "error", "critical")
_STYLES = {"debug": "dim", "info": "green", "warning": "yellow", "error": "red", "critical": "bold red"}
_FOLLOW_SECONDS = 0.1
_SHOWN_FIRST = {"at", "level", "actor", "event", "pid", "exception"}


class Lines:
    """The lines of a node's log, as they come; a log that is begun anew is read on from its beginning.

    Args:
        folder: the node's `logs` folder.
        from_end: leave out what is there already.
    """

    def __init__(self, folder: Path, *, from_end: bool = False) -> None:
        """Open the log, if it is there."""
        self.path = folder / LOG_FILE
        self._file: io.BufferedReader | None = None
        self._rest = b""
        self._open()
        if from_end and self._file is not None:
            self._file.seek(0, os.SEEK_END)

    def _open(self) -> None:
        try:
            self._file = self.path.open("rb")
        except FileNotFoundError:
            self._file = None

    def new(self) -> Iterator[dict[str, Any]]:
        """Give the lines that have come since the last time."""
        if self._file is None:
            self._open()
            if self._file is None:
                return
        yield from self._read()
        if self._was_replaced():
            self._file.close()
            self._rest = b""
            self._open()
            yield from self._read()

    def _read(self) -> Iterator[dict[str, Any]]:
        while self._file is not None and (piece := self._file.read(1 << 20)):
            *whole, self._rest = (self._rest + piece).split(b"\n")
            for line in whole:
                parsed = _parsed(line)
                if parsed is not None:
                    yield parsed

    def _was_replaced(self) -> bool:
        assert self._file is not None
        try:
            return self.path.stat().st_ino != os.fstat(self._file.fileno()).st_ino
        except FileNotFoundError:
            return False


def _parsed(line: bytes) -> dict[str, Any] | None:
    try:
        found = json.loads(line)
    except ValueError:
        return None  # half a line of a process that was killed while it wrote
    return found if isinstance(found, dict) else None


@click.command()
@click.option("-f", "--follow", is_flag=True, help="Go on with what comes, until Ctrl-C.")
@click.option("--actor", metavar="A", help="Only what actors with A in their name say.")
@click.option(
    "--level", type=click.Choice(LEVELS), default="debug", help="Only this level and above.", show_default=True
)
@click.option(
    "-n",
    "--lines",
    "count",
    type=click.IntRange(0),
    metavar="N",
    default=100,
    show_default=True,
    help="The last so many; 0: all.",
)
@click.option("--run", "run_id", metavar="RUN", help="The log of the node that a run belongs to.")
@json_option
def logs(follow: bool, actor: str | None, level: str, count: int, run_id: str | None, as_json: bool) -> int:
    """Show what the node's processes say, oldest first; also when no node runs."""
    folder = _folder(run_id) / "logs"
    if not (folder / LOG_FILE).exists() and not follow:
        raise ConfigError(f"no log in {folder}: nothing has run there yet")
    wanted = _filter(actor, level)
    source = Lines(folder)
    last: deque[dict[str, Any]] = deque(filter(wanted, source.new()), maxlen=count or None)
    if as_json and not follow:
        print_json(list(last))
        return DONE
    out = console()
    for line in last:
        _say(out, line, as_json)
    while follow:
        for line in filter(wanted, source.new()):
            _say(out, line, as_json)
        time.sleep(_FOLLOW_SECONDS)
    return DONE


def _say(out: Console, line: dict[str, Any], as_json: bool) -> None:
    # Followed, there is no one document: a line each.
    if as_json:
        print_json(line)
    else:
        show_line(out, line)


def _folder(run_id: str | None) -> Path:
    return default_data_dir().absolute() if run_id is None else folder_of_run(run_id)


def folder_of_run(run_id: str) -> Path:
    """Return the data folder of the node that a run belongs to."""
    from dspex_actors.journal.index import find_run

    return find_run(run_id, default_data_dir().absolute()).folder


def _filter(actor: str | None, level: str) -> Callable[[dict[str, Any]], bool]:
    least = LEVELS.index(level)

    def wanted(line: dict[str, Any]) -> bool:
        name = str(line.get("level"))
        high = LEVELS.index(name) if name in LEVELS else len(LEVELS)
        return high >= least and (actor is None or actor in str(line.get("actor")))

    return wanted


def show_line(out: Console, line: dict[str, Any]) -> None:
    """Print one line of a log for people; a traceback stands under it."""
    level = str(line.get("level", "?"))
    text = Text.assemble(
        (clock_text(iso_seconds(line.get("at"))), "dim"),
        " ",
        (level[:7].ljust(8), _STYLES.get(level, "")),
        (str(line.get("actor", "?")).ljust(14), "cyan"),
        " ",
        str(line.get("event", "")),
    )
    for name, value in line.items():
        if name not in _SHOWN_FIRST:
            text.append(f"  {name}=", style="dim")
            text.append(value if isinstance(value, str) else json.dumps(value))
    out.print(text, soft_wrap=True)
    if line.get("exception"):
        out.print(Text("  " + str(line["exception"]).strip().replace("\n", "\n  "), style="dim red"), soft_wrap=True)
