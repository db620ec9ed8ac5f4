"""What a session's requests cost, and what is not asked at all."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from test_lm_session import HI, Gate, LMSession, ask, run, until

from dspex_actors.errors import DeadlineExceeded, InvalidRequest, LMError, RateLimited
from dspex_actors.lm.attempts import Attempt, Ledger, opened


async def booked(work: Any, ledger: Ledger | None = None) -> tuple[Any, list[Attempt]]:
    """Return what `work` gives, or the error, and the requests it made."""
    ledger = ledger or Ledger()
    async with opened(ledger):
        try:
            found = await work
        except LMError as error:
            found = error
    return found, ledger.attempts


def test_every_request_is_booked_with_what_it_cost(serve: Any, answer: Any, chat: Any, fake_time: Any) -> None:
    """Refused: nothing. Broken off: the prompt at least, and nobody knows the price. Answered: what was told."""
    answers = [
        answer(429, {"error": "slow"}),
        answer(503, {"error": "away"}),
        (answer(200, b"x" * 50)[:-20], "cut"),
        "close",
        answer(200, chat(), {"x-request-id": "r9"}),
    ]
    notes: list[Any] = []

    async def body(session: LMSession, _: Any) -> Any:
        return await booked(session.complete(HI), Ledger(note=lambda *line: notes.append(line)))

    reply, attempts = run(serve, lambda n, *_: answers[n], body, time=fake_time)
    assert reply.asked == 5
    assert [(one.n, one.outcome, one.error, one.status) for one in attempts] == [
        (1, "failed", "RateLimited", 429),
        (2, "failed", "Overloaded", 503),
        (3, "failed", "StreamTruncated", None),
        (4, "failed", "Overloaded", None),
        (5, "answered", None, None),
    ]
    tokens = [(one.tokens["input_total"], one.tokens["output_total"], one.tokens["estimated"]) for one in attempts]
    assert tokens == [(0, 0, False), (0, 0, False), (5, 0, True), (5, 0, True), (1000, 100, False)]
    assert [one.cost for one in attempts] == [0.0, 0.0, None, None, None]  # the last: a server of one's own
    assert (attempts[4].finish_reason, attempts[4].request_id) == ("stop", "r9")
    assert [line[2] for line in notes] == [1, 2, 3, 4, 5]
    assert {line[4] for line in notes} == {16}  # a quarter of the body's bytes


def test_a_request_that_is_given_up_is_booked(serve: Any) -> None:
    async def body(session: LMSession, _: Any) -> Any:
        ledger = Ledger()
        task = asyncio.create_task(booked(session.complete(HI), ledger))
        await until(lambda: session.asked)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return ledger.attempts

    (one,) = run(serve, lambda *_: "hang", body)
    assert (one.outcome, one.tokens["input_total"], one.tokens["estimated"], one.cost) == ("cancelled", 5, True, None)


def test_the_example_s_time_ends_its_calls(serve: Any) -> None:
    error, attempts = run(
        serve, lambda *_: "hang", lambda session, _: booked(session.complete(HI), Ledger(seconds=0.05))
    )
    assert isinstance(error, DeadlineExceeded)
    assert len(attempts) == 1


def test_an_example_that_has_its_result_asks_for_nothing_more(serve: Any, answer: Any, chat: Any) -> None:
    async def body(session: LMSession, _: Any) -> None:
        ledger = Ledger()
        await ledger.close()
        error, attempts = await booked(session.complete(HI), ledger)
        assert isinstance(error, DeadlineExceeded)
        assert (attempts, session.asked) == ([], 0)

    run(serve, lambda *_: answer(200, chat()), body)


def test_waits_for_a_limit_on_speed_do_not_use_up_the_attempts_of_a_server_that_is_down(
    serve: Any, answer: Any, chat: Any, fake_time: Any
) -> None:
    statuses = [429] * 7 + [503] * 5 + [200]

    def reply(number: int, *_: Any) -> bytes:
        return answer(statuses[number], chat() if statuses[number] == 200 else {"error": "x"})

    assert run(serve, reply, ask, time=fake_time).asked == len(statuses)


def test_a_limit_on_speed_that_is_final_is_not_waited_for(serve: Any, answer: Any) -> None:
    with pytest.raises(RateLimited) as caught:
        run(serve, lambda *_: answer(429, {"error": "no"}, {"x-should-retry": "false"}), ask)
    assert (caught.value.asked, caught.value.retryable) == (1, False)


def test_a_pause_holds_for_calls_that_wait_for_their_lease(serve: Any, answer: Any, chat: Any, fake_time: Any) -> None:
    asked_at: list[float] = []

    class Slow(Gate):
        async def acquire(self, *args: Any) -> int:
            if not self.acquired:
                self.session.pause(7.0)  # somebody else is refused meanwhile
            return await super().acquire(*args)

    gate = Slow()

    async def body(session: LMSession, _: Any) -> None:
        gate.session = session  # type: ignore[attr-defined]
        await session.complete(HI)

    def reply(*_: Any) -> bytes:
        asked_at.append(fake_time.now)
        return answer(200, chat())  # type: ignore[no-any-return]

    run(serve, reply, body, time=fake_time, gate=gate)
    assert asked_at[0] >= 1007.0
    # Its turn was over when the pause was: it has got another one.
    assert [(outcome.lease, outcome.was_made) for outcome in gate.outcomes] == [(1, False), (2, True)]


def test_a_lease_is_given_back_when_its_call_cannot_wait_out_the_pause(serve: Any, answer: Any, fake_time: Any) -> None:
    class Slow(Gate):
        async def acquire(self, *args: Any) -> int:
            self.session.pause(50.0)
            return await super().acquire(*args)

    gate = Slow()

    async def body(session: LMSession, _: Any) -> None:
        gate.session = session  # type: ignore[attr-defined]
        with pytest.raises(RateLimited):
            await session.complete(HI, deadline=10.0)
        assert not session._slots.taken

    run(serve, lambda *_: answer(500, b""), body, time=fake_time, gate=gate)
    (outcome,) = gate.outcomes
    assert (outcome.cancelled, outcome.was_made, outcome.lease) == (True, False, 1)


def test_a_server_that_rejects_everything_is_asked_one_at_a_time_with_pauses(
    serve: Any, answer: Any, fake_time: Any
) -> None:
    async def body(session: LMSession, server: Any) -> None:
        found = await asyncio.gather(*(session.complete(HI) for _ in range(20)), return_exceptions=True)
        assert all(isinstance(error, InvalidRequest) for error in found)
        assert server.most_in_flight <= 4
        assert fake_time.now - 1000.0 >= 10 * 0.1

    run(serve, lambda *_: answer(400, {"error": "temperature"}), body, time=fake_time)


def test_what_was_begun_and_not_sent_costs_nothing(serve: Any, fake_time: Any) -> None:
    def late(*_: Any) -> None:
        fake_time.now += 1e6  # the deadline passes between the book and the wire

    error, attempts = run(
        serve, lambda *_: "hang", lambda session, _: booked(session.complete(HI), Ledger(note=late)), time=fake_time
    )
    assert (type(error), error.asked) == (DeadlineExceeded, 0)
    assert [(one.outcome, one.tokens["input_total"], one.cost) for one in attempts] == [("failed", 0, 0.0)]
