"""What holds: layers, updates above them, versions. Pure."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dspex_actors.config.core import Configuration, only
from dspex_actors.config.layers import COMMAND_LINE, ENVIRONMENT, FILE, Layer
from dspex_actors.config.paths import parse, settings
from dspex_actors.errors import ConfigError

BREADTH, DEPTH = "optimisation.copro.breadth", "optimisation.copro.depth"
NAMES = (FILE, ENVIRONMENT, COMMAND_LINE)


def layers(*values):
    return [
        Layer(name, {parse(BREADTH): value}, {parse(BREADTH): f"{name} says"})
        for name, value in zip(NAMES, values, strict=True)
        if value is not None
    ]


@pytest.mark.parametrize(
    ("said", "update", "holds", "layer", "where"),
    [
        ((None, None, None), None, 10, "default", ""),
        ((2, None, None), None, 2, "file", "file says"),
        ((2, 3, None), None, 3, "environment", "environment says"),
        ((2, 3, 4), None, 4, "command line", "command line says"),
        ((2, None, 4), None, 4, "command line", "command line says"),
        ((2, 3, 4), 5, 5, "update", "version 1"),
        ((None, None, None), 5, 5, "update", "version 1"),
    ],
)
def test_the_last_layer_that_says_something_holds(said, update, holds, layer, where):
    config = Configuration(layers(*said))
    if update is not None:
        config = config.updated(BREADTH, update, 7.0)
    assert config.get(BREADTH) == holds
    row = only(config.explain(BREADTH), BREADTH)
    assert (row["value"], row["layer"], row["where"]) == (holds, layer, where)
    assert row["updated_at"] == (None if update is None else 7.0)
    assert (row["bounds"], row["description"]) == ("a whole number, 2 to 1000", "proposals in each round")
    told = [value for value in (10, *said, update) if value is not None]
    assert [each["value"] for each in row["layers"]] == told


def test_a_section_is_nested_and_whole():
    copro = {"breadth": 10, "depth": 3, "init_temperature": 1.4}
    config = Configuration()
    assert config.get("optimization.copro") == copro
    assert config.get("optimisation")["copro"] == copro
    assert set(config.get("")) == {"node", "modules", "optimisation", "providers", "infrastructure"}
    assert config.get("lm") == {}


def test_several_are_set_at_once_or_none():
    config = Configuration()
    both = config.updated("optimisation.copro", {"breadth": 5, "depth": 4}, 0.0)
    assert (both.get(BREADTH), both.get(DEPTH), both.version) == (5, 4, 1)
    assert [(change.value, change.old, change.version) for change in both.changes] == [(5, 10, 1), (4, 3, 1)]
    with pytest.raises(ConfigError, match="depth is invalid: got 0"):
        both.updated("optimisation.copro", {"breadth": 6, "depth": 0}, 0.0)
    assert (both.get(BREADTH), both.version) == (5, 1)


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("optimisation.copro", {}, "nothing is given"),
        ("optimisation.copro", {"bredth": 3}, "did you mean 'optimisation.copro.breadth'"),
        ("optimisation.copro", 3, "optimisation.copro is a table, got 3"),
        ("optimisation.copro", None, "is a table, got none"),
        ("", 3, "the configuration is a table"),
        ("lm", 3, "lm is a table"),
        ("lm.fast", "openai/x", "lm.fast is a table, got a text"),
        ("lm.fast.rpm", 3, "no model"),
        ("lm.fast", {"model": "openai/x", "rpms": 3}, "did you mean 'rp"),
        ("lm.a b.model", "openai/x", "an LM's name has letters"),
        ("node.port", 3, "is read when the node starts"),
        ("", {"node": {"port": 3}, "optimisation": {"copro": {"breadth": 3}}}, "is read when the node starts"),
        ("optimisation.copro.nope.deep", 3, "there is no setting"),
    ],
)
def test_what_cannot_be_set_is_refused_and_nothing_changes(path, value, words):
    config = Configuration(layers(2, None, None))
    with pytest.raises(ConfigError) as caught:
        config.updated(path, value, 0.0)
    assert words in caught.value.message
    assert (config.version, config.updates) == (0, {})


@pytest.mark.parametrize("path", ["lm.fast.api_key", "lm.fast"])
def test_a_literal_key_is_refused_and_not_repeated(path):
    config = Configuration().updated("lm.fast", {"model": "openai/x", "api_key": "env:K"}, 0.0)
    secret = "sk-verysecret123"
    with pytest.raises(ConfigError, match="expected a reference such as 'env:") as caught:
        config.updated(path, secret if path.endswith("key") else {"model": "openai/x", "api_key": secret}, 0.0)
    assert secret not in caught.value.message
    assert only(config.explain("lm.fast.api_key"), "lm.fast.api_key")["value"] == "env:K"


def test_what_was_updated_can_be_taken_back():
    config = Configuration(layers(2, None, None)).updated("optimisation.copro", {"breadth": 5, "depth": 4}, 0.0)
    back = config.reset("optimisation")
    assert (back.get(BREADTH), back.get(DEPTH), back.version) == (2, 3, 2)
    assert back.reset("optimisation") is back
    with pytest.raises(ConfigError, match="did you mean"):
        back.reset("optimisation.corpo")


def test_the_same_again_is_no_change():
    config = Configuration().updated(BREADTH, 5, 1.0)
    assert config.updated(BREADTH, 5, 2.0) is config
    assert Configuration().updated(BREADTH, 10, 1.0).changes == Configuration().changes  # it is pinned, and not told


def test_an_lm_goes_with_its_settings():
    config = Configuration().updated('lm."gpt-4.1"', {"model": "openai/gpt-4.1"}, 0.0)
    config = config.updated('lm."gpt-4.1"', {"model": "openai/gpt-4.1", "rpm": 5}, 0.0)
    assert config.get('lm."gpt-4.1".rpm') == 5
    assert config.updated("lm.gpt-4.1.rpm", 6, 0.0).get("lm.gpt-4.1") == {"model": "openai/gpt-4.1", "rpm": 6}
    with pytest.raises(ConfigError, match="no model"):
        config.reset("lm.gpt-4.1.model")
    with pytest.raises(ConfigError, match="nothing is set at"):
        config.get("lm.other")


def test_who_was_away_is_told_the_rest_and_only_what_it_follows():
    config = Configuration()
    for value in (4, 5, 6):
        config = config.updated(BREADTH, value, 0.0)
    config = config.updated("providers.openai.rpm", 9.0, 0.0)
    assert [(each.value, each.version) for each in config.since(1)] == [(5, 2), (6, 3), (9.0, 4)]
    assert [each.value for each in config.since(1, parse("providers"))] == [9.0]
    assert config.since(4) == []
    # Who knows the defaults only: what differs, and what did so.
    told = config.reset(BREADTH).to_be_told(())
    assert {(each.path[-1], each.value) for each in told} == {("breadth", 10), ("rpm", 9.0)}


def test_what_is_kept_comes_back_and_what_is_no_more_legal_goes():
    config = (
        Configuration(layers(2, None, None)).updated(BREADTH, 5, 1.0).updated("infrastructure.services.slow", 1.5, 2.0)
    )
    again = Configuration(layers(3, None, None))
    again.restore(config.to_state())
    assert again.over(again.layers).get(BREADTH) == 5
    assert again.version == 2
    stricter = [Layer(FILE, {parse("infrastructure.services.timeout"): 1.0}, {})]
    kept = again.over(stricter)
    assert kept.get("infrastructure.services") == {"slow": 0.25, "timeout": 1.0}
    assert (kept.get(BREADTH), kept.version) == (5, 2)


NUMBERS = [path for path, setting in settings().items() if type(setting.default) is int and not setting.fixed]


@given(st.lists(st.tuples(st.sampled_from(NUMBERS), st.integers(-3, 2**41)), max_size=30))
def test_versions_only_grow_and_changes_add_up_to_what_holds(updates):
    config, seen = Configuration(), dict(Configuration().in_force())
    for path, value in updates:
        before = config
        try:
            config = config.updated(".".join(path), value, 0.0)
        except ConfigError:
            assert config is before
        assert config.version in (before.version, before.version + 1)
        for change in config.since(before.version):
            assert seen[change.path] == change.old
            seen[change.path] = change.value
    assert seen == config.in_force()
