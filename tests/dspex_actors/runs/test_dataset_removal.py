"""A copy of a dataset that a disk refuses to remove stays, and nobody falls: what matters of its run is done."""

import asyncio
import errno
from pathlib import Path
from types import SimpleNamespace

import pytest

from dspex_actors.data.opening import open_dataset
from dspex_actors.runs.datasets import keeping as module
from dspex_actors.runs.datasets.keeping import Keeping
from dspex_actors.runs.datasets.messages import DropCopy
from dspex_actors.runs.datasets.store import Copies


def refused(*_, **about):
    raise OSError(errno.EIO, "Input/output error")


@pytest.fixture
def kept(tmp_path):
    """The copy of a dataset, for the run r, whose spool is there, too."""
    original = tmp_path / "original.jsonl"
    original.write_text('{"q": "x"}\n')
    copies, descriptor = Copies(tmp_path), open_dataset(original).descriptor
    copies.use("r", descriptor)
    copies.path_of(descriptor).write_bytes(original.read_bytes())
    spool = tmp_path / "spool" / "r-0123abcd.spool"
    spool.parent.mkdir()
    spool.touch()
    journal = SimpleNamespace(is_far=True, owner="a", get_run=lambda run_id: SimpleNamespace(state="finished"))
    keeper = SimpleNamespace(node={"name": "a", "data_dir": str(tmp_path)})
    keeping = Keeping(keeper, journal, lambda row: [])
    return SimpleNamespace(
        copies=copies, descriptor=descriptor, path=copies.path_of(descriptor), spool=spool, keeping=keeping
    )


@pytest.mark.parametrize("what", ["unlink", "glob"])
def test_the_keeper_of_runs_does_not_fall_over_it(kept, monkeypatch, what):
    """It did, all runs of the node with it; or who had just brought a run's end was told that this had failed."""
    drop = DropCopy("r", kept.descriptor)
    with monkeypatch.context() as changed:
        changed.setattr(Path, what, refused)
        if what == "unlink":
            kept.copies.drop("r", kept.descriptor)
            kept.keeping._tidy()
        kept.copies.drop_all_of("r")
        kept.keeping.hear(drop)
        kept.keeping.drop(SimpleNamespace(run_id="r"))
    assert kept.path.exists()
    kept.keeping.hear(drop)
    assert not kept.path.exists()
    assert not kept.spool.exists()


def test_of_several_spools_those_go_that_can_be_removed(kept, monkeypatch):
    spools = [kept.spool, kept.spool.with_name("r-76543210.spool")]
    spools[1].touch()
    unlink, first = Path.unlink, []

    def some(path):
        if first == [] or path in first:
            first[:] = [path]
            refused()
        unlink(path)

    monkeypatch.setattr(Path, "unlink", some)
    kept.copies.drop_spools("r")
    assert [path for path in spools if path.exists()] == first


def test_a_mark_that_goes_while_it_is_looked_at_has_no_age(kept, monkeypatch):
    monkeypatch.setattr(Path, "glob", lambda folder, pattern: [kept.path.with_name("run-gone")])
    assert kept.copies.age_of("r", 5.0) == 0.0


def test_what_cannot_be_looked_at_is_looked_at_again(kept, monkeypatch):
    looks = []

    def tidy():
        looks.append(1)
        if len(looks) > 1:
            raise asyncio.CancelledError
        refused()

    monkeypatch.setattr(kept.keeping, "_tidy", tidy)
    monkeypatch.setattr(module, "LOOK_SECONDS", 0.001)
    monkeypatch.setattr(module, "TIDY_SECONDS", 0.001)
    with pytest.raises(asyncio.CancelledError):
        asyncio.run(kept.keeping._keep_looking())
