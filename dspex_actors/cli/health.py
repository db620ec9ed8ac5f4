"""What `dspex status` says of a node beside its processes: whether its journal can be used."""

from __future__ import annotations

import time
from typing import Any

from dspex_actors.errors import DspexError
from dspex_actors.foundation.durations import duration_text
from dspex_actors.journal.opening import open_journal, place_of
from dspex_actors.names import RUNS
from supervisors import Node
from supervisors.errors import SupervisorsError
from supervisors.host.node_config import WORKER

#: The keeper of runs is asked for so many seconds: a server that says nothing is tried for five.
ASK_SECONDS = 7.0


def journal_state(node: Node) -> dict[str, Any] | None:
    """Return `place` (file, server), `state` (well, away, unknown), `why`, and `since` (seconds since 1970).

    None: the node has no journal, since it only works.
    """
    if node.info.get("role") == WORKER:
        return None
    why: str | None
    try:
        kind, answer = node.call(RUNS, ("journal",), ASK_SECONDS)
        if kind == "ok":
            found: dict[str, Any] = answer
            return found
        why = answer["message"]
    except SupervisorsError as error:
        why = f"the keeper of runs does not answer ({error})"
        if (found_here := _trouble_of_server(node)) is not None:  # the keeper waits for it, in a change
            return found_here
    return {"place": None, "state": "unknown", "why": why, "since": None}


def _trouble_of_server(node: Node) -> dict[str, Any] | None:
    """Look from here why a journal's server cannot be used; None: it can, or the journal is a file."""
    try:
        if place_of(node.data_dir) is None:
            return None
        trouble = open_journal(node.data_dir).trouble()
    except DspexError:
        return None
    return None if trouble is None else {"place": "server", "state": "away", "why": trouble[0], "since": trouble[1]}


def journal_line(found: dict[str, Any]) -> str | None:
    """Return in one line what is wrong with a journal, what waits for it, and since when; None: nothing."""
    if found["state"] == "well":
        return None
    if found["since"] is None:
        return f"{found['why']}: whether the journal can be used is not known; see `dspex logs`"
    waits = "; runs wait, and go on by themselves when it is back" if found["place"] == "server" else ""
    return f"{found['why']} (known for {duration_text(time.time() - found['since'], 0)}){waits}"
