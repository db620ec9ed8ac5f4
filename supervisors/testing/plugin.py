"""The pytest fixture: `from supervisors.testing import node`, in a test module or in conftest.py."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from supervisors.client.node import Node
from supervisors.testing.waiting import assert_gone, processes_of


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """Start a node of the test module's own; at the end, fail if a process of it is left."""
    folder = tmp_path_factory.mktemp("node")
    folder.chmod(0o700)
    with Node.start(data_dir=folder) as running:
        pids = processes_of(running)
        yield running
        pids |= processes_of(running)
    assert_gone(pids)
    assert not (folder / "node.json").exists()
