"""Streams through a whole node: readers that go away or stop, workers and nodes that die, many at once."""

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest
import warm
from e2e_kit import LMServer, until

import dspex_actors as dspex
from dspex_actors.errors import ConfigError, DspexError, Overloaded, StreamTruncated
from dspex_actors.streaming import StreamListener, StreamResponse

WORDS = [f"word{number} " for number in range(60)]
TEXT = "".join(WORDS).rstrip()
ANSWER = "[[ ## answer ## ]]\n" + TEXT + "\n\n[[ ## completed ## ]]"


@pytest.fixture(scope="module")
def system(tmp_path_factory):
    """One node for all tests here."""
    home = tmp_path_factory.mktemp("streams") / "home"
    with dspex.connect(lm="embedded/nearest", home=home, workers=2) as connection:
        yield connection


@pytest.fixture(scope="module")
def slow():
    """A server that takes a minute for an answer of twelve hundred words: nobody waits for its end."""
    server = LMServer("--answer", " ".join([TEXT] * 20), "--piece-delay", 50)
    yield server
    server.close()


@pytest.fixture(scope="module")
def quick():
    server = LMServer("--answer", ANSWER)
    yield server
    server.close()


def abandoned(server):
    return server.stats()["abandoned"]


def is_told(server, before):
    """See that the server is told of one more reader that does not wait, long before its answer would end."""
    until(lambda: abandoned(server) == before + 1, what="the server was not told")


def read_to_the_error(stream):
    """Read a stream until it fails; return the error, and the text before it."""
    came = ""
    try:
        for piece in stream:
            came += piece.text
    except DspexError as error:
        return error, came
    raise AssertionError("it came to its end")


def worker_of(stream):
    return stream._source._at[0].pid


def test_a_stream_is_read_in_a_thread_and_on_an_event_loop(system, quick):
    lm = quick.lm()
    stream = lm.stream("hi")
    pieces = [piece.text for piece in stream]
    assert len(pieces) > 50
    assert "".join(pieces) == stream.reply.text == ANSWER
    assert stream.reply.usage.output_total > 50
    assert not stream.reply.usage.estimated

    async def go():
        async with lm.stream("hi") as again:
            text = "".join([piece.text async for piece in again])
            return text, again.reply

    text, reply = asyncio.run(go())
    assert text == reply.text == ANSWER
    assert lm.stream("hi").read().text == ANSWER


def test_pieces_come_while_the_server_is_still_at_it(system, slow):
    with slow.lm().stream("hi") as stream:
        assert next(stream).text == WORDS[0]
        assert slow.stats()["in_flight"] >= 1


def test_an_answer_that_is_known_comes_at_once(system, quick):
    before = quick.requests
    lm = quick.lm(cache=True)
    assert lm.stream("known?").read().cached is None
    stream = lm.stream("known?")
    assert [piece.text for piece in stream] == [ANSWER]
    assert stream.reply.cached is not None
    assert quick.requests == before + 1


def test_a_for_loop_on_an_event_loop_reads_as_a_call_answers_there(system, quick):
    async def go():
        assert quick.lm()("hi").text == ANSWER
        stream = quick.lm().stream("hi")
        assert "".join(piece.text for piece in stream) == ANSWER
        other = quick.lm().stream("hi")
        waits = asyncio.ensure_future(anext(other))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        with pytest.raises(ConfigError, match="read it in one way"):
            next(other)
        await waits
        return stream

    stream = asyncio.run(go())
    assert stream.read() is stream.reply
    with pytest.raises(ConfigError, match=r"was read to its end: its reply is .*asks anew"):
        list(stream)
    assert next(stream, None) is None


def test_a_loop_that_breaks_off_ends_the_request(system, slow):
    before = abandoned(slow)
    for _ in slow.lm().stream("hi"):
        break
    is_told(slow, before)


