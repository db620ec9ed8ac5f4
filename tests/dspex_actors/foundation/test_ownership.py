"""A process that stood still asks whether its work is its own before it lets anything new out."""

import asyncio

import pytest

from dspex_actors.foundation.ownership import STILL_SECONDS, Ownership
from supervisors.cluster.membership.core import FAIL_SECONDS
from supervisors.cluster.membership.suspicion import LEAST_SECONDS


class World:
    """A clock that a test sets, and somebody who answers when a test says so."""

    def __init__(self):
        self.now, self.asked, self.told = 0.0, [], []
        self.was_asked = asyncio.Event()

    async def confirm(self):
        self.asked.append(asyncio.get_running_loop().create_future())
        self.was_asked.set()
        return await self.asked[-1]

    def ownership(self):
        return Ownership(
            asyncio.ensure_future,
            self.confirm,
            kept=lambda: self.told.append("kept"),
            lost=lambda: self.told.append("lost"),
            clock=lambda: self.now,
        )


async def turns(count=5):
    for _ in range(count):
        await asyncio.sleep(0)


def test_one_that_runs_all_the_time_asks_nobody():
    async def main():
        world = World()
        mine = world.ownership()
        for _ in range(100):
            world.now += STILL_SECONDS
            assert mine.is_sure()
        assert (world.asked, world.told) == ([], [])

    asyncio.run(main())


@pytest.mark.parametrize("is_own", [True, False])
def test_one_that_stood_still_is_not_sure_before_it_has_heard(is_own):
    async def main():
        world = World()
        mine = world.ownership()
        world.now += STILL_SECONDS + 0.1
        assert not mine.is_sure()
        waiting = asyncio.ensure_future(mine.settled())
        await turns()
        assert (len(world.asked), world.told, waiting.done()) == (1, [], False)
        assert not mine.is_sure()
        world.asked[0].set_result(is_own)
        await turns()
        assert world.told == ["kept" if is_own else "lost"]
        assert waiting.cancelled() is not is_own
        assert mine.is_sure()

    asyncio.run(main())


def test_what_was_said_before_another_stop_says_nothing():
    async def main():
        world = World()
        mine = world.ownership()
        world.now = 10.0
        assert not mine.is_sure()
        await turns()
        world.asked[0].set_result(True)
        world.now = 20.0
        await turns()
        assert (len(world.asked), world.told) == (2, [])
        world.asked[1].set_result(False)
        await turns()
        assert world.told == ["lost"]

    asyncio.run(main())


def test_the_stop_is_noticed_by_itself(monkeypatch):
    monkeypatch.setattr("dspex_actors.foundation.ownership.BEAT_SECONDS", 0.001)

    async def main():
        world = World()
        mine = world.ownership()
        mine.watch()
        world.now = 10.0
        async with asyncio.timeout(30):
            await world.was_asked.wait()
        mine.close()

    asyncio.run(main())


def test_nobody_is_taken_to_be_down_before_it_would_notice_that_it_stood_still():
    assert 1.5 * STILL_SECONDS <= FAIL_SECONDS + LEAST_SECONDS
