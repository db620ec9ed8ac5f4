"""The membership of real nodes: joining, dying, coming back, and being refused."""

import asyncio
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from unittest.mock import Mock

import msgpack
import pytest
from cluster_kit import cluster_of, until
from genserver_helpers import Probe
from node_helpers import kill

from supervisors import ChildSpec, GenServer, Node, SupervisorSpec, errors
from supervisors.cluster.handle import AsyncCluster, Cluster
from supervisors.cluster.membership import joining
from supervisors.cluster.membership.asking import OtherVersion, ask_door
from supervisors.cluster.membership.core import Core
from supervisors.cluster.membership.datagrams import MAX_DATAGRAM, Datagrams
from supervisors.cluster.membership.effects import Send
from supervisors.cluster.membership.messages import Member
from supervisors.cluster.membership.table import Known, checked_facts, known_of
from supervisors.host import security_log
from supervisors.testing import wait_until_restarted
from supervisors.wire import values
from supervisors.wire.frames import FrameCodec


@pytest.mark.parametrize(
    "facts",
    [
        {"load": "1"}, {"load": True}, {"load": float("nan")}, {"load": float("inf")}, {"load": -1.0}, {"work": -1},
        {"work": 0.5}, {"workers": 1 << 64}, {"notes": "full"}, {"notes": [1]}, {"notes": ["x" * 201]},
        {"notes": ["\ud800"]}, {"name": "other"}, {1: 1},
    ],
)  # fmt: skip
def test_what_others_would_not_take_in_is_not_told(facts):
    """It would go with each datagram of this node, and nobody would hear it any more."""
    with pytest.raises(errors.SpecError, match="invalid"):
        checked_facts(facts)


def test_what_a_node_may_tell_fits_into_a_datagram_with_its_labels_and_name():
    notes = ["\N{GRINNING FACE}" * 49, "x"]
    facts = checked_facts({"load": 1e9, "workers": 10**9, "work": 10**9, "notes": notes})
    labels = {f"{number:02}": "x" for number in range(100)}
    me = Member("n" * 64, "u" * 16, "255.255.255.255", 65535, 1 << 40, labels=labels, version="10.10.10.dev10", **facts)
    core = Core(me, 0.0, random.Random(1))
    core.join(Known(Member("other", "v" * 16, "10.0.0.1", 1)), 0.0)
    sent = [effect for effect in core.tell({"seq": 1 << 40}, 0.0) + core.tick(10.0) if isinstance(effect, Send)]
    assert sent
    assert all(known_of(msgpack.unpackb(effect.payload)[3]).member.notes == notes for effect in sent)
    codec = FrameCodec(b"k" * 32)
    assert max(len(codec.seal(b"v" + effect.payload, "udp 255.255.255.255:65535")) for effect in sent) <= MAX_DATAGRAM


class Watcher(GenServer):
    """Is told of the members."""

    async def init(self):
        self.seen = []
        await AsyncCluster(self).subscribe()

    def handle_info(self, news):
        self.seen.append((type(news).__name__, news.member.name, news.member.incarnation, news.member.state))

    def handle_call(self, request, caller):
        return self.seen


@pytest.fixture(scope="module")
def nodes(tmp_path_factory):
    with cluster_of(3, tmp_path_factory.mktemp("cluster"), labels=lambda number: {"number": str(number)}) as members:
        yield members


def test_each_node_knows_all_nodes(nodes):
    for each in nodes:
        found = each.cluster.members()
        assert [member.name for member in found] == ["n1", "n2", "n3"]
        assert [member.address for member in found] == [node.address for node in nodes]
        assert [member.labels for member in found] == [{"number": str(number)} for number in (1, 2, 3)]
        assert {member.state for member in found} == {"alive"}
        assert all(member.last_beat < 5 for member in found)


