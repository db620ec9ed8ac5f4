"""How many requests a server gets at once: simulations without a clock, and the line of those who wait."""

import asyncio
import heapq
import itertools
import math

import pytest

from dspex_actors.lm.worker.window import START, Slots, Window


def simulate(rows, *, parallel, service, timeout, sessions=2, most=128, hang=0, is_known=False):
    """Let sessions ask a server that works on so many requests at once; return seconds, requests and the most at once.

    A request that is given up is worked on all the same, as servers do. Every `hang`th one is never answered.
    """
    windows = [Window(most, is_known=is_known) for _ in range(sessions)]
    taken = [0] * sessions
    free = [0.0] * parallel
    heapq.heapify(free)
    events = []
    order = itertools.count()
    now, left, requests, top = 0.0, rows, 0, 0

    def send(place):
        nonlocal requests, left, top
        while left and taken[place] < windows[place].size:
            left -= 1
            requests += 1
            taken[place] += 1
            top = max(top, sum(taken))
            if taken[place] == windows[place].size:
                windows[place].full()
            end = now + timeout + 1
            if not hang or requests % hang:
                end = max(heapq.heappop(free), now) + service
                heapq.heappush(free, end)
            answered = end - now <= timeout
            at = end if answered else now + timeout
            heapq.heappush(events, (at, next(order), place, answered, at - now, windows[place].epoch))

    for place in range(sessions):
        send(place)
    while events:
        now, _, place, answered, latency, epoch = heapq.heappop(events)
        taken[place] -= 1
        if answered:
            windows[place].answered(latency, timeout, epoch)
        else:
            left += 1
            windows[place].late(epoch)
        for each in range(sessions):
            send(each)
    return now, requests, top


@pytest.mark.parametrize(
    ("sessions", "service"), [(1, 0.02), (1, 0.2), (2, 0.02), (2, 0.1), (2, 0.2), (4, 0.02), (4, 0.1)]
)
def test_a_server_that_does_one_at_a_time_answers_all_in_time(sessions, service):
    seconds, requests, _ = simulate(300, parallel=1, service=service, timeout=2.0, sessions=sessions)
    assert requests <= 315
    assert seconds <= 1.1 * 300 * service


def test_a_server_so_slow_that_even_the_first_requests_are_late_is_found_out():
    seconds, requests, _ = simulate(300, parallel=1, service=0.8, timeout=2.0)
    assert requests <= 300 * 1.2
    assert seconds <= 300 * 0.8 * 1.2


@pytest.mark.parametrize(
    ("service", "timeout", "is_known", "rounds"),
    [
        (0.005, 60.0, False, 2),
        (0.1, 60.0, False, 2),
        (1.0, 60.0, False, 3),
        (20.0, 60.0, False, 12),
        (1.5, 2.0, False, 7),
        (20.0, 60.0, True, 1),
    ],
)
def test_a_server_that_keeps_up_gets_all_there_are_within_a_few_answers(service, timeout, is_known, rounds):
    seconds, requests, top = simulate(5000, parallel=10_000, service=service, timeout=timeout, is_known=is_known)
    assert (requests, top) == (5000, 256)
    # At best there are 256 at once from the beginning.
    assert seconds <= (math.ceil(5000 / 256) + rounds) * service


def test_single_requests_that_hang_shrink_nothing():
    _, requests, top = simulate(3000, parallel=10_000, service=0.1, timeout=2.0, hang=100)
    assert top == 256
    assert requests <= 3040


def test_what_was_sent_to_a_larger_window_does_not_shrink_it_again():
    window = Window(64)
    window.answered(0.1, 60.0, 0)
    size, epoch = window.size, window.epoch
    assert size > START
    for _ in range(size):
        window.late(epoch)
    assert window.size == size // 2


def test_a_few_quick_answers_of_a_full_window_are_enough_to_open_it_and_slow_ones_are_not():
    for latency, few in ((0.1, True), (3.0, False)):
        window = Window(256)
        window.answered(0.1, 60.0, 0)
        assert window.size == 75
        window.full()
        for number in range(1, 5):
            window.answered(latency * (1 if few else number), 60.0, window.epoch)
        assert window.size == (256 if few else 75)


def test_a_window_that_was_never_full_does_not_grow():
    window = Window(1000)
    for _ in range(1000):
        window.answered(10.0, 60.0, 0)
    assert window.size == START


def test_places_are_given_in_turn_and_come_back_from_those_who_give_up():
    async def go():
        slots = Slots(Window(1))
        assert await slots.take(1.0)
        got = []

        async def take(name):
            assert await slots.take(10.0)
            got.append(name)

        tasks = [asyncio.ensure_future(take(name)) for name in "abc"]
        await asyncio.sleep(0)
        tasks[0].cancel()
        assert not await slots.take(0.01)
        slots.release()
        await tasks[1]
        slots.release()
        await tasks[2]
        assert got == ["b", "c"]
        # One who gives up at the moment at which the place comes gives it back.
        task = asyncio.ensure_future(take("d"))
        await asyncio.sleep(0)
        slots.release()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert slots.taken == 0

    asyncio.run(go())
