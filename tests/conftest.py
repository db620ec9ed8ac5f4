"""Fixtures for all tests: a data folder of its own for each, and no settings from outside.

A test that is marked `soak` goes on for SOAK_SECONDS, or is too long for every day; `make soak` runs it.
"""

import itertools
import os
import time

import pytest

from dspex_actors import configure, settings
from dspex_actors.client import system

# Tests start programs by the hundred: each would compile every module anew.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
SOAK_SECONDS = float(os.environ.get("SOAK_SECONDS", "30"))


def pytest_collection_modifyitems(items):
    """Begin with the folders whose files are slow, so that no process is left alone with one; give a soak its time."""
    items.sort(key=lambda item: not {"e2e", "examples"} & set(item.path.parts))
    for item in items:
        if item.get_closest_marker("soak"):
            item.add_marker(pytest.mark.timeout(SOAK_SECONDS + 180))


@pytest.fixture
def rounds():
    """Numbers from 0 on, until SOAK_SECONDS are over: one at least."""

    def numbers():
        end = time.monotonic() + SOAK_SECONDS
        for number in itertools.count():
            yield number
            if time.monotonic() > end:
                return

    return numbers()


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """Give the test a DSPEX_HOME of its own; close the connections that it left open."""
    for name in list(os.environ):
        if name.startswith("DSPEX_") or name.endswith("_API_KEY"):
            monkeypatch.delenv(name)
    folder = tmp_path / "home"
    monkeypatch.setenv("DSPEX_HOME", str(folder))
    before, open_before = settings.lm, list(system._current)
    yield folder
    for connection in list(system._current):
        if connection not in open_before:
            connection.close()
    if settings.lm is not before:
        configure(lm=before)