def test_a_name_of_another_node_is_found_and_can_be_called(nodes):
    nodes[2].node.start_supervisor(SupervisorSpec([ChildSpec("p", Probe, name="far-away")]))
    found = nodes[0].cluster.lookup("n3", "far-away")
    assert found == nodes[2].node.whereis("far-away")
    assert nodes[0].node.call(found, ("pid",)) == found.pid
    with pytest.raises(errors.NoProcess, match="nobody is registered as 'nothing' on the node n3"):
        nodes[0].cluster.lookup("n3", "nothing")
    with pytest.raises(errors.NoProcess, match="no node 'n9'"):
        nodes[0].cluster.lookup("n9", "far-away")


def test_a_node_that_is_killed_is_down_within_three_seconds_and_comes_back_by_itself(nodes):
    before = nodes[0].member("n3")
    died = nodes[2].kill()
    until(lambda: all(each.seen()["n3"] == "down" for each in nodes[:2]), 10)
    assert time.monotonic() - died < 20.0  # on a quiet machine three
    with pytest.raises(errors.NodeDown):
        nodes[0].cluster.lookup("n3", "far-away")
    nodes[2].start()
    until(lambda: all(set(each.seen().values()) == {"alive"} for each in nodes))
    assert nodes[0].member("n3").incarnation == before.incarnation + 1


def test_a_node_that_was_stopped_is_down_and_back_by_itself_with_all_it_had_fenced(nodes):
    before = nodes[0].member("n2").incarnation
    watcher = nodes[1].node.start_supervisor(SupervisorSpec([ChildSpec("w", Watcher, name="watcher")]))
    nodes[1].signal(signal.SIGSTOP)
    until(lambda: nodes[0].seen()["n2"] == nodes[2].seen()["n2"] == "down", 20)
    nodes[1].signal(signal.SIGCONT)
    until(lambda: all(set(each.seen().values()) == {"alive"} for each in nodes), 20)
    assert nodes[0].member("n2").incarnation == nodes[1].member("n2").incarnation == before + 1
    # Its own servers are told that what they owned is not theirs any more; and nobody else was taken to be down.
    fenced = [row for row in nodes[1].node.call("watcher", "seen") if row[1] == "n2" and row[2] == before + 1]
    assert fenced
    assert nodes[0].member("n3").incarnation == nodes[1].member("n3").incarnation
    nodes[1].node.stop(watcher)


def test_the_first_node_comes_back_later_than_the_rest_and_all_find_each_other(nodes):
    for each in nodes:
        each.kill()
    for each in reversed(nodes):
        each.start()
    until(lambda: all(set(each.seen().values()) == {"alive"} and len(each.seen()) == 3 for each in nodes), 20)


def test_one_that_stops_in_order_says_so_and_is_down_at_once(nodes):
    nodes[1].stop()
    assert nodes[0].seen()["n2"] == "down"
    nodes[1].start()
    until(lambda: all(set(each.seen().values()) == {"alive"} for each in nodes), 20)


def test_a_membership_that_is_killed_is_no_death_of_its_node(nodes):
    before = nodes[0].member("n2")
    old = nodes[1].node.whereis("membership")
    kill(old.pid)
    wait_until_restarted(nodes[1].node, "membership", old)
    until(lambda: nodes[1].seen() == {"n1": "alive", "n2": "alive", "n3": "alive"}, 20)
    until(lambda: nodes[0].member("n2").seq > before.seq)
    assert nodes[0].member("n2").incarnation == before.incarnation
    assert nodes[0].seen()["n2"] == "alive"


def test_datagrams_of_strangers_cut_ones_and_replays_change_nothing_and_are_noted(nodes):
    host, _, port = nodes[0].address.rpartition(":")
    seen = nodes[0].cluster.members()
    key = (nodes[0].folder / "cluster.key").read_text()
    good = FrameCodec(bytes.fromhex(key)).seal(b"\x90", f"udp {nodes[0].address}")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
        stranger.bind(("127.0.0.77", 0))
        for data in (b"", b"x" * 48, good[:-1], good, good, FrameCodec(bytes(32)).seal(b"\x90", nodes[0].address)):
            stranger.sendto(data, (host, int(port)))
    log = nodes[0].folder / "logs" / "security.jsonl"
    until(lambda: log.exists() and "127.0.0.77" in log.read_text())
    assert [m.name for m in nodes[0].cluster.members()] == [m.name for m in seen]
    assert set(nodes[0].seen().values()) == {"alive"}


