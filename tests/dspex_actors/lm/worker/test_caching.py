"""The cache of one worker: one asks, the others wait; failures are no answers; what is kept costs nothing."""

import asyncio
import contextlib
import functools
import os
import random
import sqlite3
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import warm

from dspex_actors import configure_cache, context, settings
from dspex_actors.cache import place as places
from dspex_actors.cache import store
from dspex_actors.cache.flight import Flight
from dspex_actors.cache.place import Place
from dspex_actors.errors import AuthError, DeadlineExceeded, InvalidRequest, Overloaded
from dspex_actors.lm.attempts import Ledger, opened
from dspex_actors.lm.content.parts import ToolCall
from dspex_actors.lm.content.pieces import Piece
from dspex_actors.lm.lm import LM
from dspex_actors.lm.reply import LMReply
from dspex_actors.lm.usage import Usage
from dspex_actors.lm.worker import streaming
from dspex_actors.lm.worker.beside import Beside
from dspex_actors.lm.worker.caching import AnswerCache
from dspex_actors.lm.worker.streaming import Sink
from dspex_actors.settings import inside
from supervisors.testing import wait_until, wait_until_async

HI = [{"role": "user", "content": "hi"}]
REPLY = LMReply("hello", Usage(input_total=3, output_total=1), 0.25, "gpt-x", 1.5, "stop", "req-1", 2, "openai")


def in_loop(test):
    """Run an async test."""

    @functools.wraps(test)
    def run(*args, **kwargs):
        asyncio.run(test(*args, **kwargs))

    return run


def request(content="hi", **settings):
    return LM("openai/x", base_url="http://127.0.0.1:9/v1", **settings).request(
        [{"role": "user", "content": content}], {}
    )


class Server:
    """Answers when it is told to, and counts."""

    def __init__(self, reply=REPLY, is_open=True):
        self.reply, self.asked = reply, 0
        self.gate, self.came = asyncio.Event(), asyncio.Event()
        self.failures = []
        if is_open:
            self.gate.set()

    async def __call__(self, request):
        self.asked += 1
        self.came.set()
        await self.gate.wait()
        if self.failures:
            raise self.failures.pop(0)
        return self.reply


@pytest.fixture
def data_dir(home):
    home.mkdir()
    yield home
    for folder in list(places._places):
        if home in folder.parents or folder == home:
            places._places.pop(folder).close(5.0)


def cache(data_dir, workers=1):
    return AnswerCache(data_dir, workers)


def another_process(data_dir):
    """Forget what this process knows of the folder: what comes then finds what a new one does."""
    for folder in list(places._places):
        places._places[folder].flush()
        places._places.pop(folder).close(5.0)
    return AnswerCache(data_dir)


@in_loop
async def test_an_answer_is_asked_for_once_and_costs_nothing_afterwards(data_dir):
    server, one = Server(), cache(data_dir)
    first = await one.complete(request(), server)
    again = await one.complete(request(), server)
    assert (first.cached, first.cost, first.asked) == (None, 0.25, 2)
    assert (again.text, again.cached, again.cost, again.asked, again.usage.total) == ("hello", "memory", 0.0, 0, 0)
    assert again.latency < 1.0
    assert again.finish_reason == "stop"
    assert again.model == "gpt-x"
    other = another_process(data_dir)
    assert (await other.complete(request(), server)).cached == "disk"
    assert (await other.complete(request(), server)).cached == "memory"
    assert server.asked == 1


@pytest.mark.parametrize(
    ("change", "is_same"),
    [
        ({}, True),
        ({"timeout": 5.0, "deadline": 5.0, "rpm": 60}, True),
        ({"temperature": 0.5}, False),
        ({"rollout_id": 1}, False),
        ({"api_key": "env:OTHER"}, False),
        ({"cache": True, "cache_ttl": 100.0}, True),
    ],
)
@in_loop
async def test_which_calls_have_one_answer(data_dir, change, is_same):
    server, one = Server(), cache(data_dir)
    await one.complete(request(), server)
    await one.complete(request(**change), server)
    assert (server.asked == 1) is is_same


@in_loop
async def test_many_equal_calls_are_one_request_and_wait_for_it(data_dir):
    server, one = Server(is_open=False), cache(data_dir)
    calls = [asyncio.create_task(one.complete(request(), server)) for _ in range(500)]
    await server.came.wait()
    server.gate.set()
    replies = await asyncio.gather(*calls)
    assert server.asked == 1
    assert sorted(str(reply.cached) for reply in replies) == ["None"] + ["memory"] * 499


