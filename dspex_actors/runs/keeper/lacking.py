"""Which API keys a node turned out to lack: its workers note them, and `dspex nodes` shows them.

A note is an empty file with the variable's name, in a folder of this run of the node: a key is there at a node's next
start or not at all.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

#: What a node tells of itself has room for so many bytes.
MAX_BYTES = 150
_FOLDER = "run/lacking"


def _folder(node: Mapping[str, Any]) -> Path:
    return Path(node["data_dir"]) / _FOLDER / str(node["uid"])


def forget_others(node: Mapping[str, Any]) -> None:
    """Remove what earlier runs of a node have lacked."""
    for old in _folder(node).parent.glob("*"):
        if old != _folder(node):
            shutil.rmtree(old, ignore_errors=True)


def note_lacking(node: Mapping[str, Any], variable: str) -> None:
    """Take note that a variable with a key is not set on a node."""
    with contextlib.suppress(OSError):  # a full disk: it is seen in the run's note all the same
        _folder(node).mkdir(mode=0o700, parents=True, exist_ok=True)
        (_folder(node) / variable).touch(mode=0o600)


def notes_of(node: Mapping[str, Any]) -> list[str]:
    """Return what `dspex nodes` is to say of it: nothing, or one line."""
    names = sorted(path.name for path in _folder(node).glob("*"))
    if not names:
        return []
    shown = names
    while len(", ".join(shown)) > MAX_BYTES - 50 and len(shown) > 1:
        shown = shown[:-1]
    more = f" and {len(names) - len(shown)} more" if len(shown) < len(names) else ""
    return [f"lacks {', '.join(shown)[:MAX_BYTES]}{more}: set it and start the node anew"]
