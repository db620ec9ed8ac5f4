"""`dspex ecosystem list` and `show`."""

import json
import re

import pytest
from click.testing import CliRunner
from e2e_kit import until

import dspex_actors as dspex
from dspex_actors.cli.main import dspex as command
from supervisors import GenServer


class Echo(GenServer):
    def handle_call(self, request, caller):
        return request


def echo(ticket):
    return {"team": ticket}


@pytest.fixture
def run():
    return lambda *words: CliRunner().invoke(command, list(words), prog_name="dspex")


def test_ecosystems_are_listed_and_shown(host, run):
    assert "no ecosystem runs" in run("ecosystem", "list").output
    assert run("ecosystem", "show", "essay", "1").exit_code == 2
    with dspex.connect(home=host.home) as system:
        plain = system.spawn_ecosystem(("essay", "1"), [dspex.Member("echo", Echo)])
        serving = system.ecosystem(echo, id="triage")
        serving.infer(ticket="a")
        found = json.loads(run("ecosystem", "list", "--json").output)
        assert [(one["kind"], one["id"]) for one in found] == [("essay", "1"), ("inference", "triage")]
        assert [row["role"] for row in found[0]["members"]] == ["echo"]
        page = run("ecosystem", "list")
        assert page.exit_code == 0
        assert "5 members" in page.output

        shown = json.loads(run("ecosystem", "show", "inference", "triage", "--json").output)
        assert shown["stats"]["coordinator"]["completed"] == 1
        assert {row["state"] for row in shown["members"]} == {"running"}
        assert "inferences 1" in run("ecosystem", "show", "inference", "triage").output
        assert "inferences 1" in run("ecosystem", "show", "inference:triage").output
        # The monitor is told when the caller has its answer.
        until(lambda: re.search(r"latency\.mean\s+[\d.]+\s+m?s", run("ecosystem", "show", "inference:triage").output))
        assert "the id of an ecosystem is invalid" in run("ecosystem", "show", "inference").output
        assert json.loads(run("ecosystem", "show", "essay", "1", "--json").output)["stats"] is None

        # Another program may use it, too; what it asks is found in the same cache.
        other = system.find_ecosystem(("inference", "triage"))
        assert other.infer(ticket="a").inference.is_cached

        system.node.terminate_child(serving._place.name, "monitor")
        away = run("ecosystem", "list")
        assert away.exit_code == 1
        assert "away: monitor" in away.output
        plain.stop()
        serving.stop()
        until(lambda: json.loads(run("ecosystem", "list", "--json").output) == [])
