"""The names under which the parts of a dspex node find each other."""

from __future__ import annotations

import os
import shlex
from typing import Any

from dspex_actors.errors import ConfigError

#: Branches of the root, and the keeper of runs.
WORKERS, CLIENTS, EVALUATORS, RUNS = "http_workers", "clients", "evaluators", "runs"

#: Parts that the node has where they are used: they stand in the registry of services under these names.
SERVICES, TELEMETRY, PROTECTION = "services", "telemetry", "protection"
MODULES, OPTIMISATIONS, OPTIMISERS, CACHE = "modules", "optimisations", "optimisers", "cache"
#: The branch of all ecosystems.
ECOSYSTEMS = "ecosystems"


def worker_name(number: int) -> str:
    """Return the registered name of the http worker with this number, from 1."""
    return f"worker-{number}"


def worker_count(told: int | None) -> int:
    """Return how many http workers a node has that was told so many; None: one per core, at least 2."""
    return told or max(2, os.cpu_count() or 1)


def run_name(run_id: str) -> str:
    """Return the registered name of a run's evaluator."""
    return f"run:{run_id}"


def run_command(verb: str, run_id: str) -> str:
    """Return what to type for a run: an id may hold what means something to a shell."""
    return f"dspex runs {verb} {shlex.quote(run_id)}"


def optimization_command(verb: str, run_id: str) -> str:
    """Return what to type for an optimisation."""
    return f"dspex optimizations {verb} {shlex.quote(run_id)}"


def workflow_call(run_id: str) -> str:
    """Return what a program calls to go on with a durable workflow: only it has the steps."""
    return f"workflow.run(data, durable=True, run_id={run_id!r})"


#: Longest run id: it becomes part of names and, with an ending, of file names.
RUN_ID_CHARACTERS, RUN_ID_BYTES = 128, 200


def check_run_id(run_id: Any) -> str:
    """Return a run's id if it may be one.

    Raises:
        ConfigError: it is no text of 1 to 128 printable characters (200 bytes in UTF-8) without slashes and "..", or
            it begins with "-", or with or ends in a space.
    """
    if (
        not isinstance(run_id, str)
        or not 1 <= len(run_id) <= RUN_ID_CHARACTERS
        or not run_id.isprintable()
        or any(part in run_id for part in ("/", "\\", ".."))
        or run_id == "."
        or run_id.startswith("-")
        or run_id != run_id.strip()
        or len(run_id.encode()) > RUN_ID_BYTES
    ):
        text = ascii(run_id)
        raise ConfigError(
            f"the run id is invalid: got {text if len(text) <= 80 else text[:80] + '...'}, expected 1 to "
            f"{RUN_ID_CHARACTERS} printable characters without / \\ and .., no - at the start and no space at an end"
        )
    return run_id
