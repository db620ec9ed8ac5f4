"""A user's own LM: asked in one way or the other, and booked."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

import dspex_actors as dspex
from dspex_actors.lm.attempts import Ledger, opened
from dspex_actors.lm.reply import LMReply
from dspex_actors.lm.usage import Usage
from dspex_actors.settings import record_calls

HI = [{"role": "user", "content": "hi"}]
OPENAI = {
    "model": "m-2026",
    "choices": [{"message": {"content": "yes"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 7, "completion_tokens": 2},
}


class Blocking(dspex.BaseLM):
    answer: Any = "yes"

    def forward(self, messages: Any, **params: Any) -> Any:
        self.seen = (messages, params)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


class Awaited(dspex.BaseLM):
    def __init__(self) -> None:  # without super().__init__()
        pass

    async def aforward(self, messages: Any, **params: Any) -> Any:
        await asyncio.sleep(0)
        return "yes"


class LikeDspys(dspex.BaseLM):
    def forward(self, prompt: Any = None, messages: Any = None, **kwargs: Any) -> Any:
        assert prompt is None
        return SimpleNamespace(
            model=self.model,
            choices=[SimpleNamespace(message=SimpleNamespace(content=messages[0]["content"]), finish_reason="stop")],
            usage=SimpleNamespace(prompt_tokens=7, completion_tokens=2),
        )


@pytest.mark.parametrize("lm", [Blocking(), Awaited(), LikeDspys("yes-man")])
def test_it_can_be_asked_with_and_without_await_and_is_booked_once(lm: dspex.BaseLM) -> None:
    with record_calls() as calls:
        assert lm("yes").text == "yes"
        assert asyncio.run(lm.acall(messages=[{"role": "user", "content": "yes"}])).text == "yes"
    assert [reply.asked for reply in calls] == [1, 1]


def test_messages_and_parameters_reach_it() -> None:
    lm = Blocking()
    lm("hi", temperature=0.5)
    assert lm.seen == (HI, {"temperature": 0.5})


@pytest.mark.parametrize("answer", [OPENAI, [OPENAI]])
def test_an_answer_of_openais_shape_tells_usage_and_why_it_ended(answer: Any) -> None:
    lm = Blocking()
    lm.answer = answer
    reply = lm("hi")
    assert (reply.text, reply.model, reply.finish_reason, reply.cost) == ("yes", "m-2026", "stop", None)
    assert reply.usage == Usage(input_total=7, output_total=2)


def test_a_text_is_counted_by_an_estimate_and_a_reply_is_taken_as_it_is() -> None:
    lm = Blocking()
    assert lm("hi").usage.estimated
    lm.answer = LMReply("whole", usage=Usage(input_total=1), cost=0.5, asked=3)
    assert lm("hi") is lm.answer


def test_what_is_no_answer_is_refused_with_what_was_expected() -> None:
    lm = Blocking()
    lm.answer = 7
    with pytest.raises(dspex.ConfigError, match="got 7, expected a text or a reply"):
        lm("hi")


def test_a_call_that_fails_is_booked_and_its_error_is_the_users_own() -> None:
    lm = Blocking()
    lm.answer = KeyError("mine")
    with record_calls() as calls, pytest.raises(KeyError):
        lm("hi")
    assert (len(calls), calls.in_vain) == (0, 1)


def test_within_a_run_each_call_is_a_row_of_the_books() -> None:
    lm = Blocking("mine")

    async def run() -> Ledger:
        async with opened(Ledger()) as ledger:
            await lm.acall("hi")
            lm.answer = LMReply("whole", usage=Usage(input_total=1), cost=0.5)
            await lm.acall("hi")
            lm.answer = KeyError("mine")
            with pytest.raises(KeyError):
                await lm.acall("hi")
            ledger.is_closed = True  # the example has its result
            with pytest.raises(dspex.DeadlineExceeded):
                await lm.acall("hi")
        return ledger

    rows = asyncio.run(run()).attempts
    assert [(row.n, row.provider, row.model, row.outcome, row.error) for row in rows] == [
        (1, "own", "mine", "answered", None),
        (2, "own", "mine", "answered", None),
        (3, "own", "mine", "failed", "KeyError"),
    ]
    assert (rows[0].cost, rows[1].cost, rows[2].cost) == (None, 0.5, None)
    assert rows[0].tokens["estimated"]
    assert rows[2].usage is None


def test_one_without_a_method_says_so() -> None:
    with pytest.raises(NotImplementedError, match="neither forward nor aforward"):
        dspex.BaseLM("x")("hi")


def test_it_answers_programs_when_it_is_configured() -> None:
    class Says(dspex.BaseLM):
        def forward(self, messages: Any, **params: Any) -> str:
            return "[[ ## answer ## ]]\n4\n\n[[ ## completed ## ]]"

    with dspex.context(lm=Says()):
        program = dspex.Predict("question -> answer: int")
        assert program(question="2+2").answer == 4
        assert asyncio.run(program.acall(question="2+2")).answer == 4


def test_copies_have_parameters_of_their_own() -> None:
    lm = Blocking("m", temperature=0.0)
    twin = lm.copy(temperature=1.0, model="n")
    assert (twin.model, twin.kwargs, lm.model, lm.kwargs) == ("n", {"temperature": 1.0}, "m", {"temperature": 0.0})


def test_an_lm_is_one_too() -> None:
    assert isinstance(dspex.LM("openai/x"), dspex.BaseLM)


class Around(dspex.BaseLM):
    """Asks another LM, as a router or one that writes a log does."""

    def __init__(self, inner: Any, times: int = 1) -> None:
        super().__init__("around")
        self.inner, self.times = inner, times

    def forward(self, messages: Any, **params: Any) -> Any:
        return [self.inner(messages, **params) for _ in range(self.times)][-1]


class Bare(Around):
    """The same without being a `BaseLM` in the books' eyes."""

    books_calls = False
    __call__ = Around.forward  # type: ignore[assignment]

    async def acall(self, messages: Any, **params: Any) -> Any:  # type: ignore[override]
        return self.forward(messages, **params)


