"""Where the node of this host lives: DSPEX_HOME, or ~/.dspex. Messages about it name the commands of `dspex`."""

from __future__ import annotations

from pathlib import Path

from supervisors import Home

HOME = Home("DSPEX_HOME", "~/.dspex", start="start one with `dspex start`", repair="run `dspex doctor`")


def default_data_dir() -> Path:
    """Return the data folder of this host's node."""
    return HOME.folder()
