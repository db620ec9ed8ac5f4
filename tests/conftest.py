"""Fixtures for all tests: a data folder of its own for each, and no settings from outside.

A test that is marked `soak` goes on for SOAK_SECONDS, or is too long for every day; `make soak` runs it, and properties
with all their examples. It forks nothing (warm.py): what tests start there starts as users start it.
"""

import gc
import itertools
import os
import sys
import time
from pathlib import Path

import hypothesis
import pytest
import warm
from property_kit import examples

from dspex_actors import configure, settings
from dspex_actors.client import system

# What a kit asserts says what it found, as a test's own assertions do.
kits = {path.stem for path in Path(__file__).parent.rglob("*kit*.py")}
pytest.register_assert_rewrite(*kits - sys.modules.keys())
# Tests start programs by the hundred: each would compile every module anew.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
# How long an example takes says how busy the machine is, and nothing about what is tested.
hypothesis.settings.register_profile(
    "any speed",
    deadline=None,
    max_examples=examples(100),
    # A change is judged by the same examples as the one before it; elsewhere each run looks for new ones.
    derandomize="SAME_EXAMPLES" in os.environ,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.load_profile("any speed")
warm.install()
#: Folders of tests, the ones with the slowest files first.
SLOW_FIRST = ["e2e", "examples", "supervisors", "house"]
SOAK_SECONDS = float(os.environ.get("SOAK_SECONDS", "30"))


@pytest.hookimpl(wrapper=True)
def pytest_collection():
    """Have nobody look for garbage among modules and tests, which stay to the end: a tenth of a test process's time."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


def pytest_collection_modifyitems(items):
    """Begin with the folders whose files are slow, so that no process is left alone with one; give a soak its time."""
    items.sort(key=lambda item: next((place for place, name in enumerate(SLOW_FIRST) if name in item.path.parts), 9))
    for item in items:
        if item.get_closest_marker("soak"):
            item.add_marker(pytest.mark.timeout(SOAK_SECONDS + 180))


def pytest_sessionfinish(session, exitstatus):
    """Tell who started the tests through make how they ended: make itself only says that they did not pass."""
    if (place := os.environ.get("PYTEST_ENDED")) and not hasattr(session.config, "workerinput"):
        Path(place).write_text(str(int(exitstatus)))


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
