"""dspex.toml and DSPEX_* variables."""

import pytest

from dspex_actors.config import load_config
from dspex_actors.errors import ConfigError

GOOD = """
[node]
name = "lab"
port = 7401
workers = 3
[lm.fast]
model = "openai/gpt-4o-mini"
api_key = "env:SOME_KEY"
rpm = 500
[lm.fast.params]
reasoning_effort = "low"
[lm.default]
model = "embedded/nearest"
"""


@pytest.fixture
def toml(tmp_path):
    def write(text):
        path = tmp_path / "dspex.toml"
        path.write_text(text)
        return path

    return write


def test_a_file_gives_the_node_and_lms_by_name(toml):
    config = load_config(toml(GOOD), {})
    assert (config.node.name, config.node.port, config.node.workers, config.node.host) == ("lab", 7401, 3, None)
    fast = config.lm("fast")
    assert (fast.model, fast.rpm, fast.api_key) == ("openai/gpt-4o-mini", 500.0, "env:SOME_KEY")
    assert fast.kwargs == {"reasoning_effort": "low"}
    assert config.lm(None).model == "embedded/nearest"
    assert config.lm("openai/other").model == "openai/other"


def test_no_file_is_an_empty_configuration(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = load_config(None, {})
    assert config.path is None
    assert config.lm(None) is None


def test_the_working_folder_and_the_variable_name_the_file(toml, tmp_path, monkeypatch):
    path = toml(GOOD)
    monkeypatch.chdir(tmp_path)
    assert load_config(None, {}).node.name == "lab"
    monkeypatch.chdir("/")
    assert load_config(None, {"DSPEX_CONFIG": str(path)}).node.name == "lab"


def test_variables_stand_above_the_file(toml):
    variables = {
        "DSPEX_NODE_PORT": "8000",
        "DSPEX_LM_FAST_RPM": "9",
        "DSPEX_LM_FAST_MAX_IN_FLIGHT": "4",
        "DSPEX_LM_OTHER_MODEL": "cohere/command-r",
        "DSPEX_LM_OTHER_CACHE": "false",
    }
    config = load_config(toml(GOOD), variables)
    assert config.node.port == 8000
    assert (config.lm("fast").rpm, config.lm("fast").max_in_flight) == (9.0, 4)
    assert (config.lm("other").model, config.lm("other").cache) == ("cohere/command-r", False)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[nodes]\nname = 'x'", ["[nodes]", "did you mean 'node'"]),
        ("[node]\nprot = 1", ["prot", "did you mean 'port'"]),
        ("[node]\nport = '1'", ["port", "whole number"]),
        ("[node]\nport = 70000", ["port", "65535"]),
        ("[node]\nworkers = 0", ["workers", "1 or more"]),
        ("node = 3", ["[node]"]),
        ("[lm]\nmodel = 'openai/x'", ["[lm.NAME]"]),
        ("[lm.fast]\nmodle = 'openai/x'", ["modle", "did you mean 'model'", "[lm.fast.params]"]),
        ("[lm.fast]\nrpm = 3", ["[lm.fast]", "no model"]),
        ("[lm.fast]\nmodel = 'opnai/x'", ["[lm.fast]", "did you mean 'openai/x'"]),
        ("[lm.fast]\nmodel = 'openai/x'\nrpm = -1", ["[lm.fast]", "rpm"]),
        ("[lm.fast]\nmodel = 'openai/x'\ntemperature = 1\n[lm.fast.params]\ntemperature = 1", ["temperature"]),
        ("[lm.'a b']\nmodel = 'openai/x'", ["name"]),
        ("[node\n", ["not valid TOML", "line 1"]),
    ],
)
def test_what_is_wrong_is_said_in_one_line(toml, text, words):
    with pytest.raises(ConfigError) as caught:
        load_config(toml(text), {})
    assert "\n" not in caught.value.message
    for word in words:
        assert word in caught.value.message


def test_a_key_in_the_file_is_refused_and_not_repeated(toml):
    with pytest.raises(ConfigError) as caught:
        load_config(toml("[lm.fast]\nmodel = 'openai/x'\napi_key = 'sk-verysecret123'"), {})
    assert "verysecret" not in caught.value.message
    assert "env:" in caught.value.message


@pytest.mark.parametrize(
    ("variables", "word"),
    [
        ({"DSPEX_NODE_PROT": "1"}, "DSPEX_NODE_PORT"),
        ({"DSPEX_NODE_PORT": "x"}, "whole number"),
        ({"DSPEX_LM_FAST_RPMS": "1"}, "rpm"),
        ({"DSPEX_LM_FAST_RPM": "x"}, "number"),
    ],
)
def test_a_variable_that_means_nothing_is_refused(toml, variables, word):
    with pytest.raises(ConfigError, match=word):
        load_config(toml(GOOD), variables)


def test_a_file_that_was_named_has_to_be_there(tmp_path):
    with pytest.raises(ConfigError, match="cannot read"):
        load_config(tmp_path / "none.toml", {})


def test_an_unknown_name_is_told_with_those_there_are(toml):
    with pytest.raises(ConfigError, match="did you mean 'fast'"):
        load_config(toml(GOOD), {}).lm("fats")
