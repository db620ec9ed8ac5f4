"""Programs that are streamed: fields as they come, in the order in which they come, and one paid call for each."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

import dspex_actors as dspex
from dspex_actors.errors import AdapterParseError, ConfigError
from dspex_actors.streaming import (
    Piece,
    StatusMessage,
    StatusMessageProvider,
    StreamListener,
    StreamResponse,
    streaming_response,
)
from supervisors.testing import wait_until

ANSWER = ["[[ ##", " answer", " ## ]]\n", "To", " get", " to", " the", " other side", "!\n\n[[ ## comp", "leted ## ]]"]
JUDGE = ["[[ ## judgement ## ]]\n", "1", "0", "\n\n[[ ## completed ## ]]"]


class Scripted(dspex.BaseLM):
    """Answers calls in turn with scripts: lists of texts, the last one for good."""

    def __init__(self, *scripts: list[Any]) -> None:
        super().__init__("scripted")
        self.scripts = scripts
        self.asked = 0
        self.closed = threading.Event()
        self.given = 0

    def forward_stream(self, messages, **params):
        script = self.scripts[min(self.asked, len(self.scripts) - 1)]
        self.asked += 1
        try:
            for each in script:
                self.given += 1
                yield each
        finally:
            self.closed.set()


class Judged(dspex.Module):
    def __init__(self) -> None:
        self.tell = dspex.Predict("question -> answer")
        self.judge = dspex.Predict("question, answer -> judgement")

    def forward(self, question):
        answer = self.tell(question=question).answer
        return self.judge(question=question, answer=answer)


def chunks(values: list[Any], field: str = "answer") -> list[str]:
    return [v.chunk for v in values if isinstance(v, StreamResponse) and v.signature_field_name == field]


def read(program: Any, lm: Any, adapter: Any = None, *, question: str = "why?", **options: Any) -> list[Any]:
    """Return all that a streamed program gives, read on an event loop."""
    tell = dspex.streamify(program, **options)

    async def go() -> list[Any]:
        with dspex.context(lm=lm, adapter=adapter):
            return [value async for value in tell(question=question)]

    return asyncio.run(asyncio.wait_for(go(), 30))


def listening(*fields: str, **options: Any) -> dict[str, Any]:
    return {"stream_listeners": [StreamListener(field, **options) for field in fields]}


def test_a_field_comes_in_pieces_and_then_the_prediction():
    values = read(dspex.Predict("question -> answer"), Scripted(ANSWER), **listening("answer"))
    *responses, prediction = values
    assert [each.chunk for each in responses] == ["To", " get", " to", " the", " other side", "!", ""]
    assert [each.is_last_chunk for each in responses] == [False] * 6 + [True]
    assert {(each.predict_name, each.signature_field_name) for each in responses} == {("self", "answer")}
    assert prediction.answer == "To get to the other side!"


@pytest.mark.parametrize("is_async", [False, True])
def test_each_of_several_predictors_is_listened_to(is_async):
    lm = Scripted(ANSWER, JUDGE)
    values = read(Judged(), lm, is_async_program=is_async, **listening("answer", "judgement"))
    assert "".join(chunks(values)) == "To get to the other side!"
    assert "".join(chunks(values, "judgement")) == values[-1].judgement == "10"
    names = [value.predict_name for value in values[:-1]]
    assert names == sorted(names, reverse=True)
    assert lm.asked == 2


def test_only_what_is_listened_to_comes():
    values = read(Judged(), Scripted(ANSWER, JUDGE), **listening("judgement"))
    assert chunks(values) == []
    assert "".join(chunks(values, "judgement")) == "10"


def test_the_json_adapter_is_followed_too():
    lm = Scripted(['{"ans', 'wer": "To', " get\\", 'n there"}'])
    values = read(dspex.Predict("question -> answer"), lm, dspex.JSONAdapter(), **listening("answer"))
    assert chunks(values) == ["To", " get", "\n there"]
    assert values[-1].answer == "To get\n there"


def test_a_plain_generator_gives_the_same():
    lm = Scripted(ANSWER)
    tell = dspex.streamify(dspex.Predict("question -> answer"), async_streaming=False, **listening("answer"))
    with dspex.context(lm=lm):
        values = list(tell(question="why?"))
    assert "".join(chunks(values)) == values[-1].answer


def test_without_listeners_every_piece_of_every_answer_comes():
    values = read(Judged(), Scripted(ANSWER, JUDGE))
    pieces = [value for value in values if isinstance(value, Piece)]
    assert "".join(piece.text for piece in pieces) == "".join(ANSWER + JUDGE)
    assert values[-1].judgement == "10"


def test_the_prediction_can_be_left_out_unless_nothing_was_heard():
    options = {"include_final_prediction_in_output_stream": False}
    values = read(dspex.Predict("question -> answer"), Scripted(ANSWER), **listening("answer"), **options)
    assert all(isinstance(value, StreamResponse) for value in values)
    broken = Scripted(["no markers at all"], ['{"other": "x"}'])
    program = dspex.Predict("question -> answer, other: str | None")
    with pytest.raises(AdapterParseError):
        read(program, broken, **listening("answer"), **options)


def test_a_field_that_is_not_found_as_it_comes_comes_at_the_end():
    # Single quotes are no JSON: the adapter repairs it when it is whole.
    lm = Scripted(["{'answer'", ": 'To get'}"])
    values = read(dspex.Predict("question -> answer"), lm, dspex.JSONAdapter(), **listening("answer"))
    assert [(value.chunk, value.is_last_chunk) for value in values[:-1]] == [("To get", True)]


def test_an_answer_of_which_nothing_was_shown_is_asked_for_in_another_form_and_followed_there():
    lm = Scripted(["Let me see."], ['{"answer": "', 'yes"}'])
    values = read(dspex.Predict("question -> answer"), lm, **listening("answer"))
    assert lm.asked == 2
    assert "".join(chunks(values)) == values[-1].answer == "yes"


@pytest.mark.parametrize("options", [listening("answer"), {}])
def test_an_answer_of_which_something_was_shown_is_not_asked_for_twice(options):
    unreadable = "[[ ## answer ## ]]\nyes\n\n[[ ## count ## ]]\nmany\n\n[[ ## completed ## ]]"
    lm = Scripted([unreadable], ['{"answer": "no", "count": 1}'])
    with pytest.raises(AdapterParseError, match="count"):
        read(dspex.Predict("question -> answer, count: int"), lm, **options)
    assert lm.asked == 1


def test_a_listener_hears_the_first_call_only_or_each():
    class Twice(dspex.Module):
        def __init__(self):
            self.tell = dspex.Predict("question -> answer")

        def forward(self, question):
            self.tell(question=question)
            return self.tell(question=question + "?")

    once = read(Twice(), Scripted(ANSWER), **listening("answer"))
    assert "".join(chunks(once)) == "To get to the other side!"
    both = read(Twice(), Scripted(ANSWER), **listening("answer", allow_reuse=True))
    assert "".join(chunks(both)) == "To get to the other side!" * 2
    assert [value.is_last_chunk for value in both[:-1]].count(True) == 2


def test_a_streamed_program_can_be_called_again():
    tell = dspex.streamify(dspex.Predict("question -> answer"), async_streaming=False, **listening("answer"))
    with dspex.context(lm=Scripted(ANSWER)):
        assert "".join(chunks(list(tell(question="a")))) == "".join(chunks(list(tell(question="b"))))


@pytest.mark.parametrize("is_async", [False, True])
def test_who_does_not_read_on_ends_the_program_and_its_request(is_async):
    lm = Scripted([*ANSWER[:3], *(["more "] * 100_000)], JUDGE)
    tell = dspex.streamify(Judged(), is_async_program=is_async, **listening("answer"))

    async def go() -> None:
        with dspex.context(lm=lm):
            values = tell(question="why?")
            async for _ in values:
                break
            await values.aclose()

    asyncio.run(go())
    assert lm.closed.wait(60)
    assert lm.given < 1000
    assert lm.asked == 1


def test_a_plain_generator_that_is_not_read_on_ends_its_program():
    lm = Scripted([*ANSWER[:3], *(["more "] * 100_000)], JUDGE)
    tell = dspex.streamify(Judged(), async_streaming=False, **listening("answer"))
    with dspex.context(lm=lm):
        values = tell(question="why?")
        next(values)
        values.close()
    assert lm.closed.wait(60)
    assert lm.given < 1000


def test_who_reads_slowly_makes_the_program_wait():
    lm = Scripted([*ANSWER[:3], *(["more "] * 1000), "\n[[ ## completed ## ]]"])
    tell = dspex.streamify(dspex.Predict("question -> answer"), async_streaming=False, **listening("answer"))
    with dspex.context(lm=lm):
        values = tell(question="why?")
        next(values)
        before = -1

        def is_quiet() -> bool:
            nonlocal before
            was, before = before, lm.given
            return was == lm.given

        wait_until(is_quiet, 60.0)
        assert lm.given < 100
        assert len(list(values)) > 900


def test_what_goes_wrong_is_raised_as_it_is():
    class Broken(dspex.Module):
        def forward(self, question):
            raise KeyError(question)

    with pytest.raises(KeyError):
        read(Broken(), Scripted(ANSWER))


class Told(StatusMessageProvider):
    def module_start_status_message(self, instance, inputs):
        return f"start {type(instance).__name__} {sorted(inputs)}"

    def module_end_status_message(self, outputs):
        return f"end {sorted(outputs.keys())}"

    def lm_start_status_message(self, instance, inputs):
        return f"ask {instance.model} {len(inputs['messages'])}"

    def lm_end_status_message(self, outputs):
        return f"answer {len(outputs)}"


@pytest.mark.parametrize("is_async", [False, True])
def test_status_messages_stand_where_things_happen(is_async):
    options = {"status_message_provider": Told(), "is_async_program": is_async, **listening("answer")}
    values = read(dspex.Predict("question -> answer"), Scripted(ANSWER), **options)
    told = [value.message if isinstance(value, StatusMessage) else type(value).__name__ for value in values]
    pieces = ["StreamResponse"] * 7
    assert told == [
        "start Predict ['question']", "ask scripted 2", *pieces, "answer 1", "end ['answer']", "Prediction",
    ]  # fmt: skip


def test_tools_are_spoken_of_by_default():
    def search(query: str) -> str:
        return query.upper()

    class Searching(dspex.Module):
        def __init__(self):
            self.search = dspex.Tool(search)
            self.finish = dspex.Tool(search, name="finish")

        def forward(self, question):
            self.finish(query="x")
            return dspex.Prediction(found=self.search(query=question))

    values = read(Searching(), Scripted(ANSWER))
    assert [value.message for value in values[:-1]] == [
        "Calling tool search...",
        "Tool calling finished! Querying the LLM with tool calling results...",
    ]
    assert values[-1].found == "WHY?"


def test_a_status_message_that_cannot_be_worded_costs_nobody_his_answer():
    class Bad(StatusMessageProvider):
        def module_start_status_message(self, instance, inputs):
            raise RuntimeError("no words")

    values = read(dspex.Predict("question -> answer"), Scripted(ANSWER), status_message_provider=Bad())
    assert values[-1].answer == "To get to the other side!"


@pytest.mark.parametrize(
    ("listener", "words"),
    [
        (lambda: StreamListener("nothing"), "there are: answer, judgement"),
        (lambda: StreamListener("answer", predict_name="judge"), "there are: answer, judgement"),
        (lambda: StreamListener("answer", predict_name="nobody"), "expected one of: tell, judge"),
        (lambda: "answer", "got str, expected StreamListeners"),
        (lambda: StreamListener(""), "expected the name"),
    ],
)
def test_a_listener_that_cannot_hear_is_refused_at_once(listener, words):
    with pytest.raises(ConfigError, match=words) as caught:
        dspex.streamify(Judged(), stream_listeners=[listener()])
    assert isinstance(caught.value, ValueError)


def test_a_field_of_two_predictors_needs_to_say_which():
    class Two(dspex.Module):
        def __init__(self):
            self.one = dspex.Predict("question -> answer")
            self.two = dspex.Predict("question -> answer")

        def forward(self, question):
            self.one(question=question)
            return self.two(question=question)

    with pytest.raises(ConfigError, match="not unique"):
        dspex.streamify(Two(), **listening("answer"))
    program = Two()
    listeners = [StreamListener("answer", predict=program.two)]
    values = read(program, Scripted(ANSWER), stream_listeners=listeners)
    assert {value.predict_name for value in values[:-1]} == {"two"}


def test_a_web_service_sends_it_as_events():
    async def go() -> list[str]:
        tell = dspex.streamify(dspex.Predict("question -> answer"), **listening("answer"))
        with dspex.context(lm=Scripted(ANSWER)):
            return [event async for event in streaming_response(tell(question="why?"))]

    events = asyncio.run(go())
    assert events[0] == (
        'data: {"chunk":{"predict_name":"self","signature_field_name":"answer","chunk":"To","is_last_chunk":false}}\n\n'
    )
    assert events[-2:] == ['data: {"prediction":{"answer":"To get to the other side!"}}\n\n', "data: [DONE]\n\n"]


def test_an_async_generator_of_an_lm_is_streamed_too():
    class Async(dspex.BaseLM):
        async def forward_stream(self, messages, **params):
            for each in ANSWER:
                await asyncio.sleep(0)
                yield each

    assert "".join(chunks(read(dspex.Predict("question -> answer"), Async(), **listening("answer")))) == (
        "To get to the other side!"
    )
    assert "".join(map(str, Async().stream("hi"))) == "".join(ANSWER)


def test_an_lm_that_does_not_stream_gives_its_answer_at_once():
    class Whole(dspex.BaseLM):
        def forward(self, messages, **params):
            return "".join(ANSWER)

    values = read(dspex.Predict("question -> answer"), Whole(), **listening("answer"))
    assert chunks(values) == ["To get to the other side!"]
    stream = Whole().stream("hi")
    assert [piece.text for piece in stream] == ["".join(ANSWER)]
    assert stream.reply.text == "".join(ANSWER)


def test_calls_of_streams_are_booked_once():
    with dspex.context(lm=Scripted(ANSWER)):
        prediction = dspex.Predict("question -> answer")(question="x")
        streamed = list(dspex.streamify(dspex.Predict("question -> answer"), async_streaming=False)(question="x"))[-1]
    assert streamed.get_lm_usage() == prediction.get_lm_usage()


def test_what_a_model_thinks_by_itself_is_a_field_of_reasoning():
    class Thinking(dspex.BaseLM):
        supports_reasoning = True

        def forward_stream(self, messages, **params):
            thoughts = [Piece("thinking", "Hm, "), Piece("thinking", "well.")]
            yield from [*thoughts, *ANSWER]
            content = (dspex.content.Thinking("Hm, well.", "own"), dspex.content.Text("".join(ANSWER)))
            return dspex.LMReply("".join(ANSWER), content=content)

    signature = dspex.Signature("question -> answer").prepend("reasoning", dspex.OutputField(), dspex.Reasoning)
    values = read(dspex.Predict(signature), Thinking(), **listening("reasoning", "answer"))
    assert "".join(chunks(values, "reasoning")) == values[-1].reasoning == "Hm, well."
    assert "".join(chunks(values)) == "To get to the other side!"


@pytest.mark.parametrize("is_async", [False, True])
def test_a_program_that_catches_every_error_asks_nothing_more_when_nobody_reads(is_async):
    class Stubborn(dspex.Module):
        def __init__(self):
            self.tell = dspex.Predict("question -> answer")

        def forward(self, question):
            while True:
                try:
                    self.tell(question=question)
                except Exception:
                    continue

    lm = Scripted([*ANSWER[:3], *(["more "] * 1000), "\n\n[[ ## completed ## ]]"])
    tell = dspex.streamify(Stubborn(), is_async_program=is_async, **listening("answer", allow_reuse=True))

    async def go() -> int:
        with dspex.context(lm=lm):
            values = tell(question="why?")
            async for _ in values:
                break
            await values.aclose()
        await asyncio.sleep(0.2)
        return lm.asked

    assert asyncio.run(go()) == 1


def test_answers_to_an_adapter_of_ones_own_cannot_be_followed():
    class Plain(dspex.Adapter):
        def format_field_structure(self, signature):
            return ""

        def format_request(self, signature):
            return ""

        def format_assistant_message_content(self, signature, outputs, missing_field_message=""):
            return ""

        def parse(self, signature, completion):
            return {"answer": completion}

    with pytest.raises(ConfigError, match="expected ChatAdapter, JSONAdapter, XMLAdapter, or one of yours"):
        read(dspex.Predict("question -> answer"), Scripted(ANSWER), Plain(), **listening("answer"))
    assert read(dspex.Predict("question -> answer"), Scripted(ANSWER), Plain())[-1].answer == "".join(ANSWER)


def test_streams_of_one_program_at_once_each_hear_their_own():
    tell = dspex.streamify(dspex.Predict("question -> answer"), **listening("answer"))

    async def one() -> str:
        with dspex.context(lm=Scripted(ANSWER)):
            return "".join([value.chunk async for value in tell(question="why?") if isinstance(value, StreamResponse)])

    async def go() -> list[str]:
        return await asyncio.gather(*(one() for _ in range(20)))

    assert asyncio.run(go()) == ["To get to the other side!"] * 20


def test_an_lm_that_only_streams_can_be_called_too():
    class Plain(dspex.BaseLM):
        def forward_stream(self, messages, **params):
            yield from ANSWER

    class Async(dspex.BaseLM):
        async def forward_stream(self, messages, **params):
            for each in ANSWER:
                yield each

    class Told(dspex.BaseLM):
        def forward_stream(self, messages, **params):
            yield "a"
            return dspex.LMReply("b", cost=1.0)

    assert Plain()("hi").text == Async()("hi").text == asyncio.run(Async().acall("hi")).text == "".join(ANSWER)
    assert (Told()("hi").text, Told().stream("hi").read().cost) == ("b", 1.0)


def test_of_calls_at_once_a_listener_hears_one():
    class Both(dspex.Module):
        def __init__(self):
            self.tell = dspex.Predict("question -> answer")

        async def aforward(self, question):
            return (await asyncio.gather(*(self.tell.acall(question=question) for _ in range(5))))[0]

    values = read(Both(), Scripted(ANSWER), is_async_program=True, **listening("answer"))
    assert "".join(chunks(values)) == "To get to the other side!"
    assert [value.is_last_chunk for value in values[:-1]].count(True) == 1
