"""The schema and its paths: every setting is described, its default is legal, and a wrong path names the right one."""

import pytest

from dspex_actors.config.checking import checked, from_text
from dspex_actors.config.paths import UNHEEDED, flat, joined, nested, parse, settings
from dspex_actors.config.schema import CircuitBreakers, Schema
from dspex_actors.errors import ConfigError
from dspex_actors.lm.control.circuits import DEFAULTS

BREADTH = ("optimisation", "copro", "breadth")


def test_every_setting_says_what_it_means_and_what_is_legal():
    assert len(settings()) > 40
    for path, setting in settings().items():
        assert setting.description, joined(path)
        assert setting.bounds, joined(path)
        assert setting.description[0].islower(), joined(path)


def test_every_default_is_legal():
    defaults = {path: setting.default for path, setting in settings().items()}
    assert checked(defaults) == defaults


@pytest.mark.parametrize(
    ("path", "default"),
    [
        ("optimisation.copro.breadth", 10),
        ("optimisation.copro.depth", 3),
        ("optimisation.copro.init_temperature", 1.4),
        ("optimisation.bootstrap.max_bootstrapped_demos", 4),
        ("optimisation.bootstrap.max_labeled_demos", 16),
        ("optimisation.bootstrap.max_rounds", 1),
        ("optimisation.random_search.num_candidate_programs", 16),
        ("optimisation.mipro.minibatch_size", 35),
        ("optimisation.simba.bsize", 32),
        ("modules.react.max_iters", 20),
    ],
)
def test_defaults_are_dspys(path, default):
    assert settings()[parse(path)].default == default


@pytest.mark.parametrize(
    ("path", "bounds"),
    [
        ("node.port", "a whole number, 0 to 65535, or none"),
        ("node.name", "a text, not empty, or none"),
        ("modules.cache.strategy", "one of lru, lfu"),
        ("optimisation.mipro.auto", "one of light, medium, heavy or none"),
        ("providers.openai.rpm", "a number, above 0, or none"),
        ("infrastructure.telemetry.enabled", "true or false"),
        ("infrastructure.clients.idle_time", "a number, 1 to 86400"),
        ("infrastructure.circuit_breakers.recovery_time", "a number, above 0, at most 86400"),
    ],
)
def test_bounds_are_said_in_words(path, bounds):
    assert settings()[parse(path)].bounds == bounds


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("optimisation.copro.breadth", 1),
        ("optimisation.copro.breadth", "12"),
        ("optimisation.copro.breadth", True),
        ("optimisation.copro.breadth", 3.5),
        ("optimisation.copro.breadth", None),
        ("optimisation.copro.breadth", [3]),
        ("optimisation.copro.breadth", {"a": 1}),
        ("optimisation.copro.breadth", 10**30),
        ("optimisation.copro.init_temperature", float("nan")),
        ("optimisation.copro.init_temperature", float("inf")),
        ("modules.cache.strategy", "fifo"),
        ("providers.openai.rpm", 0),
        ("providers.openai.rpm", "sk-verysecret123"),
        ("infrastructure.telemetry.enabled", 1),
        ("infrastructure.events.max_bytes", -1),
    ],
)
def test_a_value_that_is_not_legal_is_refused_by_what_is(path, value):
    with pytest.raises(ConfigError) as caught:
        checked({parse(path): value})
    assert caught.value.message.startswith(f"{path} is invalid: got ")
    assert settings()[parse(path)].bounds in caught.value.message
    assert "verysecret" not in caught.value.message


def test_a_whole_number_is_a_number():
    value = checked({("optimisation", "copro", "init_temperature"): 1})["optimisation", "copro", "init_temperature"]
    assert (value, type(value)) == (1.0, float)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"infrastructure.services.slow": 3.0}, "slow has to be below timeout, got slow=3 and timeout=2"),
        ({"optimisation.mipro.num_candidates": 5}, "auto and num_candidates exclude each other"),
    ],
)
def test_what_is_legal_alone_and_not_together_is_refused(values, words):
    with pytest.raises(ConfigError, match=words):
        checked({parse(path): value for path, value in values.items()})
    assert checked({parse("optimisation.mipro.num_candidates"): 5, parse("optimisation.mipro.auto"): None})


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("optimisation.copro.bredth", "did you mean 'optimisation.copro.breadth'"),
        ("optimization.copro.bredth", "did you mean 'optimisation.copro.breadth'"),
        ("optimisation.corpo", "did you mean 'optimisation.copro'"),
        ("breadth", "did you mean 'optimisation.copro.breadth'"),
        ("idle_time", "did you mean 'infrastructure.clients.idle_time'"),
        ("optimisation.copro.breadth.x", "there is no setting"),
        ("zzzzzz", "there are infrastructure, lm, modules, node, optimisation, providers"),
        ("a..b", "names with dots between them"),
        (".", "names with dots between them"),
        ("optimisation.", "names with dots between them"),
        ("optimisation\n", "there is no setting"),
        ('lm."x', "names with dots between them"),
        (3, "got int"),
        (None, "got NoneType"),
        (["optimisation"], "got list"),
        ("x" * 10_000, "there is no setting"),
    ],
)
def test_a_path_that_is_none_is_refused_by_the_nearest(text, words):
    with pytest.raises(ConfigError) as caught:
        parse(text)
    assert words in caught.value.message
    assert len(caught.value.message) < 400


