"""Views: some examples of a spool, by their indices, with the digest that a spool of just these would have."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from dspex_actors.data.opening import from_descriptor
from dspex_actors.data.spool import spool
from dspex_actors.data.view import file_of, from_ranges, in_ranges, view_descriptor
from dspex_actors.errors import ConfigError


@pytest.fixture(scope="module")
def spooled(tmp_path_factory):
    path = tmp_path_factory.mktemp("spools") / "x.spool"
    return spool(({"q": f"{i} " + "é" * (i % 7)} for i in range(600)), path, ["q"])


def view(spooled, indices, **other):
    told = view_descriptor(spooled["path"], "d", spooled["digest"], in_ranges(indices), len(indices))
    return from_descriptor(told | other)


@given(st.lists(st.integers(0, 599), min_size=1, max_size=40), st.integers(0, 41))
@example([599], 0)
@example([0, 599, 1, 255, 256, 257, 599], 0)
def test_a_view_gives_the_examples_of_its_indices_in_their_order_from_anywhere(spooled, indices, start):
    found = view(spooled, indices)
    whole = list(from_descriptor(spooled).iter_packed())
    assert list(found.iter_packed(start)) == [whole[index] for index in indices][start:]
    assert (found.count(), found.digest) == (len(indices), "d")
    assert list(from_descriptor(found.descriptor)) == list(found)


@given(st.lists(st.integers(0, 30)))
def test_indices_are_told_in_short(indices):
    assert from_ranges(in_ranges(indices)) == indices
    assert in_ranges(range(5, 1005)) == [[5, 1005]]


def test_another_spool_at_the_same_path_is_refused(spooled):
    with pytest.raises(ConfigError, match="was changed since the run began"):
        view(spooled, [1], of="0" * 64)


def test_an_index_that_the_spool_has_not_is_refused(spooled):
    with pytest.raises(ConfigError, match="has 600 examples, and none of index 600"):
        view(spooled, [3, 600])


def test_the_file_of_a_view_is_its_spool_and_of_all_else_the_dataset_itself(spooled):
    assert file_of(view(spooled, [1]).descriptor)["digest"] == spooled["digest"]
    assert file_of(spooled) is spooled
