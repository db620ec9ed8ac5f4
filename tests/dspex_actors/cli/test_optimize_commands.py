"""`dspex optimize` and `dspex optimizations`: what is refused before anything is paid, and how programs differ."""

import json

import pytest

import dspex_actors as dspex
from dspex_actors.cli.optimizations_look import differences
from dspex_actors.cli.optimize import _examples, given_settings

PROGRAM = """
import dspex_actors as dspex
triage = dspex.Predict("ticket -> team")
class Empty(dspex.Module):
    def forward(self, ticket): return ticket
"""
GIVEN = {"--optimizer": "copro", "--metric": "exact_match:team", "--lm": "embedded/nearest"}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "optimizable.py").write_text(PROGRAM)
    (tmp_path / "rows.jsonl").write_text(json.dumps({"ticket": "no heating", "team": "repairs"}) + "\n")
    (tmp_path / "none.jsonl").write_text("")
    (tmp_path / "bad.jsonl").write_text(json.dumps({"ticket": "no heating", "team": "repairs"}) + '\n{"ticket\n')
    return tmp_path


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"--optimizer": "miprov9"}, "optimizer is invalid: got 'miprov9', expected one of labeled, bootstrap"),
        ({"--optimizer": None}, "--optimizer"),
        ({"--metric": "exact_match:tem"}, "no example of the trainset has a field 'tem'; there are ticket, team"),
        ({"data": "bad.jsonl"}, "bad.jsonl line 2: not valid JSON"),
        ({"data": "bad.jsonl", "--skip-bad-lines": "", "-o": "best.txt"}, "--output is invalid"),
        ({"--metric": None}, "metric: COPRO compares programs by it: add --metric M"),
        ({"--metric": "no_such:thing"}, "metric 'no_such:thing'"),
        ({"program": "optimizable:Empty"}, "program optimizable:Empty: it has no predictors"),
        ({"program": "gone.json"}, "gone.json"),
        ({"data": "gone.jsonl"}, "gone.jsonl"),
        ({"data": "none.jsonl"}, "none.jsonl holds no examples"),
        ({"--valset": "none.jsonl"}, "none.jsonl holds no examples"),
        ({"--set": "breadth=1"}, "breadth: expected a whole number of at least 2, got 1"),
        ({"--set": "width=3"}, "COPRO has no setting width"),
        ({"--set": "breadth"}, "--set is invalid: got 'breadth', expected NAME=VALUE"),
        ({"--budget": "-1"}, "budget is invalid: got -1"),
        ({"--max-calls": "0"}, "budget is invalid: got calls=0"),
        ({"-o": "best.txt"}, "--output is invalid: got 'best.txt', expected a name that ends in .json"),
        (
            {"--optimizer": "finetune", "-o": "best.json"},
            "--output is invalid: got 'best.json', expected a name that ends in .jsonl, for BootstrapFinetune",
        ),
        ({"-o": "nowhere/best.json"}, "--output is invalid: there is no folder"),
        ({"--lm": None}, "no LM to ask"),
        ({"--optimizer": "bootstrap", "--prompt-lm": "embedded/nearest"}, "BootstrapFewShot asks no LM for proposals"),
        ({"--detach": ""}, "--detach needs the host's node: `dspex start` first"),
    ],
)
def test_what_cannot_be_optimised_is_one_line_before_a_node_is_started(run, folder, changes, words):
    given = {"program": "optimizable:triage", "data": "rows.jsonl", **GIVEN, **changes}
    options = [word for name, value in given.items() if name[0] == "-" and value is not None for word in (name, value)]
    result = run("optimize", given["program"], given["data"], *[word for word in options if word])
    assert result.exit_code == 2, result.output
    assert words in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
    assert not list(folder.rglob("journal.db"))


def test_lines_that_are_not_usable_are_left_out_where_that_is_meant(folder, capfd):
    found = _examples("bad.jsonl", dspex.Predict("ticket -> team"), "trainset", skip=True)
    assert [dict(one.inputs().items()) for one in found] == [{"ticket": "no heating"}]
    assert "trainset: 1 line is left out (2)" in capfd.readouterr().err


def test_settings_are_read_as_python_and_as_the_words_of_the_configuration():
    pairs = ("auto=none", "track_stats=False", "minibatch=true", "breadth=5", "log_dir=here")
    assert given_settings(pairs) == {
        "auto": None, "track_stats": False, "minibatch": True, "breadth": 5, "log_dir": "here"
    }  # fmt: skip


def test_its_id_is_told_as_it_was_given(run):
    stderr = run("optimizations", "show", "no run of dspex runs").stderr
    assert "no optimisation 'no run of dspex runs' under" in stderr


@pytest.mark.parametrize("verb", ["show", "diff", "resume", "pause", "cancel"])
def test_an_optimisation_that_there_is_not_is_one_line(run, verb):
    result = run("optimizations", verb, "nope", *(["1"] if verb == "diff" else []))
    assert (result.exit_code, "no optimisation 'nope'" in result.stderr) == (2, True)
    assert "`dspex optimizations` lists them" in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1


def test_without_any_the_list_says_how_to_make_one(run):
    assert "dspex optimize PROGRAM DATA" in run("optimizations").output
    assert json.loads(run("optimizations", "--json").output) == []
    assert "no optimisations yet" in run("optimizations", "show").stderr


def test_programs_differ_in_instructions_fields_and_demos():
    old = dspex.Predict(dspex.Signature("question -> answer", "Answer it.\nBe brief."))
    new = old.deepcopy()
    assert differences(old.dump_state(), new.dump_state()) == {}
    shared = dspex.Example(question="a", answer="b")
    old.demos, new.demos = [shared, dspex.Example(question="c", answer="d")], [shared]
    new.signature = new.signature.with_instructions("Answer it.\nTake your time.").with_updated_fields(
        "answer", prefix="So:"
    )
    found = differences(old.dump_state(), new.dump_state())
    assert list(found) == ["program"]
    change = found["program"]
    assert change["instructions"] == [" Answer it.", "-Be brief.", "+Take your time."]
    assert [(one["field"], one["was"]["prefix"], one["is"]["prefix"]) for one in change["fields"]] == [
        (1, "Answer:", "So:")
    ]
    assert change["demos_gone"] == [{"question": "c", "answer": "d"}]
    assert "demos_new" not in change
