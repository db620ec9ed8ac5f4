"""Layers: who says what, which of them holds, and where exactly it stands."""

import pytest

from dspex_actors.config import load_config
from dspex_actors.config.layers import line_numbers, read_layers, value_from_text
from dspex_actors.config.paths import parse
from dspex_actors.errors import ConfigError

FILE = """
[node]
port = 7401
[optimization.copro]   # the American spelling
breadth = 7
depth = 2
[providers]
openai.rpm = 100
[infrastructure.events]
max_age = 3600
[lm."gpt-4.1"]
model = "openai/gpt-4.1"
api_key = "env:SOME_KEY"
"""
BREADTH, DEPTH = parse("optimisation.copro.breadth"), parse("optimisation.copro.depth")


@pytest.fixture
def toml(tmp_path):
    def write(text):
        path = tmp_path / "dspex.toml"
        path.write_text(text)
        return path

    return write


def test_each_value_comes_with_where_it_stands(toml):
    path = toml(FILE)
    environ = {"DSPEX_OPTIMIZATION__COPRO__DEPTH": "5", "DSPEX_NODE_PORT": "1", "DSPEX_LM_GPT_4_1_RPM": "3"}
    file, variables, line = read_layers(path, environ, {"node.port": (9, "--port")})
    assert [layer.name for layer in (file, variables, line)] == ["file", "environment", "command line"]
    assert file.where[BREADTH] == f"{path}:5"
    assert file.where["providers", "openai", "rpm"] == f"{path}:8"
    assert file.where["lm", "gpt-4.1", "model"] == f"{path}:12"
    assert file.values["infrastructure", "events", "max_age"] == 3600.0
    assert variables.values == {("node", "port"): 1, ("lm", "gpt-4.1", "rpm"): 3, DEPTH: 5}
    assert variables.where[DEPTH] == "DSPEX_OPTIMIZATION__COPRO__DEPTH"
    assert (line.values, line.where) == ({("node", "port"): 9}, {("node", "port"): "--port"})


def test_lines_are_found_as_far_as_they_are_written_in_the_usual_way():
    text = 'a.b = 1\n"x y" = 2\n[t."d.e"]\n # c = 0\nk=3\n[[rows]]\nz = 1\n'
    found = line_numbers(text)
    assert found["a", "b"] == 1
    assert found["x y",] == 2
    assert found["t", "d.e", "k"] == 5


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[optimisation.copro]\nbreadth = 1", ["dspex.toml:2: optimisation.copro.breadth", "2 to 1000"]),
        ("[optimisation.copro]\nbredth = 3", ["dspex.toml:2", "did you mean 'optimisation.copro.breadth'"]),
        ("[optimisation.corpo]\nbreadth = 3", ["dspex.toml", "did you mean 'optimisation.copro"]),
        ("[optimisation]\ncopro = 3", ["optimisation.copro is a table, got 3"]),
        ("optimisation = 3", ["optimisation is a table, got 3"]),
        ("[optimization.copro]\n[optimisation.copro]\n", ["are the same"]),
        ("[infrastructure.services]\nslow = 9", ["slow has to be below timeout"]),
        ("[providers.openai]\nrpm = 'sk-verysecret123'", ["providers.openai.rpm", "got a text"]),
        ("[providers.opnai]\nrpm = 3", ["did you mean 'providers.openai"]),
    ],
)
def test_what_is_wrong_in_a_file_is_said_by_every_command(toml, text, words):
    for read in (load_config, read_layers):
        with pytest.raises(ConfigError) as caught:
            read(toml(text), {})
        assert "\n" not in caught.value.message
        assert "verysecret" not in caught.value.message
        for word in words:
            assert word in caught.value.message


@pytest.mark.parametrize(
    ("variable", "text", "words"),
    [
        ("DSPEX_OPTIMISATION__COPRO__BREADTH", "x", "expected a whole number"),
        ("DSPEX_OPTIMISATION__COPRO__BREADTH", "1", "got 1, expected a whole number"),
        ("DSPEX_OPTIMISATION__COPRO__BREDTH", "3", "did you mean 'optimisation.copro.breadth'"),
        ("DSPEX_OPTIMISATION__COPRO", "3", "is a table, which no variable sets"),
        ("DSPEX_PROVIDERS__OPENAI__RPM", "sk-verysecret123", "providers.openai.rpm"),
    ],
)
def test_a_variable_that_means_nothing_is_named(toml, variable, text, words):
    for read in (load_config, read_layers):
        with pytest.raises(ConfigError) as caught:
            read(toml(""), {variable: text})
        assert variable in caught.value.message
        assert words in caught.value.message
        assert "verysecret" not in caught.value.message


def test_two_variables_for_one_setting_are_refused(toml):
    names = ["DSPEX_OPTIMISATION__COPRO__BREADTH", "DSPEX_OPTIMIZATION__COPRO__BREADTH"]
    with pytest.raises(ConfigError, match=f"{names[0]} and {names[1]} are the same: keep one"):
        read_layers(toml(""), dict.fromkeys(names, "3"))


def test_other_variables_of_dspex_are_no_settings(toml):
    layers = read_layers(toml(""), {"DSPEX_HOME": "/x", "DSPEX_DEBUG": "1", "OTHER__THING": "3"})
    assert not any(layer.values for layer in layers)


@pytest.mark.parametrize(
    ("path", "text", "value"),
    [
        ("optimisation.copro.breadth", "3", 3),
        ("lm.fast.rpm", "30", 30),
        ("lm.fast.model", "openai/x", "openai/x"),
        ("lm.fast.api_key", "env:K", "env:K"),
        ("lm.fast.fallbacks", '["openai/y"]', ["openai/y"]),
    ],
)
def test_a_command_lines_text_is_a_value(path, text, value):
    assert value_from_text(parse(path), text) == value


def test_a_section_is_no_value():
    with pytest.raises(ConfigError, match="is a table"):
        value_from_text(("optimisation", "copro"), "3")
