"""Where the node of this host lives."""

from __future__ import annotations

import os
from pathlib import Path


def default_data_dir() -> Path:
    """Return DSPEX_HOME, or ~/.dspex."""
    return Path(os.environ.get("DSPEX_HOME") or Path.home() / ".dspex")
