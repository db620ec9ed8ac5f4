from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from dspex_actors.errors import (
    AuthError,
    CircuitOpen,
    ConfigError,
    DeadlineExceeded,
    InvalidRequest,
    LMError,
    Overloaded,
    QuotaExhausted,
    RateLimited,
    StreamTruncated,
    Timeout,
)
from dspex_actors.lm.lm import LM
from dspex_actors.lm.reply import LMReply
from dspex_actors.lm.request import LMRequest
from dspex_actors.lm.worker.outcome import Outcome
from dspex_actors.lm.worker.pauses import PAUSE_MAX
from dspex_actors.lm.worker.session import LMSession

HI = [{"role": "user", "content": "hi"}]


class Session(LMSession):
    """Asks as an LM: with its parameters and options."""

    def __init__(self, lm: LM, **settings: Any) -> None:
        self._whole = lm.request(HI, {}).lm
        super().__init__(self._whole.deployment, max_in_flight=lm.max_in_flight, **settings)

    async def complete(self, messages: Any, params: Any = None, *, deadline: float | None = None) -> LMReply:
        options = self._whole.options
        if deadline is not None:
            options = replace(options, deadline=deadline)
        request = LMRequest(self._whole, messages, params or {})
        return await super().complete(messages, request.params, options=options)


def run(
    serve: Any,
    reply: Callable[[int, str, bytes], Any],
    body: Callable[[LMSession, Any], Any],
    *,
    time: Any = None,
    gate: Any = None,
    **settings: Any,
) -> Any:
    """Run `body(session, server)` against a server that answers with `reply`."""

    async def go() -> Any:
        async with serve(reply) as server:
            options = {"clock": time.clock, "sleep": time.sleep} if time else {}
            lm = LM("openai/gpt-4o-mini", base_url=server.url + "/v1", **{"api_key": "env:OPENAI_API_KEY", **settings})
            session = Session(lm, gate=gate, rng=random.Random(1), **options)
            try:
                return await body(session, server)
            finally:
                await session.aclose()

    return asyncio.run(asyncio.wait_for(go(), 30))


async def until(happened: Callable[[], Any]) -> None:
    """Let the others run until `happened()`."""
    for _ in range(100_000):
        if happened():
            return
        await asyncio.sleep(0)
    raise AssertionError("it did not happen")


def ask(session: LMSession, _server: Any) -> Any:
    return session.complete(HI)


def test_a_call_is_answered(serve: Any, answer: Any, chat: Any) -> None:
    async def body(session: LMSession, server: Any) -> None:
        reply = await session.complete(HI, {"max_tokens": 5, "temperature": None})
        assert (reply.text, reply.model, reply.finish_reason) == ("hello", "gpt-4o-mini-2024-07-18", "stop")
        assert (reply.usage.input_total, reply.usage.output_total) == (1000, 100)
        assert reply.cost is None  # a server of one's own has prices of its own
        assert (reply.request_id, reply.asked, reply.provider) == ("r9", 1, "openai")
        assert reply.latency > 0
        assert json.loads(server.bodies[0]) == {
            "model": "gpt-4o-mini",
            "messages": HI,
            "seed": 3,
            "max_tokens": 5,
        }
        assert server.heads[0].startswith("POST /v1/chat/completions ")
        assert "authorization: bearer tk-very-secret-0123456789" in server.heads[0].lower()
        assert session.asked == 1

    run(serve, lambda *_: answer(200, chat(), {"x-request-id": "r9"}), body, temperature=0.5, seed=3)


def test_usage_that_is_not_told_is_estimated(serve: Any, answer: Any, chat: Any) -> None:
    reply = run(serve, lambda *_: answer(200, chat(usage=None)), ask)
    assert reply.usage.estimated
    assert reply.usage.output_total == 2


@pytest.mark.parametrize(
    "fault",
    [
        lambda answer: answer(500, {"error": "x"}),
        lambda answer: answer(529, b""),
        lambda answer: answer(429, {"error": "slow"}),
        lambda answer: answer(429, {"error": "slow"}, {"retry-after": "3"}),
        lambda answer: answer(200, b"<html>"),
        lambda answer: "close",
        lambda answer: (answer(200, b"x" * 50)[:-20], "cut"),
    ],
)
def test_what_passes_is_asked_again_and_counted(
    serve: Any, answer: Any, chat: Any, fake_time: Any, fault: Callable[..., Any]
) -> None:
    reply = run(serve, lambda n, *_: fault(answer) if n < 2 else answer(200, chat()), ask, time=fake_time)
    assert (reply.text, reply.asked) == ("hello", 3)
    assert fake_time.slept


