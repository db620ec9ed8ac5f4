"""The coordinator of optimisations brings a server back, also where it cannot at once."""

import asyncio
from types import SimpleNamespace

import pytest

from dspex_actors import ConfigError
from dspex_actors.journal.errors import JournalError
from dspex_actors.optimisation import coordinator
from dspex_actors.optimisation.coordinator import OptimizationCoordinator
from supervisors.errors import NoProcess


class Tried(OptimizationCoordinator):
    """A coordinator whose tries to begin fail so many times."""

    def __init__(self, fails, standing="running", keeper=True):
        self.fails, self.standing_is, self.keeper = fails, standing, keeper
        self.begun, self.told, self.later = 0, [], []
        self._journal = SimpleNamespace(get_run=self._get_run)

    log = SimpleNamespace(error=lambda *args, **kwargs: None)

    def _get_run(self, run_id, code):
        if isinstance(self.standing_is, Exception):
            raise self.standing_is
        return SimpleNamespace(state=self.standing_is, owner="")

    async def _owner(self):
        return ""

    async def _begin(self, run_id):
        self.fails -= 1
        if self.fails >= 0:
            raise ConfigError("the keeper of runs is not back yet")
        self.begun += 1

    async def call(self, name, request, **how):
        if not self.keeper:
            raise NoProcess("runs")
        self.told.append(request)
        return ("error", JournalError("no space").to_record()) if self.keeper == "full" else ("ok", None)

    def send_after(self, seconds, message):
        self.later.append(message)


@pytest.mark.parametrize(
    ("tried", "begun", "told", "later"),
    [
        (Tried(0), 1, 0, []),
        (Tried(4), 1, 0, []),
        (Tried(4, JournalError("the journal is away")), 1, 0, []),
        (Tried(99), 0, 1, []),
        (Tried(99, "paused"), 0, 0, []),
        (Tried(99, keeper=False), 0, 0, ["revive"]),
        (Tried(99, keeper="full"), 0, 1, ["revive"]),
    ],
)
def test_it_is_given_up_only_after_several_tries_and_never_silently(monkeypatch, tried, begun, told, later):
    monkeypatch.setattr(coordinator, "AGAIN_SECONDS", (0.0,) * 5)
    asyncio.run(tried._bring_back("night"))
    assert (tried.begun, len(tried.told), tried.later) == (begun, told, later)
