"""A handler is told of changes in order, on its loop if it has one, and detached where it fails too often in a row."""

import asyncio
import logging
import queue
import threading

import pytest

from supervisors import errors
from supervisors.cluster.telling import MAX_FAILURES, Telling
from supervisors.testing import wait_until


class Numbers(Telling):
    """Tells numbers that a test puts in; an error in between is one of the node's."""

    again_seconds = 0.001

    def __init__(self, handler, **options):
        super().__init__(handler, "the handler of numbers", logging.getLogger("numbers"), **options)
        self.given = queue.Queue()
        self._start("numbers")

    def _news(self):
        found = self.given.get(timeout=30)
        if isinstance(found, Exception):
            raise found
        return [(f"number {each}", each) for each in found]


@pytest.fixture
def telling():
    made = []

    def make(handler, **options):
        made.append(Numbers(handler, **options))
        return made[-1]

    yield make
    for each in made:
        each.cancel()
        each.given.put([])  # its thread looks up


def test_all_is_told_in_order_though_the_node_is_away_in_between(telling):
    told = []
    numbers = telling(told.append)
    for each in ([1, 2], errors.CallTimeout("away"), [], [3]):
        numbers.given.put(each)
    wait_until(lambda: len(told) == 3)
    assert told == [1, 2, 3]
    assert numbers.active


def test_one_that_fails_too_often_in_a_row_is_detached(telling, caplog):
    told = []

    def handler(number):
        told.append(number)
        if number:
            raise ValueError("no")

    numbers = telling(handler)
    numbers.given.put([*range(1, MAX_FAILURES), 0, *range(1, MAX_FAILURES + 5)])
    wait_until(lambda: not numbers.active)
    assert told == [*range(1, MAX_FAILURES), 0, *range(1, MAX_FAILURES + 1)]
    assert "a handler of number 1 failed: ValueError: no" in caplog.text
    assert caplog.messages[-1] == "the handler of numbers has failed 10 times and is detached"


def test_one_that_cancels_itself_is_told_nothing_more(telling):
    told = []

    def handler(number):
        told.append(number)
        numbers.cancel()

    numbers = telling(handler)
    numbers.given.put([1, 2])
    wait_until(lambda: not [each for each in threading.enumerate() if each.name == "numbers"])
    assert told == [1]


def test_an_async_one_is_called_on_the_loop_in_which_it_was_given(telling):
    async def main():
        told = asyncio.Queue()

        async def handler(number):
            told.put_nowait((number, asyncio.get_running_loop()))

        telling(handler).given.put([1, 2])
        async with asyncio.timeout(30):
            assert [await told.get() for _ in range(2)] == [(n, asyncio.get_running_loop()) for n in (1, 2)]

    asyncio.run(main())


def test_an_async_one_without_a_loop_is_refused(telling):
    async def handler(number):
        pass

    with pytest.raises(errors.SpecError, match="an async handler needs a running event loop: subscribe inside one"):
        telling(handler)
    with pytest.raises(ValueError, match="needs a running event loop: call it there"):
        telling(handler, error=ValueError, instead="call it there")
