"""What a process tells: whatever comes while it tells is told after it, and whatever was not heard again."""

import asyncio

import pytest

from dspex_actors.foundation.telemetry.recorder import Recorder
from dspex_actors.names import TELEMETRY
from dspex_actors.observe.telemetry import teller
from dspex_actors.observe.telemetry.messages import Await, Heard, Tell
from dspex_actors.observe.telemetry.teller import Teller
from supervisors.errors import CallTimeout, NoProcess
from supervisors.testing import wait_until_async


class Actor:
    """The actor as its process's teller sees it: `heard` is what it knows, by name."""

    def __init__(self):
        self.heard, self.epoch, self.is_there, self.started = {}, "1", True, 0
        self.may_start = asyncio.Event()
        self.may_start.set()
        self.before = lambda told: None
        self.wanted = asyncio.Event()

    async def call(self, name, request, timeout):  # noqa: ASYNC109 - as servers have it
        assert name == TELEMETRY
        await asyncio.sleep(0)
        if not self.is_there:
            raise NoProcess("telemetry")
        if isinstance(request, Await):
            await self.wanted.wait()
            self.wanted.clear()
            return None
        assert isinstance(request, Tell)
        self.before(request)
        for _, row_name, _, plain in request.rows:
            self.heard[row_name] = plain[1]
        return Heard(self.epoch, 0.01, True)

    async def ensure(self):
        self.started += 1
        await self.may_start.wait()
        self.is_there = True

    async def until(self, check):
        await wait_until_async(check)


@pytest.fixture
def talk(monkeypatch):
    """Run a coroutine function with a recorder, its teller and the actor."""
    monkeypatch.setattr(teller, "TELL_SECONDS", 0.01)

    def run(function):
        async def main():
            recorder, actor = Recorder(), Actor()
            one = Teller("worker", recorder, actor.call, actor.ensure)
            recorder.listen(one.news)
            try:
                await function(recorder, one, actor)
            finally:
                await one.close()

        asyncio.run(main())

    return run


def test_what_comes_while_it_tells_is_told_after_it(talk):
    async def function(recorder, one, actor):
        more = iter(range(5))
        actor.before = lambda told: recorder.counter("n").add() if next(more, None) is not None else None
        recorder.counter("n").add()
        await actor.until(lambda: actor.heard.get("n") == 6)

    talk(function)


def test_what_comes_while_it_says_hello_is_told_after_it(talk):
    async def function(recorder, one, actor):
        one.hello()
        await asyncio.sleep(0)
        recorder.counter("n").add()
        await actor.until(lambda: actor.heard.get("n") == 1)

    talk(function)


def test_who_has_nothing_to_tell_starts_nobody(talk):
    async def function(recorder, one, actor):
        actor.is_there = False
        one.hello()
        assert await one.tell()
        assert await one.tell(is_last=True)
        recorder.counter("n").add()
        assert not await one.tell(is_last=True)
        assert not actor.started

    talk(function)


@pytest.mark.parametrize("was_there", [True, False])
def test_the_last_word_waits_for_an_actor_that_starts_but_for_none_that_has_gone(talk, was_there):
    """At the end of a node the actor goes first: nobody starts it again, and each process waited for that in vain."""

    async def function(recorder, one, actor):
        if was_there:
            recorder.counter("n").add()
            await actor.until(lambda: actor.heard == {"n": 1})
        actor.may_start.clear()
        actor.is_there = False
        recorder.counter("n").add()
        await actor.until(lambda: actor.started)
        last = asyncio.create_task(one.tell(is_last=True))
        await asyncio.sleep(0)
        if not was_there:
            actor.may_start.set()
        assert await last is not was_there
        assert actor.heard == {"n": 1}

    talk(function)


def test_the_first_record_has_the_actor_started(talk):
    async def function(recorder, one, actor):
        actor.is_there = False
        recorder.counter("n").add()
        await actor.until(lambda: actor.heard == {"n": 1})
        assert actor.started == 1

    talk(function)


def test_an_actor_of_another_epoch_is_told_everything(talk):
    async def function(recorder, one, actor):
        recorder.counter("old").add()
        assert await one.tell()
        actor.epoch, actor.heard = "2", {}
        recorder.counter("new").add()
        assert await one.tell()
        assert actor.heard == {"old": 1, "new": 1}

    talk(function)


def test_what_was_not_heard_is_told_again(talk):
    async def function(recorder, one, actor):
        def timeout(told):
            raise CallTimeout("busy")

        recorder.counter("n").add()
        actor.before = timeout
        assert not await one.tell()
        actor.before = lambda told: None
        assert await one.tell()
        assert actor.heard == {"n": 1}

    talk(function)


def test_who_is_asked_tells_at_once(talk, monkeypatch):
    async def function(recorder, one, actor):
        recorder.counter("n").add()
        await actor.until(lambda: one._awaiting is not None)
        recorder.listen(None)
        recorder.counter("n").add()
        actor.wanted.set()
        await actor.until(lambda: actor.heard == {"n": 2})

    talk(function)
