"""Examples that the runs of an optimisation have in common: one spool, and views with the digests of spools."""

import datetime as dt
import random
from pathlib import Path

import pytest

import dspex_actors as dspex
from dspex_actors.client import shared as module
from dspex_actors.client.shared import PartOf, Shared
from dspex_actors.client.spools import place
from dspex_actors.data.memory import ListDataset
from dspex_actors.data.opening import from_descriptor


class Shape:
    def __init__(self, side):
        self.side = side


def examples(count, first=0):
    return [dspex.Example(q=f"q{n}", at=dt.date(2026, 1, 1), n=n).with_inputs("q") for n in range(first, first + count)]


@pytest.fixture
def spools(monkeypatch):
    """The paths that were spooled to as shared ones."""
    written = []
    real = module.spool

    def noted(items, path, *rest):
        written.append(path)
        return real(items, path, *rest)

    monkeypatch.setattr(module, "spool", noted)
    return written


def placed(rows, folder, shared=None, run_id="night.1"):
    return place(ListDataset(rows) if shared is None else PartOf(shared, rows), folder, run_id)


@pytest.mark.parametrize("seed", range(3))
def test_a_part_is_a_view_that_is_the_same_dataset_as_a_spool_of_its_own(tmp_path, spools, seed):
    rows = [*examples(300), dspex.Example(q=Shape(3), n=0).with_inputs("q")]
    shared = Shared(rows, "night")
    for size in (1, 35, 301):
        part = random.Random(seed).sample(rows, size)
        own, view = placed(part, tmp_path), placed(part, tmp_path, shared)
        assert (view.descriptor["kind"], view.spool) == ("view", None)
        assert (view.digest, view.total) == (own.digest, own.total)
        found = [list(from_descriptor(one.descriptor).iter_packed()) for one in (own, view)]
        # An object's pickle may be another one each time.
        assert all(a == b for row, a, b in zip(part, *found, strict=True) if row is not rows[-1])
    (path,) = spools
    assert path.name.startswith("night-")
    assert path.match("night-????????.spool")


def test_an_example_that_holds_an_object_is_a_part_only_as_itself(tmp_path):
    row, *rest = [dspex.Example(q=random.Random(n), n=0).with_inputs("q") for n in range(3)]
    shared = Shared([row, *rest], "night")
    # To the identity of a run all generators are the same one.
    assert placed(rest, tmp_path, shared).descriptor["indices"] == [[1, 3]]
    assert placed([row.copy()], tmp_path, shared).descriptor["kind"] == "spool"


def test_what_is_not_among_them_is_spooled_by_itself(tmp_path, spools):
    shared = Shared(examples(10), "night")
    own = placed(examples(2, first=9), tmp_path, shared)
    assert own.descriptor["kind"] == "spool"
    assert own.spool.name.startswith("night.1-")
    changed = examples(1)[0].copy(n=-1)
    assert placed([changed], tmp_path, shared).descriptor["kind"] == "spool"
    assert spools == []


def test_another_life_finds_the_spool_and_one_that_is_gone_or_cut_off_is_made_again(tmp_path, spools):
    first = placed(examples(3), tmp_path, Shared(examples(10), "night")).descriptor
    shared = Shared(examples(10), "night")
    assert placed(examples(3), tmp_path, shared).descriptor == first
    assert len(spools) == 1
    Path(first["path"]).unlink()
    assert list(from_descriptor(placed(examples(3), tmp_path, shared).descriptor))
    Path(first["path"]).write_bytes(b"cut off")
    assert list(from_descriptor(placed(examples(3), tmp_path, shared).descriptor))
    assert len(spools) == 3


def test_a_set_that_is_trainset_and_valset_is_there_once(tmp_path):
    rows = examples(10)
    view = placed(rows, tmp_path, Shared([*rows, *rows], "night"))
    assert view.descriptor["indices"] == [[0, 10]]