@pytest.mark.parametrize(
    ("text", "lms", "path"),
    [
        ("optimization.copro.breadth", [], BREADTH),
        ("optimisation.copro.breadth", [], BREADTH),
        ("", [], ()),
        ("lm.gpt-4.1.rpm", ["gpt-4.1"], ("lm", "gpt-4.1", "rpm")),
        ('lm."gpt-4.1".rpm', [], ("lm", "gpt-4.1", "rpm")),
        ("lm.gpt-4.1", ["gpt-4", "gpt-4.1"], ("lm", "gpt-4.1")),
        ("lm.fast.params.top_k", ["fast"], ("lm", "fast", "params", "top_k")),
    ],
)
def test_a_path_is_found_under_its_other_names_too(text, lms, path):
    assert parse(text, lms) == path
    assert parse(joined(path)) == path


def test_tables_and_paths_are_two_ways_to_write_the_same():
    tree = {"optimization": {"copro": {"breadth": 3}}, "lm": {"a.b": {"model": "openai/x", "params": {"top_k": 3}}}}
    values = flat(tree)
    assert values == {BREADTH: 3, ("lm", "a.b", "model"): "openai/x", ("lm", "a.b", "params", "top_k"): 3}
    assert flat(nested(values)) == values
    with pytest.raises(ConfigError, match="are the same"):
        flat({"optimization": {}, "optimisation": {}})
    with pytest.raises(ConfigError, match="is a table, got 3"):
        flat({"optimisation": {"copro": 3}})


@pytest.mark.parametrize(
    ("path", "text", "value"),
    [
        ("optimisation.copro.breadth", " 12 ", 12),
        ("optimisation.copro.init_temperature", "1", 1.0),
        ("infrastructure.telemetry.enabled", "false", False),
        ("modules.cache.strategy", "lfu", "lfu"),
        ("providers.openai.rpm", "none", None),
        ("providers.openai.rpm", "", None),
    ],
)
def test_a_text_means_what_its_setting_is(path, text, value):
    found = from_text(parse(path), text)
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize("text", ["x", "", "none", "1.5", "sk-verysecret123"])
def test_a_text_that_means_none_is_not_repeated(text):
    with pytest.raises(ConfigError, match="expected a whole number, 2 to 1000") as caught:
        from_text(BREADTH, text)
    assert "verysecret" not in caught.value.message


def test_the_sections_of_a_file_are_those_of_the_schema():
    from dspex_actors.config.loading import SECTIONS
    from dspex_actors.config.paths import ALIASES

    assert set(SECTIONS) == {*Schema.model_fields, *ALIASES}


def test_a_setting_that_changes_nothing_yet_says_so():
    unheeded = {path[:2] for path, setting in settings().items() if setting.description.endswith(UNHEEDED)}
    assert {path[0] for path in unheeded} == {"modules"}
    assert settings()["providers", "openai", "rpm"].description.endswith("as the LMs tell")


def test_circuits_begin_with_the_defaults_of_the_configuration():
    told = CircuitBreakers().model_dump()
    assert told == {name: value for name, value in DEFAULTS.to_dict().items() if name in told}


@pytest.mark.parametrize("entry", ["a b", "x.org/path", "ftp://x.org", "0x7f.1", ""])
def test_a_host_that_is_none_is_named(entry):
    with pytest.raises(ConfigError, match=r"media_hosts is invalid: got .*, expected a host such as") as caught:
        checked({("providers", "media_hosts"): ["images.example.org", entry]})
    assert repr(entry) in str(caught.value)


def test_a_list_is_written_with_commas_where_everything_is_text():
    assert from_text(("providers", "media_hosts"), " a.org, b.org:8443 ") == ["a.org", "b.org:8443"]
    assert from_text(("providers", "media_hosts"), "") == []
