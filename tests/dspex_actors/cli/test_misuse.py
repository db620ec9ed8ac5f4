"""What is wrong with a command line is said in one line on standard error, with exit status 2."""

import json

import pytest

PROGRAM = """
import dspex_actors as dspex
triage = dspex.Predict("ticket -> team")
def make(): return dspex.ChainOfThought("ticket -> team")
def broken(): raise ValueError("no luck")
def good(example, prediction, trace=None): return example.team == prediction.team
def narrow(example): return True
number = 3
"""


def one_line(result, *words):
    assert result.exit_code == 2, result.output
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 1, result.stderr
    assert lines[0].startswith("error: ")
    for word in words:
        assert word in lines[0]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["bogus"], ["bogus", "dspex --help"]),
        (["start", "--bogus"], ["--bogus", "dspex start --help"]),
        (["start", "--port", "70000"], ["--port"]),
        (["start", "--port", "x"], ["--port"]),
        (["start", "--join", "other:1"], ["cluster.key", "dspex key import F"]),
        (["start", "--join", "other"], ["--join", "HOST:PORT"]),
        (["start", "--join", "other:0"], ["--join", "HOST:PORT"]),
        (["start", "--label", "gpu"], ["--label gpu", "KEY=VALUE"]),
        (["start", "--role", "boss"], ["--role"]),
        (["key", "import", "nothing"], ["nothing", "No such file"]),
        (["drain", "n1"], ["no node runs"]),
        (["cordon", "n1"], ["no node runs"]),
        (["evaluate"], ["PROGRAM"]),
        (["evaluate", "a:b", "c.jsonl"], ["--metric"]),
        (["evaluate", "a:b", "c.jsonl", "--metric", "m:n", "--max-in-flight", "0"], ["--max-in-flight"]),
        (["provider", "serve", "--fault", "nonsense"], ["KIND=RATE"]),
        (["logs", "--level", "loud"], ["--level"]),
        (["stop"], ["no node runs", "dspex start"]),
        (["status"], ["no node runs", "dspex start"]),
        (["status", "--json"], ["no node runs"]),
        (["tree"], ["no node runs"]),
        (["nodes"], ["no node runs"]),
        (["logs"], ["no log"]),
        (["runs", "show"], ["no runs yet"]),
        (["runs", "show", "nope"], ["nope", "dspex runs"]),
        (["runs", "resume", "nope"], ["nope"]),
        (["runs", "export", "nope"], ["nope"]),
    ],
)
def test_misuse_is_one_line(run, words, told):
    one_line(run(*words), *told)