@in_loop
async def test_a_failure_is_no_answer_and_the_next_one_asks_alone(data_dir):
    server, one = Server(is_open=False), cache(data_dir)
    server.failures = [Overloaded("away", retryable=True), Overloaded("away", retryable=True)]
    calls = [asyncio.create_task(one.complete(request(), server)) for _ in range(50)]
    await server.came.wait()
    server.gate.set()
    replies = await asyncio.gather(*calls, return_exceptions=True)
    assert server.asked == 3
    assert sum(isinstance(reply, Overloaded) for reply in replies) == 2
    assert (await one.complete(request(), server)).text == "hello"


@pytest.mark.parametrize("error", [AuthError("no", retryable=False, asked=1), InvalidRequest("no", asked=1)])
@in_loop
async def test_a_refusal_is_told_to_all_that_wait_and_kept_for_nobody(data_dir, error):
    server, one = Server(is_open=False), cache(data_dir)
    server.failures = [error]
    calls = [asyncio.create_task(one.complete(request(), server)) for _ in range(50)]
    await server.came.wait()
    server.gate.set()
    replies = await asyncio.gather(*calls, return_exceptions=True)
    assert server.asked == 1
    assert {type(reply) for reply in replies} == {type(error)}
    assert sorted(reply.asked for reply in replies) == [0] * 49 + [1]
    assert (await one.complete(request(), server)).cached is None
    assert server.asked == 2


@in_loop
async def test_who_is_cancelled_hands_on_and_who_waits_keeps_its_own_deadline(data_dir):
    server, one = Server(is_open=False), cache(data_dir)
    first = asyncio.create_task(one.complete(request(), server))
    await server.came.wait()
    waiting = asyncio.create_task(one.complete(request(), server))
    with pytest.raises(DeadlineExceeded, match="another call has asked the same"):
        await one.complete(request(deadline=0.01), server)
    first.cancel()
    server.gate.set()
    assert (await waiting).cached is None
    assert server.asked == 2


@in_loop
async def test_a_stream_whose_reader_stops_makes_nobody_wait(data_dir, monkeypatch):
    monkeypatch.setattr(streaming, "STALL_SECONDS", 0.02)
    server, one = Server(), cache(data_dir)
    begun, sink = asyncio.Event(), Sink(most=10)

    async def streams(call):
        begun.set()
        assert not call.sink.put([Piece("text", "x" * 20)])
        await call.sink.room()
        return REPLY

    leader = asyncio.create_task(one.complete(replace(request(), sink=sink), streams))
    await begun.wait()
    waiting = [asyncio.create_task(one.complete(request(), server)) for _ in range(20)]
    replies = await asyncio.gather(*waiting)
    assert server.asked == 1, "one of them has asked for all"
    assert [reply.cached for reply in replies].count(None) == 1
    assert (await one.complete(request(), server)).cached == "memory"
    assert not leader.done()
    assert sink.take_now()
    assert (await leader).text == "hello"

    # And who comes when nobody waited yet asks for himself.
    sink, other = Sink(most=10), request("another")
    begun.clear()
    leader = asyncio.create_task(one.complete(replace(other, sink=sink), streams))
    await begun.wait()
    await asyncio.to_thread(wait_until, lambda: not one._flights)
    assert (await one.complete(other, server)).cached is None
    leader.cancel()
    await asyncio.gather(leader, return_exceptions=True)
    one.close()
    assert (one._flights, len(places._places[next(iter(one._numbers))]._claims)) == ({}, 0)


@in_loop
async def test_who_waits_for_an_example_ends_with_it(data_dir):
    server, one = Server(is_open=False), cache(data_dir)
    first = asyncio.create_task(one.complete(request(), server))
    await server.came.wait()
    ledger = Ledger(seconds=60.0)

    async def example():
        async with opened(ledger):
            started = asyncio.create_task(one.complete(request(), server))
            await asyncio.sleep(0)
            assert ledger.calls
            return started

    waiting = await example()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    server.gate.set()
    assert (await first).text == "hello"


@pytest.mark.parametrize("told", [False, True])
@in_loop
async def test_a_program_may_ask_anew(data_dir, told):
    server, one = Server(), cache(data_dir)
    with inside({"cache": told}):
        await one.complete(request(), server)
        await one.complete(request(), server)
    assert server.asked == (1 if told else 2)


