"""The registry: its pure core by tables and properties, and the running one with real owners."""

import math
import os
import subprocess
import sys
import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from node_helpers import Counter, kill, until

from supervisors import ANY, AsyncRegistryHandle, ChildSpec, Ref, Registry, RegistryHandle, Var, errors
from supervisors.registry.core import Lease, LockTable, RegistryTable
from supervisors.registry.matching import bind, check_guards, fill, holds, strict


def ref(number):
    return Ref("h", number, number, number, str(number))


A, B, C = ref(1), ref(2), ref(3)
FAR = Ref("10.0.0.9", 1, 1, 1, "x")


# --- matching, pure -----------------------------------------------------------------------------------------------


# rows: R8
def test_keys_of_different_types_are_different():
    values = [1, 1.0, True, "1", b"1", (1,), [1], (1.0,), (True,), {1}, frozenset({1}), {1: 1}, {1: True}, {1.0: 1},
              0.0, -0.0, 0, False, None, "", (), []]  # fmt: skip
    assert len({strict(value) for value in values}) == len(values)
    assert strict((1, ["a", {"b": 2.0}])) == strict((1, ["a", {"b": 2.0}]))
    assert strict(math.nan) == strict(math.nan)
    assert strict({"a": 1, "b": 2}) == strict({"b": 2, "a": 1})
    with pytest.raises(errors.SpecError):
        strict((1, bytearray()))


# rows: R13
@pytest.mark.parametrize(
    ("pattern", "value", "expected"),
    [
        (ANY, {"any": "thing"}, {}),
        (1, 1, {}),
        (1, 1.0, None),
        (True, 1, None),
        (Var("x"), 5, {"x": 5}),
        ((1, ANY, Var("x")), (1, 2, 3), {"x": 3}),
        ((1, ANY), (1, 2, 3), None),
        ((1, ANY), [1, 2], None),
        ((Var("x"), ANY, Var("x")), (1, 2, 1), {"x": 1}),
        ((Var("x"), ANY, Var("x")), (1, 2, 1.0), None),
        ({"a": Var("x")}, {"a": 1, "b": 2}, {"x": 1}),
        ({"a": ANY, "c": ANY}, {"a": 1, "b": 2}, None),
        ({1: ANY}, {True: "x"}, None),
        ([Var("a"), (Var("b"),)], [1, (2,)], {"a": 1, "b": 2}),
        (bytearray(b"x"), bytearray(b"x"), {}),
    ],
)
def test_patterns(pattern, value, expected):
    assert bind(pattern, value) == expected


# rows: R13
@pytest.mark.parametrize(
    ("guard", "expected"),
    [
        (("x", ">", 4), True), (("x", ">", 5), False), (("x", "<=", 5), True), (("x", "<", 5), False),
        (("x", ">=", 5), True), (("x", "==", 5), True), (("x", "==", 5.0), False), (("x", "!=", 5.0), True),
        (("x", "in", [4, 5]), True), (("x", "in", [True]), False), (("x", "<", Var("y")), True),
        (("x", "==", Var("z")), False), (("z", ">", 1), False), (("x", ">", "text"), False),
    ],
)  # fmt: skip
def test_guards(guard, expected):
    assert holds(check_guards([guard]), {"x": 5, "y": 6}) is expected


# rows: R13
def test_guards_and_bodies_that_cannot_be():
    for wrong in [("x", "~", 1), ("x", "=="), "x"]:
        with pytest.raises(errors.SpecError):
            check_guards([wrong])
    with pytest.raises(errors.SpecError):
        fill((Var("x"), Var("nobody")), {"x": 1})
    assert fill({"k": [Var("x"), (Var("y"), 3)]}, {"x": 1, "y": 2}) == {"k": [1, (2, 3)]}


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=3) | st.tuples(inner, inner) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


# rows: R8, R13
@given(plain)
def test_a_value_matches_itself_and_every_wildcard(value):
    assert bind(value, value) == {}
    assert bind(ANY, value) == {}
    assert bind((Var("x"), Var("x")), (value, value)) == {"x": value} or value != value or "nan" in repr(value)


# rows: R8
@given(plain, plain)
def test_strict_keys_are_equal_only_for_equal_values_of_one_type(left, right):
    if strict(left) == strict(right):
        assert type(left) is type(right)
        assert repr(left) == repr(right) or isinstance(left, dict | list | tuple)