def test_an_async_loop_that_breaks_off_and_a_task_that_is_cancelled_end_theirs(system, slow):
    async def breaks():
        async for _ in slow.lm().stream("hi"):
            break
        await asyncio.to_thread(is_told, slow, before)

    async def is_cancelled():
        async def read():
            async with slow.lm().stream("hi") as stream:
                async for _ in stream:
                    first.set()

        first = asyncio.Event()
        task = asyncio.create_task(read())
        await first.wait()
        task.cancel()
        await asyncio.wait([task])
        await asyncio.to_thread(is_told, slow, before + 1)

    before = abandoned(slow)
    asyncio.run(breaks())
    asyncio.run(is_cancelled())


def test_who_waits_for_a_piece_only_so_long_loses_none(system, slow):
    async def go():
        pieces = []
        async with slow.lm().stream("hi") as stream:
            while len(pieces) < 4:
                with contextlib.suppress(TimeoutError):
                    pieces.append((await asyncio.wait_for(anext(stream), 0.01)).text)
        return pieces

    assert asyncio.run(go()) == WORDS[:4]


KILLED = """
import sys
import dspex_actors as dspex
from dspex_actors.lm.backend import through
from dspex_actors.lm.node_backend import NodeBackend
from supervisors import Node
url, folder = sys.argv[1:]
with through(NodeBackend(Node.attach(folder))):
    for piece in dspex.LM("openai/x", base_url=url, cache=False).stream("hi"):
        print(piece.text, flush=True)
"""


def test_a_program_that_is_killed_ends_its_request(system, slow):
    before = abandoned(slow)
    reader = warm.Popen(
        [sys.executable, "-c", KILLED, slow.url, str(system.data_dir)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert reader.stdout.readline().strip() == "word0"
        reader.kill()
        is_told(slow, before)
    finally:
        reader.kill()
        reader.wait()
        reader.stdout.close()


#: Who is started in the background is deaf to Ctrl-C, a cell of a notebook is not.
INTERRUPTED = "import signal\nsignal.signal(signal.SIGINT, signal.default_int_handler)\n" + KILLED.replace(
    "    for piece", "    try:\n      for piece"
).replace("flush=True)", "flush=True)\n    except KeyboardInterrupt:\n        sys.stdin.read()")


def test_a_reader_that_is_interrupted_as_a_cell_of_a_notebook_ends_its_request_and_lives_on(system, slow):
    before = abandoned(slow)
    command = [sys.executable, "-c", INTERRUPTED, slow.url, str(system.data_dir)]
    reader = warm.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert reader.stdout.readline().strip() == "word0"
        reader.send_signal(signal.SIGINT)
        is_told(slow, before)
        assert reader.poll() is None
    finally:
        reader.kill()
        reader.communicate()


def test_a_worker_that_is_killed_in_the_middle_is_told_with_what_came(system, slow):
    stream = slow.lm().stream("hi")
    came = next(stream).text + next(stream).text
    os.kill(worker_of(stream), signal.SIGKILL)
    error, rest = read_to_the_error(stream)
    assert isinstance(error, StreamTruncated)
    assert error.partial == came + rest
    assert came == WORDS[0] + WORDS[1]
    with pytest.raises(StopIteration):
        next(stream)


@pytest.fixture
def late():
    """A server that begins to answer after a second."""
    server = LMServer("--answer", TEXT, "--latency-ms", 1000)
    yield server
    server.close()


def test_a_worker_that_is_killed_before_the_first_piece_costs_nothing(system, late):
    stream = late.lm().stream("hi")
    texts = []
    reader = threading.Thread(target=lambda: texts.extend(piece.text for piece in stream))
    reader.start()
    until(lambda: late.stats()["in_flight"] == 1)
    os.kill(worker_of(stream), signal.SIGKILL)
    reader.join(60)
    assert "".join(texts) == stream.reply.text == TEXT


def test_two_hundred_streams_at_once_over_two_workers(system, quick):
    def calls():
        return {name: system.node.call(name, "stats")["calls"] for name in ("worker-1", "worker-2")}

    async def read(lm):
        stream = lm.stream("hi")
        text = "".join([piece.text async for piece in stream])
        return text, stream.reply.text

    async def go():
        lm = quick.lm()
        return await asyncio.gather(*(read(lm) for _ in range(200)))

    before = calls()
    assert asyncio.run(asyncio.wait_for(go(), 60)) == [(ANSWER, ANSWER)] * 200
    assert {name: count - before[name] for name, count in calls().items()} == {"worker-1": 100, "worker-2": 100}


class Firehose:
    """A server that sends as much as it can, and counts it."""

    def __init__(self):
        self.sent = 0
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listening.getsockname()[1]}/v1"
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self):
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listening.accept()
                threading.Thread(target=self._send, args=(connection,), daemon=True).start()

    def _send(self, connection):
        delta = {"choices": [{"index": 0, "delta": {"content": "x" * 4000}, "finish_reason": None}]}
        event = f"data: {json.dumps(delta)}\n\n".encode()
        with contextlib.suppress(OSError), connection:
            connection.recv(65536)
            connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n")
            for _ in range(50_000):
                connection.sendall(event)
                self.sent += len(event)

    def close(self):
        self._listening.close()