@in_loop
async def test_an_answer_is_used_for_its_time_only(data_dir, monkeypatch):
    server, one = Server(), cache(data_dir)
    await one.complete(request(), server)
    import time

    now = time.time()
    monkeypatch.setattr("time.time", lambda: now + 100)
    assert (await one.complete(request(cache_ttl=101.0), server)).cached == "memory"
    assert (await one.complete(request(cache_ttl=99.0), server)).cached is None
    assert (await one.complete(request(cache_ttl=99.0), server)).cached == "memory"
    assert server.asked == 2


def configured(**values):
    before = settings.cache
    try:
        configure_cache(**values)
        return settings.cache
    finally:
        settings.assign(cache=before)


@in_loop
async def test_tenants_and_folders_are_apart(data_dir, tmp_path):
    server, one = Server(), cache(data_dir)
    others = [
        None,
        configured(tenant="a"),
        configured(tenant="b"),
        configured(disk_cache_dir=tmp_path / "elsewhere"),
        configured(enable_disk_cache=False, tenant="c"),
    ]
    for _ in range(2):
        for told in others:
            with context(cache=told):
                await one.complete(request(), server)
    assert server.asked == len(others)


@in_loop
async def test_without_memory_an_answer_is_found_before_it_is_written(data_dir):
    server, one = Server(), cache(data_dir)
    with context(cache=configured(enable_memory_cache=False)):
        await one.complete(request(), server)
        assert (await one.complete(request(), server)).cached == "disk"
    assert server.asked == 1


@in_loop
async def test_an_answer_that_is_taken_back_is_asked_for_again_in_every_process(data_dir):
    server, one = Server(), cache(data_dir)
    await one.complete(request(), server)
    await one.complete(request("other"), server)
    place = Place(data_dir / "cache")  # another process, as far as the folder can tell
    one.forget(request())
    assert places.place_of(data_dir / "cache").flush()
    assert place.ready()
    assert place.find(one_key(request())) is None
    assert place.find(one_key(request("other")))
    assert (await one.complete(request(), server)).cached is None
    assert (await one.complete(request("other"), server)).cached == "disk"
    place.close()


def one_key(call):
    return bytes.fromhex(call.cache_key)


@pytest.fixture
def claims(monkeypatch):
    """Return the keys that were claimed in this process, or tried to be."""
    tried, claim = [], Place.claim

    def noted(place, key):
        tried.append(key)
        return claim(place, key)

    monkeypatch.setattr(Place, "claim", noted)
    return tried


@in_loop
async def test_a_claim_of_another_process_is_waited_for(data_dir, claims):
    server, one = Server(), cache(data_dir)
    with Other(data_dir / "cache") as other:
        await asyncio.to_thread(other.ask, "claim", request().cache_key)
        call = asyncio.create_task(one.complete(request(), server))
        await wait_until_async(lambda: len(claims) >= 3)  # it looks again and again
        assert not call.done()
        assert server.asked == 0
        await asyncio.to_thread(other.ask, "put", request().cache_key)
        reply = await call
    assert (reply.text, reply.cached, server.asked) == ("from elsewhere", "disk", 0)


@in_loop
async def test_the_claim_of_a_process_that_is_killed_goes_to_who_waits(data_dir, claims):
    server, one = Server(), cache(data_dir)
    with Other(data_dir / "cache") as other:
        await asyncio.to_thread(other.ask, "claim", request().cache_key)
        call = asyncio.create_task(one.complete(request(), server))
        await wait_until_async(lambda: len(claims) >= 2)
        other.process.kill()
        assert (await call).cached is None
    assert server.asked == 1


@in_loop
async def test_a_call_that_takes_hours_waits_for_an_answer_that_is_being_written_and_others_for_its_own(
    data_dir, claims
):
    one, key = cache(data_dir), request().cache_key
    with Other(data_dir / "cache") as other:
        assert await asyncio.to_thread(other.ask, "claim", key)
        call = asyncio.create_task(Beside(one, request()).known())
        await wait_until_async(lambda: len(claims) >= 3)
        assert not call.done()
        await asyncio.to_thread(other.ask, "put", key)
        assert ((await call).text, call.result().cached) == ("from elsewhere", "disk")
        beside = Beside(one, request("other"))
        assert await beside.known() is None
        assert await asyncio.to_thread(other.ask, "claim", request("other").cache_key)  # nobody waits in between
        beside = Beside(one, request("third"))
        with contextlib.closing(sqlite3.connect(data_dir / "cache" / store.FILE, isolation_level=None)) as lock:
            lock.execute("BEGIN IMMEDIATE")  # nobody can write
            beside.keep(REPLY)
            assert not await asyncio.to_thread(other.ask, "claim", request("third").cache_key)
            lock.execute("COMMIT")
        assert places.place_of(data_dir / "cache").flush()
        assert await asyncio.to_thread(other.ask, "claim", request("third").cache_key)
        assert await asyncio.to_thread(other.ask, "find", request("third").cache_key)


