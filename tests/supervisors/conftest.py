"""A real node for the tests of a module, and helpers that wait for what they want to see."""

import pytest

from supervisors import SupervisorSpec, errors
from supervisors.testing import node

__all__ = ["node", "supervise"]


@pytest.fixture
def supervise(node):
    """Start supervisors that are stopped after the test."""
    started = []

    def start(children, **fields):
        fields.setdefault("intensity", 100)
        started.append(node.start_supervisor(SupervisorSpec(children, **fields)))
        return started[-1]

    yield start
    for ref in started:
        try:
            node.stop(ref, timeout=20.0)
        except errors.NoProcess:
            continue