@pytest.mark.parametrize("depth", [1, 2])
def test_an_lm_that_asks_another_one_is_paid_once(depth: int) -> None:
    inner = Blocking("inner")
    inner.answer = LMReply("yes", usage=Usage(input_total=3), cost=0.5)
    lm: Any = Around(inner, times=2)
    for _ in range(depth - 1):
        lm = Around(lm)

    async def run() -> tuple[Ledger, list[Any]]:
        async with opened(Ledger()) as ledger:
            with record_calls() as calls:
                await lm.acall("hi")
        return ledger, calls

    ledger, calls = asyncio.run(run())
    assert [(row.n, row.model, row.cost) for row in ledger.attempts] == [(1, "inner", 0.5), (2, "inner", 0.5)]
    assert [reply.cost for reply in calls] == [0.5, 0.5]


def test_an_lm_that_asks_another_one_in_vain_is_booked_once() -> None:
    inner = Blocking("inner")
    inner.answer = KeyError("mine")

    async def run() -> Ledger:
        async with opened(Ledger()) as ledger:
            with record_calls() as calls, pytest.raises(KeyError):
                await Around(inner).acall("hi")
            assert (len(calls), calls.in_vain) == (0, 1)
        return ledger

    assert [(row.n, row.model, row.outcome) for row in asyncio.run(run()).attempts] == [(1, "inner", "failed")]


def test_a_plain_object_that_asks_one_of_ours_is_paid_once_too() -> None:
    inner = Blocking("inner")
    inner.answer = LMReply("[[ ## answer ## ]]\nyes", usage=Usage(input_total=3), cost=0.5, model="inner")

    async def run() -> tuple[Ledger, Any]:
        async with opened(Ledger()) as ledger:
            return ledger, await dspex.Predict("question -> answer").acall(question="?", lm=Bare(inner))

    ledger, prediction = asyncio.run(run())
    assert prediction.answer == "yes"
    assert [(row.model, row.cost) for row in ledger.attempts] == [("inner", 0.5)]
    assert prediction.get_lm_usage()["inner"]["prompt_tokens"] == 3
