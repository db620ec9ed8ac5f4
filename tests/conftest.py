"""Fixtures for all tests: a data folder of its own for each, and no settings from outside."""

import os

import pytest

from dspex_actors import configure, settings
from dspex_actors.client import system


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
