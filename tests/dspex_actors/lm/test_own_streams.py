"""Streams of LMs of one's own: how they end when their reader does not read on."""

import asyncio
import threading

import pytest

import dspex_actors as dspex
from supervisors.testing import wait_until, wait_until_async


class Own(dspex.BaseLM):
    """Gives numbers; `ended` is set when it has tidied up."""

    def __init__(self):
        super().__init__()
        self.ended, self.begun, self.go_on = threading.Event(), threading.Event(), threading.Event()
        self.go_on.set()

    def forward_stream(self, messages, **params):
        try:
            for number in range(5):
                self.begun.set()
                assert self.go_on.wait(30)
                yield f"{number} "
        finally:
            self.ended.set()


class OwnAsync(Own):
    async def forward_stream(self, messages, **params):
        try:
            for number in range(5):
                self.begun.set()
                await asyncio.to_thread(self.go_on.wait, 30)
                yield f"{number} "
        finally:
            await asyncio.sleep(0)  # it has something to await when it tidies up
            self.ended.set()


@pytest.mark.parametrize("kind", [Own, OwnAsync])
def test_a_loop_that_breaks_off_ends_the_generator(kind):
    lm = kind()
    with lm.stream("hi") as stream:
        for piece in stream:
            assert piece.text == "0 "
            break
    assert lm.ended.wait(60)

    async def go():
        other = kind()
        async with other.stream("hi") as stream:
            async for _ in stream:
                break
        await wait_until_async(other.ended.is_set)

    asyncio.run(go())


def test_one_that_is_at_work_when_it_is_closed_ends_with_its_next_piece():
    lm = Own()
    lm.go_on.clear()
    stream = lm.stream("hi")
    reader = threading.Thread(target=lambda: next(stream, None))
    reader.start()
    assert lm.begun.wait(60)
    stream.close()
    assert not lm.ended.is_set()
    lm.go_on.set()
    assert lm.ended.wait(60)
    reader.join(60)


@pytest.mark.parametrize("kind", [Own, OwnAsync])
def test_who_waits_for_a_piece_only_so_long_loses_none(kind):
    async def go():
        lm = kind()
        lm.go_on.clear()
        stream = lm.stream("hi")
        for _ in range(2):
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(anext(stream), 0.02)
        lm.go_on.set()
        assert "".join([piece.text async for piece in stream]) == "0 1 2 3 4 "

    asyncio.run(go())


def test_an_async_one_that_is_waited_for_ends_when_it_is_closed():
    async def go():
        lm = OwnAsync()
        lm.go_on.clear()
        stream = lm.stream("hi")
        waits = asyncio.ensure_future(anext(stream))
        await asyncio.to_thread(lm.begun.wait, 10)
        stream.close()
        assert (await asyncio.gather(waits, return_exceptions=True))[0].__class__ is asyncio.CancelledError
        await asyncio.to_thread(wait_until, lm.ended.is_set)
        lm.go_on.set()  # its thread has nothing more to wait for

    asyncio.run(asyncio.wait_for(go(), 20))


def test_it_is_read_on_an_event_loop_by_for_as_it_is_called_there():
    async def go():
        lm = Own()
        assert lm("hi").text == "".join(piece.text for piece in lm.stream("hi")) == "0 1 2 3 4 "
        stream = lm.stream("hi")
        assert (stream.read() is stream.reply, stream.read() is stream.reply) == (True, True)
        for ended in (stream, Own().stream("hi")):
            ended.close()
            with pytest.raises(dspex.ConfigError, match="asks anew"):
                iter(ended)
            with pytest.raises(dspex.ConfigError, match="asks anew"):
                aiter(ended)

    asyncio.run(go())