# --- the table, pure ----------------------------------------------------------------------------------------------


# rows: R1, R8, R16
def test_a_unique_key_has_one_owner():
    table = RegistryTable("unique")
    table.register("k", A, 1)
    for owner in (A, B):
        with pytest.raises(errors.AlreadyRegistered) as failed:
            table.register("k", owner, 2)
        assert failed.value.ref == A
    assert not table.owns(B)
    assert table.count() == 1
    for key in (1, 1.0, True):
        table.register(key, B, type(key).__name__)
    assert [table.lookup(key) for key in (1, 1.0, True)] == [[(B, "int")], [(B, "float")], [(B, "bool")]]


# rows: R2, R5, R7
def test_duplicate_keys():
    table = RegistryTable("duplicate")
    for owner, value in [(A, 1), (B, 2), (A, 3)]:
        table.register("k", owner, value)
    table.register("other", A, 4)
    assert table.lookup("k") == [(A, 1), (B, 2), (A, 3)]
    assert table.lookup("none") == []
    assert sorted(table.keys(A)) == ["k", "k", "other"]
    assert table.values("k", A) == [1, 3]
    assert table.values("k", C) == []
    assert table.count() == 4
    assert [entry.value for entry in table.unregister("k", A)] == [1, 3]
    assert table.unregister("k", A) == []
    assert table.lookup("k") == [(B, 2)]


# rows: R3
def test_an_entry_of_the_dead_blocks_nobody():
    dead = set()
    table = RegistryTable("unique", alive=lambda owner: owner not in dead)
    table.register("k", A)
    dead.add(A)
    assert table.lookup("k") == []
    table.register("k", B)
    assert table.lookup("k") == [(B, None)]
    assert not table.owns(A)


# rows: R4, R6
def test_only_the_owner_unregisters_and_updates():
    table = RegistryTable("unique")
    table.register("k", A, 1)
    assert table.unregister("k", B) == []
    table.update_value("k", A, 2)
    assert table.value("k", A) == 2
    for call in (lambda: table.update_value("k", B, 3), lambda: table.value("none", A)):
        with pytest.raises(errors.NotAllowed):
            call()
    with pytest.raises(errors.NotAllowed):
        RegistryTable("duplicate").update_value("k", A, 1)


# rows: R13
def test_match_select_and_unregister_match():
    table = RegistryTable("duplicate")
    for owner, value in [(A, (1, "a")), (B, (2, "a")), (A, (3, "b"))]:
        table.register("k", owner, value)
    table.register("other", C, (9, "a"))
    assert table.match("k", (ANY, "a")) == [(A, (1, "a")), (B, (2, "a"))]
    assert table.match("k", (Var("n"), ANY), [("n", ">", 1)]) == [(B, (2, "a")), (A, (3, "b"))]
    assert table.select((Var("key"), ANY, (Var("n"), "a")), [("n", ">", 1)], (Var("n"), Var("key"))) == [
        (2, "k"),
        (9, "other"),
    ]
    assert table.select(("other", ANY, ANY)) == [("other", C, (9, "a"))]
    assert len(table.unregister_match("k", A, (ANY, "b"))) == 1
    assert table.unregister_match("k", C, ANY) == []
    assert table.values("k", A) == [(1, "a")]


operations = st.lists(
    st.tuples(
        st.sampled_from(["register", "unregister", "drop", "match"]),
        st.sampled_from([1, 1.0, True, "k"]),
        st.sampled_from([A, B, C]),
        st.integers(0, 2),
    ),
    max_size=30,
)


