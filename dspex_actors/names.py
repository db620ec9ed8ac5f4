"""The names under which the parts of a dspex node find each other."""

from __future__ import annotations

#: Branches of the root, and the keeper of runs.
WORKERS, CLIENTS, EVALUATORS, RUNS = "http_workers", "clients", "evaluators", "runs"


def worker_name(number: int) -> str:
    """Return the registered name of the http worker with this number, from 1."""
    return f"worker-{number}"


def run_name(run_id: str) -> str:
    """Return the registered name of a run's evaluator."""
    return f"run:{run_id}"