@pytest.mark.parametrize(
    ("status", "body", "cls"),
    [
        (400, {"error": {"message": "no"}}, InvalidRequest),
        (401, {"error": {"message": "no"}}, AuthError),
        (429, {"error": {"message": "no", "code": "insufficient_quota"}}, QuotaExhausted),
    ],
)
def test_what_does_not_pass_is_asked_once_and_says_who_refused(
    serve: Any, answer: Any, status: int, body: Any, cls: type[LMError]
) -> None:
    with pytest.raises(cls) as caught:
        run(serve, lambda *_: answer(status, body), ask)
    error = caught.value
    assert (error.provider, error.model, error.asked, error.status) == ("openai", "gpt-4o-mini", 1, status)
    assert error.__context__ is None


def test_a_server_that_stays_down_is_given_up_after_six_requests(serve: Any, answer: Any, fake_time: Any) -> None:
    with pytest.raises(Overloaded, match="answered 503") as caught:
        run(serve, lambda *_: answer(503, b""), ask, time=fake_time)
    assert caught.value.asked == 6


def test_a_request_that_hangs_is_a_timeout(serve: Any) -> None:
    with pytest.raises(Timeout, match=r"within timeout=0\.05 s") as caught:
        run(serve, lambda *_: "hang", ask, timeout=0.05)
    assert caught.value.asked == 3


def test_the_total_deadline_ends_a_hanging_call(serve: Any) -> None:
    with pytest.raises(DeadlineExceeded) as caught:
        run(serve, lambda *_: "hang", lambda s, _: s.complete(HI, deadline=0.1))
    assert caught.value.asked == 1


def test_a_deadline_in_the_past_asks_nobody(serve: Any, answer: Any, chat: Any) -> None:
    with pytest.raises(DeadlineExceeded) as caught:
        run(serve, lambda *_: answer(200, chat()), lambda s, _: s.complete(HI, deadline=0))
    assert caught.value.asked == 0


def test_a_rate_limit_is_waited_out_for_the_whole_deadline(serve: Any, answer: Any, chat: Any, fake_time: Any) -> None:
    slow = answer(429, {"error": "slow"}, {"retry-after": "5"})
    reply = run(serve, lambda n, *_: slow if n < 40 else answer(200, chat()), ask, time=fake_time)
    assert reply.asked == 41
    assert fake_time.now - 1000 >= 40 * 5


def test_a_wait_longer_than_the_deadline_ends_the_call_at_once(serve: Any, answer: Any, fake_time: Any) -> None:
    with pytest.raises(RateLimited) as caught:
        run(serve, lambda *_: answer(429, {"error": "x"}, {"retry-after": "4000"}), ask, time=fake_time)
    assert (caught.value.asked, caught.value.retry_after) == (1, 4000.0)
    assert fake_time.slept == []


def test_after_several_429s_nobody_asks_until_the_pause_is_over_and_then_not_all_at_once(
    serve: Any, answer: Any, chat: Any, fake_time: Any
) -> None:
    arrivals: list[float] = []

    def reply(n: int, *_: Any) -> bytes:
        arrivals.append(fake_time.now)
        return answer(429, {"error": "x"}, {"retry-after": "10"}) if n < 3 else answer(200, chat())

    async def body(session: LMSession, _: Any) -> None:
        session._window.size = 8  # as if it had answered before
        first = [asyncio.create_task(session.complete(HI)) for _ in range(3)]
        await until(lambda: session.pauses.until)
        begun = session.pauses.until
        await asyncio.gather(*first, *(session.complete(HI) for _ in range(20)))
        assert begun == 1010.0
        assert [outcome.pause for outcome in gate.outcomes[:3]] == [None, None, 10.0]
        assert all(wait > 9.0 for wait in fake_time.slept)
        assert max(fake_time.slept) - min(fake_time.slept) > 0.5

    gate = Gate()
    run(serve, reply, body, time=fake_time, gate=gate)
    assert all(at >= 1010.0 for at in arrivals[3:])


