"""Via names: start under them, call through them."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from node_helpers import Counter, kill, until

from supervisors import NO_REPLY, ChildSpec, GenServer, Registry, RegistryHandle, SupervisorSpec, Via, errors
from supervisors.wire import values as wire


class Asker(GenServer):
    """Uses targets that it is given."""

    def init(self):
        self.downs = []

    async def handle_call(self, request, caller):
        match request:
            case ("call", target, what):
                return await self.call(target, what)
            case ("cast", target, what):
                self.cast(target, what)
            case ("whereis", target):
                return await self.whereis(target)
            case "name":
                return self.name
            case "a key that cannot be sent":
                before = len(self._supervisors_engine.calls._pending)
                try:
                    await self.call(Via("reg", threading.Lock()), "x", timeout=None)
                except errors.CallFailed:
                    return len(self._supervisors_engine.calls._pending) - before
        return None


class Key:
    """A key that only the user's side can open."""

    def __init__(self, text):
        self.text = text

    def __eq__(self, other):
        return type(other) is type(self) and other.text == self.text

    def __hash__(self):
        return hash(self.text)


@pytest.fixture
def top(supervise):
    """A supervisor with a unique and a duplicate registry, for more children."""
    return supervise(
        [
            ChildSpec("reg", Registry, kwargs={"keys": "unique"}, name="reg"),
            ChildSpec("dup", Registry, kwargs={"keys": "duplicate"}, name="dup"),
            ChildSpec("asker", Asker, name="asker"),
        ]
    )


# rows: R9
def test_start_under_a_via_name_and_use_it_everywhere(node, top):
    name = Via("reg", ("worker", 7), {"rank": 1})
    ref = node.start_child(top, ChildSpec("w", Counter, args=(5,), name=name))
    assert node.whereis(name) == ref
    assert node.pid(Via("reg", ("worker", 7))) == ref.pid
    assert node.call(name, ("add", 1)) == 6
    node.cast(name, ("add", 1))
    assert node.call(name, ("add", 0)) == 7
    assert node.call(name, "name")[0] == name
    assert RegistryHandle(node, "reg").lookup(("worker", 7)) == [(ref, {"rank": 1})]
    assert node.call("asker", ("call", name, ("add", 1))) == 8
    node.call("asker", ("cast", name, ("add", 1)))
    until(lambda: node.call(name, ("add", 0)) == 9)
    assert node.call("asker", ("whereis", name)) == ref
    assert next(row for row in node.which_children(top) if row.id == "w").name == name
    assert node.get_childspec(top, "w").name == name
    monitor = node.monitor(name)
    assert monitor.ref == ref
    kill(ref.pid)
    assert monitor.wait(20.0).reason.kind == "killed"
    until(lambda: node.whereis(name) not in (None, ref))
    assert node.call(name, ("add", 0)) == 5
    monitor = node.monitor(name)
    node.stop(name)
    assert monitor.wait(20.0).reason.kind == "normal"


# rows: R9, 20
def test_a_via_name_that_is_taken(node, top):
    name = Via("reg", "only")
    ref = node.start_child(top, ChildSpec("first", Counter, name=name))
    with pytest.raises(errors.AlreadyStarted) as failed:
        node.start_child(top, ChildSpec("second", Counter, name=name))
    assert failed.value.ref == ref
    assert RegistryHandle(node, "reg").lookup("only") == [(ref, None)]
    node.terminate_child(top, "first")
    assert node.whereis(name) is None
    assert node.start_child(top, ChildSpec("second", Counter, name=name)) == node.whereis(name)


# rows: R9, R1
def test_of_many_that_start_under_one_via_name_one_gets_it(node, top):
    name = Via("reg", "race")
    tops = [node.start_supervisor(SupervisorSpec([])) for _ in range(4)]
    with ThreadPoolExecutor(4) as threads:
        spec = ChildSpec("r", Counter, name=name, restart="temporary")
        started = [threads.submit(node.start_child, each, spec) for each in tops]
        errors_ = [each.exception() for each in started]
    winner = node.whereis(name)
    assert errors_.count(None) == 1
    assert {type(error) for error in errors_} == {type(None), errors.AlreadyStarted}
    assert all(error is None or error.ref == winner for error in errors_)
    for each in tops:
        node.stop(each)


# rows: R9
def test_nobody_under_a_via_name(node, top):
    with pytest.raises(errors.NoProcess, match="nobody"):
        node.call(Via("reg", "nobody"), "pid")
    node.cast(Via("reg", "nobody"), "x")
    node.cast(Via("nowhere", "nobody"), "x")
    assert node.whereis(Via("reg", "nobody")) is None
    assert node.monitor(Via("reg", "nobody")).wait(20.0).reason.kind == "noproc"


# rows: R16, R9
@pytest.mark.soak
def test_via_an_unknown_registry(node, top):
    name = Via("nowhere", "k")
    with pytest.raises(errors.NoProcess, match="nowhere"):
        node.call(name, "pid")
    for start in (Counter, SupervisorSpec([])):
        with pytest.raises(errors.SupervisorsError, match="nowhere"):
            node.start_child(top, ChildSpec("w", start, name=name))
    assert [row.id for row in node.which_children(top)] == ["asker", "dup", "reg"]


# rows: R10
def test_via_is_refused_on_duplicate_keys(node, top):
    name = Via("dup", "k")
    with pytest.raises(errors.NotAllowed, match="duplicate"):
        node.whereis(name)
    for start in (Counter, SupervisorSpec([])):
        with pytest.raises(errors.SupervisorsError, match="duplicate"):
            node.start_child(top, ChildSpec("w", start, name=name))
    assert RegistryHandle(node, "dup").count() == 0


