"""Nodes that only work: few processes, used by runs of others, and what they cannot do is said in one line."""

import contextlib
import os
import signal
import sys

import psutil
import pytest
import warm
from cluster_kit_e2e import Joined, server_of_module, system_of_module
from e2e_kit import check_whole, metric, rows, tickets, triage, until

import dspex_actors as dspex
from dspex_actors.errors import ConfigError
from supervisors import errors
from supervisors.host import processes

COUNT = 400
#: Python's own code is a node's alone where no other program of Python runs, as in a test that is run alone.
SHARED = 1.12
#: What a worker is before anybody has looked for its workers: daemon, admin, root, and registry, door and membership.
IDLE = 4


@pytest.fixture(scope="module")
def joined(tmp_path_factory):
    with contextlib.closing(Joined(tmp_path_factory.mktemp("nodes"), 1, first=1, net="127.0.10")) as nodes:
        nodes.workers = 2
        assert nodes.start(role="worker") == "b"
        nodes.until_all_see_all()
        yield nodes


server, system = server_of_module("--latency-ms", "20"), system_of_module()


def ids(node):
    return sorted(row["id"] for row in rows(node.tree()))


def command(joined, *arguments):
    """Run a command on the host of the worker; return its status and what it says."""
    env = os.environ | {"DSPEX_HOME": str(joined.nodes["b"].data_dir)}
    done = warm.run(
        [sys.executable, "-m", "dspex_actors", *arguments], env=env, capture_output=True, text=True, timeout=60
    )
    return done.returncode, done.stdout + done.stderr


def test_workers_are_started_by_the_first_look_at_them(joined, system):
    b = joined.nodes["b"]
    assert ids(b) == ["registry", "root"]
    assert len(processes.descendants(b.info["pid"])) + 1 == IDLE

    def about():
        (member,) = [member for member in joined.cluster().members() if member.name == "b"]
        return member.role, member.workers

    until(lambda: about() == ("worker", 2), what=about)  # its numbers come with its next beat

    result = dspex.evaluate(triage(), tickets(COUNT), metric(), system=system, nodes=["b"], display_progress=False)
    check_whole(result, COUNT)
    assert list(result.nodes) == ["b"]
    assert ids(b) == ["registry", "root", "worker-1", "worker-2"]


def test_a_full_node_and_a_worker_share_a_run(system):
    result = dspex.evaluate(triage(), tickets(COUNT), metric(), system=system, max_in_flight=32, display_progress=False)
    check_whole(result, COUNT)
    assert set(result.nodes) == {"a", "b"}
    assert sum(node["done"] for node in result.nodes.values()) == COUNT


@pytest.mark.parametrize("part", ["registry", "worker-1"])
def test_what_is_killed_is_back_and_works(joined, system, part):
    """`registry` is the door and the membership of a worker, too."""
    b = joined.nodes["b"]
    joined.cluster().lookup("b", "worker-1")
    pid = next(row["pid"] for row in rows(b.tree()) if row["id"] == part)
    os.kill(pid, signal.SIGKILL)
    until(lambda: processes.has_ended(pid, 0))
    until(lambda: joined.cluster().lookup("b", "worker-1"))
    result = dspex.evaluate(triage(), tickets(40), metric(), system=system, nodes=["b"], display_progress=False)
    check_whole(result, 40)


def test_a_program_is_told_to_use_a_full_node(joined):
    with pytest.raises(ConfigError, match=r"the node b only works \(--role worker\): it has no journal"):
        dspex.connect(home=joined.nodes["b"].data_dir)
    assert not (joined.nodes["b"].data_dir / "embedded").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ["evaluate", "x.json", "y.jsonl", "--metric", "exact_match"],
        ["runs", "resume", "r"],
        ["metrics"],
    ],
)
def test_a_command_that_a_worker_cannot_carry_out_says_so_in_one_line(joined, arguments):
    status, said = command(joined, *arguments)
    assert status == 2
    assert "the node b only works (--role worker)" in said
    assert len(said.strip().splitlines()) == 1


@pytest.mark.parametrize("arguments", [["status"], ["nodes"], ["top", "--once"]])
def test_other_commands_answer_there(joined, arguments):
    status, said = command(joined, *arguments)
    assert status == 0, said


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--join", "127.0.10.1:7400", "--journal", "sqlite"], "--journal is for full nodes"),
        (["--join", "127.0.10.1:7400", "--metrics-port", "9099"], "--metrics-port is for full nodes"),
        ([], "is given its work by the full nodes of its cluster: join one, --join HOST:PORT"),
    ],
)
def test_a_worker_that_could_not_be_one_is_not_started(joined, tmp_path, arguments, words):
    (tmp_path / "cluster.key").write_bytes((joined.nodes["a"].data_dir / "cluster.key").read_bytes())
    (tmp_path / "cluster.key").chmod(0o600)
    env = os.environ | {"DSPEX_HOME": str(tmp_path)}
    done = warm.run(
        [sys.executable, "-m", "dspex_actors", "start", "--role", "worker", *arguments],
        env=env, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 2
    assert words in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["cluster.key"]


def answered(ask):
    with contextlib.suppress(errors.NodeDown):
        return ask()


def test_door_and_names_are_back_where_the_node_that_was_joined_is_gone(joined):
    """The last test of these nodes. The worker does not fall: its root is the same one."""
    b = joined.nodes["b"]
    root, pid = b.tree()["pid"], next(row["pid"] for row in rows(b.tree()) if row["id"] == "registry")
    joined.kill("a")
    os.kill(pid, signal.SIGKILL)
    until(lambda: processes.has_ended(pid, 0))
    until(lambda: answered(b.tree))  # who asks in that moment is told that the node has gone away
    assert b.tree()["pid"] == root
    assert [member.name for member in joined.cluster("b").members() if member.is_up] == ["b"]


def memory(node):
    """Return the processes of a node, the megabytes that are theirs (PSS), and those that one alone has written to."""
    pids = [node.info["pid"], *processes.descendants(node.info["pid"])]
    maps = [each for pid in pids for each in psutil.Process(pid).memory_maps()]
    return len(pids), sum(each.pss for each in maps) / 1e6, sum(each.private_dirty for each in maps) / 1e6


@pytest.mark.soak
@pytest.mark.skipif(not os.environ.get("COLD_STARTS"), reason="what is forked shares memory with this process")
def test_idle_nodes_are_no_larger_than_they_were(tmp_path):
    """A worker has at most six processes and 60 MB, a full node with two workers in the same cluster twelve.

    A full node is to have 130 MB; it has 161 (docs/cluster.md says where), and this keeps it from growing.
    """
    with contextlib.closing(Joined(tmp_path, 1, first=21, workers=2, net="127.0.10")) as nodes:
        nodes.start(role="worker")
        nodes.until_all_see_all()
        full, worker = memory(nodes.nodes["a"]), memory(nodes.nodes["b"])
    assert worker[0] <= 6
    assert worker[1] <= 60 * SHARED
    assert full[0] <= 12
    assert full[1] <= 155 * SHARED
    assert full[2] <= 101  # whatever else runs on the host
