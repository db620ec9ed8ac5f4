"""Nodes that join: by the command line, and as programs see them."""

import contextlib
import json
import os
import signal
import sys

import pytest
import warm
from e2e_kit import until
from hosts_kit import Place, cluster_of, wait_until_whole

import dspex_actors as dspex


def dspex_at(place, *words, status=0, **environ):
    """Run a command on a node's host."""
    home = place.home if isinstance(place, Place) else place
    kept = {name: value for name, value in os.environ.items() if not name.startswith("DSPEX_")}
    done = warm.run(
        [sys.executable, "-m", "dspex_actors", *map(str, words)],
        capture_output=True,
        text=True,
        timeout=90,
        env=kept | {"DSPEX_HOME": str(home)} | environ,
        cwd=home.parent,
    )
    assert done.returncode == status, done.stdout + done.stderr
    return done


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    with cluster_of(2, tmp_path_factory.mktemp("hosts"), labels=lambda number: {"region": f"r{number}"}) as found:
        yield found


@pytest.fixture
def one_more(places, tmp_path):
    """A data folder with the cluster's key; what runs there is ended."""
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    (home / "cluster.key").write_bytes((places[0].home / "cluster.key").read_bytes())
    (home / "cluster.key").chmod(0o600)
    yield home
    with contextlib.suppress(OSError, ValueError, ProcessLookupError):
        os.kill(json.loads((home / "node.json").read_text())["pid"], signal.SIGUSR1)
    until(lambda: not (home / "node.json").exists(), 20)


def test_the_command_lists_the_members_with_what_they_say_of_themselves(places):
    found = until(lambda: [row for row in json.loads(dspex_at(places[0], "nodes", "--json").stdout) if row["workers"]])
    until(lambda: all(member.workers for member in places[0].cluster.members()))
    found = json.loads(dspex_at(places[0], "nodes", "--json").stdout)
    assert [(row["name"], row["state"], row["labels"], row["workers"]) for row in found] == [
        ("n1", "alive", {"region": "r1"}, 1),
        ("n2", "alive", {"region": "r2"}, 1),
    ]
    keys = "name address state role labels workers load last_beat incarnation version"
    assert set(keys.split()) <= set(found[0])
    narrow = dspex_at(places[1], "nodes", COLUMNS="80").stdout
    assert "region=r2" in narrow
    assert all(place.address in narrow for place in places)


def test_a_node_starts_into_a_cluster_is_cordoned_drained_and_gone(places, one_more):
    events = []
    with dspex.connect(home=places[0].home) as system:
        subscription = system.subscribe_nodes(events.append)
        words = ["start", "--join", places[1].address, "--host", "127.0.0.9", "--role", "worker", "--label", "gpu=1"]
        said = json.loads(dspex_at(one_more, *words, "--workers", "1", "--json").stdout)
        name = said["name"]
        assert name not in ("n1", "n2")
        until(lambda: [(e.kind, e.member.name) for e in events if e.kind == "nodeup"] == [("nodeup", name)])
        (member,) = [each for each in system.nodes() if each.name == name]
        assert (member.role, member.labels, member.address) == ("worker", {"gpu": "1"}, said["address"])
        assert "runs already" in dspex_at(one_more, *words).stdout

        assert "cordoned" in dspex_at(places[1], "cordon", name).stdout
        until(lambda: places[0].seen()[name] == "cordoned")
        dspex_at(places[0], "uncordon", name)
        until(lambda: places[1].seen()[name] == "alive")

        dspex_at(places[0], "drain", name)
        until(lambda: all(set(place.seen()) == {"n1", "n2"} for place in places))
        until(lambda: ("nodedown", name) in [(e.kind, e.member.name) for e in events])
        subscription.cancel()
    until(lambda: not (one_more / "node.json").exists(), 20)
    assert json.loads((one_more / "cluster.json").read_text())["members"] == []
    wait_until_whole(places)


