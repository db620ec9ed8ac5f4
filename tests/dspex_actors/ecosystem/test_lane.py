import asyncio

from dspex_actors.ecosystem.inference.lane import MOST_BYTES, MOST_ITEMS, Lane
from dspex_actors.foundation.linger import FEW, LINGER_SECONDS, MOST_SECONDS, Linger


def through_a_lane(waves, going_on=0, size=1):
    """Put waves of items into a lane, each while the batch before is out; return the batches."""

    async def run():
        batches, out, sent = [], [], asyncio.Event()

        def send(batch, arrived):
            batches.append(batch)
            out.append(arrived)
            sent.set()

        lane = Lane(send, lambda item: size, lambda: going_on)
        for wave in waves:
            for item in wave:
                lane.put(item)
            lane.go()
            if len(out) > 1:
                out.pop(0)()
        async with asyncio.timeout(30):
            while sum(map(len, batches)) < sum(map(len, waves)):
                if out:
                    out.pop(0)()
                await sent.wait()
                sent.clear()
        return batches

    return asyncio.run(run())


def test_what_may_go_goes_at_once_and_together():
    async def run():
        batches = []
        lane = Lane(lambda batch, arrived: batches.append(batch), lambda item: 1, lambda: 0)
        lane.put(1)
        lane.put(2)
        assert not batches
        lane.go()
        assert batches == [[1, 2]]
        lane.put(3)
        lane.go()
        assert batches == [[1, 2]]

    asyncio.run(run())


def test_a_lane_that_is_closed_sends_nothing_more():
    async def run():
        batches = []

        def send(batch, arrived):
            batches.append(batch)
            arrived()

        lane = Lane(send, lambda item: 1, lambda: 100)
        for item in (1, 2):
            lane.put(item)
            lane.go()
        lane.close()
        await asyncio.sleep(MOST_SECONDS * 2)
        assert batches == [[1]]

    asyncio.run(run())


def test_what_comes_while_a_batch_is_out_goes_as_the_next_one():
    batches = through_a_lane([[1], [2, 3, 4], [5]])
    assert [item for batch in batches for item in batch] == [1, 2, 3, 4, 5]
    assert len(batches) < 5


def test_a_batch_is_bounded_by_items_and_by_bytes():
    many = list(range(MOST_ITEMS + 10))
    assert [len(batch) for batch in through_a_lane([many])] == [MOST_ITEMS, 10]
    assert [len(batch) for batch in through_a_lane([[1, 2, 3]], size=MOST_BYTES // 2 + 1)] == [1, 1, 1]
    assert [len(batch) for batch in through_a_lane([[1, 2]], size=MOST_BYTES * 2)] == [1, 1]


def test_nothing_is_lost_where_much_is_going_on():
    batches = through_a_lane([[number] for number in range(50)], going_on=FEW + 1)
    assert [item for batch in batches for item in batch] == list(range(50))


def test_a_batch_waits_only_where_much_is_going_on_and_never_long():
    linger = Linger()
    assert linger.wait(0.0, 100) == 0.0
    linger.went(0.0)
    assert linger.wait(0.001, FEW) == 0.0
    assert linger.wait(0.0, FEW + 1) == (FEW + 1) * LINGER_SECONDS
    assert linger.wait(0.001, 10_000) == MOST_SECONDS - 0.001
    assert linger.wait(MOST_SECONDS, 10_000) == 0.0
    assert linger.wait(100.0, 100) == 0.0