# rows: R1, R2, R4, R8, R16
@given(st.sampled_from(["unique", "duplicate"]), operations)
def test_a_table_is_what_a_list_of_entries_would_be(keys, steps):
    table, model = RegistryTable(keys), []

    def same(key, other):
        return type(key) is type(other) and key == other

    for what, key, owner, value in steps:
        if what == "register":
            if keys == "unique" and any(same(key, each[0]) for each in model):
                with pytest.raises(errors.AlreadyRegistered):
                    table.register(key, owner, value)
            else:
                table.register(key, owner, value)
                model.append((key, owner, value))
        elif what == "unregister":
            table.unregister(key, owner)
            model = [each for each in model if not (same(each[0], key) and each[1] == owner)]
        elif what == "match":
            table.unregister_match(key, owner, value)
            model = [each for each in model if not (same(each[0], key) and each[1:] == (owner, value))]
        else:
            table.drop(owner)
            model = [each for each in model if each[1] != owner]
        assert table.count() == len(model)
        for look in (1, 1.0, True, "k"):
            assert table.lookup(look) == [each[1:] for each in model if same(each[0], look)]
        for each in (A, B, C):
            assert len(table.keys(each)) == sum(1 for entry in model if entry[1] == each)
            assert table.owns(each) == any(entry[1] == each for entry in model)
    for owner in (A, B, C):
        table.drop(owner)
    assert not table._by_key
    assert not table._by_owner


# --- locks, pure --------------------------------------------------------------------------------------------------


# rows: R15
def test_a_lock_goes_to_the_next_who_lives():
    locks = LockTable()
    first, second, third, again = Lease(A, 1), Lease(B, 1), Lease(C, 1), Lease(A, 2)
    assert locks.acquire("k", first)
    assert not any(locks.acquire("k", lease) for lease in (second, third, again))
    assert locks.acquire("other", second)
    assert locks.drop(B) == []  # it waited for one and held another that nobody wants
    assert locks.release("k", first) == third
    assert locks.release("k", first) is None
    assert locks.drop(C) == [again]
    assert locks.release("k", again) is None
    assert len(locks) == 0


# rows: R15
@given(st.lists(st.tuples(st.booleans(), st.sampled_from("ab"), st.sampled_from([A, B, C]), st.integers(0, 1))))
def test_exactly_one_holds_a_lock_that_somebody_wants(steps):
    locks, granted, wanted = LockTable(), {}, {}
    for take, key, owner, number in steps:
        lease, line = Lease(owner, number), wanted.setdefault(key, [])
        if take and lease not in line:
            line.append(lease)
            if locks.acquire(key, lease):
                assert len(line) == 1
                granted[key] = lease
        elif take:
            turns = locks.drop(owner)
            for each in wanted:
                wanted[each] = [lease for lease in wanted[each] if lease.holder != owner]
            assert len(turns) <= 2
            granted = {each: line[0] for each, line in wanted.items() if line}
            assert set(turns) <= set(granted.values())
        elif lease in line:
            line.remove(lease)
            turn = locks.release(key, lease)
            assert turn == (line[0] if line and granted[key] == lease else None)
            granted = granted | ({key: line[0]} if line else {})
    assert len(locks) == sum(1 for line in wanted.values() if line)


# --- running ------------------------------------------------------------------------------------------------------


class Owner(Counter):
    """Does with registries what a test asks for."""

    async def handle_call(self, request, caller):
        match request:
            case ("registry", method, arguments, options):
                return await getattr(AsyncRegistryHandle(self, "reg"), method)(*arguments, **options)
            case ("locked", key):
                async with AsyncRegistryHandle(self, "reg").lock(key):
                    raise RuntimeError("in the lock")
            case ("hold", key):
                self.held = AsyncRegistryHandle(self, "reg").lock(key)
                await self.held.__aenter__()
                return "held"
            case ("wait", key):
                self.spawn(self.wait(key))
            case ("sum", key, parallel):
                got = []

                async def add(entries):
                    got.append([value for _, value in entries])

                await AsyncRegistryHandle(self, "reg").dispatch(key, add, parallel=parallel)
                return got
            case ("unknown",):
                try:
                    await AsyncRegistryHandle(self, "nowhere").lookup("k")
                except errors.NoProcess as error:
                    return str(error)
            case _:
                return super().handle_call(request, caller)
        return None

    async def wait(self, key):
        async with AsyncRegistryHandle(self, "reg").lock(key):
            self.seen.append("locked")


def inside(node, name, method, *arguments, **options):
    return node.call(name, ("registry", method, arguments, options))


@pytest.fixture
def world(node, supervise):
    """Start a registry and three owners, whose fates are their own."""

    def start(keys="unique", owners=("a", "b", "c"), **options):
        children = [ChildSpec("reg", Registry, kwargs={"keys": keys, **options}, name="reg")]
        supervise(children + [ChildSpec(name, Owner, name=name) for name in owners])
        return RegistryHandle(node, "reg")

    return start


