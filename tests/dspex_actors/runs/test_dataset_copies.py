"""Datasets that are copied from node to node: in pieces, by digest, gone on with, and removed with their runs."""

import asyncio
import errno
import hashlib
import json
import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from dspex_actors.data.opening import from_descriptor, open_dataset
from dspex_actors.data.spool import spool
from dspex_actors.data.view import view_descriptor
from dspex_actors.errors import ConfigError, DspexError
from dspex_actors.runs.datasets import fetching, keeping
from dspex_actors.runs.datasets.fetching import dataset_here, fetch
from dspex_actors.runs.datasets.keeping import NODES, Keeping
from dspex_actors.runs.datasets.messages import PIECE_BYTES, DropCopy, GetCopy, GetPiece, KeepCopy
from dspex_actors.runs.datasets.store import Copies
from supervisors.cluster.membership.messages import Lookup, Member, Members
from supervisors.errors import NodeDown


class World:
    """Nodes with folders of their own; what one asks another is answered at once."""

    def __init__(self, folder, *names):
        self.folder, self.names = folder, names
        self.nodes = {name: Server(self, name) for name in names}
        self.keepers = {name: Keeping(node, node.journal, lambda row: []) for name, node in self.nodes.items()}
        self.offsets, self.piece = [], lambda node, data: data


class Server:
    def __init__(self, world, name):
        (world.folder / name).mkdir()
        self.world, self.node = world, {"name": name, "data_dir": str(world.folder / name)}
        self.logged, self.sent = [], []
        self.log = SimpleNamespace(
            **{kind: lambda *a, **about: self.logged.append(about) for kind in ("info", "warning")}
        )
        self.journal = SimpleNamespace(is_far=True, owner="", get_run=lambda run_id: None)

    async def whereis(self, name):
        return name

    def cast(self, to, message):
        self.sent.append((to, message))

    async def call(self, to, request, **_):
        match request:
            case Members():
                return [Member(name, "", "", 0) for name in self.world.names]
            case Lookup(node, _):
                return node
            case GetCopy() | GetPiece():
                answers = []
                if isinstance(request, GetPiece):
                    self.world.offsets.append(request.offset)
                keeper = self.world.keepers[to]
                keeper._keeper = SimpleNamespace(reply=lambda caller, answer: answers.append(answer))
                await keeper.give(request, None)
                return self.world.piece(to, answers[0]) if isinstance(request, GetPiece) else answers[0]
        raise AssertionError(request)


@pytest.fixture
def world(tmp_path):
    return World(tmp_path, "a", "b", "c")


@pytest.fixture
def original(tmp_path):
    """A file of some pieces, and its descriptor as another host has it: where it is, there is nothing."""
    path = tmp_path / "elsewhere.jsonl"
    with path.open("w") as file:
        for number in range(40):
            file.write(json.dumps({"q": f"{number} " + "x" * 100_000}) + "\n")
    descriptor = open_dataset(path).descriptor
    path.rename(tmp_path / "there.jsonl")
    return tmp_path / "there.jsonl", {**descriptor, "stamp": None}


def give(world, name, original):
    """Have a node be able to read it."""
    path, descriptor = original
    copies = Copies(world.folder / name)
    copies.use("r", descriptor)
    copies.path_of(descriptor).write_bytes(path.read_bytes())
    return copies.path_of(descriptor)


def fetched(world, descriptor, *nodes, run="r"):
    return asyncio.run(fetch(world.nodes["b"], run, descriptor, nodes))


def test_it_comes_in_small_pieces_and_is_what_it_was(world, original):
    give(world, "a", original)
    dataset = asyncio.run(dataset_here(world.nodes["b"], "r", original[1]))
    assert dataset.path.read_bytes() == original[0].read_bytes()
    assert len(list(dataset)) == 40
    assert world.offsets == list(range(0, original[0].stat().st_size, PIECE_BYTES))
    assert len(world.offsets) > 3
    assert [path.name for path in sorted(dataset.path.parent.iterdir())] == ["data.jsonl", "run-r"]


