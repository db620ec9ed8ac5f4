"""MultiHopQA: decomposes, answers each part under a correlation id of its own, puts together."""

import asyncio
import json
import logging

import pytest

import dspex_actors as dspex
from dspex_actors.errors import ConfigError
from dspex_actors.foundation.events.outlet import open_outlet
from tests.dspex_actors.program_fakes import FakeLM, chat

WAYS = ("sync", "async")
PARTS = ["Who made Solaris?", "Where was he born?"]
PLAN = chat(sub_questions=json.dumps(PARTS))
SAID = [
    PLAN,
    chat(reasoning="r", answer="Tarkovsky"),
    chat(reasoning="r", answer="Russia"),
    chat(reasoning="r", answer="In Russia"),
]


def called(way, program, **inputs):
    return program(**inputs) if way == "sync" else asyncio.run(program.acall(**inputs))


@pytest.fixture
def events():
    found = []
    close = open_outlet(lambda event, record: found.append(event))
    yield found
    close()


@pytest.mark.parametrize("way", WAYS)
def test_each_part_is_answered_with_what_is_known_and_an_id_of_its_own(way, events):
    lm = FakeLM(*SAID)
    program = dspex.MultiHopQA()
    with dspex.context(lm=lm, trace=[]), dspex.operation("all", correlation_id="all-1"):
        found = called(way, program, question="Where was the director of Solaris born?")
        trace = list(dspex.settings.trace)
    assert (found.answer, found.sub_questions) == ("In Russia", PARTS)
    assert [(hop["question"], hop["answer"]) for hop in found.hops] == [(PARTS[0], "Tarkovsky"), (PARTS[1], "Russia")]
    ids = [hop["correlation_id"] for hop in found.hops]
    assert len({"all-1", *ids}) == 3
    assert [step[1].get("context") for step in trace[1:3]] == [[], [f"{PARTS[0]} Tarkovsky"]]
    assert trace[3][1]["findings"] == [f"{PARTS[0]} Tarkovsky", f"{PARTS[1]} Russia"]
    decomposed, first, second = (each for each in events if each.kind.startswith("question"))
    assert (decomposed.kind, decomposed.sub_questions, decomposed.correlation_id) == (
        "question.decomposed",
        PARTS,
        "all-1",
    )
    assert [(each.hop, each.question, each.answer, each.correlation_id) for each in (first, second)] == [
        (1, PARTS[0], "Tarkovsky", ids[0]),
        (2, PARTS[1], "Russia", ids[1]),
    ]
    assert [name for name, _ in program.named_predictors()] == ["decompose", "hop.predict", "synthesize.predict"]


@pytest.mark.parametrize("way", WAYS)
def test_parts_that_need_nothing_of_each_other_are_answered_at_once_by_any_program(way):
    class Look(dspex.Module):
        async def aforward(self, question, context):
            assert context == []
            return dspex.Prediction(answer=f"about {question}")

    program = dspex.MultiHopQA("topic, question -> summary", hop=Look(), sequential=False)
    with dspex.context(lm=FakeLM(PLAN, chat(reasoning="r", summary="S"))):
        found = called(way, program, topic="films", question="Q")
    assert found.summary == "S"
    assert [hop["answer"] for hop in found.hops] == [f"about {part}" for part in PARTS]


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        ([], ["Q"]),
        (["  "], ["Q"]),
        (["a", " a ", "b", "c", "d"], ["a", "b", "c"]),
    ],
)
def test_no_part_is_empty_or_asked_twice_and_there_are_not_too_many(parts, expected, caplog):
    caplog.set_level(logging.ERROR)
    lm = FakeLM(chat(sub_questions=json.dumps(parts)), chat(reasoning="r", answer="A"))
    with dspex.context(lm=lm):
        assert dspex.MultiHopQA(max_hops=3)(question="Q").sub_questions == expected
    assert len(lm.asked) == len(expected) + 2


class Short(dspex.Module):
    def forward(self, question):
        return dspex.Prediction(answer=question)


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"max_hops": 0}, "max_hops: expected a whole number of at least 1, got 0"),
        ({"hop": print}, "hop is invalid: got <built-in function print>, expected a program"),
        ({"hop": dspex.Predict("q -> answer")}, "hop is invalid: it needs q; expected a program"),
        ({"hop": dspex.ChainOfThought("question -> text")}, "hop is invalid: it answers reasoning, text; expected"),
        ({"hop": Short()}, "hop is invalid: Short cannot be called so: got an unexpected keyword argument 'context'"),
        ({"signature": "question -> hops"}, "MultiHopQA has a field 'hops' of its own"),
        ({"signature": "question, findings -> answer"}, "MultiHopQA has a field 'findings' of its own"),
        ({"signature": "-> answer"}, "signature is invalid: expected an input"),
    ],
)
def test_bad_settings_are_refused_when_it_is_made(how, words):
    with pytest.raises(ConfigError, match=words):
        dspex.MultiHopQA(**how)


def test_a_hop_without_an_answer_is_an_error_and_no_answer_of_none():
    class Silent(dspex.Module):
        def forward(self, question, context):
            return dspex.Prediction(text="it")

    lm = FakeLM(chat(sub_questions='["a"]'))
    with dspex.context(lm=lm), pytest.raises(ConfigError, match="its prediction has no `answer`, it has text"):
        dspex.MultiHopQA(hop=Silent())(question="Q")
