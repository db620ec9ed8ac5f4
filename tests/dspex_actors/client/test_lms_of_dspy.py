"""A `dspy.LM` that is given as the LM of a run: ours is asked in its place, and its key goes nowhere. Without DSPy."""

import sys
from types import ModuleType

import pytest

import dspex_actors as dspex
from dspex_actors.client.module_spec import packed_program
from dspex_actors.dspy.program import as_lm, our_lm
from dspex_actors.errors import ConfigError

SECRET = "no-usual-form"


class TheirLM:
    def __init__(self, api_key=None):
        self.model, self.model_type, self.cache = "openai/gpt-4o-mini", "chat", False
        self.kwargs = {"temperature": None, "api_key": api_key, "api_base": "http://127.0.0.1:9/v1", "num_retries": 3}

    def __call__(self, prompt):
        raise AssertionError("it was asked")

    acall = __call__


@pytest.fixture(autouse=True)
def dspy(monkeypatch):
    module = ModuleType("dspy")
    module.LM = TheirLM
    monkeypatch.setitem(sys.modules, "dspy", module)


def test_ours_is_asked_with_the_name_of_the_variable_that_has_the_key(monkeypatch):
    monkeypatch.setenv("MY_GATEWAY", SECRET)
    lm = as_lm(TheirLM(SECRET))
    assert type(lm) is dspex.LM
    assert (lm.model, lm.to_dict()["api_key"]) == ("openai/gpt-4o-mini", "env:MY_GATEWAY")


def test_what_is_no_lm_of_dspys_stays_what_it_is():
    ours = dspex.LM("embedded/echo")
    assert (as_lm(None), as_lm(ours)) == (None, ours)


def test_a_key_that_is_written_into_it_goes_into_no_journal():
    program, lm = dspex.Predict("question -> answer"), TheirLM(SECRET)
    system = dspex.System.__new__(dspex.System)
    vars(system).update(_closed=False, lm=None, node=None)
    with pytest.raises(ConfigError, match="got a key itself, expected one that is in an environment variable"):
        system.start_run("evaluate", program, [], None, lm=lm)
    with dspex.context(lm=lm), pytest.raises(ConfigError, match="got a key itself"):
        system.start_run("evaluate", program, [], None)
    with pytest.raises(ConfigError, match="got a key itself"):
        packed_program(program, lm)


def test_an_lm_of_a_class_derived_from_dspys_travels_as_it_is_and_so_without_a_key():
    class Own(TheirLM):
        pass

    assert type(as_lm(Own())) is Own
    for give in (as_lm, lambda lm: our_lm(sys.modules["dspy"], lm)):
        with pytest.raises(ConfigError, match=r"api_key of Own\('openai/gpt-4o-mini'\) .* got a key itself"):
            give(Own(SECRET))