@pytest.mark.soak
def test_a_node_that_is_started_again_is_what_it_was_and_back_in_its_cluster(places, one_more):
    words = ["--join", places[0].address, "--name", "again", "--host", "127.0.0.190", "--label", "gpu=1"]
    first = json.loads(dspex_at(one_more, "start", *words, "--role", "worker", "--workers", "1", "--json").stdout)
    dspex_at(one_more, "stop")
    for words, told in (
        (("--name", "other"), "got other, expected again, as the cluster knows this node"),
        (("--name", "n" * 65), "expected again"),
    ):
        assert told in dspex_at(one_more, "start", *words, status=2).stderr
    back = json.loads(dspex_at(one_more, "start", "--workers", "1", "--json").stdout)
    assert (back["name"], back["address"]) == ("again", first["address"])
    port = first["address"].rpartition(":")[2]
    assert back["as_before"] == f"host 127.0.0.190, port {port}, role worker, labels gpu=1"
    until(lambda: places[0].seen().get("again") == "alive")
    (row,) = [member for member in places[1].cluster.members() if member.name == "again"]
    assert (row.role, row.labels, row.address) == ("worker", {"gpu": "1"}, first["address"])

    assert "runs already" in dspex_at(one_more, "start", "--label", "gpu=1").stdout
    refused = dspex_at(one_more, "start", "--host", "127.0.0.191", status=2).stderr
    assert "runs already, with host 127.0.0.190, not 127.0.0.191: `dspex stop` it first" in refused
    dspex_at(one_more, "stop")
    words = ["--host", "127.0.0.191", "--no-labels", "--workers", "1"]
    said = json.loads(dspex_at(one_more, "start", *words, "--json").stdout)
    assert said["as_before"] == "role worker"
    until(lambda: places[0].seen().get("again") == "alive")
    (row,) = [member for member in places[1].cluster.members() if member.name == "again"]
    assert (row.labels, row.host) == ({}, "127.0.0.191")
    dspex_at(places[0], "drain", "again")
    until(lambda: not (one_more / "node.json").exists(), 20)
    wait_until_whole(places)


@pytest.mark.soak
def test_the_number_of_copies_is_remembered_and_told_where_the_cluster_is_smaller(places, one_more):
    dspex_at(one_more, "start", "--replicas", "4", "--workers", "1")
    alone = "replicas 4, but this node is alone: runs that begin here have no copy"
    assert alone in dspex_at(one_more, "status").stdout
    refused = dspex_at(one_more, "start", "--replicas", "2", status=2).stderr
    assert "runs already, with replicas 4, not 2: `dspex stop` it first" in refused
    dspex_at(one_more, "stop")
    words = ["--join", places[0].address, "--host", "127.0.120.1", "--name", "copies", "--workers", "1"]
    said = json.loads(dspex_at(one_more, "start", *words, "--json").stdout)
    assert said["as_before"] == "replicas 4"
    few = "replicas 4, but the cluster has 3 full nodes: runs that begin here have 3 copies"
    # On a narrow terminal it goes over two lines.
    until(lambda: few in " ".join(dspex_at(places[0], "nodes").stdout.split()), 60)
    until(lambda: json.loads(dspex_at(one_more, "status", "--json").stdout)["notes"] == [few], 60)
    dspex_at(places[0], "drain", "copies")
    until(lambda: not (one_more / "node.json").exists(), 20)
    wait_until_whole(places)


def test_what_cannot_join_is_told_in_one_line_and_leaves_nothing_behind(places, one_more):
    def refused(*words, told, **environ):
        done = dspex_at(one_more, "start", *words, "--host", "127.0.0.9", status=2, **environ)
        (line,) = done.stderr.strip().splitlines()
        assert told in line, line
        assert not (one_more / "node.json").exists()

    there = places[0].address
    refused("--join", "127.0.0.1:9", told="no node answers at 127.0.0.1:9")
    refused("--join", there, "--name", "n2", told="the name n2 is taken by the node at 127.0.0.2:")
    refused("--join", there, "--replicas", "4", told="replicas is invalid: got 4, expected 3 at most")
    assert not (one_more / "replicas.json").exists()
    refused("--join", "127.0.0.9:7891", "--port", "7891", told="that is this node itself")
    refused("--join", "no-such-host.invalid:1", told="name or IPv4 address of a host")
    (one_more / "cluster.key").write_text("ab" * 32)
    refused("--join", there, told="it has another cluster key")
    security = [json.loads(line) for line in (places[0].home / "logs" / "security.jsonl").read_text().splitlines()]
    assert "refused join" in [line["event"] for line in security]
    (one_more / "cluster.key").unlink()
    refused("--join", there, told="has no cluster.key: `dspex key show > F`")
    wait_until_whole(places)


def test_the_key_is_shown_imported_and_taken_from_the_environment(places, tmp_path):
    text = dspex_at(places[0], "key", "show").stdout
    assert text.strip() == (places[0].home / "cluster.key").read_text().strip()
    file, home = tmp_path / "key", tmp_path / "other"
    file.write_text(text)
    assert json.loads(dspex_at(home, "key", "import", file, "--json").stdout)["imported"] is True
    assert (home / "cluster.key").read_text() == text
    assert (home / "cluster.key").stat().st_mode & 0o777 == 0o600
    assert json.loads(dspex_at(home, "key", "import", file, "--json").stdout)["imported"] is False
    file.write_text("cd" * 32)
    assert "is another key" in dspex_at(home, "key", "import", file, status=2).stderr
    wrong = dspex_at(home, "start", status=2, DSPEX_CLUSTER_KEY_FILE=str(file))
    assert "is another key" in wrong.stderr
    file.write_text("nonsense")
    assert "expected 64 hex digits" in dspex_at(home, "key", "import", file, status=2).stderr
