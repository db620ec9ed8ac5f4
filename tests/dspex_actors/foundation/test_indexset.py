import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from property_kit import examples

from dspex_actors.foundation.indexset import IndexSet


@settings(max_examples=examples(100), deadline=None)
@given(st.sets(st.integers(0, 3000)), st.integers(0, 3100))
def test_it_behaves_like_a_set_of_integers(model, probe):
    indices = IndexSet(model)
    assert list(indices) == sorted(model)
    assert len(indices) == len(model)
    assert (probe in indices) == (probe in model)
    assert indices.next_missing(probe) == next(i for i in range(probe, 5000) if i not in model)
    assert indices.next_present(probe) == min((i for i in model if i >= probe), default=None)
    assert IndexSet.from_bytes(indices.to_bytes()) == indices
    assert sum(stop - start for start, stop in indices.ranges()) == len(model)


def test_adding_twice_counts_once():
    indices = IndexSet([3])
    assert not indices.add(3)
    assert len(indices) == 1
    with pytest.raises(ValueError, match="0 or more"):
        indices.add(-1)
