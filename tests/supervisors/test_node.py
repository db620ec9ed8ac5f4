"""Starting, attaching, closing; and one clear line for what cannot be done."""

import os
import secrets
import socket
import subprocess
import sys
import threading

import pytest
from node_helpers import Counter, alive, family, until

from supervisors import ChildSpec, GenServer, Node, SupervisorSpec, errors
from supervisors.client.door_client import KeyRefused
from supervisors.terms.spec import Backoff


def one_line(error):
    text = str(error.value)
    assert "\n" not in text
    assert "Traceback" not in text
    return text


@pytest.fixture
def folder(tmp_path):
    tmp_path.chmod(0o700)
    return tmp_path


# rows: G10
def test_a_temporary_node_leaves_nothing():
    with Node.start() as node:
        folder, pids = node.data_dir, family(node.info["pid"])
        assert folder.is_dir()
    assert not folder.exists()
    assert not [pid for pid in pids if alive(pid)]
    node.close()
    with pytest.raises(errors.NodeDown, match="closed"):
        node.call("x", 1)


def test_the_starter_is_not_forked_and_may_have_threads_and_no_importable_main():
    script = "import threading, sys; threading.Thread(target=threading.Event().wait, daemon=True).start()\n" \
             "from supervisors import *\n" \
             "class S(GenServer):\n    def handle_call(self, r, c): return type(self).__module__\n" \
             "node = Node.start(); node.start_supervisor(SupervisorSpec([ChildSpec('s', S, name='s')]))\n" \
             "print(node.call('s', 1)); node.close()"  # fmt: skip
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=30, cwd=os.getcwd())
    assert (done.stdout, done.stderr) == ("__main__\n", "")


def test_two_nodes_do_not_meet(node, folder):
    with Node.start(data_dir=folder) as other:
        for each in (node, other):
            each.start_supervisor(SupervisorSpec([ChildSpec("c", Counter, name="same")], name="t"))
        assert node.pid("same") != other.pid("same")
        other.stop("t")
        assert node.call("same", ("add", 1)) == 1
        node.stop("t")


def test_attach_shares_the_node_and_close_leaves_it_running(node):
    with Node.attach(node.data_dir) as other:
        other.start_supervisor(SupervisorSpec([ChildSpec("c", Counter, name="shared")], name="t"))
        assert other.info["pid"] == node.info["pid"]
    assert node.call("shared", ("add", 1)) == 1
    node.stop("t")


def test_a_second_start_on_the_same_folder(node):
    with pytest.raises(errors.NodeDown, match=r"runs in .* already") as error:
        Node.start(data_dir=node.data_dir)
    one_line(error)
    assert node.tree()


def test_a_taken_port(folder):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(errors.NodeDown, match=rf"cannot listen on 127\.0\.0\.1:{port}.*in use.*another") as error:
            Node.start(data_dir=folder, port=port)
    one_line(error)


@pytest.mark.parametrize(
    "arguments",
    [{"port": 99999}, {"port": "x"}, {"port": True}, {"host": "0.0.0.0"}, {"host": "no such host"}, {"host": 5},
     {"name": 5}],
    ids=str,
)  # fmt: skip
def test_arguments_that_cannot_be(arguments):
    field, value = next(iter(arguments.items()))
    with pytest.raises(errors.SpecError, match=f"{field}={value!r}: expected") as error:
        Node.start(**arguments)
    one_line(error)


def test_a_host_that_is_not_here(folder):
    with pytest.raises(errors.NodeDown, match=r"cannot listen on 203\.0\.113\.1") as error:
        Node.start(data_dir=folder, host="203.0.113.1")
    one_line(error)


@pytest.mark.parametrize("what", ["a file", "below a file", "open to others", "key open to others", "key is junk"])
def test_a_data_folder_that_cannot_be_used(folder, what):
    target = folder / "data"
    if what == "a file":
        target.write_text("")
    elif what == "below a file":
        target.write_text("")
        target /= "sub"
    else:
        target.mkdir(mode=0o700)
        key = target / "cluster.key"
        key.write_text("junk" if "junk" in what else secrets.token_bytes(32).hex())
        key.chmod(0o644 if what.startswith("key open") else 0o600)
        if what == "open to others":
            target.chmod(0o755)
    with pytest.raises(errors.NodeDown) as error:
        Node.start(data_dir=target)
    assert str(target) in one_line(error)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written(folder):
    folder.chmod(0o500)
    with pytest.raises(errors.NodeDown, match="cannot"):
        Node.start(data_dir=folder)


def test_attach_without_a_node(folder):
    with pytest.raises(errors.NodeDown, match=r"no node runs in .*Node.start") as error:
        Node.attach(folder)
    one_line(error)
    assert list(folder.iterdir()) == []


def test_attach_to_a_node_that_was_killed(folder):
    node = Node.start(data_dir=folder)
    pids = family(node.info["pid"])
    os.kill(node.info["pid"], 9)
    until(lambda: not [pid for pid in pids if alive(pid)])
    with pytest.raises(errors.NodeDown, match="remove its node") as error:
        Node.attach(folder)
    one_line(error)
    node.close()