@pytest.fixture
def evaluate(run, tmp_path, monkeypatch):
    (tmp_path / "prog_cli.py").write_text(PROGRAM)
    rows = [{"ticket": f"t{number}", "team": "a"} for number in range(20)]
    (tmp_path / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(__import__("sys").modules, "prog_cli", raising=False)

    def invoke(program="prog_cli:triage", data="data.jsonl", metric="exact_match:team", lm="embedded/nearest", more=()):
        return run("evaluate", program, data, "--metric", metric, *(["--lm", lm] if lm else []), *more)

    return invoke


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"lm": "opnai/gpt"}, ["did you mean 'openai/gpt'"]),
        ({"lm": "gpt-4o"}, ["openai/gpt-4o", "dspex.toml"]),
        ({"lm": None}, ["--lm"]),
        ({"lm": None, "more": ["--rpm", "3"]}, ["--rpm", "--lm"]),
        ({"lm": "openai/x", "more": ["--api-key", "env:CLI_TEST_UNSET"]}, ["CLI_TEST_UNSET", "export"]),
        ({"lm": "openai/x", "more": ["--api-key", "sk-secret12345"]}, ["env:"]),
        ({"lm": "openai/x", "more": ["--base-url", "http://127.0.0.1:9/v1"]}, ["nothing answers", "127.0.0.1:9"]),
        ({"lm": "openai/x", "more": ["--base-url", "nonsense"]}, ["base_url"]),
        ({"data": "none.jsonl"}, ["none.jsonl"]),
        ({"data": "data.txt"}, ["data.txt", ".jsonl"]),
        ({"metric": "no_such:fn"}, ["no_such", "exact_match"]),
        ({"metric": "exact_mach:team"}, ["did you mean 'exact_match'"]),
        ({"metric": "exact_match"}, ["exact_match:FIELD"]),
        ({"metric": "exact_match:tema"}, ["tema", "ticket, team"]),
        ({"metric": "exact_match:ticket"}, ["no output 'ticket'", "team"]),
        ({"metric": "prog_cli:goood"}, ["did you mean 'good'"]),
        ({"metric": "prog_cli:narrow"}, ["metric(example, prediction)"]),
        ({"metric": "prog_cli:number"}, ["expected a function"]),
        ({"program": "prog_cli:none"}, ["no 'none'"]),
        ({"program": "prog_cli"}, ["pkg.mod:object"]),
        ({"program": "prog_cli.py:triage"}, ["prog_cli:triage"]),
        ({"program": "no_such_module:x"}, ["no_such_module"]),
        ({"program": "prog_cli:broken"}, ["ValueError: no luck", "prog_cli.py line 5"]),
        ({"program": "prog_cli:number"}, ["a int"]),
        ({"program": "none.json"}, ["none.json"]),
        ({"more": ["--signature", "a -> b"]}, ["--signature"]),
    ],
)
def test_what_cannot_be_evaluated_is_refused_before_a_node_starts(evaluate, tmp_path, monkeypatch, given, told):
    monkeypatch.delenv("CLI_TEST_UNSET", raising=False)
    one_line(evaluate(**given), *told)
    assert not (tmp_path / "home").exists()


def test_a_key_on_the_command_line_is_not_repeated(evaluate):
    assert "secret12345" not in evaluate(lm="openai/x", more=["--api-key", "sk-secret12345"]).output


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        ("", ["no examples"]),
        ('{"text": "x", "team": "a"}\n', ["line 1", "'ticket'"]),
        ('{"ticket": "x", "team": "a"}\n' * 7344 + "{broken\n", ["line 7,345", "--skip-bad-lines"]),
    ],
)
def test_a_dataset_that_is_not_usable_costs_no_call(evaluate, tmp_path, lines, told):
    (tmp_path / "bad.jsonl").write_text(lines)
    one_line(evaluate(data="bad.jsonl"), *told)


def test_a_saved_program_of_another_structure_is_refused(evaluate, tmp_path):
    import dspex_actors as dspex

    dspex.Predict("ticket -> team").save(tmp_path / "saved.json")
    one_line(
        evaluate(program="saved.json", more=["--signature", "ticket -> team, urgency"]), "expected fields", "urgency"
    )
    one_line(
        evaluate(program="saved.json", more=["--signature", "ticket, ticket -> team"]), "two fields called 'ticket'"
    )
    one_line(evaluate(program="saved.json", more=["--signature", "ticket -> team: Foo"]), "Foo")
    one_line(evaluate(program="prog_cli:make", more=["--load", "saved.json"]), "another program")


def test_a_damaged_journal_is_refused_with_the_way_out(run, tmp_path):
    (tmp_path / "home").mkdir(mode=0o700)
    (tmp_path / "home" / "journal.db").write_bytes(b"no database at all, but long enough to be read" * 50)
    for words in (["runs"], ["runs", "show", "x"], ["runs", "resume", "x"], ["runs", "export", "x"]):
        one_line(run(*words), "journal.db", "is damaged", ".recover")
    result = run("doctor")
    assert result.exit_code == 1
    assert "journal.db" in result.output


def test_a_folder_that_is_open_to_others_is_found_by_the_doctor(run, tmp_path):
    (tmp_path / "home").mkdir(mode=0o755)
    (tmp_path / "home").chmod(0o755)
    result = run("doctor", "--json")
    assert result.exit_code == 1
    found = {one["check"]: one for one in json.loads(result.output)}
    assert found["data folder"]["state"] == "fail"
    assert "chmod 700" in found["data folder"]["fix"]
