"""A node of a program's own: a folder under DSPEX_HOME/embedded, and gone with the program."""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

from dspex_actors.app import APP, PRELOAD, AppConfig
from dspex_actors.foundation.home import HOME
from dspex_actors.journal.index import JOURNAL_FILE
from dspex_actors.journal.reader import JournalReader
from supervisors import Node
from supervisors.client.launch import node_runs
from supervisors.errors import NodeDown

#: A node that another program is starting over the same folder is waited for, in seconds, and looked for this often.
JOIN_SECONDS, JOIN_POLL = 60.0, 0.1


def start_node(folder: Path, app: AppConfig | None = None) -> Node:
    """Start a dspex node of this program's own over a data folder."""
    # One after the other: `parents=True` would leave DSPEX_HOME open to others, and a daemon refuses it then.
    for place in (folder.parent.parent, folder.parent, folder):
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
    return Node.start(
        name=f"embedded-{os.getpid()}",
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
    """Remove an own node's folder if no run was ever made there."""
    if not JournalReader(folder / JOURNAL_FILE).list_runs(limit=1):
        shutil.rmtree(folder, ignore_errors=True)