def resident(pid):
    with open(f"/proc/{pid}/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_a_reader_that_stops_stops_the_server_and_fills_no_memory(system):
    server = Firehose()
    try:
        with dspex.LM("openai/x", base_url=server.url).stream("hi") as stream:
            next(stream)
            size, before = resident(worker_of(stream)), -1

            def is_quiet():
                nonlocal before
                was, before = before, server.sent
                time.sleep(0.2)
                return was == server.sent

            until(is_quiet)
            assert server.sent < 16 * 1024 * 1024
            assert resident(worker_of(stream)) - size < 32 * 1024 * 1024
            for _ in range(5000):
                next(stream)
            assert server.sent > 5000 * 4000
    finally:
        server.close()


class Streams(dspex.Module):
    """Reads its answers as they come, where it runs."""

    def __init__(self, is_async):
        self.is_async = is_async

    async def aforward(self, ticket):
        lm = dspex.settings.lm
        if not self.is_async:
            return await asyncio.to_thread(lambda: dspex.Prediction(count=sum(1 for _ in lm.stream(ticket))))
        stream = lm.stream(ticket)
        count = sum([1 async for _ in stream])
        return dspex.Prediction(count=count if stream.reply.text == ANSWER else 0)


@pytest.mark.parametrize("is_async", [True, False])
def test_programs_in_workers_read_streams_too_and_their_requests_are_booked(system, quick, is_async):
    result = dspex.evaluate(
        Streams(is_async),
        [dspex.Example(ticket=f"t{number}").with_inputs("ticket") for number in range(20)],
        metric=lambda example, prediction, trace=None: prediction.count > 50,
        lm=quick.lm(),
    )
    assert result.score == 100.0
    assert result.usage["output_total"] > 20 * 50


def test_a_program_outside_is_streamed_field_by_field(system, quick):
    listeners = [StreamListener("answer")]
    tell = dspex.streamify(dspex.Predict("question -> answer"), stream_listeners=listeners, async_streaming=False)
    with dspex.context(lm=quick.lm()):
        *chunks, prediction = list(tell(question="why?"))
    assert len(chunks) > 30
    assert all(isinstance(chunk, StreamResponse) for chunk in chunks)
    assert "".join(chunk.chunk for chunk in chunks) == prediction.answer == TEXT


def test_an_error_in_the_midst_of_a_stream_is_told_with_what_came(system):
    server = LMServer("--answer", TEXT, "--fault", "stream_error=1")
    try:
        error, came = read_to_the_error(server.lm().stream("hi"))
        assert isinstance(error, Overloaded)
        assert came.startswith("word0 ")
        assert error.partial == came
        assert server.requests == 1
    finally:
        server.close()


def test_a_node_that_is_killed_in_the_middle_is_told_with_what_came(tmp_path, slow):
    with dspex.connect(home=tmp_path / "home", workers=1) as other:
        stream = slow.lm().stream("hi")
        first = next(stream).text
        os.kill(other.node.info["pid"], signal.SIGKILL)
        error, came = read_to_the_error(stream)
    assert isinstance(error, StreamTruncated)
    assert error.partial == first + came
