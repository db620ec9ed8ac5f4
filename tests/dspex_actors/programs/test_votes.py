"""majority, MultiChainComparison, KNN. Expected values are DSPy 3.4's."""

import asyncio

import pytest

import dspex_actors as dspex
from dspex_actors.errors import ConfigError
from tests.dspex_actors.program_fakes import FakeLM, chat

completions = dspex.Prediction.from_completions


@pytest.mark.parametrize(
    ("given", "how", "expected"),
    [
        (completions([{"answer": "2"}, {"answer": "2"}, {"answer": "3"}]), {}, {"answer": "2"}),
        (completions([{"answer": "The cat!"}, {"answer": "dog"}, {"answer": "a CAT"}]), {}, {"answer": "The cat!"}),
        (completions([{"answer": "x"}, {"answer": "y"}]), {}, {"answer": "x"}),
        (completions([{"answer": ""}, {"answer": "the"}, {"answer": "y"}]), {}, {"answer": "y"}),
        (completions([{"answer": ""}, {"answer": "the"}]).completions, {}, {"answer": ""}),
        ([{"r": "1", "answer": "x"}, {"r": "1", "answer": "y"}], {}, {"r": "1", "answer": "x"}),
        (
            [{"r": "1", "answer": "x"}, {"r": "2", "answer": "y"}, {"r": "2", "answer": "z"}],
            {"field": "r"},
            {"r": "2", "answer": "y"},
        ),
        (
            [dspex.Prediction(r="1", a="x"), dspex.Prediction(r="2", a="y"), dspex.Prediction(r="3", a="y")],
            {},
            {"r": "2", "a": "y"},
        ),
        ([{"answer": 2}, {"answer": 3}, {"answer": 3}], {"normalize": None}, {"answer": 3}),
        ([{"answer": 2}, {"answer": 3}, {"answer": 3}], {}, {"answer": 3}),  # DSPy: a TypeError
        (dspex.Prediction(a="1", b="2"), {}, {"a": "1", "b": "2"}),  # DSPy: a TypeError
    ],
)
def test_the_value_that_most_completions_have_wins(given, how, expected):
    found = dspex.majority(given, **how)
    assert dict(found.items()) == expected
    assert len(found.completions) == 1


def test_the_field_is_the_signatures_last_whatever_stands_behind_it():
    rows = [{"answer": "a", "logprobs": 1}, {"answer": "b", "logprobs": 2}, {"answer": "b", "logprobs": 3}]
    given = completions(rows, dspex.Signature("question -> answer"))
    assert dspex.majority(given).logprobs == 2
    with dspex.context(lm=FakeLM(*(chat(answer=each) for each in ("a", "b", "b")))):
        asked = dspex.Predict("question -> answer")(question="Q", config={"n": 3})
    assert asked.completions.signature.signature == "question -> answer"
    assert dspex.majority(asked).answer == "b"


@pytest.mark.parametrize(
    ("given", "how", "words"),
    [
        ([], {}, "majority is invalid: got no completion"),
        ("text", {}, "majority is invalid: got 'text', expected a prediction, completions or a list"),
        ([{"a": 1}, {"b": 1}], {}, "completion 1 has no field 'a': b"),
        ([{"a": 1}, "abc"], {}, "completion 1 is 'abc', expected a prediction or a dict"),
        ([{"a": [1]}, {"a": [1]}], {}, "values of 'a' cannot be compared"),
    ],
)
def test_what_cannot_be_voted_on_is_refused(given, how, words):
    with pytest.raises(ConfigError, match=words):
        dspex.majority(given, **how)


ATTEMPTS = [
    {"rationale": "one\ntwo", "answer": "a\nb"},
    dspex.Prediction(reasoning=dspex.Reasoning(content="x\nz"), answer="b"),
    {"rationale": " y ", "answer": 3},
]


@pytest.mark.parametrize("way", ["sync", "async"])
def test_attempts_are_compared_by_their_first_lines(way):
    lm = FakeLM(chat(rationale="R", answer="X"))
    program = dspex.MultiChainComparison("question -> answer", max_tokens=9)
    with dspex.context(lm=lm):
        call = (ATTEMPTS,) if way == "sync" else None
        found = program(*call, question="Q") if call else asyncio.run(program.acall(ATTEMPTS, question="Q"))
    assert dict(found.items()) == {"rationale": "R", "answer": "X"}
    [(messages, params)] = lm.asked
    assert params == {"temperature": 0.7, "max_tokens": 9}
    asked = messages[-1]["content"]
    assert asked.index("[[ ## question ## ]]\nQ") < asked.index("[[ ## reasoning_attempt_1 ## ]]\n«one ")
    assert "two" not in asked
    assert all(f"[[ ## reasoning_attempt_{number} ## ]]\n«{text} " in asked for number, text in ((2, "x"), (3, "y")))
    assert ": a»" in asked
    assert ": 3»" in asked