def test_spools_and_first_parts_of_files_are_copied_too(world, tmp_path):
    made = spool([{"q": f"{n}"} for n in range(9)], tmp_path / "x.spool", ["q"])
    path = tmp_path / "x.spool"
    kept = give(world, "a", (path, {**made, "limit": 4}))
    assert kept.exists()
    path.unlink()
    assert len(list(asyncio.run(dataset_here(world.nodes["b"], "r", {**made, "limit": 4})))) == 4
    # The same file, another part of it: one copy.
    assert Copies(tmp_path / "b").path_of({**made, "limit": 5}) == Copies(tmp_path / "b").path_of({**made, "limit": 4})


def test_what_was_broken_off_is_gone_on_with_from_whichever_node(world, original):
    give(world, "a", original)
    give(world, "c", original)

    def dies(node, data):
        if node == "a" and len(world.offsets) > 2:
            raise NodeDown("a is down")
        return data

    world.piece = dies
    assert fetched(world, original[1], "a") == "a: a is down"
    assert world.offsets.pop() == 2 * PIECE_BYTES
    assert fetched(world, original[1], "c") is None
    assert world.offsets == sorted(set(world.offsets)), "a piece was copied twice"
    assert world.offsets[:3] == [0, PIECE_BYTES, 2 * PIECE_BYTES]


def test_a_damaged_copy_is_thrown_away_and_the_next_node_is_asked(world, original):
    give(world, "a", original)
    give(world, "c", original)
    world.piece = lambda node, data: b"?" + data[1:] if node == "a" else data
    assert "damaged, and was thrown away" in fetched(world, original[1], "a")
    assert fetched(world, original[1], "a", "c") is None


def test_another_file_at_the_same_path_is_none_and_the_error_says_who_has_what(world, original):
    _, descriptor = original
    (world.folder / "elsewhere.jsonl").write_text('{"q": "another"}\n')
    with pytest.raises(ConfigError) as caught:
        asyncio.run(dataset_here(world.nodes["b"], "r", descriptor))
    told = caught.value.message
    assert "elsewhere.jsonl was changed since the run began" in told
    assert "no other node has it either: a: the dataset" in told
    assert not (world.folder / "b" / "copies").exists() or not list((world.folder / "b" / "copies").iterdir())
    give(world, "c", original)
    assert asyncio.run(dataset_here(world.nodes["b"], "r", descriptor)).path.name == "data.jsonl"


def test_one_that_changes_while_it_is_copied_is_not_taken(world, original):
    kept = give(world, "a", original)

    def changes(node, data):
        os.utime(kept, (1, 1))
        return data

    world.piece = changes
    assert "it was changed, or is gone, while it was copied" in fetched(world, original[1], "a")


def no_space(*_, **about):
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_full_disk_is_said_and_leaves_nothing(world, original, monkeypatch):
    give(world, "a", original)
    monkeypatch.setattr(fetching.os, "pwrite", no_space)
    assert fetched(world, original[1], "a") == "it cannot be written here (no space left)"
    assert not Copies(world.folder / "b").folder_of(original[1]).exists()


def test_a_disk_on_which_not_even_a_mark_can_be_made_is_said_too(world, original, monkeypatch):
    give(world, "a", original)
    monkeypatch.setattr(Path, "touch", no_space)
    assert fetched(world, original[1], "a") == "it cannot be written here (no space left)"


def test_a_copy_stays_while_a_run_has_use_for_it(world, original):
    kept = give(world, "a", original)
    copies = Copies(world.folder / "a")
    names = ["r", "two words", "ärger?*[x]", "%2F"]
    for name in names:
        copies.use(name, original[1])
    assert copies.runs() == sorted(names)
    copies.drop("r", original[1])
    copies.drop_all_of("two words")
    copies.drop("ärger?*[x]", original[1])
    assert kept.exists()
    copies.drop_all_of("%2F")
    assert not kept.parent.exists()


def test_only_what_has_the_digest_is_given(world, tmp_path):
    secret = tmp_path / "secret.jsonl"
    secret.write_text('{"q": "x"}\n')
    other = {"kind": "jsonl", "path": str(secret), "digest": hashlib.sha256(b"y").hexdigest(), "limit": None}
    (kind, record) = asyncio.run(world.nodes["b"].call("a", GetCopy(other)))
    assert kind == "error"
    assert "was changed since the run began" in record["message"]
    assert asyncio.run(world.nodes["b"].call("a", GetPiece("0" * 64, 0))) is None


