"""A node of a program's own: a folder under DSPEX_HOME/embedded, and gone with the program."""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dspex_actors.app import APP, PRELOAD, AppConfig
from dspex_actors.client.full import check_full
from dspex_actors.errors import DspexError
from dspex_actors.foundation.home import HOME
from dspex_actors.journal.gone import GONE_FILE, keep_paid
from dspex_actors.journal.reader import JOURNAL_FILE, JournalReader
from dspex_actors.observe.events.reader import EventReader
from dspex_actors.observe.events.store import EVENTS_FILE
from supervisors import Node
from supervisors.client.launch import node_runs
from supervisors.cluster.handle import last_start
from supervisors.errors import NodeDown

#: A node that another program is starting over the same folder is waited for, in seconds, and looked for this often.
JOIN_SECONDS, JOIN_POLL = 60.0, 0.1
#: The events of so many nodes without runs are kept; so many folders are looked at when one ends.
KEPT, LOOKED_AT = 5, 100


def start_node(folder: Path, app: AppConfig | None = None) -> Node:
    """Start a dspex node of this program's own over a data folder."""
    # One after the other: `parents=True` would leave DSPEX_HOME open to others, and a daemon refuses it then.
    for place in (folder.parent.parent, folder.parent, folder):
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
    last = last_start(folder)
    if last is not None:
        check_full(last.role, last.name)
    # The folder of a node that others know: they find it where it was, as what it was.
    as_it_was: dict[str, Any] = (
        {"name": f"embedded-{os.getpid()}"}
        if last is None
        else {"name": last.name, "host": last.host, "role": last.role, "labels": last.labels}
    )
    return Node.start(
        **as_it_was,
        data_dir=folder,
        home=HOME,
        app=APP,
        preload=PRELOAD,
        app_config=(app or AppConfig()).to_dict(),
    )


def join_or_start(folder: Path) -> tuple[Node, bool]:
    """Return the node over a data folder, and whether it is this program's own.

    The one that runs there, also where another program is starting it just now; else one of this program's own.

    Raises:
        NodeDown: neither is possible.
    """
    until = time.monotonic() + JOIN_SECONDS
    alone = False
    while True:
        with contextlib.suppress(NodeDown):
            return Node.attach(folder, HOME), False
        try:
            return start_node(folder), True
        except NodeDown:
            # One at a time has the folder: who came first is about to be found there, or is just going.
            if alone or time.monotonic() > until:
                raise
            alone = not node_runs(folder)
        time.sleep(JOIN_POLL)


@contextlib.contextmanager
def own_node(folder: Path) -> Iterator[Node]:
    """Give the node over a data folder: the one that runs there, else one of this program's own meanwhile."""
    node, _ = join_or_start(folder)
    with node:
        yield node


def forget_if_unused(folder: Path) -> None:
    """Remove an own node's folder if no run was ever made there; one with events stays while it is among the last."""
    if _has_runs(folder):
        return
    if not _has_events(folder):
        _remove(folder)
        return
    newest = sorted((path.parent for path in folder.parent.glob(f"*/{EVENTS_FILE}")), reverse=True)[:LOOKED_AT]
    # Names begin with the time. One that runs, or has runs, is nobody's to remove.
    unused = [one for one in newest if one == folder or not (node_runs(one) or _has_runs(one))]
    for one in unused[KEPT:]:
        _remove(one)


def _remove(folder: Path) -> None:
    """Remove a folder; what was paid there is written down beside it. Where it cannot be, the folder stays."""
    with contextlib.suppress(OSError, DspexError):
        keep_paid(folder / JOURNAL_FILE, folder.parent.parent / GONE_FILE)
        shutil.rmtree(folder, ignore_errors=True)


def _has_runs(folder: Path) -> bool:
    try:
        return bool(JournalReader(folder / JOURNAL_FILE).list_runs(limit=1))
    except DspexError:
        return True  # a journal that cannot be read may have some


def _has_events(folder: Path) -> bool:
    try:
        return bool(EventReader(folder / EVENTS_FILE).last())
    except DspexError:
        return True  # nor a store of events
