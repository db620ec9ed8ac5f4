"""A node that is this program's own: launched in a fresh interpreter, and gone when this program ends, however."""

from __future__ import annotations

import contextlib
import os
import subprocess
from dataclasses import replace
from pathlib import Path

from supervisors.client.forks import keep_from_children
from supervisors.client.home import HOME, Home
from supervisors.client.launch import launch, stop_process
from supervisors.client.temporary import TemporaryFolder
from supervisors.host.node_config import NodeConfig
from supervisors.host.streams import pipe_above_streams

#: How long a node may take to go down.
STOP_SECONDS = 150.0


class OwnNode:
    """The daemon of an own node, and the pipe that holds it: the node ends when the other end, here, is closed."""

    def __init__(self, config: NodeConfig, home: Home = HOME) -> None:
        """Launch it; return when it is up.

        Args:
            config: what it is started with; `temporary`: its folder is made here and goes with it.
            home: names the variable of the data folder, for a message.

        Raises:
            NodeDown: it did not come up; nothing is left of it.
        """
        self._temporary = TemporaryFolder() if config.temporary else None
        if self._temporary is not None:
            config = replace(config, data_dir=str(self._temporary.path))
        self.folder = Path(config.data_dir)
        lifeline, self._lifeline = pipe_above_streams()
        keep_from_children(self)
        try:
            self._process, _ = launch(config, lifeline, home)
        except BaseException:
            self._let_go()
            raise
        finally:
            os.close(lifeline)

    def leave_to_parent(self) -> None:
        """Hold it no more in a forked child: it ends with the parent alone."""
        with contextlib.suppress(OSError):
            os.close(self._lifeline)
        self._lifeline = -1
        if self._temporary is not None:
            self._temporary.leave_to_parent()

    def abandon(self) -> None:
        """Let go of a node that is of no use; return when it is gone."""
        os.close(self._lifeline)
        self._lifeline = -1
        self._process.wait()
        self._let_go()

    def stop(self) -> None:
        """Stop it, children first; return when it is gone."""
        stop_process(self._process.pid)
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._let_go()

    def _let_go(self) -> None:
        if self._lifeline >= 0:
            os.close(self._lifeline)
            self._lifeline = -1
        if self._temporary is not None:  # the daemon removes it too, unless it was killed
            self._temporary.remove()
