"""The coordinator's end of a session: who gets which answer, and when a program counts as gone."""

import asyncio

import pytest

from dspex_actors.ecosystem.inference.messages import Answer
from dspex_actors.ecosystem.inference.sessions import Sessions


class FakeServer:
    """Keeps replies, and what is to be done about calls that are given up."""

    def __init__(self):
        self.replies, self.given_up = [], {}

    def reply(self, caller, reply):
        self.replies.append((caller, reply.numbers))

    def when_given_up(self, caller, function):
        self.given_up[caller] = function


@pytest.fixture
def in_loop():
    """Run a test with sessions, a server, and the list of those that are gone."""

    def run(test):
        async def main():
            server, gone = FakeServer(), []
            await test(Sessions(server, gone.append, lambda: 0), server, gone)

        asyncio.run(main())

    return run


def test_answers_go_with_the_oldest_open_call_and_wait_where_none_is(in_loop):
    async def test(sessions, server, gone):
        sessions.wait("s", "first")
        sessions.wait("s", "second")
        sessions.answer(("s", 1), Answer())
        sessions.answer(("s", 2), Answer())
        sessions.go()
        sessions.answer(("s", 3), Answer())
        sessions.go()
        sessions.answer(("s", 4), Answer())
        sessions.answer(("nobody", 1), Answer())
        sessions.go()
        assert server.replies == [("first", [1, 2]), ("second", [3])]
        sessions.wait("s", "third")
        sessions.go()
        assert server.replies[2:] == [("third", [4])]

    in_loop(test)


def test_a_program_whose_last_call_is_given_up_is_gone(in_loop):
    async def test(sessions, server, gone):
        sessions.wait("s", "first")
        sessions.wait("s", "second")
        server.given_up["first"]()
        assert not gone
        server.given_up["second"]()
        assert gone == ["s"]

    in_loop(test)


def test_a_program_that_died_between_two_calls_is_gone_too(in_loop):
    async def test(sessions, server, gone):
        for name in ("dead", "alive", "waits"):
            sessions.wait(name, f"{name} 1")
        for name in ("dead", "alive"):
            sessions.answer((name, 1), Answer())
        sessions.go()
        sessions.answer(("dead", 2), Answer())
        sessions.look()
        sessions.wait("alive", "alive 2")
        assert not gone
        sessions.look()
        sessions.look()
        assert gone == ["dead"]
        sessions.answer(("alive", 2), Answer())
        sessions.go()
        assert server.replies[-1] == ("alive 2", [2])

    in_loop(test)