def test_a_wrong_or_missing_key(node, folder):
    (folder / "node.json").write_text((node.data_dir / "node.json").read_text())
    with pytest.raises(errors.NodeDown, match=r"has no cluster\.key"):
        Node.attach(folder)
    key = folder / "cluster.key"
    key.write_text(secrets.token_bytes(32).hex())
    key.chmod(0o600)
    with pytest.raises(KeyRefused, match="another cluster key") as error:
        Node.attach(folder)
    one_line(error)
    assert node.tree()


def test_one_hundred_connections_at_once(node):
    nodes = []

    def join():
        nodes.append(Node.attach(node.data_dir))

    threads = [threading.Thread(target=join) for _ in range(100)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert len(nodes) == 100
    assert len({each.tree()["pid"] for each in nodes}) == 1
    for each in nodes:
        each.close()


# --- specs ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "value"),
    [("id", ""), ("id", 7), ("start", int), ("start", "x"), ("start", GenServer()),
     ("args", "abc"), ("kwargs", {1: 2}), ("restart", "always"), ("shutdown", -1), ("shutdown", "soon"),
     ("shutdown", float("nan")), ("shutdown", True), ("significant", 1), ("name", ""), ("name", 3),
     ("start_timeout", 0), ("start_timeout", None), ("backoff", 3)],
    ids=lambda value: str(value).partition(" at 0x")[0],  # the same in every process
)  # fmt: skip
def test_a_child_spec_names_field_value_and_what_is_legal(field, value):
    with pytest.raises(errors.SpecError, match=f"{field} is invalid: got .*expected") as error:
        ChildSpec(**{"id": "a", "start": GenServer, field: value})
    assert isinstance(error.value, ValueError)
    assert repr(value) in one_line(error)


A = ChildSpec("a", GenServer)


@pytest.mark.parametrize(
    ("field", "fields"),
    [("children", {"children": 5}), ("children", {"children": [5]}), ("children", {"children": [A, A]}),
     ("strategy", {"strategy": "one"}), ("intensity", {"intensity": -1}), ("intensity", {"intensity": True}),
     ("intensity", {"intensity": float("inf")}), ("period", {"period": 0}), ("period", {"period": "5"}),
     ("auto_shutdown", {"auto_shutdown": "yes"}), ("name", {"name": ""}),
     ("children", {"strategy": "simple_one_for_one"}),
     ("children", {"strategy": "simple_one_for_one", "children": [A, ChildSpec("b", GenServer)]}),
     ("auto_shutdown", {"strategy": "simple_one_for_one", "children": [A], "auto_shutdown": "any_significant"}),
     ("significant", {"children": [ChildSpec("a", GenServer, restart="transient", significant=True)]})],
    ids=str,
)  # fmt: skip
def test_a_supervisor_spec_names_field_value_and_what_is_legal(field, fields):
    with pytest.raises(errors.SpecError, match=f"{field} is invalid: got .*expected"):
        SupervisorSpec(**fields)


def test_a_permanent_child_cannot_be_significant():
    with pytest.raises(errors.SpecError, match="significant is invalid: got True"):
        ChildSpec("a", GenServer, significant=True)


@pytest.mark.parametrize("fields", [{"first": -1}, {"factor": 0.5}, {"limit": 0.01}, {"jitter": 2}, {"first": "1"}])
def test_a_backoff_names_its_field(fields):
    with pytest.raises(errors.SpecError, match=rf"backoff\.{next(iter(fields))} is invalid: got "):
        Backoff(**fields)


def test_defaults_and_limits():
    worker, nested = A, ChildSpec("s", SupervisorSpec())
    assert (worker.type, worker.shutdown_limit, worker.with_defaults().shutdown) == ("worker", 5.0, 5.0)
    assert (nested.type, nested.shutdown_limit, nested.with_defaults().shutdown) == ("supervisor", None, "infinity")
    assert ChildSpec("a", GenServer, shutdown="brutal_kill").shutdown_limit == 0.0
    assert ChildSpec("a", GenServer, shutdown=0).shutdown_limit == 0.0
    spec = SupervisorSpec()
    assert (spec.strategy, spec.intensity, spec.period, spec.auto_shutdown) == ("one_for_one", 1, 5.0, "never")


@pytest.mark.soak
def test_a_spec_whose_arguments_cannot_be_sent(node):
    with pytest.raises(errors.SpecError, match="cannot be sent"):
        node.start_supervisor(SupervisorSpec([ChildSpec("a", Counter, args=(threading.Lock(),))]))
    with pytest.raises((errors.SpecError, errors.CallFailed), match="bytes"):
        node.start_supervisor(SupervisorSpec([ChildSpec("a", Counter, args=(bytes(70_000_000),))]))
    assert node.tree()
