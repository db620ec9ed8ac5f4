"""Prompts with images, histories, tools and the like: message by message what DSPy 3.4.1 makes of the same."""

import json
from pathlib import Path

import pytest

import dspex_actors as dspex
from dspex_actors.adapters.base import INCOMPLETE_DEMO, MISSING_OUTPUT
from tests.dspex_actors.adapters import type_cases

RECORDED = json.loads((Path(__file__).parent / "dspy_types.json").read_text())
CASES = type_cases.cases(dspex, dspex.Document)


@pytest.mark.parametrize("name", RECORDED)
def test_messages_are_dspys(name):
    signature, inputs, demos, adapter = CASES[name]
    sentences = {
        INCOMPLETE_DEMO: "<PARTIAL>",
        MISSING_OUTPUT: "<MISSING>",
        MISSING_OUTPUT.strip(): "<MISSING>",
        adapter.format_request(signature): "<REQUEST>",
    }
    for _ in range(2):  # the second time demos come from what is kept of them
        messages = adapter.format(signature, demos, inputs)
        told = type_cases.marked(adapter, signature, messages, sentences)
        assert json.dumps(told, indent=1) == json.dumps(RECORDED[name], indent=1)


def test_there_is_a_case_for_each_recording():
    assert CASES.keys() == RECORDED.keys()