class Far:
    """A journal that nodes share."""

    is_far, owner = True, "a"

    def __init__(self, *states):
        self.rows = {f"r{n}": _row(f"r{n}", state) for n, state in enumerate(states)}

    def list_runs(self, state):
        return [row for row in self.rows.values() if row.state == state]

    def get_run(self, run_id):
        return self.rows.get(run_id)


def _row(run_id, state, descriptor=None):
    spec = SimpleNamespace(
        dataset=descriptor or {"kind": "jsonl", "path": "/x.jsonl"}, dataset_digest="d", kind="evaluate"
    )
    return SimpleNamespace(run_id=run_id, state=state, owner="a", spec=spec)


def test_some_nodes_are_told_to_keep_a_running_runs_dataset_and_again_when_they_are_back(world):
    node, names = world.nodes["a"], [f"n{number}" for number in range(6)]
    keeping_ = Keeping(node, Far("running", "paused"), lambda row: list(names))
    asyncio.run(_spread(keeping_))
    told = [to for to, message in node.sent]
    assert len(set(told)) == len(told) == NODES
    assert {message.run_id for _, message in node.sent} == {"r0"}
    assert node.sent[0][1] == KeepCopy("r0", {"kind": "jsonl", "path": "/x.jsonl", "digest": "d"}, "a")
    asyncio.run(_spread(keeping_))
    assert len(node.sent) == NODES
    names.remove(told[0])
    asyncio.run(_spread(keeping_))
    names.append(told[0])
    asyncio.run(_spread(keeping_))
    assert [to for to, _ in node.sent][NODES:] == [node.sent[NODES][0], told[0]]


def test_several_nodes_that_ask_for_datasets_at_once_are_all_answered(world, tmp_path):
    """An error here ended the keeper of runs, and with it what it was asked."""
    keeping_ = world.keepers["a"]
    files = [tmp_path / f"{name}.jsonl" for name in "abc"]
    for path in files:
        path.write_text(f'{{"q": "{path.name}"}}\n')

    class Meanwhile:
        """What a file looks like; being asked whether it is the same has another one be added."""

        def __eq__(self, other):
            keeping_._held[f"{len(keeping_._held)}"] = (files[2], (0, 0))
            return False

        __hash__ = None

    keeping_._held["first"] = (files[0], Meanwhile())
    for path in files[:2]:
        opened = open_dataset(path)
        assert keeping_._hold({"digest": opened.digest, **opened.descriptor}).size == path.stat().st_size


def test_nothing_is_remembered_of_runs_that_go_on_no_more_nor_of_files_that_are_gone(world, tmp_path):
    node, journal = world.nodes["a"], Far("running", "running")
    keeping_ = Keeping(node, journal, lambda row: ["n0"])
    path = tmp_path / "x.jsonl"
    path.write_text('{"q": "x"}\n')
    opened = open_dataset(path)
    keeping_._hold({"digest": opened.digest, **opened.descriptor})

    async def look():
        task = asyncio.create_task(keeping_._keep_looking())
        sent = len(node.sent)
        while len(node.sent) == sent or not keeping_._told:  # noqa: ASYNC110
            await asyncio.sleep(0)
        task.cancel()

    asyncio.run(look())
    assert (set(keeping_._told), len(keeping_._held)) == ({"r0", "r1"}, 1)
    journal.rows["r0"].state = "cancelled"
    path.unlink()
    keeping_._told.pop("r1")  # so that it is told again, and the look is seen
    asyncio.run(look())
    assert (set(keeping_._told), keeping_._held) == ({"r1"}, {})
    journal.rows["r0"].state = "running"
    asyncio.run(look())
    assert set(keeping_._told) == {"r0", "r1"}


