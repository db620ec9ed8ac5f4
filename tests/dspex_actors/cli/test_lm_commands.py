"""`dspex lm`: figures of models, and the commands on a node without one and with one."""

import json

import pytest
from click.testing import CliRunner

import dspex_actors as dspex
from dspex_actors.cli.lm_figures import by_model
from dspex_actors.cli.main import dspex as command

TAGS = {"model": "m", "provider": "openai", "deployment": "d1"}


def series(total=0.0, count=0, **more):
    return {"sum": total, "count": count, "p50": 0.1, "p90": 0.2, "p99": 0.3, "tags": {**TAGS, **more}}


def run(*arguments):
    return CliRunner().invoke(command, [*arguments], catch_exceptions=False)


def test_figures_of_a_model_are_one_row():
    rows = by_model(
        {
            "lm.request.duration": [series(count=3), {**series(count=9), "tags": {**TAGS, "deployment": "d2"}}],
            "lm.request.time_to_first_chunk": [series(count=0)],
            "lm.request.tokens": [series(10, kind="input"), series(4, kind="output")],
            "lm.request.errors": [
                series(2, error="Timeout"),
                series(1, error="Overloaded"),
                series(4, error="Cancelled"),
            ],
            "lm.request.cost": [series(0.5, count=1)],
            "rate_limiter.waited": [series(count=1)],
            "lm.request.other": [{"tags": {}, "sum": 1, "count": 1}],
        }
    )
    assert [row["deployment"] for row in rows] == ["d2", "d1"]
    row = rows[1]
    assert (row["model"], row["requests"], row["cost"]) == ("openai/m", 3, 0.5)
    assert row["errors"] == {"Timeout": 2, "Overloaded": 1}
    assert (row["given_up"], rows[0]["given_up"]) == (4, 0), "who did not read on has not failed"
    assert (row["input_tokens"], row["output_tokens"]) == (10, 4)
    assert row["latency"] == row["waited"] == {"p50": 0.1, "p90": 0.2, "p99": 0.3}
    assert row["first_piece"] is None
    assert rows[0]["cost"] is None


@pytest.mark.parametrize("group", ["lm", "config", "provider"])
def test_a_group_alone_shows_its_help_as_a_page(group):
    found = run(group)
    assert found.exit_code == 2
    assert len(found.stderr.splitlines()) > 5
    assert not found.stderr.startswith("error:")


@pytest.mark.parametrize("arguments", [("list",), ("stats",), ("stats", "openai/x")])
def test_where_no_node_runs_it_says_so_in_a_line(arguments):
    found = run("lm", *arguments)
    assert found.exit_code != 0
    assert "dspex start" in found.stderr
    assert len(found.stderr.splitlines()) == 1


def test_capabilities_need_no_node():
    rows = json.loads(run("lm", "list", "--capabilities", "openai/gpt-4o", "nobody/x", "--json").stdout)
    assert [row["model"] for row in rows] == ["openai/gpt-4o", "nobody/x"]
    assert (rows[0]["function_calling"], rows[1]["function_calling"]) == (True, False)
    assert run("lm", "list", "openai/gpt-4o").exit_code == 2


def test_an_lm_is_tried():
    found = run("lm", "test", "embedded/nearest", "--json")
    assert found.exit_code == 0, found.output
    told = json.loads(found.stdout)
    assert told["answered"]
    assert told["text"]
    assert 0 < told["first_piece"] <= told["seconds"]
    assert told["usage"]["output_total"] > 0


def test_an_lm_that_cannot_answer_is_said_in_a_line():
    found = run("lm", "test", "openai/x", "--timeout", "5")
    assert (found.exit_code, found.stdout) == (1, "")
    assert "OPENAI_API_KEY" in found.stderr
    told = json.loads(run("lm", "test", "openai/x", "--timeout", "5", "--json").stdout)
    assert (told["answered"], told["error"]) == (False, dspex.AuthError.__name__)
