"""Trees of events: everything is in, once, under one root."""

from hypothesis import given
from hypothesis import strategies as st

from dspex_actors.foundation.events.event import Event
from dspex_actors.foundation.events.record import to_record
from dspex_actors.observe.events.tree import MAX_DEPTH, tree_of


def event(name, parent=None, at=0.0):
    return to_record(Event(id=name, at=at, parent_id=parent, type="x"))


def shape(node):
    return node.record.id, [shape(child) for child in node.children]


def walk(node, depth=0):
    yield node, depth
    for child in node.children:
        yield from walk(child, depth + 1)


def test_nothing_has_no_tree():
    assert tree_of([]) is None


def test_events_hang_under_what_they_came_from_in_the_order_of_time_and_id():
    rows = [event("c", "a", 3), event("b", "a", 2), event("a", None, 1), event("d", "b", 2), event("b0", "a", 2)]
    assert shape(tree_of(rows)) == ("a", [("b", [("d", [])]), ("b0", []), ("c", [])])


def test_what_has_an_unknown_parent_hangs_under_the_root():
    rows = [event("a", None, 1), event("b", "gone", 2), event("c", "b", 3)]
    assert shape(tree_of(rows)) == ("a", [("b", [("c", [])])])


def test_where_the_first_is_missing_the_first_that_is_there_is_the_root():
    rows = [event("b", "gone", 2), event("c", "gone", 3), event("d", "c", 1)]
    assert shape(tree_of(rows)) == ("b", [("c", [("d", [])])])


def test_what_came_from_nothing_is_the_root_also_where_a_clock_goes_wrong():
    rows = [event("a", None, 100), event("b", "gone", 1), event("c", "a", 2)]
    assert shape(tree_of(rows)) == ("a", [("b", []), ("c", [])])


def test_a_circle_is_cut():
    rows = [event("a", None), event("b", "d", 1), event("c", "b", 2), event("d", "c", 3), event("e", "e", 4)]
    assert shape(tree_of(rows)) == ("a", [("b", [("c", [("d", [])])]), ("e", [])])


def test_a_circle_alone_has_a_root():
    assert {node.record.id for node, _ in walk(tree_of([event("a", "b"), event("b", "a")]))} == {"a", "b"}


def test_a_chain_of_thousands_is_as_deep_as_a_tree_may_be():
    rows = [event(f"{n:05}", f"{n - 1:05}" if n else None, n) for n in range(5000)]
    tree = tree_of(rows)
    depths = [depth for _, depth in walk(tree)]
    assert len(depths) == 5000
    assert max(depths) == MAX_DEPTH
    assert tree.to_dict()["children"][0]["event"]["id"] == "00001"


def test_a_node_has_its_event_by_attribute_and_by_name():
    tree = tree_of([event("a")])
    assert tree.event is tree["event"]
    assert tree["event"].id == "a"
    assert tree["children"] == []


names = st.sampled_from("abcdefgh")


@given(st.lists(st.tuples(names, names | st.none(), st.integers(0, 3)), max_size=12, unique_by=lambda row: row[0]))
def test_every_event_is_in_the_tree_once_and_no_child_before_its_sibling(rows):
    records = [event(name, parent, at) for name, parent, at in rows]
    tree = tree_of(records)
    if tree is None:
        assert not records
        return
    found = [node.record.id for node, _ in walk(tree)]
    assert sorted(found) == sorted(record.id for record in records)
    for node, _ in walk(tree):
        order = [(child.record.at, child.record.id) for child in node.children]
        assert order == sorted(order)
        for child in node.children:
            assert node is tree or child.record.parent_id == node.record.id
