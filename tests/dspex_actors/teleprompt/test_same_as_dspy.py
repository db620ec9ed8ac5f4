"""Random search and COPRO choose what DSPy's choose, with the same candidates in the same order."""

import pytest
from optimised_in_memory import carried
from optimised_kit import CHOICES, COPRO, RANDOM, Scripted, chosen, copro, random_search

import dspex_actors as dspex


@pytest.fixture(autouse=True)
def lm():
    with dspex.context(lm=Scripted()):
        yield


@pytest.mark.parametrize("name", RANDOM)
def test_random_search_chooses_what_dspys_chooses(name, monkeypatch):
    best, _ = carried(random_search(name), monkeypatch)
    found = [[one["score"], one["seed"], chosen(one["program"])] for one in best.candidate_programs]
    assert found == CHOICES["random"][name]["candidates"]
    assert chosen(best) == CHOICES["random"][name]["chosen"]


@pytest.mark.parametrize("name", COPRO)
def test_copro_chooses_what_dspys_chooses(name, monkeypatch):
    best, _ = carried(copro(name), monkeypatch)
    names = ("score", "instruction", "prefix", "depth")
    found = [[*(one[name] for name in names), chosen(one["program"])] for one in best.candidate_programs]
    told = CHOICES["copro"][name]
    # DSPy means to leave out who says the same with the same score, and compares objects: with two predictors none is.
    seen = set()
    distinct = [one for one in told["candidates"] if (key := str((one[0], one[-1]))) not in seen and not seen.add(key)]
    assert found == distinct
    assert (chosen(best), best.total_calls) == (told["chosen"], told["total_calls"])
    if told["stats"][0]:
        of_best, of_latest = told["stats"]
        assert list(best.results_best.values()) == of_best
        # DSPy's second predictor has the first one's latest scores among its own.
        assert best.results_latest[0] == of_latest[0]