# rows: R9
def test_a_supervisor_under_a_via_name(node, top, supervise):
    name = Via("reg", ("sup", 1))
    spec = SupervisorSpec([ChildSpec("leaf", Counter, name=Via("reg", "leaf"))])
    ref = node.start_child(top, ChildSpec("inner", spec, name=name))
    assert node.whereis(name) == ref
    assert [row.id for row in node.which_children(name)] == ["leaf"]
    with pytest.raises(errors.AlreadyStarted):
        supervise([], name=name)
    leaf = node.pid(Via("reg", "leaf"))
    kill(ref.pid)
    until(lambda: node.whereis(name) not in (None, ref))
    until(lambda: node.pid(Via("reg", "leaf")) not in (None, leaf))
    until(lambda: node.count_children(name).active == 1)


# rows: R9
def test_a_users_object_as_key_passes_through_door_and_supervisors(node, top):
    name = Via("reg", Key("a"), Key("value"))
    ref = node.start_child(top, ChildSpec("w", Counter, name=name))
    assert node.whereis(name) == ref
    assert node.call(name, ("add", 2)) == 2
    assert RegistryHandle(node, "reg").lookup(Key("a")) == [(ref, Key("value"))]
    assert node.call("asker", ("whereis", name)) == ref
    assert node.start_child(top, ChildSpec("inner", SupervisorSpec([]), name=Via("reg", Key("b")))) is not None
    assert node.whereis(Via("reg", Key("b"))) is not None


# rows: R9, R14
def test_the_registry_is_killed_and_all_names_come_back(node, top):
    names = [Via("reg", number) for number in range(3)]
    old = [node.start_child(top, ChildSpec(f"w{number}", Counter, name=name)) for number, name in enumerate(names)]

    def lookup(name):
        try:
            return node.whereis(name)
        except errors.NoProcess:
            return None

    kill(node.pid("reg"))
    until(lambda: all(lookup(name) not in (None, ref) for name, ref in zip(names, old, strict=True)))
    for name in names:
        assert node.call(name, ("add", 1)) == 1


# rows: R14, 27, 37
def test_the_fall_of_a_registry_costs_a_rest_for_one_tree_one_restart(node):
    names = [Via("front", number) for number in range(4)]
    spec = SupervisorSpec(
        [ChildSpec("front", Registry, kwargs={"keys": "unique"}, name="front")]
        + [ChildSpec(f"w{number}", Counter, name=name) for number, name in enumerate(names)],
        strategy="rest_for_one",
        intensity=1,
        period=60.0,
    )
    top = node.start_supervisor(spec)
    old = [node.pid(name) for name in names]
    kill(node.pid("front"))

    def all_new():
        try:
            return all(node.pid(name) not in (None, *old) for name in names)
        except errors.NoProcess:
            return False

    until(all_new)
    until(lambda: node.count_children(top).active == 5)
    node.stop(top)


# rows: G6, R9
def test_a_call_by_a_key_that_cannot_be_sent_leaves_no_question_behind(node, top):
    assert node.call("asker", "a key that cannot be sent") == 0


def test_what_is_no_via_name():
    for wrong in ("", None, 5):
        with pytest.raises(errors.SpecError):
            Via(wrong, "k")
    for wrong in ("", 5, ("via", "reg", "k")):
        with pytest.raises(errors.SpecError, match="Via"):
            ChildSpec("w", Counter, name=wrong)
        with pytest.raises(errors.SpecError, match="Via"):
            SupervisorSpec([], name=wrong)


# rows: R9
@pytest.mark.parametrize("key", [1, 1.0, True, ("a", (1, b"x")), None, Key("a")])
def test_via_travels_untouched_through_those_who_do_not_open_it(key):
    name = Via("reg", key, [key])
    passed = wire.pack(wire.unpack(wire.pack(name)))
    arrived = wire.unpack(passed, trusted=True)
    assert arrived == name
    assert type(arrived.key) is type(key)


class SlowResolver(GenServer):
    """A user's registry that says who asks for a name before it gives the name."""

    def init(self):
        self.asks = self.who = None

    async def handle_call(self, request, caller):
        match request:
            case ("register_via", _, ref, _):
                self.asks, self.who = caller, ref
                return NO_REPLY
            case ("resolve", _):
                return None
            case "who":
                return self.who
            case "give":
                self.reply(self.asks, None)
        return None


def test_a_child_that_is_added_before_a_supervisor_knows_that_the_name_is_its_own_is_there_once(node, top):
    """As when many need what a branch brings along: it was started twice, and the branch fell."""
    node.start_child(top, ChildSpec("slow", SlowResolver, name="slow"))
    child = ChildSpec("only", Counter, args=(1,), name="only-once")
    branch = ChildSpec("branch", SupervisorSpec([child]), name=Via("slow", "branch"))
    with ThreadPoolExecutor(2) as pool:
        started = pool.submit(node.start_child, top, branch)
        until(lambda: node.call("slow", "who") is not None)
        added = pool.submit(node.start_child, node.call("slow", "who"), child)
        until(lambda: started.running() and added.running())
        node.call("slow", "give")
        supervisor = started.result(30)
        with pytest.raises(errors.AlreadyStarted) as error:
            added.result(30)
    assert error.value.ref == node.whereis("only-once")
    assert [row.id for row in node.which_children(supervisor)] == ["only"]
    assert node.call("only-once", ("add", 0)) == 1
