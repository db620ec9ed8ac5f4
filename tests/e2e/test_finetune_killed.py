"""BootstrapFinetune on a real node: the same data whatever is killed, and by the command line."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from e2e_kit import lines, until
from optimised import Scripted, Two, is_yes, questions

import dspex_actors as dspex
from dspex_actors.cli.main import dspex as command

IN_FLIGHT = 4


def begun(system, run_id, count=60):
    optimizer = dspex.BootstrapFinetune(metric=is_yes)
    return system.start_optimization(optimizer, Two(), questions(count), run_id=run_id, max_in_flight=IN_FLIGHT)


@pytest.mark.timeout(300)
def test_whatever_is_killed_the_data_are_those_of_an_undisturbed_one(shared_host, tmp_path):
    books = [tmp_path / "undisturbed", tmp_path / "killed"]
    with dspex.connect(home=shared_host.home, lm=Scripted(str(books[0]))) as system:
        data = begun(system, "undisturbed finetune").wait(120).finetune_data
    assert 0 < len(data) < 2 * 60
    whole, parts = lines(books[0]), ("optimise:", "run:", "worker-1")
    with dspex.connect(home=shared_host.home, lm=Scripted(str(books[1]), 0.02)) as system:
        handle = begun(system, "killed finetune")
        for number, part in enumerate(parts, 1):
            until(lambda least=0.2 * number * whole: lines(books[1]) > least, 60)
            shared_host.kills(part, system.node)
        found = handle.wait(120).finetune_data
        assert [file.name for file in found.save(tmp_path / "data.jsonl")] == ["data.jsonl"]
    assert found.chats == data.chats
    assert lines(books[1]) <= whole + len(parts) * 2 * IN_FLIGHT
    assert [json.loads(line) for line in (tmp_path / "data.jsonl").read_text().splitlines()] == list(data.lines())


def test_the_command_line_writes_the_file_and_one_that_goes_on_too(shared_host, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DSPEX_HOME", str(shared_host.home))
    dspex.Predict("ticket -> team").save("triage.json")
    tickets = [("no heating", "repairs"), ("naïve bill 請求書", "billing")] * 4
    Path("rows.jsonl").write_text("".join(json.dumps({"ticket": text, "team": team}) + "\n" for text, team in tickets))

    def run(*words):
        result = CliRunner().invoke(command, [*words, "--json"])
        assert result.exit_code == 0, result.output + result.stderr
        return json.loads(result.stdout)

    done = run(
        *("optimize", "triage.json", "rows.jsonl", "--optimizer", "finetune", "--lm", "embedded/nearest"),
        *("--set", "data_format=gemini", "-o", "data.jsonl", "--run-id", "tuned"),
    )
    assert done["saved"] == "data.jsonl"
    text = Path("data.jsonl").read_text(encoding="utf-8")
    made = [json.loads(line) for line in text.splitlines()]
    assert len(made) == 8
    assert {tuple(line) for line in made} == {("systemInstruction", "contents")}
    assert "naïve bill 請求書" in text
    assert run("optimizations", "resume", "tuned", "-o", "again.jsonl")["saved"] == "again.jsonl"
    assert Path("again.jsonl").read_text(encoding="utf-8") == text
