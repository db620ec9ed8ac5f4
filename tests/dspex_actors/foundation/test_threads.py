"""Sync code beside an event loop: side by side when it waits, in one thread when it is brief."""

import asyncio
import gc
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar, copy_context

import pytest

from dspex_actors.foundation import threads
from dspex_actors.foundation.threads import Threads

HERE = ContextVar("here", default="nowhere")


def gathered(pool, functions, **options):
    async def run():
        return await asyncio.gather(*(pool.run(copy_context(), each, **options) for each in functions))

    return asyncio.run(run())


@pytest.mark.parametrize("brief", [False, True])
def test_calls_that_wait_for_each_other_all_run(brief):
    barrier = threading.Barrier(40)
    assert sorted(gathered(Threads(64, "t"), [lambda: barrier.wait(30)] * 40, brief=brief)) == list(range(40))


def test_brief_calls_share_a_thread(monkeypatch):
    monkeypatch.setattr(threads, "BRIEF_SECONDS", 60.0)
    found = gathered(Threads(64, "t"), [threading.get_ident] * 200, brief=True)
    assert len(set(found)) == 1
    assert threading.get_ident() not in found


def test_no_more_threads_than_the_bound():
    assert len(set(gathered(Threads(3, "t"), [threading.get_ident] * 100))) <= 3


def test_a_thread_without_work_ends(monkeypatch):
    monkeypatch.setattr(threads, "IDLE_SECONDS", 0.01)
    pool = Threads(8, "ending")
    assert gathered(pool, [lambda: 2] * 8) == [2] * 8
    for thread in [each for each in threading.enumerate() if each.name == "ending"]:
        thread.join(60)
        assert not thread.is_alive()
    assert (pool._active, pool._parked) == (0, 0)
    assert gathered(pool, [lambda: 1]) == [1]


def test_many_loops_and_threads_that_come_and_go(monkeypatch):
    monkeypatch.setattr(threads, "IDLE_SECONDS", 0.0)
    pool = Threads(4, "t")

    def work(number):
        return [
            gathered(pool, [lambda each=each: each * number for each in range(50)], brief=bool(number % 2))
            for _ in range(10)
        ]

    with ThreadPoolExecutor(4) as others:
        for number, found in enumerate(others.map(work, range(4))):
            assert found == [[each * number for each in range(50)]] * 10


@pytest.mark.parametrize(
    ("error", "raised"), [(KeyError("x"), KeyError), (SystemExit(3), SystemExit), (StopIteration(), RuntimeError)]
)
def test_what_a_call_raises_is_raised_where_it_is_awaited(error, raised):
    def fails():
        raise error

    with pytest.raises(raised):
        asyncio.run(Threads(2, "t").run(copy_context(), fails))


def test_a_caller_that_is_cancelled_goes_and_what_has_not_begun_is_not_done():
    pool, done, go = Threads(1, "t"), [], threading.Event()

    async def run():
        first = asyncio.ensure_future(pool.run(copy_context(), lambda: go.wait(30)))
        second = asyncio.ensure_future(pool.run(copy_context(), lambda: done.append(1)))
        await asyncio.sleep(0)
        second.cancel()
        await asyncio.wait([second])
        go.set()
        return await first, await pool.run(copy_context(), lambda: 3)

    assert asyncio.run(run()) == (True, 3)
    assert done == []


def test_a_loop_that_closes_meanwhile_takes_nothing_with_it():
    pool, go, ended = Threads(1, "t"), threading.Event(), threading.Event()

    async def leave():
        asyncio.ensure_future(pool.run(copy_context(), lambda: go.wait(30)))  # noqa: RUF006
        await asyncio.sleep(0)

    asyncio.run(leave())
    go.set()
    assert gathered(pool, [ended.set, lambda: 2]) == [None, 2]


def test_a_thread_that_waits_holds_nothing():
    class Thing:
        pass

    thing = Thing()
    known, pool = weakref.ref(thing), Threads(2, "t")
    gathered(pool, [lambda thing=thing: repr(thing)])
    del thing
    gathered(pool, [lambda: None])
    gc.collect()
    assert known() is None


def test_threads_begin_with_their_starters_context(monkeypatch):
    monkeypatch.setattr(threading.Thread, "start", threading.Thread.start)
    monkeypatch.setattr(ThreadPoolExecutor, "submit", ThreadPoolExecutor.submit)
    threads.inherit_context()
    threads.inherit_context()
    found = []

    class Own(threading.Thread):
        def run(self):
            found.append(HERE.get())

    def look(place):
        HERE.set(place)
        for thread in (
            threading.Thread(target=lambda: found.append(HERE.get())),
            Own(),
            threading.Timer(0, lambda: found.append(HERE.get())),
        ):
            thread.start()
            thread.join()
        return [*pool.map(lambda _: HERE.get(), range(2))]

    with ThreadPoolExecutor(1) as pool:
        assert copy_context().run(look, "one") == ["one", "one"]
        assert copy_context().run(look, "two") == ["two", "two"], "of who gave the work, not of who came first"
    assert found == ["one"] * 3 + ["two"] * 3
    assert HERE.get() == "nowhere"
