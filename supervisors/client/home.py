"""Where the node of a host lives, and what a user is told to do about it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from supervisors.terms.errors import NodeDown


@dataclass(frozen=True)
class Home:
    """The data folder of a host's node, and the words of messages about it.

    A program that brings a command of its own to start and mend nodes gives `Node` a Home that names it.

    Args:
        variable: the environment variable that names the folder.
        default: the folder where that is not set; a leading `~` is the user's home.
        start: what to do where no node runs; it ends a message.
        repair: what to do about a node that is broken; it ends a message.
    """

    variable: str = "SUPERVISORS_HOME"
    default: str = "~/.supervisors"
    start: str = "start one with Node.start(data_dir=...)"
    repair: str = "remove its node.json if none of its processes is left"

    def folder(self) -> Path:
        """Return the data folder.

        Raises:
            NodeDown: the variable is not set, and the user has no home.
        """
        try:
            return Path(os.environ.get(self.variable) or Path(self.default).expanduser())
        except RuntimeError:
            raise NodeDown(
                f"the data folder {self.default} cannot be found, for this user has no home: set {self.variable}"
            ) from None


#: For programs that bring no commands of their own.
HOME = Home()