@in_loop
async def test_a_call_that_takes_hours_waits_no_longer_than_it_may_for_who_only_asks(data_dir):
    one = cache(data_dir)
    with Other(data_dir / "cache") as other:
        assert await asyncio.to_thread(other.ask, "claim", request(deadline=0.05).cache_key)
        assert await Beside(one, request(deadline=0.05)).known() is None


class Other:
    """Another process with the same folder."""

    CODE = """
import sys, msgpack
from pathlib import Path
from dspex_actors.cache.place import Place
place = Place(Path(sys.argv[1]))
assert place.ready()
for line in sys.stdin:
    verb, key = line.split()
    key = bytes.fromhex(key)
    if verb == "find":
        print("done" if place.find(key) else "nothing", flush=True)
        continue
    if verb == "claim":
        print("done" if place.claim(key) else "nothing", flush=True)
        continue
    if verb == "put":
        place.put(key, msgpack.packb({"text": "from elsewhere", "cost": 1.0}), 0, is_claimed=True, urgent=True)
        assert place.flush()
    print("done", flush=True)
"""

    def __init__(self, folder):
        command = [sys.executable, "-c", self.CODE, str(folder)]
        self.process = warm.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ask(self, verb, key):
        self.process.stdin.write(f"{verb} {key}\n")
        self.process.stdin.flush()
        told = self.process.stdout.readline()
        assert told in ("done\n", "nothing\n")
        return told == "done\n"

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.process.kill()
        self.process.communicate()


@in_loop
async def test_a_reply_with_a_key_in_it_is_not_kept(data_dir):
    from dspex_actors.foundation.secrets import remember

    remember("canary-key-123456")
    one = cache(data_dir)
    told = Server(LMReply("you sent canary-key-123456"))
    call = Server(LMReply("", content=(ToolCall("f", '{"key": "canary-key-123456"}'),)))
    for content, server in (("text", told), ("tool", call)):
        await one.complete(request(content), server)
        await one.complete(request(content), server)
        assert server.asked == 2
    one.close()
    assert b"canary" not in b"".join(path.read_bytes() for path in (data_dir / "cache").glob("answers*"))


@in_loop
async def test_a_stream_that_has_ended_is_kept_and_one_that_is_kept_is_streamed(data_dir):
    one = cache(data_dir)
    server = Server(LMReply("hello", content=None))
    call = request()
    call.sink = Sink()
    await one.complete(call, server)
    again = request()
    again.sink = Sink()
    reply = await one.complete(again, server)
    assert reply.cached == "memory"
    assert "".join(map(str, again.sink.take_now())) == "hello"


@in_loop
async def test_memory_keeps_to_its_bytes_and_its_entries(data_dir):
    one, server = cache(data_dir, workers=2), Server()
    with context(cache=configured(memory_max_bytes=65536)):
        for number in range(200):
            await one.complete(request(f"{number}"), server)
        stats = one.stats()
        assert stats["bytes"] <= stats["max_bytes"] == 32768
        assert stats["evicted"] > 100
    with context(cache=configured(memory_max_entries=10)):
        for number in range(200, 300):
            await one.complete(request(f"{number}"), server)
        assert one.stats()["entries"] == 5


# --- folders that are no good ----------------------------------------------------------------------------------------


def full(data_dir):
    """A folder whose file may not grow any more."""
    place = places.place_of(data_dir / "cache")
    assert place.ready()
    db = place._writing._writer._db
    db.execute(f"PRAGMA max_page_count = {db.execute('PRAGMA page_count').fetchone()[0]}")


def read_only(data_dir):
    folder = data_dir / "cache"
    folder.write_text("no folder")  # as good as one that may not be written, and root is refused too


def newer(data_dir):
    (data_dir / "cache").mkdir()
    db = sqlite3.connect(data_dir / "cache" / store.FILE)
    db.execute("PRAGMA user_version = 99")
    db.close()


