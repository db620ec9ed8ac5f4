"""A node that is this program's own: launched in a fresh interpreter, and gone when this program ends, however."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from dataclasses import replace
from pathlib import Path

from supervisors.client.home import Home
from supervisors.client.launch import HOME, launch, stop_process
from supervisors.host.node_config import NodeConfig

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
        self._temporary = config.temporary
        if self._temporary:
            config = replace(config, data_dir=tempfile.mkdtemp(prefix="node-"))
        self.folder = Path(config.data_dir)
        lifeline, self._lifeline = os.pipe()
        try:
            self._process, _ = launch(config, lifeline, home)
        except BaseException:
            os.close(self._lifeline)
            self._remove_folder()
            raise
        finally:
            os.close(lifeline)

    def abandon(self) -> None:
        """Let go of a node that is of no use; return when it is gone."""
        os.close(self._lifeline)
        self._process.wait()

    def stop(self) -> None:
        """Stop it, children first; return when it is gone."""
        stop_process(self._process.pid)
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        os.close(self._lifeline)
        self._remove_folder()

    def _remove_folder(self) -> None:
        if self._temporary:  # the daemon removes it too, unless it was killed
            shutil.rmtree(self.folder, ignore_errors=True)
