"""Answers to nearly the same question: which texts may have one, and which may not, however close their vectors are."""

import numpy as np
import pytest

from dspex_actors.cache.guards import may_be_same
from dspex_actors.cache.nearest import Questions, Scopes, normal

SAME = [
    ("What is the capital of France?", "what is the capital of France"),
    ("How do I reset my password?", "How can I reset my password?"),
    ("Please tell me the opening hours of the shop", "Tell me the opening hours of the shop, please"),
    ("My card was charged 1,000 times", "My card has been charged 1000 times"),
    ("I want a refund for order A17", "I would like a refund for order A17"),
]
HOSTILE = [
    ("Pay 10 dollars", "Pay 100 dollars"),
    ("Pay 1.5 dollars", "Pay 15 dollars"),
    ("a rise of 5%", "a rise of 5"),
    ("from 3 to 7", "from 7 to 3"),
    ("It costs -3", "It costs 3"),
    ("two tickets", "three tickets"),
    ("the first of May", "the second of May"),
    ("I can log in", "I cannot log in"),
    ("I can log in", "I can't log in"),
    ("I can log in", "I can’t log in"),
    ("The card works", "The card never works"),
    ("with sugar", "without sugar"),
    ("It is safe to mix them", "It is unsafe to mix them"),
    ("Is it legal?", "Is it illegal?"),
    ("a harmful drug", "a harmless drug"),
    ("flights from Paris to London", "flights from London to Paris"),
    ("flights from paris to london", "flights from london to paris"),
    ("is anna older than bert", "is bert older than anna"),
    ("Who is older, Anna or Bert?", "Who is older, Bert or Anna?"),
    ("the population of Austria", "the population of Australia"),
    ("more than he has", "less than he has"),
    ("before the meal", "after the meal"),
    ("increase the limit", "decrease the limit"),
    ("enable logging", "disable logging"),
    ("the largest city", "the smallest city"),
    ("Did he call her?", "Did she call him?"),
    ("sort it ascending", "sort it descending"),
    ("all of them passed", "some of them passed"),
    ('translate "dog"', 'translate "cat"'),
    ("run `rm -rf a`", "run `rm -rf b`"),
    ("see a_file.txt", "see b_file.txt"),
    ("x < y", "x > y"),
    ("version v1.2", "version v2.1"),
    ("write to ann@x.org", "write to bob@x.org"),
    ("drei Karten", "vier Karten"),
    ("Das geht", "Das geht nicht"),
    ("why does it start", "when does it start"),
]


@pytest.mark.parametrize(("one", "other"), SAME)
def test_what_means_the_same_may_have_one_answer(one, other):
    assert may_be_same(one, other)
    assert may_be_same(other, one)


@pytest.mark.parametrize(("one", "other"), HOSTILE)
def test_what_differs_in_a_number_a_not_or_a_name_may_not(one, other):
    assert not may_be_same(one, other)
    assert not may_be_same(other, one)


def test_the_closest_one_that_may_is_found():
    questions = Questions()
    rng = np.random.default_rng(1)
    for number in range(300):
        questions.add(f"something else {number}", b"%016d" % number, normal(rng.normal(size=32)))
    vector = normal(rng.normal(size=32))
    questions.add("pay 10 dollars", b"a" * 16, vector)
    questions.add("pay 100 dollars", b"b" * 16, normal(vector + 0.01 * rng.normal(size=32)))
    assert questions.nearest("pay 100 dollars", vector, 0.95) == b"b" * 16
    assert questions.nearest("pay 1000 dollars", vector, 0.95) is None
    assert questions.nearest("pay 10 dollars", normal(-vector), 0.95) is None
    assert questions.nearest("pay 10 dollars", normal([1.0, 2.0]), 0.95) is None  # of another embedder


def test_the_oldest_go():
    scopes = Scopes(100)
    vector = normal([1.0, 0.0]).tobytes()
    for scope in range(5):
        scopes.take(scope, ((number, b"%016d" % number, f"q {number}", vector) for number in range(40)))
    assert sum(len(scopes.of(scope)) for scope in range(5)) <= 100
    many = Scopes(10).take(0, ((number, b"%016d" % number, f"q {number}", vector) for number in range(40)))
    assert many.texts == [f"q {number}" for number in range(30, 40)]
    assert many.last == 39


@pytest.mark.parametrize("vector", [[], [0.0, 0.0], [float("nan"), 1.0], [float("inf"), 1.0]])
def test_a_vector_that_is_none_is_refused(vector):
    with pytest.raises(ValueError, match="a vector of an embedder is invalid"):
        normal(vector)
