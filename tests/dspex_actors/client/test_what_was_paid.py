"""What was paid, told by what is asked for, from all journals of a data folder, those included that are gone."""

import json
import shutil
import time

import pytest
from click.testing import CliRunner

from dspex_actors.cli import main
from dspex_actors.client.costs import costs
from dspex_actors.client.own_node import forget_if_unused
from dspex_actors.errors import ConfigError
from dspex_actors.journal.gone import GONE_FILE, keep_paid
from dspex_actors.journal.records import RunSpec
from dspex_actors.journal.schema import attempt_values
from dspex_actors.journal.spend import Sums, add_to
from dspex_actors.journal.writer import Journal
from dspex_actors.lm.attempts import Attempt, tags_text

NOW = time.time()


def sent(n, cost=0.25, at=NOW, **fields):
    usage = '{"input_total":10,"output_total":3,"cache_read":4}'
    values = {"outcome": "answered", "provider": "openai", "model": "a", "usage": usage, "cost": cost, "at": at}
    return Attempt(index=0, send=1, n=n, **(values | fields))


@pytest.fixture
def paid(home):
    """Two journals: a run with tags, one without a price, one of three days ago; single calls; cached answers."""
    home.mkdir(mode=0o700, exist_ok=True)
    (home / "embedded" / "one").mkdir(mode=0o700, parents=True)
    team = tags_text({"team": "search", "role": "judge"})
    with Journal(home / "journal.db") as journal:
        journal.create_run(RunSpec(run_id="r"))
        journal.add_results("r", [], [sent(1, tags=team), sent(2, user="ada"), sent(3, cost=None, outcome="failed")])
        journal.add_results("r", [], [sent(4, at=NOW - 3 * 86400, model="b")])
    with Journal(home / "embedded" / "one" / "journal.db") as journal, journal.transaction() as db:
        sums = Sums()
        sums.add("", [attempt_values(sent(0, provider="cohere", cost=1.5))])
        sums.add_cached((int(NOW // 3600), "", "cohere", "a", "", ""), 1.5)
        add_to(db, sums.take())
    return home


def test_rows_and_total(paid):
    found = costs("model")
    assert [(row["model"], row["requests"], row["cost"], row["unpriced"]) for row in found["rows"]] == [
        ("cohere/a", 1, 1.5, 0),
        ("openai/a", 3, 0.5, 1),
        ("openai/b", 1, 0.25, 0),
    ]
    assert (found["rows"][0]["cached"], found["rows"][0]["saved"]) == (1, 1.5)
    total = found["total"]
    assert (total["requests"], total["answered"], total["failed"], total["cost"]) == (5, 4, 1, 2.25)
    assert (total["usage"]["input_total"], total["usage"]["cache_read"]) == (50, 20)
    assert any("1 request has no known price" in note for note in found["notes"])


def test_by_tag_a_request_is_in_the_row_of_each_and_once_in_the_total(paid):
    found = costs(["tag"])
    assert {row["tag"]: row["requests"] for row in found["rows"]} == {None: 4, "team=search": 1, "role=judge": 1}
    assert found["total"]["requests"] == 5


def test_by_several_and_since(paid):
    found = costs("run, user", since=NOW - 86400)
    assert {(row["run"], row["user"]): row["requests"] for row in found["rows"]} == {
        ("r", None): 2,
        ("r", "ada"): 1,
        (None, None): 1,
    }
    assert costs("day", since="2d")["total"]["requests"] == 4
    assert len(costs("day")["rows"]) == 2


@pytest.mark.parametrize("by", ["", "mode", ["model", 3], 7, []])
def test_what_it_cannot_be_told_by_is_refused(by):
    with pytest.raises(ConfigError, match=r"^by is invalid: got .*, expected some of model, provider, run, tag, user"):
        costs(by)


@pytest.mark.parametrize("since", ["yesterday", "1w", "-1d"])
def test_a_moment_that_is_none_is_refused(since):
    with pytest.raises(ConfigError, match=r"^since is invalid: .*expected 90s"):
        costs(since=since)


def test_the_command(paid):
    asked = CliRunner().invoke(main.dspex, ["cost", "--by", "model,run", "--since", "1d", "--json"], prog_name="dspex")
    assert asked.exit_code == 0, asked.output
    found = json.loads(asked.stdout)
    assert found["by"] == ["model", "run"]
    assert found["total"]["cost"] == 2.0
    page = CliRunner().invoke(main.dspex, ["cost"], prog_name="dspex")
    assert page.exit_code == 0
    assert "$2.2500" in page.stdout
    assert "no known price" in page.stdout.replace("\n", " ")


def test_who_did_not_read_on_is_not_among_the_failed(paid):
    with Journal(paid / "journal.db") as journal:
        journal.add_results("r", [], [sent(9, outcome="cancelled"), sent(10, outcome="cancelled")])
    page = CliRunner(env={"COLUMNS": "200"}).invoke(main.dspex, ["cost", "--by", "provider"], prog_name="dspex").stdout
    head, *rows = [line.split() for line in page.splitlines() if line.strip()]
    assert head[:5] == ["provider", "requests", "answered", "failed", "tokens"]
    assert head[head.index("cost") + 1 :][:2] == ["given", "up"]
    openai = next(row for row in rows if row[0] == "openai")
    assert (openai[3], openai[openai.index("$1.2500") + 1]) == ("1", "2")


def test_nothing_was_asked(home):
    page = CliRunner().invoke(main.dspex, ["cost", "--since", "1h"], prog_name="dspex")
    assert (page.exit_code, page.stdout.strip()) == (0, "nothing was asked since then")


def test_what_was_paid_outlives_the_folder_of_a_node(paid):
    folder = paid / "embedded" / "one"
    forget_if_unused(folder)
    assert not folder.exists()
    assert costs("provider")["total"]["cost"] == 2.25
    with (paid / GONE_FILE).open("a") as file:
        file.write('[1, "", "op')  # a line that was cut
    assert costs("provider")["total"]["cost"] == 2.25


def test_requests_that_have_only_failed_outlive_it_too(home):
    home.mkdir(mode=0o700, exist_ok=True)
    with Journal(home / "failed.db") as journal, journal.transaction() as db:
        sums = Sums()
        sums.add("", [attempt_values(sent(0, cost=0.0, outcome="failed", usage="{}"))])
        add_to(db, sums.take())
    keep_paid(home / "failed.db", home / GONE_FILE)
    (home / "failed.db").unlink()
    total = costs()["total"]
    assert (total["requests"], total["failed"], total["cost"]) == (1, 1, 0.0)


def test_a_folder_whose_journal_cannot_be_read_stays(paid):
    folder = paid / "embedded" / "one"
    (folder / "journal.db").write_bytes(b"x" * 4096)
    forget_if_unused(folder)
    assert folder.exists()


def test_calls_of_the_embedded_lm_leave_no_line(home):
    home.mkdir(mode=0o700, exist_ok=True)
    with Journal(home / "free.db") as journal, journal.transaction() as db:
        sums = Sums()
        sums.add("", [attempt_values(sent(0, provider="embedded", cost=0.0))])
        add_to(db, sums.take())
    keep_paid(home / "free.db", home / GONE_FILE)
    assert not (home / GONE_FILE).exists()
    shutil.rmtree(home)
