"""PartitionSupervisor: routing, copies, resize. Rows PS1 to PS8 of OTP.md."""

import contextlib
import os
import subprocess
import sys

import pytest
from core_world import Server, World
from hypothesis import given
from hypothesis import strategies as st
from node_helpers import Counter, Recorder, alive, kill, until

from supervisors import ChildSpec, DynamicSupervisorSpec, PartitionSupervisor, PartitionSupervisorSpec, Ref, Via, errors
from supervisors.supervisor.kinds import core_for
from supervisors.supervisor.routing import canonical, partition_of

CHILD = ChildSpec("c", Counter)


def spec(partitions=3, child=CHILD, **fields):
    fields.setdefault("name", "parts")
    return PartitionSupervisorSpec(child, partitions, **fields)


def world(script=None, **fields):
    given_spec = spec(child=ChildSpec("c", Server), **fields)
    made = World(given_spec, script)
    made.core = core_for(given_spec)
    return made.start()


# rows: PS1
def test_copies_have_the_ids_0_to_n_and_start_and_stop_in_order():
    w = world(partitions=3)
    assert w.take() == "+0 +1 +2"
    w.shutdown()
    assert w.take() == "-2 -1 -0"
    assert len(PartitionSupervisorSpec(CHILD, name="x").children) == os.cpu_count()


# rows: PS2
def test_an_integer_key_goes_to_its_absolute_value_modulo_n():
    assert [partition_of(key, 3) for key in (3, -1, 0, 7, -5)] == [0, 1, 0, 1, 2]
    w = world(partitions=3)
    refs = {row.id: row.ref for row in w.call("which_children")}
    assert w.call("resolve", 3) == refs["0"]
    assert w.call("resolve", -1) == refs["1"]


# rows: PS2, PS8
def test_other_keys_go_by_a_hash_that_is_the_same_in_every_interpreter():
    code = (
        "from supervisors.supervisor.partition import partition_of as p; "
        "print([p(k, 97) for k in ('a', b'a', 1.5, ('u', 7))])"
    )
    shown = {
        subprocess.run(
            [sys.executable, "-c", code], env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True, check=True
        ).stdout
        for seed in ("1", "2")
    }
    assert shown == {f"{[partition_of(key, 97) for key in ('a', b'a', 1.5, ('u', 7))]}\n".encode()}


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=3) | st.tuples(inner, inner) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


# rows: PS8
@given(plain, plain, st.integers(1, 20))
def test_equal_keys_have_one_partition_and_different_keys_different_bytes(one, other, partitions):
    assert 0 <= partition_of(one, partitions) < partitions
    assert (canonical(one) == canonical(other)) == (strict(one) == strict(other))


def strict(value):
    """Return something that is equal exactly if two values are the same, types and signs of zero included."""
    match value:
        case list() | tuple():
            return type(value), [strict(item) for item in value]
        case dict():
            return dict, sorted((key, repr(strict(item))) for key, item in value.items())
    return type(value), repr(value)


# rows: PS8
def test_keys_are_compared_strictly_and_other_objects_are_refused():
    assert len({canonical(key) for key in (1, 1.0, True, "1", b"1", (1,), [1])}) == 7
    assert canonical({"a": 1, "b": 2}) == canonical({"b": 2, "a": 1})
    assert canonical({3, 1, 2}) == canonical({1, 2, 3})
    with pytest.raises(errors.SpecError, match=r"expected plain data .* not object"):
        partition_of(object(), 3)


# rows: PS3
def test_with_arguments_changes_the_args_of_each_copy():
    made = spec(child=ChildSpec("c", Counter, args=(10,)), with_arguments=lambda args, n: (*args, n))
    assert [each.args for each in made.children] == [(10, 0), (10, 1), (10, 2)]


# rows: PS4
@pytest.mark.parametrize(
    ("fields", "match"),
    [
        ({"name": None}, "name is invalid: got None"),
        ({"name": ""}, "name is invalid: got ''"),
        ({"child": None}, "child is invalid: got None"),
        ({"child": Counter}, "child is invalid: got "),
        ({"partitions": 0}, "partitions is invalid: got 0"),
        ({"partitions": -1}, "partitions is invalid: got -1"),
        ({"partitions": True}, "partitions is invalid: got True"),
        ({"partitions": 1.5}, "partitions is invalid: got 1.5"),
        ({"auto_shutdown": "any_significant"}, "auto_shutdown is invalid: got 'any_significant'"),
        ({"strategy": "one_for_all"}, "strategy is invalid: got 'one_for_all'"),
        ({"with_arguments": 3}, "with_arguments is invalid: got 3"),
        ({"with_arguments": lambda args, n: n}, "args is invalid: got 0"),
        ({"child": ChildSpec("c", Counter, name="taken")}, "child.name is invalid: got 'taken'"),
        ({"child": ChildSpec("c", DynamicSupervisorSpec(name="taken"))}, "child.name is invalid: got 'taken'"),
        ({"children": (CHILD,)}, "expected one per partition"),
    ],
)
def test_what_is_not_legal_is_refused_where_it_is_written(fields, match):
    with pytest.raises(errors.SpecError, match=match):
        spec(**fields)