def test_a_node_alone_has_itself_as_its_only_member_and_no_process_more(tmp_path):
    with Node.start(name="hermit", data_dir=tmp_path / "node", labels={"gpu": "1"}) as node:
        (member,) = Cluster(node).members()
        assert (member.name, member.address, member.state) == ("hermit", node.info["address"], "alive")
        assert (member.labels, member.incarnation) == ({"gpu": "1"}, 1)
        node.start_supervisor(SupervisorSpec([ChildSpec("p", Probe, name="here")]))
        assert Cluster(node).lookup("hermit", "here") == node.whereis("here")
        with pytest.raises(errors.NoProcess, match="alone"):
            Cluster(node).lookup("other", "p")
        with pytest.raises(errors.NotAllowed, match="alone"):
            Cluster(node).order("hermit", "cordoned")
        assert node.whereis("membership") is None
        assert "cluster" not in [row["id"] for row in node.tree()["children"]]
    with Node.start(name="hermit", data_dir=tmp_path / "node") as node:
        assert Cluster(node).members()[0].incarnation == 2
        assert Cluster(node).members()[0].uid == member.uid


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"join": "127.0.0.1"}, "expected HOST:PORT"),
        ({"join": "127.0.0.1:99999"}, "expected HOST:PORT"),
        ({"join": 7}, "expected HOST:PORT"),
        ({"role": "boss"}, "one of full, worker"),
        ({"labels": {"a": 1}}, "a dict of texts"),
        ({"labels": {"a": "x" * 301}}, "at most 300 bytes"),
        ({"labels": {"a": "\N{GRINNING FACE}" * 75}}, "at most 300 bytes"),
        ({"name": "n" * 65}, "at most 64 characters"),
    ],
)
def test_settings_of_a_cluster_that_cannot_be_are_refused_before_anything_is_started(tmp_path, options, told):
    with pytest.raises(errors.SpecError, match=told):
        Node.start(data_dir=tmp_path / "node", **options)
    assert not (tmp_path / "node").exists()


def test_a_node_without_the_key_or_with_a_cluster_file_that_is_none_does_not_start(nodes, tmp_path):
    folder = tmp_path / "node"
    folder.mkdir(mode=0o700)
    with pytest.raises(errors.NodeDown, match=r"has no cluster\.key"):
        Node.start(data_dir=folder, host="127.0.0.9", join=nodes[0].address)
    (folder / "cluster.json").write_text("{}")
    with pytest.raises(errors.NodeDown, match=r"cluster\.json cannot be used"):
        Node.start(data_dir=folder)
    assert not (folder / "node.json").exists()


def test_a_copied_data_folder_is_refused(nodes, tmp_path):
    shutil.copytree(nodes[1].folder, tmp_path / "copy", ignore=shutil.ignore_patterns("run", "logs", "node.json"))
    with pytest.raises(errors.NodeDown, match=r"the same data folder runs at 127\.0\.0\.2:"):
        Node.start(name="copy", host="127.0.0.9", data_dir=tmp_path / "copy", join=nodes[0].address)
    with pytest.raises(errors.NodeDown, match=r"^the same data folder runs at 127\.0\.0\.2:"):
        Node.start(name="n2", host="127.0.0.9", data_dir=tmp_path / "copy")  # as `dspex start` does the second time
    assert set(nodes[0].seen().values()) == {"alive"}


@pytest.mark.soak
def test_a_machine_under_full_load_for_minutes_sees_no_death(nodes, rounds):
    """Twice as many busy processes as cores, and each node stopped for less than a second again and again."""
    for each in nodes:
        each.node.start_supervisor(SupervisorSpec([ChildSpec("w", Watcher, name="soak")]))
    loops = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(2 * (os.cpu_count() or 1))]
    try:
        for number in rounds:
            each = nodes[number % len(nodes)]
            each.signal(signal.SIGSTOP)
            time.sleep(0.7)
            each.signal(signal.SIGCONT)
            time.sleep(2.0)
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()
    for each in nodes:
        assert not [row for row in each.node.call("soak", "seen") if row[0] == "NodeDown"]


