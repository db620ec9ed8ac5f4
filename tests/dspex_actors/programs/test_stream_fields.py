"""Fields found in answers that come in pieces: however an answer is cut, what `parse` reads from it."""

from __future__ import annotations

import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from dspex_actors.adapters.chat import ChatAdapter
from dspex_actors.adapters.json import JSONAdapter
from dspex_actors.programs.streaming.fields import ChatFinder, Finder, JSONFinder
from dspex_actors.signatures.signature import make_signature

SIGNATURE = make_signature("question -> reasoning, answer")
OUTPUTS = ["reasoning", "answer"]


def cut(text: str, places: list[int]) -> list[str]:
    places = sorted({place % (len(text) + 1) for place in places})
    return [text[start:end] for start, end in zip([0, *places], [*places, len(text)], strict=True)]


def find(finder: Finder, pieces: list[str]) -> str:
    return "".join(finder.feed(piece) for piece in pieces) + finder.end()


ANSWER = "[[ ## reasoning ## ]]\nBecause.\n\n[[ ## answer ## ]]\nTo get\n  across!\n\n[[ ## completed ## ]]\n"


@pytest.mark.parametrize("name", OUTPUTS)
@pytest.mark.parametrize(
    "text",
    [
        ANSWER,
        ANSWER.replace("\n", "\r\n"),
        ANSWER.replace("\n", "\r"),
        ANSWER.removesuffix("[[ ## completed ## ]]\n"),
        ANSWER.replace("!\n\n[[", "! [["),
        "<think>[[ ## answer ## ]]\nno\n</think>\n" + ANSWER,
        "Sure!\n" + ANSWER,
        "[[ ## reasoning ## ]] Because.\nSo. [[ ## answer ## ]] [sic] [[1]] `x` **bold** [[ ## ",
        "**[[ ## reasoning ## ]]**\na **bold** one\n`[[ ## answer ## ]]`\nb",
        "[[ ## reasoning ## ]]\na [[ ## other ## ]] b\n[[ ## answer ## ]]\nb\n[[ ## notes ## ]]\nc",
        "[[ ## reasoning ## ]]\na\n[[ ## answer ## ]]\nb\n[[ ## answer ## ]]\nc",
    ],
)
def test_a_field_is_what_parse_reads_however_the_answer_is_cut(name, text):
    expected = ChatAdapter().parse(SIGNATURE, text)[name]
    assert find(ChatFinder(name, OUTPUTS), [text]) == expected
    assert find(ChatFinder(name, OUTPUTS), list(text)) == expected
    for place in range(len(text)):
        assert find(ChatFinder(name, OUTPUTS), [text[:place], text[place:]]) == expected


words = st.lists(
    st.sampled_from(["a", "b", " ", "\n", "\t", "[", "]", "#", "*", "`", "[[", " ## ", "]]", "é", "\u2028", "\r\n"]),
    max_size=30,
).map("".join)


@given(words, words, st.sampled_from(["", " ", "\n", "\n\n"]), st.lists(st.integers(0, 10**6), max_size=10))
@example("a", "b", "\n", [5, 12])
def test_any_values_are_found_as_parse_reads_them(reasoning, answer, gap, places):
    text = f"[[ ## reasoning ## ]]{gap}{reasoning}\n\n[[ ## answer ## ]]{gap}{answer}\n\n[[ ## completed ## ]]\n"
    fields = ChatAdapter().parse(SIGNATURE, text)
    for name in OUTPUTS:
        assert find(ChatFinder(name, OUTPUTS), cut(text, places)) == fields[name]
        assert find(ChatFinder(name, OUTPUTS), list(text)) == fields[name]


def test_text_is_given_as_soon_as_it_is_certain():
    finder = ChatFinder("answer", OUTPUTS)
    pieces = ["[[ ## ", "answer ## ]]\n", "To", " get", " to [", "[1]]", " \n\n", "[[ ## "]
    given = [finder.feed(piece) for piece in pieces]
    assert given == ["", "", "To", " get", " to", " [[1]]", "", ""]
    assert finder.has_begun
    assert not finder.has_ended
    assert finder.feed("completed ## ]]\n") == ""
    assert finder.has_ended


def test_a_field_that_never_comes_is_never_begun():
    finder = ChatFinder("answer", OUTPUTS)
    assert find(finder, ["[[ ## reasoning ## ]]\n", "nothing else"]) == ""
    assert not finder.has_begun


values = st.one_of(
    st.text(max_size=12),
    st.text(st.sampled_from(['"', "\\", "{", "}", ",", ":", "\n", "é", "😀", " "]), max_size=12),
    st.integers(),
    st.booleans(),
    st.none(),
    st.lists(st.text(max_size=4), max_size=3),
    st.dictionaries(st.text(max_size=4), st.integers(), max_size=3),
)


@given(values, values, st.sampled_from([None, 2]), st.booleans(), st.lists(st.integers(0, 10**6), max_size=10))
def test_json_fields_are_what_parse_reads(reasoning, answer, indent, ascii_only, places):
    text = json.dumps({"reasoning": reasoning, "answer": answer, "x": 1}, indent=indent, ensure_ascii=ascii_only)
    for wrapped in (text, f"```json\n{text}\n```", f"<think>{{}}</think>{text}"):
        for name, value in (("reasoning", reasoning), ("answer", answer)):
            for pieces in (cut(wrapped, places), list(wrapped)):
                found = find(JSONFinder(name), pieces)
                assert (found if isinstance(value, str) else json.loads(found)) == value


def test_a_key_inside_another_value_is_not_the_field():
    text = '{"reasoning": {"answer": 1, "x": "\\"answer\\": 2"}, "answer": "yes"}'
    assert find(JSONFinder("answer"), list(text)) == "yes"
    assert JSONAdapter().parse(make_signature("q -> reasoning: dict, answer"), text)["answer"] == "yes"


def test_json_text_is_given_as_soon_as_it_is_certain():
    finder = JSONFinder("answer")
    pieces = ['{"ans', 'wer": "To', " get\\", "n\\ud83d", '\\ude00"', ', "b"']
    assert [finder.feed(piece) for piece in pieces] == ["", "To", " get", "\n", "😀", ""]
    assert finder.has_ended