@pytest.mark.parametrize("spoil", [full, read_only, newer])
@in_loop
async def test_a_folder_that_cannot_be_used_is_told_once_and_answers_go_on(data_dir, spoil, caplog):
    spoil(data_dir)
    one, server = cache(data_dir), Server(LMReply("x" * 5000))
    for number in range(20):
        await one.complete(request(f"{number}"), server)
        await one.complete(request(f"{number}"), server)
    one.close()
    assert server.asked == 20
    told = [record.message for record in caplog.records if "answers go on without it" in record.message]
    assert len(told) == 1
    assert str(data_dir / "cache") in told[0]
    if spoil is newer:
        assert sqlite3.connect(data_dir / "cache" / store.FILE).execute("PRAGMA user_version").fetchone() == (99,)


@pytest.mark.parametrize("how", ["at the start", "in the middle"])
@in_loop
async def test_a_damaged_file_is_put_aside_and_begun_anew(data_dir, how, caplog):
    one, server = cache(data_dir), Server()
    for number in range(300):
        await one.complete(request(f"{number}"), server)
    one = another_process(data_dir)
    file = data_dir / "cache" / store.FILE
    data = bytearray(file.read_bytes())
    begin = 0 if how == "at the start" else 8192
    data[begin:] = random.Random(1).randbytes(len(data) - begin)
    file.write_bytes(data)
    asked = server.asked
    for number in range(300):
        await one.complete(request(f"{number}"), server)
        await one.complete(request(f"{number}"), server)
    assert server.asked == asked + 300
    assert list(file.parent.glob("*.damaged-*"))
    one = another_process(data_dir)
    monkey = [await one.complete(request(f"{number}"), server) for number in range(250, 300)]
    assert {reply.cached for reply in monkey} == {"disk"}


@in_loop
async def test_a_folder_that_is_deleted_meanwhile_is_begun_anew(data_dir, monkeypatch):
    import shutil

    monkeypatch.setattr(places, "LOOK_SECONDS", 0.0)
    one, server = cache(data_dir), Server()
    await one.complete(request("a"), server)
    shutil.rmtree(data_dir / "cache")
    await one.complete(request("b"), server)
    one.close()
    other = another_process(data_dir)
    assert (await other.complete(request("b"), server)).cached == "disk"
    assert server.asked == 2


def test_a_file_keeps_to_its_bytes(tmp_path):
    writer = store.Writer(store.open_store(tmp_path))
    rows = [store.row(os.urandom(16), os.urandom(1000), 0, 1.0) for _ in range(5000)]
    for at in range(0, len(rows), 100):
        writer.put(rows[at : at + 100])
        writer.touch([rows[0][0]])
        writer.prune(2 << 20)
    assert store.used_bytes(writer._db) <= 2 << 20
    reader = store.Reader(store.open_store(tmp_path))

    def there(row):
        return reader.find(row[0].to_bytes(8, "big", signed=True) + row[1].to_bytes(8, "big", signed=True)) is not None

    assert there(rows[0])  # it was used again and again
    assert there(rows[-1])
    assert not there(rows[1])
    assert Path(tmp_path / store.FILE).stat().st_size < 4 << 20
    reader.close()
    writer.close()


# --- answers to nearly the same question -----------------------------------------------------------------------------


class Embedding:
    """Vectors by the letters of a text: texts of the same letters are the same to it."""

    def __init__(self):
        self.calls = []

    def __call__(self, texts):
        self.calls.append(list(texts))
        return [[1.0 + text.lower().count(letter) for letter in "abcdefghijklmnopqrstuvwxyz"] for text in texts]


def likeness(embedder=None, **more):
    return configured(semantic={"embedder": embedder or Embedding(), "threshold": 0.97, **more})


@in_loop
async def test_nearly_the_same_question_has_the_same_answer_also_in_another_process(data_dir):
    server, one = Server(), cache(data_dir)
    with context(cache=likeness()):
        await one.complete(request("Where is my parcel now"), server)
        one.close()
        like = await one.complete(request("Where is my parcel now?"), server)
        assert (like.cached, like.cost, server.asked) == ("semantic", 0.0, 1)
        assert (await one.complete(request("What does it cost"), server)).cached is None
        other = another_process(data_dir)
        assert (await other.complete(request("where is my parcel now?"), server)).cached == "semantic"
    assert one.stats()["semantic"] == 1
    assert (await one.complete(request("Where is my parcel now?"), server)).cached is None  # who has not asked for it


