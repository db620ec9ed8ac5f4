"""What `dspex status` says of a node beside its processes: whether its journal can be used."""

from __future__ import annotations

import time
from typing import Any

from dspex_actors.foundation.durations import duration_text
from dspex_actors.names import RUNS
from supervisors import Node
from supervisors.errors import SupervisorsError
from supervisors.host.node_config import WORKER

#: The keeper of runs is asked for so many seconds: a server that says nothing is tried for five.
ASK_SECONDS = 10.0


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
    return {"place": None, "state": "unknown", "why": why, "since": None}


def journal_line(found: dict[str, Any]) -> str | None:
    """Return in one line what is wrong with a journal, what waits for it, and since when; None: nothing."""
    if found["state"] == "well":
        return None
    if found["since"] is None:
        return f"{found['why']}: whether the journal can be used is not known; see `dspex logs`"
    waits = "; runs wait, and go on by themselves when it is back" if found["place"] == "server" else ""
    return f"{found['why']} (known for {duration_text(time.time() - found['since'], 0)}){waits}"
