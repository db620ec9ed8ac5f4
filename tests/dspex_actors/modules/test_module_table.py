"""Which version of a module answers: orders one after the other, and what is kept of them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dspex_actors.errors import ConfigError
from dspex_actors.modules import core
from dspex_actors.modules.core import Table, Version
from dspex_actors.modules.counts import Counts


def version(name="p"):
    return Version(0, name, "around", None, 1.0)


def served(*programs):
    table = Table()
    table.take(table.created("m", version("p1"), {"inputs": ["a"]}, "t1"))
    for number, program in enumerate(programs, 2):
        table.take(table.updated("m", version(program), f"t{number}"))
    return table


def test_the_newest_version_answers_and_the_one_before_comes_back():
    table = served("p2", "p3")
    assert table.get("m").current == 3
    table.take(table.rolled_back("m", None, "b1"))
    assert table.get("m").now.program == "p2"
    table.take(table.updated("m", version("p4"), "t4"))
    assert (table.get("m").current, table.get("m").now.followed) == (4, 2)
    table.take(table.rolled_back("m", None, "b2"))
    assert table.get("m").current == 2
    table.take(table.rolled_back("m", 3, "b3"))
    assert table.get("m").current == 3


def test_nothing_is_before_the_first_version():
    table = served("p2")
    table.take(table.rolled_back("m", None, "b1"))
    with pytest.raises(ConfigError, match="'m' has no version before 1, its first one"):
        table.rolled_back("m", None, "b2")
    with pytest.raises(ConfigError, match=r"'m' has no version 7 \(any more\): it has 1, 2"):
        table.rolled_back("m", 7, "b3")


def test_what_is_not_there_and_what_is_there_already_is_said():
    table = served()
    with pytest.raises(ConfigError, match="there is no module 'n': the node serves m"):
        table.updated("n", version(), "t")
    with pytest.raises(ConfigError, match="the module 'm' is there already: update_module"):
        table.created("m", version(), {}, "t")


def test_an_order_that_was_carried_out_is_known():
    table = served("p2")
    assert [table.get("m").done(token) for token in ("t1", "t2", "t3")] == [1, 2, None]
    table.take(table.rolled_back("m", None, "b1"))
    assert table.get("m").done("b1") == 1


@given(
    st.lists(st.one_of(st.just("update"), st.just("back"), st.integers(1, 30)), max_size=60),
    st.sets(st.integers(1, 60)),
)
def test_the_current_version_is_always_there_and_few_are_kept(orders, busy):
    before, core.MOST_VERSIONS = core.MOST_VERSIONS, 5
    try:
        table, numbers = served(), {1}
        for place, order in enumerate(orders):
            token = f"o{place}"
            try:
                if order == "update":
                    after = table.updated("m", version(f"p{place}"), token, busy)
                    assert after.current == max(numbers) + 1
                    assert after.now.program == f"p{place}"
                    numbers.add(after.current)
                else:
                    after = table.rolled_back("m", None if order == "back" else order, token)
                    assert order in ("back", after.current)
            except ConfigError:
                continue
            kept = set(after.versions)
            assert after.done(token) == after.current
            assert after.current in kept
            assert kept <= numbers
            assert kept >= busy & set(table.get("m").versions)
            assert len(kept - busy) <= 5 + (after.current not in busy)
            table.take(after)
            assert table.get("m").last == max(numbers)
    finally:
        core.MOST_VERSIONS = before


def test_counts_of_versions_are_added_up_and_written_down():
    one, two = Counts(), Counts()
    one.add(0.5, 1.0, None, {"input_total": 3}, 0.25, 1)
    one.add(1.5, 2.0, "Timeout", {}, None, 2)
    two.add(2.5, 3.0, None, {"input_total": 4}, 0.5, 1)
    every = Counts()
    every.merge(one)
    every.merge(Counts.from_plain(two.to_plain()))
    found = every.figures()
    assert (found["calls"], found["failed"], found["errors"], found["asked"]) == (3, 1, {"Timeout": 1}, 4)
    assert (found["usage"], found["cost"]) == ({"input_total": 7}, 0.75)
    assert found["latency"]["mean"] == 1.5
    many = Counts()
    for number in range(50):
        many.add(0.1, 1.0, f"Error{number}", {}, 0.0, 0)
    assert len(many.errors) == 21
    assert many.errors["other"] == 30
