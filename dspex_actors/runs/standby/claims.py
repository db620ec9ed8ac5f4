"""Who may claim a run: what its lease is called, and who has all that counts of it."""

from __future__ import annotations

from collections.abc import Container
from typing import Any


def lease_of(run_id: str) -> str:
    """Return the name of a run's lease, and of the value that says who is in sync."""
    return f"run:{run_id}"


def asked_of(request: Any) -> tuple[str | None, tuple[str, ...]]:
    """Return which run has to be led here before a request is carried out, if it is in one of these states."""
    match request:
        case ("create", {"parent_id": str(run_id)}, _):
            return run_id, ("running",)
        case ("create", {"run_id": str(run_id)}, _):  # it goes on, perhaps with other settings
            return run_id, ("paused", "failed", "cancelled")
        case ("workflow", "reopen", str(run_id), _):
            return run_id, ("running", "paused", "failed")
        case ("workflow", "enlist", {"run_id": str(run_id)}, _) | ("workflow", "limits", str(run_id), _):
            return run_id, ("paused", "failed", "cancelled")
        case ("cancel" | "pause", str(run_id), _):  # what its node has left, and that may be gone
            return run_id, ("paused", "failed")
    return None, ()


def may_claim(me: str, agreed: Container[str] | None, version: int, claimed: int, owner: str) -> bool:
    """Whether a node has all that counts of a run.

    Args:
        me: its uid.
        agreed: the nodes in sync, and
        version: of that value in the store; 0: there is none, since the run is over, or never was under a lease.
        claimed: the epoch that the run was claimed with last, as the node knows.
        owner: whose it is, as the node knows; empty: nobody's, for it was copied there.
    """
    return me in (agreed or ()) if version else not (claimed and owner)