def test_what_runs_of_an_optimisation_share_goes_to_the_same_nodes_and_stays_there_until_it_is_over(world, tmp_path):
    made = spool([{"q": f"{n}"} for n in range(9)], tmp_path / "night-0123abcd.spool", ["q"])
    node, journal = world.nodes["a"], Far("running", "running", "running")
    for number, row in enumerate(journal.rows.values()):
        row.spec.parent_id = "night"
        row.spec.dataset = view_descriptor(made["path"], f"d{number}", made["digest"], [number], 1)
    keeping_ = Keeping(node, journal, lambda row: [f"n{number}" for number in range(6)])
    asyncio.run(_spread(keeping_))
    assert len({to for to, _ in node.sent}) == NODES
    assert sorted(message.run_id for _, message in node.sent) == sorted(NODES * ["night", "r0", "r1", "r2"])
    (tmp_path / "night-0123abcd.spool").rename(tmp_path / "elsewhere")
    kept = give(world, "b", (tmp_path / "elsewhere", made))
    other = Keeping(world.nodes["b"], Far(), lambda row: [])
    descriptors = [message.descriptor for _, message in node.sent]
    assert {Copies(tmp_path / "b").path_of(one) for one in descriptors} == {kept}
    coroutines = []
    world.nodes["b"].spawn = coroutines.append
    for run in ("night", "r0"):
        other.hear(KeepCopy(run, descriptors[0], "a"))
    for coroutine in coroutines:
        asyncio.run(coroutine)
    assert world.offsets == []
    for run in ("r0", "r"):
        other.hear(DropCopy(run, descriptors[0]))
    assert kept.exists()
    assert len(list(asyncio.run(dataset_here(world.nodes["b"], "r1", descriptors[1])))) == 1
    other.hear(DropCopy("night", {"kind": "trainset"}))
    assert not kept.exists()


async def _spread(keeping_):
    for row in keeping_._running():
        await keeping_._spread(row)


def test_copies_and_spools_of_runs_that_ended_meanwhile_are_removed(world, original, tmp_path):
    node = world.nodes["a"]
    kept = give(world, "a", original)
    copies = Copies(tmp_path / "a")
    copies.use("deleted", original[1])
    copies.use("r0", original[1])
    copies.drop("r", original[1])
    (tmp_path / "a" / "spool").mkdir()
    spools = [tmp_path / "a" / "spool" / f"{run}-0123abcd.spool" for run in ("r0", "r1", "new")]
    for path in spools:
        path.touch()
    journal = Far("paused", "finished")
    Keeping(node, journal, lambda row: [])._tidy()
    assert kept.exists()
    assert [path.exists() for path in spools] == [True, False, True]
    journal.rows["r0"].state = "finished"
    Keeping(node, journal, lambda row: [])._tidy()
    assert kept.exists()  # nobody knows yet whether it was deleted, or is on its way here
    (mark,) = kept.parent.glob("run-*")
    os.utime(mark, (1, 1))
    Keeping(node, journal, lambda row: [])._tidy()
    assert not kept.exists()
    assert [path.exists() for path in spools] == [False, False, True]


def test_who_is_told_to_keep_a_copy_gets_it_and_drops_it_when_told(world, original, monkeypatch):
    give(world, "a", original)
    monkeypatch.setattr(keeping, "AGAIN_SECONDS", 0.0)
    node, tries = world.nodes["b"], []

    def fails_once(_, data):
        tries.append(1)
        return None if len(tries) == 1 else data

    world.piece = fails_once
    copies = Copies(world.folder / "b")

    async def get():
        node.spawn = lambda coroutine: tasks.append(asyncio.ensure_future(coroutine))
        tasks = []
        keeping_ = Keeping(node, Far("running"), lambda row: [])
        keeping_.hear(KeepCopy("r0", original[1], "a"))
        keeping_.hear(KeepCopy("r0", original[1], "a"))
        (task,) = tasks
        await asyncio.wait_for(task, 30)
        assert copies.path_of(original[1]).exists()
        keeping_.hear(DropCopy("r0", original[1]))
        assert not copies.folder_of(original[1]).exists()

    asyncio.run(get())
    assert "while it was copied" in node.logged[0]["why"]


def test_a_node_that_reads_the_file_where_it_is_keeps_no_copy(world, tmp_path):
    path = tmp_path / "shared.jsonl"
    path.write_text('{"q": "x"}\n')
    descriptor = open_dataset(path).descriptor
    asyncio.run(Keeping(world.nodes["b"], Far("running"), lambda row: [])._get("r0", descriptor, "a"))
    assert not (tmp_path / "b" / "copies").exists()
    assert list(from_descriptor(descriptor))


def test_alone_the_error_is_the_one_of_the_file(world, original):
    world.names = ("b",)
    with pytest.raises(DspexError, match=r"there is no file .*elsewhere.jsonl") as caught:
        asyncio.run(dataset_here(world.nodes["b"], "r", original[1]))
    assert "no other node" not in caught.value.message
