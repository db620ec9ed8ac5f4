"""A program whose node is gone is told which other nodes the cluster has."""

import gc
import socket

import pytest

from dspex_actors.client.fetching import fetched
from dspex_actors.client.following import Following
from dspex_actors.errors import ConfigError, RunInterrupted
from dspex_actors.journal import copies
from dspex_actors.journal.reader import JournalReader
from dspex_actors.journal.records import ResultRow, RunSpec
from dspex_actors.journal.schema import values_of_result
from dspex_actors.journal.store import Batch
from dspex_actors.journal.writer import Journal
from dspex_actors.runs.standby.answering import answer_reader
from dspex_actors.runs.standby.messages import GetPortion
from supervisors import Node
from supervisors.cluster.membership import file
from supervisors.cluster.membership.messages import Member
from supervisors.errors import NodeDown
from supervisors.wire.keys import load_or_create_key


@pytest.fixture
def folder(tmp_path):
    """A data folder whose node is gone; a worker and seven full nodes were in its cluster, at ports where nobody is."""
    load_or_create_key(tmp_path)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    members = [Member(f"n{n}", f"uid{n}", "127.0.0.1", port, role="worker" if n == 0 else "full") for n in range(8)]
    file.save(tmp_path, file.Kept("me", members=tuple(members)))
    return tmp_path


def test_whoever_asks_a_node_that_is_gone_is_told_of_the_others(folder):
    told = r"no node runs in .*; other nodes of its cluster: n1 \(127.0.0.1:\d+\), n2 .*n5 \(.*\) and 3 more$"
    with pytest.raises(NodeDown, match=told):
        Node.attach(folder)
    (folder / "cluster.json").unlink()
    with pytest.raises(NodeDown) as alone:
        Node.attach(folder)
    assert "cluster" not in str(alone.value)


def test_whoever_waits_for_a_run_that_nobody_has_any_more_is_told_of_them_too(folder):
    def gone(*request, timeout):
        raise NodeDown("gone")

    following = Following("r1", gone, folder, JournalReader(folder / "journal.db"))
    told = r"what was answered is safe. Resume with `dspex runs resume r1` .*; other nodes of its cluster: n1 \("
    with pytest.raises(RunInterrupted, match=told) as error:
        following.look()
    assert error.value.run_id == "r1"


def test_a_run_is_fetched_from_another_host_in_portions_and_is_gone_with_who_reads_it(tmp_path, monkeypatch):
    monkeypatch.setattr(copies, "ROWS", 20)
    with Journal(tmp_path / "there.db", owner="b") as there:
        there.create_run(RunSpec(run_id="r1", program=b"p"))
        there.claim("r1", 3, "b")
        there.next_epoch("r1")
        for number in range(1, 8):
            rows = [ResultRow(index=10 * number + n, example=b"e", prediction=b"p", at=5.0) for n in range(10)]
            there.append("r1", 3, Batch(1, number), list(map(values_of_result, rows)), [])
        there.set_state("r1", "finished")
        asked = []

        def ask(request):
            asked.append(request.seq)
            return answer_reader(there, request)

        reader = fetched("r1", ask)
        assert len(asked) >= 2
        found, original = reader.get_run("r1"), there.get_run("r1")
        assert (found.state, found.done, found.seq) == ("finished", 70, original.seq)
        assert [row.index for row in reader.iter_results("r1")] == list(range(10, 80))
        with pytest.raises(ConfigError, match="no run 'other' here"):
            answer_reader(there, GetPortion("other", 0))
    folder = reader.path.parent
    assert folder.is_dir()
    del reader
    gc.collect()
    assert not folder.exists()


def test_a_run_is_fetched_with_those_that_belong_to_it_in_figures(tmp_path):
    with Journal(tmp_path / "there.db", owner="b") as there:
        there.create_run(RunSpec(run_id="o", program=b"p", kind="optimise"))
        for part in ("o.0", "o.1"):
            there.create_run(RunSpec(run_id=part, parent_id="o"))
            there.add_results(part, [ResultRow(index=n, example=b"e", at=5.0) for n in range(30)])
        reader = fetched("o", lambda request: answer_reader(there, request), with_parts=True)
        assert reader.parts_of("o") == there.parts_of("o")
        assert [part.done for part in reader.parts_of("o")] == [30, 30]
        assert reader.results("o.0") == []
