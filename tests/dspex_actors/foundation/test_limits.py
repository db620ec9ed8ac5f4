"""Limits on time: they end what takes too long, and nothing else."""

import asyncio

import pytest

from dspex_actors.foundation import limits
from dspex_actors.foundation.limits import MOST_IDLE, Limit


async def limited(seconds, work):
    limit = Limit(seconds)
    try:
        return await work
    except asyncio.CancelledError:
        if not limit.has_ended_it():
            raise
        return "over"
    finally:
        limit.lift()


async def never():
    await asyncio.Event().wait()


async def at_once():
    return "done"


@pytest.fixture(autouse=True)
def _no_lines(monkeypatch):
    monkeypatch.setattr(limits, "_lines", {})


def test_what_takes_too_long_is_ended_and_the_task_goes_on():
    async def go():
        found = await asyncio.gather(*(limited(seconds, never()) for seconds in (0.01, 0.02, 0.01)))
        assert asyncio.current_task().cancelling() == 0
        return found

    assert asyncio.run(go()) == ["over"] * 3


def test_a_timer_of_what_is_done_ends_nothing_and_the_next_one_still_ends():
    async def go():
        assert await limited(0.02, at_once()) == "done"
        return await limited(0.02, never())

    assert asyncio.run(go()) == "over"


def test_limits_in_limits_end_what_is_theirs():
    async def go():
        assert await limited(5.0, limited(0.01, never())) == "over"
        outer = Limit(0.01)
        try:
            await limited(5.0, never())
        except asyncio.CancelledError:
            return outer.has_ended_it(), asyncio.current_task().cancelling()
        finally:
            outer.lift()

    assert asyncio.run(go()) == (True, 0)


def test_what_is_cancelled_from_outside_is_cancelled():
    async def go():
        task = asyncio.ensure_future(limited(5.0, never()))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(go())


def test_no_limit_is_none():
    assert asyncio.run(limited(None, at_once())) == "done"


def test_a_thousand_requests_have_one_timer_and_odd_lengths_leave_none():
    async def go():
        tasks = [asyncio.ensure_future(limited(60.0, never())) for _ in range(1000)]
        await asyncio.sleep(0)
        assert len(limits._lines) == 1
        for seconds in range(100, 100 + 10 * MOST_IDLE):
            await limited(float(seconds), at_once())
        assert len(limits._lines) <= MOST_IDLE + 1
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    asyncio.run(go())
    asyncio.run(limited(1.0, at_once()))
    assert len(limits._lines) == 1  # those of a loop that is closed are gone
