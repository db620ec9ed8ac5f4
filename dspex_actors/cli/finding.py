"""Which runs a command means: the newest so many, one by its id, or the newest one; of all kinds, or of one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import click

from dspex_actors.cli.output import console, print_json
from dspex_actors.cli.shell import DONE, MISUSED, say_error
from dspex_actors.errors import ConfigError
from dspex_actors.foundation.home import default_data_dir
from dspex_actors.journal.errors import JournalCorrupt
from dspex_actors.journal.index import Found, all_runs, look_for
from dspex_actors.journal.sameness import OPTIMISE

#: How many a list has.
limit_option = click.option(
    "--limit", type=click.IntRange(1), metavar="N", default=20, show_default=True, help="The newest so many."
)


class Sort(NamedTuple):
    """Which runs are meant.

    Args:
        name: what one is called.
        command: lists them.
        made_by: the command that makes one.
        kind: of a run of that sort; None: all are.
    """

    name: str
    command: str
    made_by: str
    kind: str | None = None

    @property
    def none(self) -> str:
        """What is said where there is none."""
        return f"no {self.name}s yet: `{self.made_by}` makes one"


RUNS = Sort("run", "dspex runs", "dspex evaluate PROGRAM DATA --metric M")
OPTIMISATIONS = Sort(
    "optimisation", "dspex optimizations", "dspex optimize PROGRAM DATA --optimizer NAME --metric M", OPTIMISE
)


def newest(sort: Sort, limit: int) -> tuple[list[Found], list[JournalCorrupt]]:
    """Return the newest ones, at most so many, and what is wrong with journals that cannot be read."""
    return all_runs(default_data_dir().absolute(), kind=sort.kind, limit=limit)


def find(run_id: str | None, sort: Sort = RUNS) -> Found:
    """Return a run and the journal that has it; without an id the newest one.

    Raises:
        ConfigError: there is none, or it is of another sort.
        JournalCorrupt: it is not found, and a journal cannot be read.
    """
    if run_id is None:
        found, damaged = newest(sort, 1)
        if found:
            return found[0]
        raise damaged[0] if damaged else ConfigError(sort.none)
    home = default_data_dir().absolute()
    one = look_for(run_id, home)
    if one is None:
        raise ConfigError(f"no {sort.name} {run_id!r} under {home}: `{sort.command}` lists them")
    if sort.kind not in (None, one.row.spec.kind):
        raise ConfigError(f"run {run_id} is no {sort.name}: see `{RUNS.command} show {run_id}`")
    return one


def tell_newest(
    sort: Sort,
    limit: int,
    as_json: bool,
    record: Callable[[Found], dict[str, Any]],
    show: Callable[[list[Found]], None],
) -> int:
    """List the newest ones.

    Args:
        sort: which.
        limit: at most so many.
        as_json: as one document.
        record: what that has of each.
        show: shows them to people.

    Returns:
        The exit status: journals that cannot be read are misuse, and told.
    """
    found, damaged = newest(sort, limit)
    if as_json:
        print_json([record(one) | {"journal": str(one.reader.path)} for one in found])
    elif found:
        show(found)
    elif not damaged:
        console().print(sort.none)
    for error in damaged:
        say_error(error.message)
    return MISUSED if damaged else DONE
