"""Streams through a session: pieces as they come, what ends them, and what they cost."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from dspex_actors.errors import DeadlineExceeded, LMError, Overloaded, RateLimited, StreamTruncated, Timeout
from dspex_actors.foundation.tokens import count
from dspex_actors.lm.attempts import Ledger, opened
from dspex_actors.lm.content.pieces import Piece, text_of
from dspex_actors.lm.lm import LM
from dspex_actors.lm.reply import LMReply
from dspex_actors.lm.worker.http import HttpClient
from dspex_actors.lm.worker.outcome import Outcome
from dspex_actors.lm.worker.session import LMSession
from dspex_actors.lm.worker.streaming import MOST_CHARACTERS, Sink

HI = [{"role": "user", "content": "hi"}]
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
END = b"0\r\n\r\n"
USAGE = {"prompt_tokens": 1000, "completion_tokens": 100, "total_tokens": 1100}


def event(data: Any) -> bytes:
    return b"data: " + (data.encode() if isinstance(data, str) else json.dumps(data).encode()) + b"\n\n"


def chunk(text: str, finish: str | None = None, **beside: Any) -> bytes:
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": finish}
    return event({"id": "c1", "model": "gpt-4o-mini-2024-07-18", "choices": [choice], **beside})


def chunked(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def whole(*texts: str) -> bytes:
    """Return a whole stream as its server sends it."""
    events = [*map(chunk, texts), chunk("", "stop"), event({"choices": [], "usage": USAGE}), event("[DONE]")]
    return HEAD + b"".join(map(chunked, events)) + END


class Server:
    """Plays a script to each request: a list of what to send, numbers of seconds to wait, "hang", or "cut"."""

    def __init__(self, *scripts: list[Any]) -> None:
        self.scripts = scripts
        self.requests: list[dict[str, Any]] = []
        self.heads: list[str] = []
        self.connections = 0
        self.gone = asyncio.Event()
        self.sent = 0

    async def __aenter__(self) -> Server:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/v1"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                length = next(
                    int(line[15:]) for line in head.lower().split("\r\n") if line.startswith("content-length")
                )
                self.heads.append(head)
                self.requests.append(json.loads(await reader.readexactly(length)))
                for step in self.scripts[min(len(self.requests), len(self.scripts)) - 1]:
                    if step == "hang":
                        await reader.read(1)
                        self.gone.set()
                        return
                    if step == "cut":
                        return
                    if isinstance(step, float):
                        await asyncio.sleep(step)
                        continue
                    for at in range(0, len(step), 65536):
                        writer.write(step[at : at + 65536])
                        await writer.drain()
                        self.sent += len(step[at : at + 65536])
        except (asyncio.IncompleteReadError, ConnectionError):
            self.gone.set()
        finally:
            writer.close()


class Reader:
    """Reads one stream of a session."""

    def __init__(self, session: LMSession, lm: LM, most: int | None = MOST_CHARACTERS) -> None:
        self.sink = Sink(most)
        options = lm.request(HI, {}).lm.options
        asking = session.complete(HI, {}, options=options, sink=self.sink)
        self.task: asyncio.Task[LMReply] = asyncio.ensure_future(asking)
        self.task.add_done_callback(lambda _: self.sink.close())

    async def rest(self) -> list[Piece]:
        pieces: list[Piece] = []
        while some := await self.sink.take():
            pieces += some
        return pieces


def run(
    scripts: list[list[Any]], body: Callable[[Server, LMSession, LM], Awaitable[Any]], gate: Any = None, **settings: Any
) -> Any:
    async def go() -> Any:
        async with Server(*scripts) as server:
            lm = LM("openai/gpt-4o-mini", base_url=server.url, **settings)
            session = LMSession(lm.request(HI, {}).lm.deployment, gate=gate)
            try:
                return await body(server, session, lm)
            finally:
                await session.aclose()

    return asyncio.run(asyncio.wait_for(go(), 30))


def read(*script: Any, **settings: Any) -> tuple[str, LMReply]:
    """Return the text of a stream as it came, and its reply."""

    async def body(server: Server, session: LMSession, lm: LM) -> tuple[str, LMReply]:
        reader = Reader(session, lm)
        return text_of(await reader.rest()), await reader.task

    result: tuple[str, LMReply] = run([list(script)], body, **settings)
    return result


def failed(*scripts: list[Any], **settings: Any) -> tuple[LMError, str, Server]:
    """Return the error that a stream ended with, the text before it, and the server."""

    async def body(server: Server, session: LMSession, lm: LM) -> tuple[LMError, str, Server]:
        reader = Reader(session, lm)
        text = text_of(await reader.rest())
        with pytest.raises(LMError) as caught:
            await reader.task
        return caught.value, text, server

    result: tuple[LMError, str, Server] = run(list(scripts), body, **settings)
    return result


def test_a_stream_gives_its_pieces_and_then_the_reply_with_its_usage():
    text, reply = read(whole("Hel", "lo"))
    assert (text, reply.text, reply.finish_reason) == ("Hello", "Hello", "stop")
    assert (reply.usage.input_total, reply.usage.output_total, reply.usage.estimated) == (1000, 100, False)


def test_one_byte_at_a_time_is_read_as_well():
    text, reply = read(*(bytes([byte]) for byte in whole("Hel", "lo")))
    assert (text, reply.text) == ("Hello", "Hello")


def test_pieces_come_before_the_stream_has_ended():
    async def body(server: Server, session: LMSession, lm: LM) -> None:
        reader = Reader(session, lm)
        assert text_of(await reader.sink.take()) == "Hel"
        assert not reader.task.done()
        reader.task.cancel()

    run([[HEAD + chunked(chunk("Hel")), "hang"]], body)


def test_the_request_asks_for_a_stream_and_its_usage():
    async def body(server: Server, session: LMSession, lm: LM) -> None:
        await Reader(session, lm).task
        assert server.requests[0]["stream"] is True
        assert server.requests[0]["stream_options"] == {"include_usage": True}
        assert "accept: text/event-stream" in server.heads[0].lower()

    run([[whole("x")]], body)


def test_the_connection_is_used_again_after_the_end_mark():
    async def body(server: Server, session: LMSession, lm: LM) -> None:
        for _ in range(3):
            await Reader(session, lm).task
        assert server.connections == 1

    # The end of the body comes in a packet of its own, a moment after the end mark.
    stream = whole("x").removesuffix(END)
    run([[stream, 0.005, END]], body)


def test_an_end_mark_is_the_end_even_if_the_server_keeps_the_answer_open():
    text, reply = read(whole("x").removesuffix(END), "hang")
    assert (text, reply.text) == ("x", "x")


def test_a_server_that_knows_no_streams_answers_as_a_whole(chat, answer):
    _, reply = read(answer(200, chat("whole")))
    assert reply.text == "whole"


def test_a_stream_that_breaks_off_tells_what_came_and_is_not_asked_again():
    error, text, server = failed([HEAD + chunked(chunk("Hel")) + chunked(chunk("lo")), "cut"])
    assert isinstance(error, StreamTruncated)
    assert (text, error.partial, len(server.requests), error.asked) == ("Hello", "Hello", 1, 1)
    assert error.usage is not None
    assert error.usage["estimated"]
    assert error.usage["output_total"] == count("Hello")


def test_an_end_without_an_end_mark_is_one_that_breaks_off():
    error, text, _ = failed([HEAD + chunked(chunk("Hel")) + END])
    assert isinstance(error, StreamTruncated)
    assert (text, error.partial) == ("Hel", "Hel")


def test_an_event_that_is_cut_in_the_middle_breaks_off_too():
    error, _, _ = failed([HEAD + chunked(chunk("Hel")) + chunked(chunk("lo", "stop")[:-20]) + END])
    assert isinstance(error, StreamTruncated)


def test_what_breaks_off_after_the_finish_reason_is_whole():
    text, reply = read(HEAD + chunked(chunk("Hel")) + chunked(chunk("lo", "stop")), "cut")
    assert (text, reply.text, reply.usage.estimated) == ("Hello", "Hello", True)


def test_what_fails_before_the_first_piece_is_asked_again():
    cut = [HEAD + chunked(b": ping\n\n"), "cut"]

    async def body(server: Server, session: LMSession, lm: LM) -> None:
        reader = Reader(session, lm)
        assert text_of(await reader.rest()) == "Hello"
        assert (await reader.task).asked == 3

    run(
        [cut, [event({"error": {"message": "down", "type": "server_error"}}).join([HEAD, b""])], [whole("Hello")]], body
    )


def test_a_refusal_is_what_it_is_for_any_request(answer):
    error, text, _ = failed([answer(429, {"error": {"message": "slow", "type": "requests"}})], deadline=0.5)
    assert isinstance(error, RateLimited | DeadlineExceeded)
    assert text == ""


def test_an_error_in_the_midst_comes_after_the_pieces_before_it_in_the_same_packet():
    both = chunk("Hel") + event({"error": {"message": "overloaded", "type": "overloaded_error"}})
    error, text, server = failed([HEAD + chunked(both), "hang"])
    assert isinstance(error, Overloaded)
    assert (error.status, text, error.partial, len(server.requests)) == (529, "Hel", "Hel", 1)


def test_a_server_that_falls_silent_is_not_waited_for_and_pings_are_silence():
    pings = [chunked(b": ping\n\n"), 0.05] * 40
    error, text, _ = failed([HEAD + chunked(chunk("Hel")), *pings, "hang"], timeout=0.3)
    assert isinstance(error, Timeout)
    assert (text, error.partial) == ("Hel", "Hel")
    assert "timeout=0.3 s" in str(error)


def test_a_long_stream_may_take_longer_than_the_timeout():
    pieces = [step for word in "abcdef" for step in (chunked(chunk(word)), 0.1)]
    text, _ = read(HEAD, *pieces, chunked(chunk("", "stop")) + END, timeout=0.35)
    assert text == "abcdef"


def test_the_deadline_holds_for_all_of_it():
    pieces = [step for word in "abcdefghij" for step in (chunked(chunk(word)), 0.1)]
    error, text, _ = failed([HEAD, *pieces, "hang"], timeout=0.35, deadline=0.5)
    assert isinstance(error, DeadlineExceeded)
    assert text.startswith("ab")
    assert error.partial == text


def test_an_event_without_end_is_refused_before_it_fills_the_memory():
    error, _, _ = failed([HEAD, *[chunked(b"data: " + b"x" * 65536)] * 40, "hang"])
    assert isinstance(error, Overloaded)
    assert "1048576 bytes" in str(error)
    assert error.retryable is False


def test_a_stream_may_have_more_bytes_than_a_reply_but_no_more_text(monkeypatch):
    async def body(server: Server, session: LMSession, lm: LM) -> str:
        session._http = HttpClient(secure=False, max_body=1000)
        return text_of(await Reader(session, lm).rest())

    assert run([[whole(*["x"] * 1000)]], body) == "x" * 1000
    monkeypatch.setattr("dspex_actors.lm.worker.streaming.MAX_CHARACTERS", 1000)
    error, text, _ = failed([HEAD, *[chunked(chunk("x" * 100))] * 100, "hang"])
    assert isinstance(error, Overloaded)
    assert "more than 1000 characters" in str(error)
    assert len(text) >= 1000


def test_a_reader_that_stops_makes_the_server_wait():
    words = "x" * 4096

    async def body(server: Server, session: LMSession, lm: LM) -> None:
        reader = Reader(session, lm)
        before = -1
        while server.sent != before:  # until nothing more goes out for a while
            before = server.sent
            await asyncio.sleep(0.2)
        assert server.sent < 16 * 1024 * 1024, "it was read on although nobody took it"
        assert sum(len(piece.text) for piece in reader.sink.take_now()) < MOST_CHARACTERS + 256 * 1024
        rest = await reader.rest()
        assert (await reader.task).text.endswith(text_of(rest))
        assert len((await reader.task).text) == 5000 * len(words)

    script = [HEAD, *[chunked(chunk(words))] * 5000, chunked(chunk("", "stop")) + END]
    run([script], body, timeout=5.0)


def test_the_time_for_which_a_reader_does_not_read_is_not_held_against_the_server():
    async def body(server: Server, session: LMSession, lm: LM) -> None:
        reader = Reader(session, lm, most=0)
        await asyncio.sleep(0.5)
        assert text_of(await reader.rest()) == "Hello"
        assert (await reader.task).text == "Hello"

    run(
        [[HEAD + chunked(chunk("Hel")), 0.05, chunked(chunk("lo")), 0.05, chunked(chunk("", "stop")) + END]],
        body,
        timeout=0.3,
    )


def test_who_gives_up_cancels_the_request_and_pays_for_what_came():
    class Gate:
        told: list[Outcome] = []  # noqa: RUF012

        def paces(self, user: str | None, tags: object) -> bool:
            return True

        async def acquire(self, *args: object) -> int:
            return 7

        def report(self, outcome: Outcome) -> None:
            self.told.append(outcome)

    ledger = Ledger()

    async def body(server: Server, session: LMSession, lm: LM) -> None:
        async with opened(ledger):
            reader = Reader(session, lm)
            await reader.sink.take()
            reader.task.cancel()
            await asyncio.wait([reader.task])
            await asyncio.wait_for(server.gone.wait(), 30.0)

    run([[HEAD + chunked(chunk("Hello world")), "hang"]], body, gate=Gate())
    (attempt,) = ledger.attempts
    assert attempt.outcome == "cancelled"
    assert attempt.tokens is not None
    assert attempt.tokens["estimated"]
    assert attempt.tokens["output_total"] == count("Hello world")
    assert [(outcome.cancelled, outcome.was_made, outcome.lease) for outcome in Gate.told] == [(True, True, 7)]


def test_no_frame_and_no_context_of_an_error_holds_the_key(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "tk-very-secret-0123456789")
    error, _, _ = failed([HEAD + chunked(chunk("Hel")), "cut"], api_key="env:OPENAI_API_KEY")
    assert "tk-very" not in repr(error.to_record())
    assert error.__cause__ is None