def test_a_single_429_makes_its_own_call_wait_only(serve: Any, answer: Any, chat: Any, fake_time: Any) -> None:
    async def body(session: LMSession, _: Any) -> None:
        first = asyncio.create_task(session.complete(HI))
        await until(lambda: fake_time.slept)
        reply = await session.complete(HI)
        assert (reply.asked, session.pauses.until) == (1, 0.0)
        assert (await first).asked == 2

    slow = answer(429, {"error": "x"}, {"retry-after": "10"})
    run(serve, lambda n, *_: slow if n == 0 else answer(200, chat()), body, time=fake_time)


def test_a_call_under_way_follows_a_server_that_moves(serve: Any, answer: Any, chat: Any, fake_time: Any) -> None:
    async def body(session: LMSession, _: Any) -> None:
        async with serve(lambda *_: answer(200, chat(text="from there"))) as other:
            call = asyncio.create_task(session.complete(HI))
            await until(lambda: fake_time.slept)
            session.move(other.url + "/v1")
            assert (await call).text == "from there"

    run(serve, lambda *_: answer(503, b""), body, time=fake_time)


def test_a_pause_longer_than_a_call_may_take_ends_it_without_asking(serve: Any, answer: Any, fake_time: Any) -> None:
    async def body(session: LMSession, server: Any) -> None:
        for _ in range(3):
            with pytest.raises(RateLimited):
                await session.complete(HI)
        with pytest.raises(RateLimited) as caught:
            await session.complete(HI, deadline=20)
        assert caught.value.asked == 0
        assert caught.value.retry_after == pytest.approx(PAUSE_MAX)
        assert len(server.heads) == 3

    run(serve, lambda *_: answer(429, {"error": "x"}, {"retry-after": "99999999"}), body, time=fake_time)


def test_no_more_than_max_in_flight_at_once(serve: Any, answer: Any, chat: Any) -> None:
    async def body(session: LMSession, server: Any) -> None:
        await asyncio.gather(*(session.complete(HI) for _ in range(30)))
        assert server.most_in_flight == 3
        assert session.asked == 30

    run(serve, lambda *_: answer(200, chat()), body, max_in_flight=3)


def test_a_call_that_waits_for_a_slot_too_long_says_so(serve: Any) -> None:
    async def body(session: LMSession, _: Any) -> None:
        first = asyncio.create_task(session.complete(HI))
        await until(lambda: session.asked)
        with pytest.raises(DeadlineExceeded) as caught:
            await session.complete(HI, deadline=0.05)
        assert caught.value.asked == 0
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        assert not session._slots.taken

    run(serve, lambda *_: "hang", body, max_in_flight=1)


class Gate:
    def __init__(self, error: LMError | None = None) -> None:
        self.error = error
        self.acquired: list[tuple[int, float]] = []
        self.outcomes: list[Outcome] = []

    def paces(self, user: str | None, tags: Any) -> bool:
        return True

    async def acquire(
        self, tokens_in: int, tokens_out: int, deadline: float, user: str | None = None, tags: Any = None
    ) -> int:
        if self.error:
            raise self.error
        self.acquired.append((tokens_in + tokens_out, deadline))
        return len(self.acquired)

    def report(self, outcome: Outcome) -> None:
        self.outcomes.append(outcome)


def test_a_gate_sees_every_request_and_how_it_ended(serve: Any, answer: Any, chat: Any, fake_time: Any) -> None:
    gate = Gate()
    headers = {"x-ratelimit-remaining-requests": "7"}
    run(
        serve,
        lambda n, *_: answer(500, b"") if n == 0 else answer(200, chat(), headers),
        ask,
        time=fake_time,
        gate=gate,
    )
    assert len(gate.acquired) == len(gate.outcomes) == 2
    assert gate.acquired[0] == (1 + 4 + 256, 600.0)
    failed, answered = gate.outcomes
    assert isinstance(failed.error, Overloaded)
    assert failed.usage is None
    assert (failed.lease, answered.lease) == (1, 2)
    assert answered.usage is not None
    assert answered.usage.input_total == 1000
    assert answered.error is None
    assert answered.headers is not None
    assert answered.headers["x-ratelimit-remaining-requests"] == "7"


@pytest.mark.parametrize("error", [CircuitOpen("open"), RateLimited("budget", retry_after=5.0), Overloaded("x")])
def test_what_a_gate_refuses_is_not_asked(serve: Any, answer: Any, chat: Any, error: LMError) -> None:
    gate = Gate(error)
    with pytest.raises(type(error)) as caught:
        run(serve, lambda *_: answer(200, chat()), ask, gate=gate)
    assert caught.value.asked == 0
    assert gate.outcomes == []