# rows: R1, R4, R5, R6, R7, R8
def test_a_server_registers_itself(node, world):
    registry = world()
    a, b = node.whereis("a"), node.whereis("b")
    assert inside(node, "a", "register", ("k", 1), {"v": 1}) == a
    assert registry.lookup(("k", 1)) == [(a, {"v": 1})]
    assert registry.lookup(("k", 1.0)) == []
    for owner in ("a", "b"):
        with pytest.raises(errors.AlreadyRegistered):
            registry.register(("k", 1), owner=node.whereis(owner))
    assert registry.register(("k", True), owner=b) == b
    assert registry.register(("k", 2), "two", owner=a) == a
    assert sorted(registry.keys(a)) == [("k", 1), ("k", 2)]
    assert inside(node, "a", "keys") == registry.keys(a)
    assert registry.values(("k", 2), a) == ["two"]
    assert registry.count() == 3
    assert inside(node, "a", "update_value", ("k", 2), str.upper) == ("TWO", "two")
    for stranger in (a, b):
        with pytest.raises(errors.NotAllowed):
            registry.update_value(("k", 2), str.lower, owner=stranger)
    assert inside(node, "a", "update_value", ("k", 2), str.lower) == ("two", "TWO")
    with pytest.raises(errors.NotAllowed):
        registry.update_value(("k", 2), str.upper, owner=b)
    inside(node, "b", "unregister", ("k", 2))
    assert registry.lookup(("k", 2)) == [(a, "two")]
    inside(node, "a", "unregister", ("k", 2))
    inside(node, "a", "unregister", ("k", 2))
    assert registry.lookup(("k", 2)) == []


# rows: R1
def test_a_taken_key_names_its_owner(node, world):
    registry = world(owners=("a", "b"))
    a = registry.register("k", owner=node.whereis("a"))
    for owner in (a, node.whereis("b")):
        with pytest.raises(errors.AlreadyRegistered) as failed:
            registry.register("k", owner=owner)
        assert failed.value.ref == a


# rows: R2, R13
def test_duplicate_keys_and_patterns_on_a_running_registry(node, world):
    registry = world("duplicate", owners=("a", "b"))
    a, b = node.whereis("a"), node.whereis("b")
    for owner, value in [(a, (1, "x")), (b, (2, "x")), (a, (3, "y"))]:
        registry.register("k", value, owner=owner)
    assert registry.lookup("k") == [(a, (1, "x")), (b, (2, "x")), (a, (3, "y"))]
    assert registry.match("k", (ANY, "x")) == [(a, (1, "x")), (b, (2, "x"))]
    assert registry.count_match("k", (Var("n"), ANY), [("n", ">=", 2)]) == 2
    assert registry.select((ANY, a, (Var("n"), ANY)), (), Var("n")) == [1, 3]
    registry.unregister_match("k", (ANY, "x"), owner=a)
    assert inside(node, "a", "match", "k", ANY) == [(b, (2, "x")), (a, (3, "y"))]
    with pytest.raises(errors.NotAllowed):
        registry.update_value("k", str, owner=a)
    with pytest.raises(errors.SpecError):
        registry.match("k", ANY, [("n", "~", 2)])


# rows: R3
def test_entries_go_with_their_owner_and_a_dead_one_blocks_nobody(node, world):
    registry = world()
    a, b = node.whereis("a"), node.whereis("b")
    for key in range(20):
        registry.register(key, owner=a)
    monitor = node.monitor(a)
    kill(a.pid)
    assert monitor.wait(20.0) is not None
    assert registry.register(0, owner=b) == b
    assert registry.lookup(0) == [(b, None)]
    until(lambda: registry.count() == 1)
    with pytest.raises(errors.NoProcess):
        registry.register("late", owner=a)
    assert registry.count() == 1
    assert registry.keys(a) == []


# rows: R3
def test_a_key_is_free_at_once_when_its_owner_is_known_to_be_dead(node, world):
    registry = world(owners=("a", "b"))
    for _ in range(5):
        a, b = node.whereis("a"), node.whereis("b")
        registry.register("k", owner=a)
        monitor = node.monitor(a)
        kill(a.pid)
        assert monitor.wait(20.0).reason.kind == "killed"
        assert registry.lookup("k") == []
        registry.register("k", owner=b)
        registry.unregister("k", owner=b)
        until(lambda a=a: node.whereis("a") not in (None, a))


