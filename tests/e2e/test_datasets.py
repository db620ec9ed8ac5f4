"""Every kind of dataset through a run; broken lines; constant memory."""

import contextlib
import csv
import gzip
import json
import statistics

import psutil
import pytest
from e2e_kit import Background, check_whole, metric, tickets, until

import dspex_actors as dspex

COUNT = 300


class Echo(dspex.Module):
    async def aforward(self, ticket):
        return dspex.Prediction(team="billing")


@pytest.fixture(scope="module")
def system(tmp_path_factory):
    home = tmp_path_factory.mktemp("datasets") / "home"
    with dspex.connect(home=home, workers=2) as connection:
        yield connection


def jsonl(path, rows, opener=open):
    with opener(path, "wt") as file:
        for row in rows:
            file.write((row if isinstance(row, str) else json.dumps(row)) + "\n")
    return path


def table(path, opener=open):
    with opener(path, "wt", newline="") as file:
        out = csv.DictWriter(file, ["ticket", "team"])
        out.writeheader()
        out.writerows(tickets(COUNT))
    return path


KINDS = {
    "dicts": lambda folder: tickets(COUNT),
    "examples": lambda folder: [dspex.Example(**row).with_inputs("ticket") for row in tickets(COUNT)],
    "generator": lambda folder: (row for row in tickets(COUNT)),
    "generator of examples": lambda folder: (dspex.Example(**row).with_inputs("ticket") for row in tickets(COUNT)),
    "jsonl": lambda folder: jsonl(folder / "a.jsonl", tickets(COUNT)),
    "jsonl.gz": lambda folder: str(jsonl(folder / "a.jsonl.gz", tickets(COUNT), gzip.open)),
    "csv": lambda folder: table(folder / "a.csv"),
    "csv.gz": lambda folder: table(folder / "a.csv.gz", gzip.open),
}


@pytest.mark.parametrize("kind", KINDS)
def test_kinds(system, tmp_path, kind):
    result = dspex.evaluate(Echo(), KINDS[kind](tmp_path), metric(), system=system)
    check_whole(result, COUNT)
    assert (result.score, result.summary()["total"]) == (50.0, COUNT)
    assert result.results[7].example.inputs().toDict() == {"ticket": "ticket 7"}


@pytest.mark.parametrize("bad", ['{"ticket": "x", ', '{"team": "no ticket"}', "[1, 2]"])
def test_broken_line(system, tmp_path, bad):
    rows = tickets(COUNT)
    path = jsonl(tmp_path / "a.jsonl", [*rows[:200], bad, *rows[200:]])
    with pytest.raises(dspex.DspexError, match=r"line 201\b") as caught:
        dspex.evaluate(Echo(), path, metric(), system=system)
    assert "\n" not in str(caught.value)
    result = dspex.evaluate(Echo(), path, metric(), system=system, on_bad_line="skip")
    check_whole(result, COUNT)


def test_limit(system):
    check_whole(dspex.evaluate(Echo(), (row for row in tickets(COUNT)), metric(), system=system, limit=50), 50)


@pytest.mark.parametrize("data", [[], iter(()), "nothing.jsonl", 7, [{"team": "bugs"}]])
def test_no_dataset(system, data):
    with pytest.raises(dspex.DspexError):
        dspex.evaluate(Echo(), data, metric(), system=system)


@pytest.mark.parametrize(
    ("count", "length"),
    [pytest.param(20_000, 1250, marks=pytest.mark.soak), pytest.param(100_000, 500, marks=pytest.mark.soak)],
    ids=["short", "long"],
)
def test_memory_is_flat(system, count, length):
    words = "word " * (length // 5)
    data = ({"ticket": f"{number} {words}", "team": "bugs"} for number in range(count))
    seen = {}
    run = Background(dspex.evaluate, Echo(), data, metric(), system=system, run_id=f"flat-{count}")
    until(lambda: system.node.whereis(f"run:flat-{count}"), 60)  # the examples are copied first
    pids = {
        name: ref.pid for name, ref in system.node.names().items() if name.startswith(("run:flat", "worker", "runs"))
    }

    def done():
        for name, pid in pids.items():
            with contextlib.suppress(psutil.NoSuchProcess):
                seen.setdefault(name, []).append(psutil.Process(pid).memory_info().rss >> 20)
        return not run.alive

    until(done, 100)
    result = run.result()
    assert (result.n, result.failed) == (count, 0)
    print({name: [rss[0], max(rss), rss[-1]] for name, rss in seen.items()})
    # Examples and predictions are 50 MB at least. What waits for the journal is bounded (writer.BACKLOG); its keeper
    # has a page cache and SQLite's index of its log. While a batch is packed it is there several times: peaks of 30 MB,
    # whatever the length, and between them nothing grows.
    for name, rss in seen.items():
        living = [each for each in rss if each]
        quarter = len(living) // 4
        assert max(living) - living[quarter] < 35, (name, living[0], max(living))
        early, late = living[quarter : 2 * quarter], living[-quarter:]
        assert statistics.median(late) - statistics.median(early) < 15, (name, early, late)


@pytest.mark.soak
def test_large_examples(system):
    """Results go to the journal in messages of a bounded size, however large the examples are."""
    data = ({"ticket": f"{number} " + "x" * 300_000, "team": "bugs"} for number in range(100))
    result = dspex.evaluate(Echo(), data, metric(), system=system)
    assert (result.n, result.failed) == (100, 0)
