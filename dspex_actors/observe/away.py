"""Whether a node that does not answer may come back by itself."""

from __future__ import annotations

from pathlib import Path

from supervisors import Node
from supervisors.client.launch import node_runs
from supervisors.errors import SupervisorsError


def is_gone(node: Node) -> bool:
    """Tell whether a node was stopped, or has died with its daemon: there is nobody who would bring it back."""
    try:
        return not node_runs(Path(str(node.info["data_dir"])))
    except (SupervisorsError, KeyError):
        return True