def test_a_cancelled_call_gives_its_reservation_and_slot_back(serve: Any) -> None:
    gate = Gate()

    async def body(session: LMSession, _: Any) -> None:
        task = asyncio.create_task(session.complete(HI))
        await until(lambda: session.asked)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert [outcome.cancelled for outcome in gate.outcomes] == [True]
        assert not session._slots.taken

    run(serve, lambda *_: "hang", body, max_in_flight=1, gate=gate)


def test_a_missing_key_is_an_auth_error_that_names_the_variable(
    serve: Any, answer: Any, chat: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NO_SUCH_KEY", raising=False)
    with pytest.raises(AuthError, match="NO_SUCH_KEY") as caught:
        run(serve, lambda *_: answer(200, chat()), ask, api_key="env:NO_SUCH_KEY")
    assert (caught.value.asked, caught.value.provider) == (0, "openai")


def test_another_server_than_the_providers_is_not_sent_the_providers_usual_key(
    serve: Any, answer: Any, chat: Any
) -> None:
    async def body(session: LMSession, server: Any) -> None:
        await session.complete(HI)
        assert "authorization" not in server.heads[0].lower()

    run(serve, lambda *_: answer(200, chat()), body, api_key=None)


def test_a_server_that_misses_a_key_is_explained(serve: Any, answer: Any) -> None:
    with pytest.raises(AuthError, match=r"OPENAI_API_KEY goes to api\.openai\.com only; name one with api_key="):
        run(serve, lambda *_: answer(401, {"error": "who are you?"}), ask, api_key=None)


def test_a_query_in_the_address_follows_the_path_of_each_request(serve: Any, answer: Any, chat: Any) -> None:
    async def body(session: LMSession, server: Any) -> None:
        for address in (server.url + "/openai/deployments/d/?api-version=2024-10-21", server.url + "/v1?a=1&b=2"):
            other = Session(LM("openai/d", base_url=address))
            await other.complete(HI)
            await other.aclose()
        paths = [head.split()[1] for head in server.heads]
        assert paths == [
            "/openai/deployments/d/chat/completions?api-version=2024-10-21",
            "/v1/chat/completions?a=1&b=2",
        ]

    run(serve, lambda *_: answer(200, chat()), body)


def test_more_or_fewer_requests_at_once_while_calls_are_under_way(serve: Any, answer: Any, chat: Any) -> None:
    async def body(session: LMSession, server: Any) -> None:
        session.resize(2)
        await asyncio.gather(*(session.complete(HI) for _ in range(10)))
        assert server.most_in_flight == 2
        calls = [asyncio.create_task(session.complete(HI)) for _ in range(20)]
        await until(lambda: session.asked > 10)
        session.resize(None)
        await asyncio.gather(*calls)
        assert server.most_in_flight > 2

    run(serve, lambda *_: answer(200, chat()), body, max_in_flight=3)


def test_the_embedded_lm_is_asked_at_the_address_the_worker_knows(serve: Any, answer: Any, chat: Any) -> None:
    lm = LM("embedded/nearest")
    with pytest.raises(ConfigError, match="base_url_override"):
        Session(lm)

    async def go() -> None:
        async with serve(lambda *_: answer(200, chat(model="nearest"))) as server:
            session = Session(lm, base_url_override=server.url + "/v1")
            reply = await session.complete(HI)
            await session.aclose()
            assert (reply.cost, reply.model, reply.provider) == (0.0, "nearest", "embedded")
            assert "authorization" not in server.heads[0].lower()

    asyncio.run(go())


def test_an_address_that_cannot_be_asked_is_a_config_error_before_any_key_is_read() -> None:
    with pytest.raises(ConfigError, match="base_url") as caught:
        Session(LM("embedded/nearest"), base_url_override="http://[::1/v1")
    assert caught.value.__context__ is None


def test_a_request_cut_off_every_time_is_given_up(serve: Any, answer: Any, fake_time: Any) -> None:
    with pytest.raises(StreamTruncated) as caught:
        run(serve, lambda *_: (answer(200, b"x" * 50)[:-20], "cut"), ask, time=fake_time)
    assert caught.value.asked == 4