# rows: R1, R3, R16
def test_owners_are_killed_while_threads_register(node, world):
    names = ["a", "b", "c"]
    registry = world(owners=names)
    stop, wrong = threading.Event(), []

    def work(number):
        while not stop.is_set():
            try:
                owner = node.whereis(names[number % 3])
                if owner is not None:
                    registry.register(number % 5, number, owner=owner)
                    registry.unregister(number % 5, owner=owner)
            except (errors.AlreadyRegistered, errors.NoProcess):
                continue
            except Exception as error:
                wrong.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    pid = node.pid("reg")
    for number in range(9):
        name = names[number % 3]
        old = until(lambda name=name: node.whereis(name))
        kill(old.pid)
        until(lambda name=name, old=old: node.whereis(name) not in (None, old))
    stop.set()
    for thread in threads:
        thread.join(20.0)
    assert wrong == []
    assert node.pid("reg") == pid
    living = {node.whereis(name) for name in names}
    until(lambda: {owner for _, owner, _ in registry.select(ANY)} <= living)
    for key in range(5):
        for owner in living:
            registry.unregister(key, owner=owner)
    assert registry.count() == 0


# rows: R11
def test_dispatch_runs_in_the_caller_and_not_without_entries(node, world):
    registry = world("duplicate")
    got, threads = [], set()

    def note(entries):
        threads.add(threading.current_thread())
        got.append([value for _, value in entries])

    registry.dispatch("k", note)
    assert got == []
    for value, owner in enumerate("abc"):
        registry.register("k", value, owner=node.whereis(owner))
    registry.dispatch("k", note)
    assert got == [[0, 1, 2]]
    assert threads == {threading.current_thread()}
    registry.dispatch("k", note, parallel=True)
    assert sorted(got[1:]) == [[0], [1], [2]]
    assert node.call("a", ("sum", "k", False)) == [[0, 1, 2]]
    assert sorted(node.call("a", ("sum", "k", True))) == [[0], [1], [2]]
    assert node.call("a", ("sum", "none", False)) == []
    with pytest.raises(ZeroDivisionError):
        registry.dispatch("k", lambda entries: 1 / 0)


# rows: R12
def test_listeners_hear_of_registrations_but_not_of_crashes(node, world):
    registry = world(listeners=["c", "nobody"])
    a, b = node.whereis("a"), node.whereis("b")
    registry.register("k", 1, owner=a)
    registry.register("dead", 2, owner=b)
    registry.unregister("k", owner=a)
    registry.unregister("k", owner=a)
    kill(b.pid)
    until(lambda: registry.lookup("dead") == [])
    registry.register("end", owner=a)
    expected = [("register", "reg", "k", a, 1), ("register", "reg", "dead", b, 2), ("unregister", "reg", "k", a),
                ("register", "reg", "end", a, None)]  # fmt: skip
    until(lambda: len(node.call("c", "seen")) >= len(expected))
    assert node.call("c", "seen") == expected


# rows: R14
def test_owners_are_linked_until_their_last_key_goes(node, world):
    registry = world()
    a, b, c = (node.whereis(name) for name in "abc")
    for key in (1, 2):
        registry.register(key, owner=a)
        registry.register(("b", key), owner=b)
    registry.unregister(1, owner=a)
    registry.unregister(("b", 1), owner=b)
    registry.unregister(("b", 2), owner=b)
    assert node.call("b", "pid") == b.pid  # and the word of its last key has come before this
    monitors = {name: node.monitor(name) for name in "abc"}
    kill(node.pid("reg"))
    assert monitors["a"].wait(20.0).reason.kind == "killed"
    assert monitors["b"].wait(0.1) is None
    assert monitors["c"].wait(0.0) is None
    assert (node.whereis("b"), node.whereis("c")) == (b, c)
    until(lambda: node.whereis("reg") and node.whereis("a") not in (None, a))