@pytest.mark.parametrize(
    "change",
    [
        {"temperature": 0.7},
        {"rollout_id": 1},
        {"tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]},
        {"max_tokens": 7},
        {"model": "openai/other"},
        {"messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "Where is my parcel now?"}]},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "Where is my parcel now?"}]}]},
        {"messages": [{"role": role, "content": "Where is my parcel now?"} for role in ("user", "assistant", "user")]},
        {"messages": [{"role": "user", "content": "Where is my parcel 2 now?"}]},
        {"messages": [{"role": "user", "content": "Where is my parcel not now?"}]},
    ],
)
@in_loop
async def test_what_else_is_different_has_another_answer(data_dir, change):
    server, one = Server(), cache(data_dir)
    messages = change.pop("messages", [{"role": "user", "content": "Where is my parcel now?"}])
    lm = LM(change.pop("model", "openai/x"), base_url="http://127.0.0.1:9/v1", **change)
    with context(cache=likeness()):
        await one.complete(request("Where is my parcel now"), server)
        one.close()
        assert (await one.complete(lm.request(messages, {}), server)).cached is None


@in_loop
async def test_many_questions_are_embedded_together_and_an_embedder_that_fails_costs_no_answer(data_dir, caplog):
    server, one, embedder = Server(), cache(data_dir), Embedding()
    with context(cache=likeness(embedder)):
        await asyncio.gather(*(one.complete(request(f"question {'x' * number}"), server) for number in range(20)))
    assert len(embedder.calls) <= 2

    def broken(texts):
        raise RuntimeError("no vectors today")

    with context(cache=likeness(broken)):
        await one.complete(request("Another thing"), server)
        await one.complete(request("One thing more"), server)
    assert caplog.text.count("no vectors today") == 1


@in_loop
async def test_what_is_kept_after_something_was_taken_back_is_found_by_all(data_dir):
    """A row's number is given once: a process that has read up to it would not see another row with it."""
    server, one = Server(), cache(data_dir)
    with Other(data_dir / "cache") as other:
        for number in range(5):
            await one.complete(request(f"{number}"), server)
            one.close()
            assert await asyncio.to_thread(other.ask, "find", request(f"{number}").cache_key)
            one.forget(request(f"{number}"))
            one.close()
            assert not await asyncio.to_thread(other.ask, "find", request(f"{number}").cache_key)


@in_loop
async def test_a_process_that_only_looks_in_leaves_the_log_of_the_others_alone(data_dir):
    server, one = Server(), cache(data_dir)
    await one.complete(request("before"), server)
    one.close()
    command = [sys.executable, "-m", "dspex_actors", "cache", "stats", "--dir", str(data_dir / "cache")]
    await asyncio.to_thread(subprocess.run, command, check=True, capture_output=True)
    await one.complete(request("after"), server)
    one.close()
    with Other(data_dir / "cache") as other:
        assert await asyncio.to_thread(other.ask, "find", request("after").cache_key)


@pytest.mark.parametrize(
    "reply",
    [
        LMReply("half a pair: \ud83d", REPLY.usage, 0.25, "gpt-x"),
        LMReply("", REPLY.usage, 0.25, "gpt-x", content=(ToolCall("c", "f", {"n": 10**30}),)),
    ],
    ids=["surrogate", "huge number"],
)
@in_loop
async def test_an_answer_that_cannot_be_kept_is_given_all_the_same_and_leaves_nobody_waiting(data_dir, reply):
    server, one = Server(reply, is_open=False), cache(data_dir)
    first = asyncio.create_task(one.complete(request(), server))
    await server.came.wait()
    second = asyncio.create_task(one.complete(request(deadline=5.0), server))
    await asyncio.sleep(0)
    server.gate.set()
    assert [await first, await second] == [reply, reply]
    assert server.asked == 2
    assert (one._flights, len(places._places[next(iter(one._numbers))]._claims)) == ({}, 0)


@in_loop
async def test_who_gives_up_just_when_it_is_to_ask_leaves_nobody_waiting(data_dir, monkeypatch):
    server, one = Server(is_open=False), cache(data_dir)
    server.failures = [Overloaded("busy")]
    first = asyncio.create_task(one.complete(request(), server))
    await server.came.wait()
    second = asyncio.create_task(one.complete(request(), server))
    await asyncio.sleep(0)
    hand_on, told = Flight.hand_on, []

    def hand_on_and_cancel(flight):
        told.append(hand_on(flight))
        second.cancel()
        return told[-1]

    monkeypatch.setattr(Flight, "hand_on", hand_on_and_cancel)
    server.gate.set()
    with pytest.raises(Overloaded):
        await first
    with pytest.raises(asyncio.CancelledError):
        await second
    assert told == [True, False]
    assert (await one.complete(request(deadline=30.0), server)).text == "hello"