# rows: PS5
def test_resize_stops_and_starts_copies_and_the_specs_stay():
    w = world(partitions=3)
    w.take()
    assert w.call("resize", 1) == 1
    assert w.take() == "-1 -2"
    assert w.counts() == (3, 1, 0, 3)
    assert w.call("resolve", 2) == w.call("resolve", 0)
    assert w.call("resize", 3) == 3
    assert w.take() == "+1 +2"
    assert w.call("resolve", 2) != w.call("resolve", 0)
    assert w.call("partitions") == 3


# rows: PS5
def test_a_copy_that_does_not_start_again_leaves_the_routing_at_those_before_it():
    w = world({"2": ["ok", "fail"]}, partitions=3)
    w.call("resize", 1)
    assert isinstance(w.call("resize", 3), errors.StartError)
    assert w.call("partitions") == 2


# rows: PS6
def test_no_partitions_resolve_nothing_and_more_than_at_first_are_refused():
    w = world(partitions=2)
    assert w.call("resize", 0) == 0
    assert isinstance(w.call("resolve", 1), errors.NoProcess)
    for wrong in (3, -1, "1", True):
        assert isinstance(w.call("resize", wrong), errors.SpecError)


# rows: PS1
def test_children_are_its_own_business():
    w = world()
    assert isinstance(w.call("start_child", CHILD), errors.NotAllowed)
    assert isinstance(w.call("register_via", 1), errors.NotAllowed)


# --- real processes -------------------------------------------------------------------------------------------------


@pytest.fixture
def parts(node):
    started = []

    def start(*args, **fields):
        started.append(node.start_supervisor(spec(*args, **fields)))
        return PartitionSupervisor(node, "parts")

    yield start
    for ref in started:
        with contextlib.suppress(errors.NoProcess):  # a test has stopped it
            node.stop(ref, timeout=20.0)


# rows: PS1, PS2
def test_calls_by_key_reach_the_same_copy_also_after_its_restart(node, parts):
    found = parts(3, intensity=100)
    assert [row.id for row in node.which_children("parts")] == ["2", "1", "0"]
    for key in ("ada", "bob", "cyd"):
        node.call(Via("parts", key), ("add", 1))
    assert sum(node.call(row.ref, ("add", 0)) for row in node.which_children("parts")) == 3
    old = found.ref("ada")
    kill(old.pid)

    def successor():
        try:
            return found.ref("ada") != old
        except errors.NoProcess:
            return False

    until(successor)
    assert node.call(Via("parts", "ada"), ("add", 5)) == 5


# rows: PS1
def test_real_copies_are_children_with_texts_as_ids_that_start_in_order_and_stop_in_reverse(node, parts, tmp_path):
    path = tmp_path / "told"
    child = ChildSpec("r", Recorder, args=(str(path),))
    parts(3, child, with_arguments=lambda args, n: (*args, f"copy{n}"))
    assert [row.id for row in node.which_children("parts")] == ["2", "1", "0"]
    assert node.get_childspec("parts", "1").id == "1"
    with pytest.raises(errors.ChildNotFound, match="no child 1: expected the id of a child"):
        node.get_childspec("parts", 1)
    counts = node.count_children("parts")
    assert (counts.specs, counts.active, counts.supervisors, counts.workers) == (3, 3, 0, 3)
    node.stop("parts")
    assert path.read_text().splitlines() == [
        *("+copy0", "+copy1", "+copy2"), *("-copy2 shutdown", "-copy1 shutdown", "-copy0 shutdown"),
    ]  # fmt: skip


# rows: PS3, PS5
def test_real_copies_get_their_arguments_and_resize(node, parts, tmp_path):
    path = tmp_path / "told"
    child = ChildSpec("r", Recorder, args=(str(path),))
    found = parts(2, child, with_arguments=lambda args, n: (*args, f"copy{n}"))
    assert path.read_text().split() == ["+copy0", "+copy1"]
    gone = found.ref(1)
    assert found.resize(1) == 1
    assert not alive(gone.pid)
    assert found.ref(1) == found.ref(0)
    assert node.count_children("parts").specs == 2
    assert found.resize(2) == found.partitions() == 2
    assert isinstance(found.ref(1), Ref)
    assert found.resize(0) == 0
    with pytest.raises(errors.NoProcess, match="0 partitions"):
        found.ref(1)
    with pytest.raises(errors.SpecError, match="partitions is invalid: got 3"):
        found.resize(3)


# rows: PS7
def test_an_unknown_partition_supervisor_is_nobody(node):
    for ask in (lambda found: found.ref(1), lambda found: found.resize(1), lambda found: found.partitions()):
        with pytest.raises(errors.NoProcess):
            ask(PartitionSupervisor(node, "nobody"))
    with pytest.raises(errors.NoProcess):
        node.call(Via("nobody", 1), "pid")
