"""The streams that programs outside have open at a worker: opened, held, pulled, and given up."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from dspex_actors.errors import Overloaded, from_record
from dspex_actors.lm.content.pieces import Piece
from dspex_actors.lm.lm import LM
from dspex_actors.lm.reply import LMReply
from dspex_actors.lm.request import Complete, HoldStream, NextPieces, OpenStream
from dspex_actors.workers import streams
from dspex_actors.workers.streams import Streams
from supervisors import NO_REPLY

CALL = Complete(LM("openai/x").to_dict(), [{"role": "user", "content": "hi"}], {})


class Worker:
    """What streams need of their server."""

    ref = "the worker"

    def __init__(self) -> None:
        self.answers: dict[Any, asyncio.Future[Any]] = {}
        self.given_up: dict[Any, Callable[[], object]] = {}

    def spawn(self, coroutine: Any) -> Any:
        return asyncio.ensure_future(coroutine)

    def reply(self, caller: Any, value: Any) -> None:
        self.answers[caller].set_result(value)

    def when_given_up(self, caller: Any, tell: Callable[[], object]) -> None:
        self.given_up[caller] = tell


class Asked:
    """A directory whose one call goes as the test says."""

    def __init__(self) -> None:
        self.sink: Any = None
        self.end: asyncio.Future[LMReply] = asyncio.get_running_loop().create_future()
        self.is_cancelled = False

    async def complete(self, request: Any) -> LMReply:
        self.sink = request.sink
        try:
            return await self.end
        except asyncio.CancelledError:
            self.is_cancelled = True
            raise


class Program:
    """A program outside, as the worker sees it."""

    def __init__(self) -> None:
        self.worker, self.directory = Worker(), Asked()
        self.streams = Streams(self.worker, self.directory, None)  # type: ignore[arg-type]

    def ask(self, request: Any, caller: str) -> asyncio.Future[Any]:
        future = self.worker.answers[caller] = asyncio.get_running_loop().create_future()
        answer = self.streams.handle(request, caller)  # type: ignore[arg-type]
        if answer is not NO_REPLY:
            future.set_result(answer)
        return future

    async def opened(self) -> int:
        kind, number, ref = await self.ask(OpenStream(CALL), "open")
        assert (kind, ref) == ("ok", "the worker")
        await asyncio.sleep(0)
        return int(number)


def run(body: Callable[[Program], Awaitable[None]]) -> None:
    async def go() -> None:
        await asyncio.wait_for(body(Program()), 30)

    asyncio.run(go())


def test_pieces_are_pulled_until_the_reply_and_then_it_is_not_held_any_more():
    async def body(program: Program) -> None:
        number = await program.opened()
        held = program.ask(HoldStream(number), "hold")
        waiting = program.ask(NextPieces(number), "next-1")
        assert not waiting.done()
        program.directory.sink.put([Piece("text", "a"), Piece("thinking", "b")])
        assert await waiting == (["a", ["thinking", "b", 0, None, None]], None)
        program.directory.sink.put([Piece("text", "c")])
        program.directory.sink.put([Piece("text", "d")])
        assert await program.ask(NextPieces(number), "next-2") == (["c", "d"], None)
        program.directory.end.set_result(LMReply("acd"))
        pieces, (kind, reply) = await program.ask(NextPieces(number), "next-3")
        assert (pieces, kind, reply["text"]) == ([], "ok", "acd")
        assert await held is None
        assert "over" in (await program.ask(NextPieces(number), "next-4"))[1][1]["message"]

    run(body)


def test_an_error_comes_after_the_pieces_before_it():
    async def body(program: Program) -> None:
        number = await program.opened()
        program.directory.sink.put([Piece("text", "a")])
        program.directory.end.set_exception(Overloaded("away", partial="a"))
        assert await program.ask(NextPieces(number), "next-1") == (["a"], None)
        _, (kind, record) = await program.ask(NextPieces(number), "next-2")
        assert kind == "error"
        error = from_record(record)
        assert isinstance(error, Overloaded)
        assert error.partial == "a"

    run(body)


def test_a_holder_that_does_not_wait_any_more_ends_the_call():
    async def body(program: Program) -> None:
        number = await program.opened()
        program.ask(HoldStream(number), "hold")
        program.worker.given_up["hold"]()
        await asyncio.sleep(0.01)
        assert program.directory.is_cancelled

    run(body)


def test_a_stream_that_nobody_holds_is_ended(monkeypatch):
    monkeypatch.setattr(streams, "HOLD_SECONDS", 0.02)

    async def body(program: Program) -> None:
        await program.opened()
        await asyncio.wait([program.directory.end])
        assert program.directory.end.cancelled()

    run(body)


def test_a_stream_that_is_held_goes_on(monkeypatch):
    monkeypatch.setattr(streams, "HOLD_SECONDS", 0.02)

    async def body(program: Program) -> None:
        number = await program.opened()
        program.ask(HoldStream(number), "hold")
        await asyncio.sleep(0.05)
        assert not program.directory.is_cancelled

    run(body)


def test_who_asks_twice_at_a_time_is_told_so():
    async def body(program: Program) -> None:
        number = await program.opened()
        first = program.ask(NextPieces(number), "next-1")
        _, (kind, record) = await program.ask(NextPieces(number), "next-2")
        assert (kind, "twice" in record["message"]) == ("error", True)
        program.directory.sink.put([Piece("text", "a")])
        assert await first == (["a"], None)

    run(body)


@pytest.mark.parametrize("request_", [HoldStream(7), NextPieces(7)])
def test_a_stream_that_was_never_opened_is_over(request_):
    async def body(program: Program) -> None:
        answer = await program.ask(request_, "x")
        assert answer is None or "over" in answer[1][1]["message"]

    run(body)


def test_a_call_that_cannot_be_made_is_refused_when_it_is_opened():
    async def body(program: Program) -> None:
        broken = Complete({"model": "no provider"}, [], {})
        kind, record = await program.ask(OpenStream(broken), "open")
        assert (kind, record["type"]) == ("error", "ConfigError")

    run(body)
