"""How many nodes of a cluster are to have each run that begins on a node, as told at this start or before.

Where nobody has said a number it is `REPLICAS`.
"""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

from dspex_actors.errors import ConfigError
from dspex_actors.foundation.checks import is_whole
from dspex_actors.foundation.files import write_whole

#: So many nodes have a run where nobody says another number; and no more can.
REPLICAS, MOST_REPLICAS = 2, 5
#: In the data folder of a node that was told a number.
_FILE = "replicas.json"


def keep_replicas(folder: Path, replicas: int) -> None:
    """Write down what a node was told, for its next starts."""
    with contextlib.suppress(OSError):  # a full disk is no reason not to start: it is told again
        write_whole(folder / _FILE, json.dumps({"replicas": replicas}).encode())


def kept_replicas(folder: Path) -> int | None:
    """Return what a node was told at an earlier start; None: nothing.

    Raises:
        ConfigError: the file says nothing that can be understood.
    """
    path = folder / _FILE
    try:
        found: Any = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValueError):
        found = None
    replicas: Any = found.get("replicas") if isinstance(found, dict) else None
    if not (is_whole(replicas, 1) and replicas <= MOST_REPLICAS):
        raise ConfigError(f"{path} is damaged: remove it, and start the node with --replicas")
    return int(replicas)


def check_enough(replicas: int, nodes: int) -> None:
    """Refuse more copies than there can be.

    Args:
        replicas: how many nodes are to have a run.
        nodes: how many full nodes the cluster has, this one among them.

    Raises:
        ConfigError: there are fewer.
    """
    if replicas > nodes:
        raise ConfigError(
            f"replicas is invalid: got {replicas}, expected {nodes} at most, the full nodes of the cluster with this "
            "one: start the others first, then this one with --replicas"
        )


def too_few(replicas: int | None, nodes: int) -> list[str]:
    """Return what people should know where a node was told more copies than there can be: one line, or nothing.

    Args:
        replicas: that it was told; None: nothing.
        nodes: how many full nodes are up, this one among them.
    """
    if replicas is None or replicas <= nodes:
        return []
    have = "this node is alone" if nodes == 1 else f"the cluster has {nodes} full nodes"
    copies = "no copy" if nodes == 1 else f"{nodes} copies"
    return [f"replicas {replicas}, but {have}: runs that begin here have {copies}"]