#: The state that DSPy saves of it; it loads without a warning.
SAVED = {
    "predict": {
        "traces": [],
        "train": [],
        "demos": [],
        "lm": None,
        "signature": {
            "instructions": "Compare them.",
            "fields": [
                {"prefix": "Question:", "description": "${question}"},
                {"prefix": "Student Attempt #1:", "description": "${reasoning attempt}"},
                {"prefix": "Student Attempt #2:", "description": "${reasoning attempt}"},
                {
                    "prefix": "Accurate Reasoning: Thank you everyone. Let's now holistically",
                    "description": "${corrected reasoning}",
                },
                {"prefix": "Answer:", "description": "${answer}"},
            ],
        },
    }
}


def test_a_comparison_takes_over_the_state_of_dspys(caplog):
    program = dspex.MultiChainComparison("question -> answer", M=2).load_state(SAVED)
    assert program.predict.signature.instructions == "Compare them."
    assert not caplog.records
    assert program.dump_state()["predict"]["signature"] == SAVED["predict"]["signature"]


@pytest.mark.parametrize(
    ("attempts", "words"),
    [
        (ATTEMPTS[:1], "1 attempts were given, and M=3 are compared"),
        ([{"answer": "a"}] * 3, r"completions\[0\] is invalid: expected a text `rationale` or `reasoning`"),
        ([{"rationale": "r"}] * 3, "and `answer`; it has rationale"),
        ([{"rationale": None, "answer": 1}] * 3, "expected a text `rationale`"),
        (["text"] * 3, r"completions\[0\] is invalid: got 'text', expected a prediction"),
    ],
)
def test_attempts_that_cannot_be_compared_are_refused_before_the_call(attempts, words):
    lm = FakeLM("")
    with dspex.context(lm=lm), pytest.raises(ConfigError, match=words):
        dspex.MultiChainComparison("question -> answer")(attempts, question="Q")
    assert not lm.asked


def vectors(texts):
    return [[text.count("a"), text.count("b")] for text in texts]


TRAINSET = [
    dspex.Example(q="aa", x="1", label="A").with_inputs("q", "x"),
    dspex.Example(q="bb", x="2", label="B").with_inputs("q", "x"),
    dspex.Example(x="3", q="ab", label="AB").with_inputs("q", "x"),
    dspex.Example(q="ba", x="4", label="BA").with_inputs("q", "x"),
]


def test_the_nearest_examples_are_found_as_dspy_finds_them():
    seen = []

    def seeing(texts):
        seen.append(texts)
        return vectors(texts)

    async def awaited(texts):
        return vectors(texts)

    nearest = dspex.KNN(2, TRAINSET, seeing)
    assert [found.label for found in nearest(q="aaa", x="9")] == ["A", "BA"]
    assert [found.label for found in nearest(q="ab")] == ["BA", "AB"]
    assert [found.label for found in nearest(q="")] == ["BA", "AB"]
    assert seen[0] == ["q: aa | x: 1", "q: bb | x: 2", "x: 3 | q: ab", "q: ba | x: 4"]
    assert seen[1:] == [["q: aaa | x: 9"], ["q: ab"], ["q: "]]
    for vectorizer in (awaited, dspex.Embedder(vectors)):
        nearest = dspex.KNN(9, TRAINSET, vectorizer)
        assert [found.label for found in nearest(q="a")] == ["A", "BA", "AB", "B"]
        assert [found.label for found in asyncio.run(nearest.acall(q="a"))] == ["A", "BA", "AB", "B"]
    assert [found.label for found in dspex.KNN(1, TRAINSET[:1], vectors)(q="a")] == ["A"]


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"k": 0}, "k: expected a whole number of at least 1, got 0"),
        ({"trainset": []}, "trainset is invalid: got no example"),
        ({"trainset": [dspex.Example(q="a")]}, "which fields are inputs"),
        ({"trainset": [{"q": "a"}]}, r"trainset\[0\] is invalid: got"),
        ({"vectorizer": "openai/x"}, "vectorizer is invalid: got 'openai/x', expected dspex.Embedder"),
        ({"vectorizer": lambda texts: [[1]]}, r"shape \(1, 1\), expected 4 rows"),
        ({"vectorizer": lambda texts: ["a"]}, "answered with no rows of numbers"),
    ],
)
def test_bad_settings_of_knn_are_refused(how, words):
    with pytest.raises(ConfigError, match=words):
        dspex.KNN(**{"k": 2, "trainset": TRAINSET, "vectorizer": vectors, **how})


def test_vectors_that_are_no_numbers_are_refused():
    with pytest.raises(ConfigError, match="answered with NaN or infinity"):
        dspex.KNN(1, TRAINSET, lambda texts: [[float("nan")]] * len(texts))


def test_vectors_of_another_length_are_refused():
    lengths = iter([2, 3])

    def varying(texts):
        length = next(lengths)
        return [[1.0] * length for _ in texts]

    with pytest.raises(ConfigError, match="the vectorizer gives 3 numbers now, and gave 2 before"):
        dspex.KNN(2, TRAINSET, varying)(q="a")


def test_an_attempt_without_the_output_is_a_key_error_as_dspys_is():
    with pytest.raises(KeyError, match="expected a text `rationale`"):
        dspex.MultiChainComparison("question -> answer", M=1)([dspex.Prediction(rationale="a guess")], question="Q")