def test_another_version_and_another_key_are_told_in_one_line_on_both_sides(nodes, monkeypatch):
    host, _, port = nodes[0].address.rpartition(":")
    key = bytes.fromhex((nodes[0].folder / "cluster.key").read_text())

    def asked(with_key):
        return asyncio.run(ask_door(FrameCodec(with_key), (host, int(port))))

    with pytest.raises(errors.NodeDown, match="it has another cluster key"):
        asked(bytes(32))
    assert asked(key)[0]["name"] == "n1"
    monkeypatch.setattr(values, "VERSION", 99)
    with pytest.raises(
        errors.CallFailed, match=r"the node there speaks version \d+, this program 99: install one release"
    ):
        asked(key)
    log = nodes[0].folder / "logs" / "security.jsonl"
    until(lambda: "refused connection" in log.read_text())


def test_a_node_of_another_release_does_not_come_back_to_those_who_run(nodes, monkeypatch):
    """Its door would refuse theirs, and they its; without this it would be up for nobody, and say so to nobody."""
    key = bytes.fromhex((nodes[0].folder / "cluster.key").read_text())
    about = nodes[1].node.info
    monkeypatch.setattr(joining, "TWIN_SECONDS", 0.0)
    with pytest.raises(errors.NotAllowed, match="the same data folder runs"):  # nodes of one release get so far
        asyncio.run(joining.check_others(nodes[1].folder, key, {**about, "address": "127.0.0.9:1"}))
    for other in (values.VERSION - 1, values.VERSION + 1):
        with monkeypatch.context() as patch:
            patch.setattr(values, "VERSION", other)
            told = rf"^cannot come back to n\d at [\d.:]+: the node there speaks version \d+, this program {other}: "
            with pytest.raises(OtherVersion, match=told):
                asyncio.run(joining.check_others(nodes[1].folder, key, about))
            # one that is always told to join a node, which is away
            with pytest.raises(OtherVersion, match=told):
                asyncio.run(joining.ask_to_join(nodes[1].folder, key, "127.0.0.9:1", about, Mock()))


def test_a_datagram_of_another_release_is_refused_whatever_is_in_it(monkeypatch):
    """Two that have never asked each other's doors see each other all the same: by their datagrams."""
    refused, taken = [], []
    monkeypatch.setattr(security_log, "note", lambda event, source, detail: refused.append((event, source, detail)))
    codec = FrameCodec(b"k" * 32)
    here = Datagrams(codec, "127.0.0.1:7", lambda payload, host, port: taken.append(payload))

    def sent(first):
        here.datagram_received(codec.seal(first + b"news", "udp 127.0.0.1:7"), ("127.0.0.2", 7))

    sent(bytes((values.VERSION,)))
    assert (taken, refused) == ([b"news"], [])
    sent(bytes((values.VERSION + 1,)))
    sent(b"\x95")  # how those before version 5 begin
    assert taken == [b"news"]
    assert [each[:2] for each in refused] == [("refused datagram", "127.0.0.2")] * 2
    here = f"not {values.VERSION}: install one release"
    assert refused[0][2].startswith(f"it speaks version {values.VERSION + 1}, {here}")
    assert refused[1][2].startswith(f"it speaks an older version, {here}")


def test_a_node_that_is_always_told_to_join_comes_back_while_that_one_is_away(nodes):
    join = nodes[0].address
    for each in nodes[:2]:
        each.kill()
    nodes[1].start(join=join)
    until(lambda: nodes[1].seen() == nodes[2].seen() == {"n1": "down", "n2": "alive", "n3": "alive"}, 20)
    nodes[0].start()
    until(lambda: all(set(each.seen().values()) == {"alive"} for each in nodes), 20)
