"""Limits hold whoever is killed: counted by the server that is asked."""

import asyncio
import os
import signal
import threading

import pytest
from e2e_kit import until
from test_deployments import Counting

import dspex_actors as dspex
from dspex_actors.lm.control.client import client_name

DAY = 30


@pytest.fixture
def counting():
    server = Counting()
    yield server
    server.shutdown()
    server.server_close()


@pytest.mark.soak
def test_a_days_limit_is_granted_once_whoever_is_killed_and_to_the_next_node_too(counting, home):
    lm = dspex.LM("openai/x", base_url=counting.url, rps=8, rpd=DAY, cache=False, deadline=12.0)
    with dspex.connect(lm=lm, home=home, workers=2) as system:
        found = []

        async def all_of_them():
            found.extend(await asyncio.gather(*(lm.acall("hi") for _ in range(2 * DAY)), return_exceptions=True))

        asking = threading.Thread(target=lambda: asyncio.run(all_of_them()))
        asking.start()
        for name, after in ((client_name(lm.deployment), 6), ("worker-1", 14), (client_name(lm.deployment), 20)):
            until(lambda after=after: len(counting.asked) >= after)
            os.kill(until(lambda name=name: system.node.whereis(name)).pid, signal.SIGKILL)
        asking.join(40.0)
        answered = [one for one in found if not isinstance(one, Exception)]
        refused = [one for one in found if isinstance(one, dspex.RateLimited)]
        assert len(found) == len(answered) + len(refused), {
            str(one)[:90] for one in found if isinstance(one, Exception)
        }
        assert all(one.retry_after > 60 or one.retryable for one in refused)
        # Turns of those who were killed are lost, and given to nobody else.
        assert DAY // 3 <= len(answered) <= len(counting.asked) <= DAY
    before = len(counting.asked)
    with dspex.connect(lm=lm, home=home, workers=2):
        with pytest.raises(dspex.RateLimited) as caught:
            lm("hi")
        assert "rpd" in str(caught.value)
    assert len(counting.asked) == before
