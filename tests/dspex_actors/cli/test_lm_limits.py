"""`dspex lm limits` without a node, and on one that has asked under limits."""

import json

import pytest
from click.testing import CliRunner

import dspex_actors as dspex
from dspex_actors.cli.main import dspex as command
from dspex_actors.foundation.home import default_data_dir
from dspex_actors.lm.control.memory import Memory


class Me:
    pid, born = 1, 1.0


def run(*arguments):
    return CliRunner().invoke(command, ["lm", "limits", *arguments], catch_exceptions=False)


@pytest.fixture
def learnt(tmp_path, monkeypatch):
    """A data folder in which two limits were learnt."""
    monkeypatch.setenv("DSPEX_HOME", str(tmp_path))
    import time

    for number, model in enumerate(("openai/a", "openai/b")):
        data = {"model": model, "rate": 19.25 - 19 * number, "limit": 20.0, "near": 6.0, "at": time.time()}
        Memory(default_data_dir(), f"{number}" * 32, Me()).keep_learnt(data)


def test_what_was_learnt_is_shown_without_a_node(learnt):
    found = json.loads(run("--json").output)
    assert [(row["model"], row["learnt"]["rate"], row["told"]) for row in found] == [
        ("openai/a", 19.25, {}),
        ("openai/b", 0.25, {}),
    ]
    page = run().output
    assert "19.2 a second" in page
    assert "15 a minute" in page


def test_what_was_learnt_is_forgotten(learnt):
    assert run("--forget", "openai/a").output == "forgotten: what was learnt of openai/a\n"
    assert [row["model"] for row in json.loads(run("--json").output)] == ["openai/b"]
    again = run("--forget", "openai/a")
    assert (again.exit_code, again.output) == (1, "nothing was learnt of 'openai/a'\n")
    assert run("--forget", "all").exit_code == 0
    assert run("--json").output.strip() == "[]"


def test_told_limits_and_what_is_free_of_them_are_shown(tmp_path, monkeypatch):
    monkeypatch.setenv("DSPEX_HOME", str(tmp_path))
    assert "no limits" in run().output
    with dspex.connect(lm="embedded/nearest", home=tmp_path) as system:
        monkeypatch.setenv("DSPEX_HOME", str(system.data_dir))
        dspex.LM("embedded/nearest", rpm=600, tpm=90_000)("hello", max_tokens=20)
        (row,) = json.loads(run("--json").output)
        assert row["told"] == {"rpm": 600, "tpm": 90_000}
        assert row["used"]["rpm"]["free"] == 599
        assert 89_900 < row["used"]["tpm"]["free"] < 90_000
        assert (row["learnt"], row["waiting"]) == (None, 0)
        assert "rpm 600" in run().output
