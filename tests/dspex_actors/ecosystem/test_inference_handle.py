"""A program's handle of an inference ecosystem: how long it asks."""

import asyncio
import itertools
import os
from concurrent.futures import Future
from types import SimpleNamespace

import pytest

from dspex_actors.ecosystem.inference.handle import InferenceEcosystem
from dspex_actors.ecosystem.inference.messages import ROLES, Answer
from dspex_actors.ecosystem.naming import Place
from dspex_actors.foundation.codec import pack
from supervisors.errors import NoProcess


class ComesBack:
    """A session with a coordinator that is not there for the first three times."""

    def __init__(self):
        self.pid, self.seconds, self._numbers = os.getpid(), [], itertools.count()

    def ask(self, key, inputs, seconds, operation):
        future = Future()
        self.seconds.append(seconds)
        if len(self.seconds) <= 3:
            future.set_exception(NoProcess("nobody", reason=None))
        else:
            future.set_result(Answer(pack({"team": "x"})))
        return next(self._numbers), future


class Eco(InferenceEcosystem):
    """One without a node."""

    def __init__(self):
        super().__init__(SimpleNamespace(is_closed=False), Place("inference", "x"), ROLES)
        self._program, self._seconds, self._asking = "digest", 30.0, ComesBack()

    def rows(self):
        return []


@pytest.mark.parametrize("way", ["sync", "async"])
def test_what_was_waited_for_a_coordinator_is_part_of_an_inference_s_time(way):
    eco = Eco()
    found = eco.infer(ticket="a") if way == "sync" else asyncio.run(eco.ainfer(ticket="a"))
    assert found.team == "x"
    seconds = eco._asking.seconds
    assert len(seconds) == 4
    assert seconds == sorted(seconds, reverse=True)
    assert seconds[3] < seconds[0] - 0.05
