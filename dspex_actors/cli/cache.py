"""`dspex cache`: what answers are cached, how often they are used; clear them."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path
from typing import Any

import click
from rich.text import Text

from dspex_actors.cache.face import NodeCache, clear_folder, summary
from dspex_actors.cli.failures import Since
from dspex_actors.cli.look import attached
from dspex_actors.cli.output import console, counted, json_option, print_json, printable, show, size_text, table
from dspex_actors.cli.shell import DONE
from dspex_actors.foundation.cache_settings import cache_folder
from dspex_actors.foundation.home import default_data_dir
from supervisors.errors import NodeDown

_folder_option = click.option(
    "--dir",
    "folder",
    type=click.Path(path_type=Path, file_okay=False),
    help="The folder of another cache than DSPEX_CACHEDIR or that of DSPEX_HOME.",
)


@click.group()
def cache() -> None:
    """Show or clear what LMs have answered before. A node need not run."""


@cache.command()
@_folder_option
@json_option
def stats(folder: Path | None, as_json: bool) -> int:
    """Show how many calls each tier has answered since the workers started, and what is kept."""
    found = _stats(_folder(folder))
    if as_json:
        print_json(found)
        return DONE
    right: dict[str, Any] = {"justify": "right", "no_wrap": True}
    page = table("tier", *((name, right) for name in ("hits", "share", "answers", "size")), "where")
    for tier in ("memory", "disk", "semantic"):
        row = found[tier]
        where = row.get("folder") or ("all workers" if tier == "memory" else "")
        page.add_row(
            Text(tier, style="bold"),
            f"{row['hits']:,}",
            "–" if row["hit_rate"] is None else f"{row['hit_rate']:.1%}",
            f"{row['entries']:,}" if "entries" in row else "",
            size_text(row["bytes"]) if "bytes" in row else "",
            Text(printable(row.get("error") or where)),
        )
    show(page)
    calls = f"{counted(found['calls'], 'call')}: {found['asked']:,} asked of LMs"
    console().print(f"{calls}, {found['waited']:,} waited for an equal one", style="dim")
    return DONE


@cache.command()
@_folder_option
@click.option("--tenant", help="Only this tenant's answers.")
@click.option("--older-than", type=Since(), metavar="WHEN", help="Only those from before: 12h, 7d ago, or a time.")
@json_option
def clear(folder: Path | None, tenant: str | None, older_than: float | None, as_json: bool) -> int:
    """Remove what is cached, on disk and in the memory of the node's workers."""
    place = _folder(folder)
    seconds = None if older_than is None else max(0.001, time.time() - older_than)
    gone = None
    with contextlib.suppress(NodeDown), attached() as node:
        mine = NodeCache(node, default_data_dir().absolute())
        if mine.folder == place:
            gone = mine.clear(tenant=tenant, older_than=seconds)
    if gone is None:
        gone = clear_folder(place, tenant=tenant, older_than=seconds)
    if as_json:
        print_json({"removed": gone, "folder": str(place)})
    else:
        console().print(f"{counted(gone, 'answer')} removed from {printable(str(place))}")
    return DONE


def _folder(given: Path | None) -> Path:
    return cache_folder(default_data_dir().absolute()) if given is None else given.absolute()


def _stats(folder: Path) -> dict[str, Any]:
    with contextlib.suppress(NodeDown), attached() as node:
        mine = NodeCache(node, default_data_dir().absolute())
        if mine.folder == folder:
            return mine.stats()
    return summary([], folder)
