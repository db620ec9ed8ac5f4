"""Flawed JSON is repaired, and no text holds up its process: not one with thousands of stray quotes either."""

import pytest

from dspex_actors.adapters.reading import read_structure
from dspex_actors.foundation import repairing
from dspex_actors.foundation.repairing import repaired
from dspex_actors.types.tool_calls import ToolCalls


def test_a_text_that_would_take_the_square_of_its_length_is_left_as_it_is():
    text = "[" + 'a"' * 2000
    assert read_structure(text) == text


@pytest.mark.parametrize(
    "text",
    ["[" + 'a"' * 600, '["' + '{"a":1} ' * 200, "[" + '"x" y "z", ' * 200, '{"a": [' + 'x"y"z ' * 250, "(" * 200],
    ids=["quotes", "objects", "items", "words", "brackets"],
)
def test_whatever_a_model_repeats_is_looked_at_only_so_often(text, monkeypatch):
    monkeypatch.setattr(repairing, "_MOST_LOOKS", 50_000)
    with pytest.raises(ValueError, match=r"take too long|too deeply"):
        repaired(text)
    calls = ToolCalls.model_validate([{"function": {"name": "look", "arguments": text}}])
    assert (calls.tool_calls[0].name, calls.tool_calls[0].args) == ("look", {})


def test_long_texts_with_flaws_are_repaired_as_short_ones_are():
    said = 'He said "hello" to all of them, and went'
    assert repaired("[" + ", ".join([f'"{said}"'] * 100) + "]") == [said] * 100
    assert repaired('{"a": [' + "1, " * 20_000) == {"a": [1] * 20_000}