def test_owners_that_are_not_linked_stay_when_the_registry_crashes(node, world):
    registry = world(linked=False)
    a = node.whereis("a")
    registry.register("k", owner=a)
    registry.unregister("k", owner=a)
    registry.register("k", owner=a)
    killed = node.pid("reg")
    kill(killed)
    until(lambda: node.pid("reg") not in (None, killed))
    assert registry.lookup("k") == []
    assert registry.register("k", owner=a) == a
    assert node.call("a", "pid") == a.pid
    kill(a.pid)
    until(lambda: registry.lookup("k") == [])


# rows: R15
def test_a_lock_is_held_by_one_at_a_time(node, world):
    registry = world(owners=())
    inside_, most, done = [0], [0], []

    def work():
        for _ in range(5):
            with registry.lock("k"):
                inside_[0] += 1
                most[0] = max(most[0], inside_[0])
                time.sleep(0.001)
                inside_[0] -= 1
        done.append(True)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20.0)
    assert len(done) == 8
    assert most == [1]


# rows: R15
def test_a_lock_is_free_after_an_exception_here_and_in_a_server(node, world):
    registry = world(owners=("a",))
    with pytest.raises(ZeroDivisionError), registry.lock("k"):
        raise ZeroDivisionError
    with pytest.raises(errors.ServerExited):
        node.call("a", ("locked", "k"))
    with registry.lock("k", timeout=5.0), registry.lock("other", timeout=5.0):
        pass


# rows: R15
def test_a_lock_is_free_when_its_holder_dies_and_dying_waiters_are_skipped(node, world):
    registry = world()
    assert node.call("a", ("hold", "k")) == "held"
    with pytest.raises(errors.CallTimeout), registry.lock("k", timeout=0.05):
        pass
    node.call("b", ("wait", "k"))
    node.call("c", ("wait", "k"))
    assert node.call("c", "seen") == []
    kill(node.pid("b"))
    kill(node.pid("a"))
    until(lambda: node.call("c", "seen") == ["locked"])
    with registry.lock("k", timeout=5.0):
        pass


PROGRAM = """
import os, sys
from supervisors import Node, RegistryHandle
with RegistryHandle(Node.attach(sys.argv[1]), "reg").lock("k"):
    print("held", flush=True)
    sys.stdin.read()
"""


# rows: R15
def test_a_lock_is_free_when_the_program_that_holds_it_is_killed(node, world):
    registry = world(owners=())
    program = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(node.data_dir)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with program:
        assert program.stdout.readline() == "held\n"
        with pytest.raises(errors.CallTimeout), registry.lock("k", timeout=0.05):
            pass
        program.kill()
        with registry.lock("k", timeout=5.0):
            pass


# rows: R16
def test_an_unknown_registry_is_named(node, world):
    world(owners=("a",))
    with pytest.raises(errors.NoProcess, match="nowhere"):
        RegistryHandle(node, "nowhere").lookup("k")
    assert "nowhere" in node.call("a", ("unknown",))


# rows: R16
def test_what_a_registry_refuses_does_it_no_harm(node, world, supervise):
    registry = world(owners=("a",))
    pid, a = node.pid("reg"), node.whereis("a")
    for request in [
        "junk",
        ("register", "k"),
        ("lookup",),
        ("lookup", Unhashable()),
        ("register", "k", "no ref", 1),
        ("register", "k", FAR, 1),
    ]:
        with pytest.raises(errors.SupervisorsError):
            node.call("reg", request)
    with pytest.raises(errors.SpecError):
        registry.register("k")
    for wrong in ({"keys": "some"}, {"keys": "unique", "listeners": "name"}):
        with pytest.raises(errors.StartError):
            supervise([ChildSpec("wrong", Registry, kwargs=wrong)])
    registry.register("k", owner=a)
    for _ in range(50):
        with pytest.raises(errors.AlreadyRegistered):
            registry.register("k", owner=a)
    assert registry.count() == 1
    assert node.pid("reg") == pid
    assert os.path.exists(f"/proc/{pid}")


# rows: R8
def test_a_users_own_object_is_a_key(node, world):
    registry = world(owners=("a",))
    registry.register(Color("red"), "value", owner=node.whereis("a"))
    assert registry.lookup(Color("red")) == [(node.whereis("a"), "value")]
    assert registry.lookup(Color("blue")) == []


class Unhashable:
    __hash__ = None


class Color:
    def __init__(self, name):
        self.name = name

    def __eq__(self, other):
        return type(other) is type(self) and other.name == self.name

    def __hash__(self):
        return hash(self.name)
