"""Waiting for runs to end: who waits is told at once, has a deadline, and is forgotten when it goes."""

import asyncio
import math

import pytest

from dspex_actors.client import looking
from dspex_actors.client.looking import wait_for_end
from dspex_actors.errors import ConfigError
from dspex_actors.journal.errors import JournalError
from dspex_actors.runs.keeper import waiting
from dspex_actors.runs.keeper.waiting import MOST_RUNS, Waiting
from supervisors import Caller, Ref
from supervisors.errors import ServerExited

#: None of these tests takes as long; an answer that does not come fails.
SECONDS = 20.0


class Keeper:
    """Keeps answers, and what is to be called when a caller gives up."""

    def __init__(self):
        self.answers, self.given_up, self.events = {}, {}, {}

    def caller(self, number):
        self.events[number] = asyncio.Event()
        return Caller(Ref("127.0.0.1", 1, 5, 1, f"caller{number}"), number)

    def reply(self, caller, answer):
        assert caller.id not in self.answers, "answered twice"
        self.answers[caller.id] = answer
        self.events[caller.id].set()

    def when_given_up(self, caller, function):
        self.given_up[caller.id] = function

    async def answer(self, number):
        async with asyncio.timeout(SECONDS):
            await self.events[number].wait()
        return self.answers[number]


class Runs:
    """Runs under way, and how often they were looked at."""

    def __init__(self, *going):
        self.going, self.looks, self.is_away, self.away = set(going), 0, False, asyncio.Event()

    def __call__(self, run_id):
        self.looks += 1
        if self.is_away:
            self.away.set()
            raise JournalError("away")
        return run_id in self.going


def waiting_for(*going):
    keeper, runs = Keeper(), Runs(*going)
    return keeper, runs, Waiting(keeper, runs)


def in_loop(test):
    """Run an async test, as a plain one."""

    def run(**given):
        asyncio.run(test(**given))

    run.__name__ = test.__name__
    return run


@in_loop
async def test_who_waits_is_told_as_soon_as_the_end_is_written_down():
    keeper, runs, those = waiting_for("a", "b")
    those.ask(keeper.caller(1), ["a", "b"], SECONDS)
    those.changed("a")  # something of it, not its end
    assert not keeper.answers
    runs.going.discard("a")
    those.changed("a")
    assert keeper.answers == {1: ("ok", ["a"])}
    assert not those._waiters


@in_loop
async def test_what_has_ended_before_it_is_asked_for_and_what_is_not_there_is_answered_at_once():
    keeper, _, those = waiting_for("a")
    those.ask(keeper.caller(1), ["a", "ended", "never was"], SECONDS)
    assert keeper.answers == {1: ("ok", ["ended", "never was"])}


@pytest.mark.parametrize("seconds", [0, -1, 0.0, -math.inf])
@pytest.mark.parametrize("run_ids", [["a"], []])
def test_no_time_is_no_waiting(seconds, run_ids):
    async def ask():
        keeper, _, those = waiting_for("a")
        those.ask(keeper.caller(1), run_ids, seconds)
        assert keeper.answers == {1: ("ok", [])}
        assert not those._waiters

    asyncio.run(ask())


@in_loop
async def test_when_the_time_is_up_nothing_has_ended():
    keeper, _, those = waiting_for("a")
    those.ask(keeper.caller(1), ["a"], 0.01)
    assert await keeper.answer(1) == ("ok", [])
    assert not those._waiters


@pytest.mark.parametrize("seconds", [1e9, math.inf])
def test_nobody_waits_for_ever(monkeypatch, seconds):
    monkeypatch.setattr(waiting, "MOST_SECONDS", 0.01)

    async def ask():
        keeper, _, those = waiting_for("a")
        those.ask(keeper.caller(1), ["a"], seconds)
        assert await keeper.answer(1) == ("ok", [])

    asyncio.run(ask())


@in_loop
async def test_who_gives_up_is_forgotten_and_not_answered():
    keeper, runs, those = waiting_for("a")
    those.ask(keeper.caller(1), ["a"], SECONDS)
    those.ask(keeper.caller(2), ["a"], SECONDS)
    keeper.given_up[1]()
    runs.going.clear()
    those.changed("a")
    assert list(keeper.answers) == [2]


def test_what_others_have_written_is_seen_by_one_look_for_a_thousand(monkeypatch):
    monkeypatch.setattr(waiting, "LOOK_SECONDS", 0.01)

    async def ask():
        keeper, runs, those = waiting_for("a")
        for number in range(1000):
            those.ask(keeper.caller(number), ["a"], SECONDS)
        before = runs.looks
        those.changed("a")
        assert runs.looks == before + 1
        runs.going.clear()  # nobody says so
        assert await keeper.answer(999) == ("ok", ["a"])
        assert len(keeper.answers) == 1000
        assert not those._waiters
        looks = runs.looks
        await asyncio.sleep(0.05)
        assert runs.looks == looks  # nobody waits: nobody looks

    asyncio.run(ask())


def test_a_journal_that_is_away_ends_no_run(monkeypatch):
    monkeypatch.setattr(waiting, "LOOK_SECONDS", 0.01)

    async def ask():
        keeper, runs, those = waiting_for("a")
        those.ask(keeper.caller(1), ["a"], SECONDS)
        runs.is_away = True
        runs.away.clear()
        async with asyncio.timeout(SECONDS):
            await runs.away.wait()
        assert not keeper.answers
        runs.is_away = False
        runs.going.clear()
        assert await keeper.answer(1) == ("ok", ["a"])

    asyncio.run(ask())


@pytest.mark.parametrize(
    ("run_ids", "seconds"),
    [("a", 1), (None, 1), ([1], 1), (["a"] * (MOST_RUNS + 1), 1), (["a"], "1"), (["a"], True), (["a"], math.nan)],
)
def test_what_is_no_run_or_no_time_is_refused(run_ids, seconds):
    with pytest.raises(ConfigError, match="got"):
        waiting_for("a")[2].ask(None, run_ids, seconds)


@pytest.mark.parametrize("error", [ConfigError("runs do not know the request"), ServerExited("gone")])
def test_who_cannot_ask_sleeps(monkeypatch, error):
    """A keeper of an earlier version knows no waiting, and one that was killed is not there."""
    slept = []
    monkeypatch.setattr(looking.time, "sleep", slept.append)

    def ask(*request, timeout):
        raise error

    wait_for_end(["a"], ask, 5.0)
    assert slept == [pytest.approx(5.0, abs=1.0)]


def test_who_waits_for_nothing_sleeps(monkeypatch):
    slept = []
    monkeypatch.setattr(looking.time, "sleep", slept.append)
    wait_for_end([], None, 5.0)
    assert slept == [5.0]
