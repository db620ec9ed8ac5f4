"""Whatever value a server gives, and whatever a spec or a raw request holds: a result or an error of this library.

What a program gives to the public calls is in test_misuse_of_calls.py.
"""

import contextlib

import pytest
from value_kinds import KINDS

from supervisors import ChildSpec, Extra, GenServer, Stop, SupervisorSpec, Via, errors
from supervisors.registry.server import Registry


class Taker(GenServer):
    """Takes any value, and gives any value back in the way that it is told."""

    def init(self, *args, extra=None, **kwargs):
        if extra is not None:
            return Extra(KINDS[extra]())
        return None

    async def handle_call(self, request, caller):
        match request:
            case ("give", str(name)):
                return KINDS[name]()
            case ("stop", str(name)):
                raise Stop(KINDS[name]())
            case ("stop orderly", str(name)):
                raise Stop(("shutdown", KINDS[name]()))
            case ("raise", str(name)):
                raise ValueError(KINDS[name]())
            case ("reply error", str(name)):
                self.reply_error(caller, ValueError(KINDS[name]()))
                return "not this"
            case ("pass on", target, value):
                return await self.call(target, ("echo", value), timeout=10.0)
            case ("give from", target, str(name)):
                return await self.call(target, ("give", name), timeout=10.0)
            case ("echo", value):
                return value
            case ("keep", value):
                self.kept = value
        return "taken"

    def handle_cast(self, message):
        self.last = message

    def handle_info(self, message):
        self.last = message


@pytest.fixture(scope="module")
def tree(node):
    """A server, a registry, and a supervisor that takes children."""
    top = node.start_supervisor(
        SupervisorSpec(
            [
                ChildSpec("taker", Taker, name="taker"),
                ChildSpec("other", Taker, name="other"),
                ChildSpec("names", Registry, kwargs={"keys": "unique"}, name="names"),
            ],
            intensity=1000,
            period=1.0,
            name="taker's supervisor",
        )
    )
    yield top
    node.stop(top, timeout=20.0)


def _pids(node):
    """Return the process ids of what must not end: door, registry, supervisors, the node."""
    rows = []

    def walk(row):
        if row["name"] not in ("taker", "other", "victim"):
            rows.append((row["id"], row["pid"]))
        for child in row["children"]:
            walk(child)

    walk(node.tree())
    return sorted(rows, key=str)


def _ways(node, top, name):
    """Return every place where a value of this kind is given, as functions."""

    def value():
        return KINDS[name]()

    def victim(request):
        node.start_child(top, ChildSpec("victim", Taker, restart="temporary", name="victim"))
        return node.call("victim", request, timeout=10.0)

    def child(**fields):
        fields = {"id": "tried", "start": Taker, "restart": "temporary", **fields}
        try:
            return node.start_child(top, ChildSpec(**fields))
        finally:
            with contextlib.suppress(errors.SupervisorsError):
                node.terminate_child(top, fields["id"])

    return {
        "reply": lambda: node.call("taker", ("give", name), timeout=10.0),
        "passed on": lambda: node.call("taker", ("pass on", "other", value()), timeout=10.0),
        "reply to a server": lambda: node.call("taker", ("give from", "other", name), timeout=10.0),
        "state": lambda: (node.call("taker", ("keep", value()), timeout=10.0), node.get_state("taker", 10.0)),
        "error reply": lambda: node.call("taker", ("reply error", name), timeout=10.0),
        "stop reason": lambda: victim(("stop", name)),
        "shutdown info": lambda: victim(("stop orderly", name)),
        "exception": lambda: victim(("raise", name)),
        "key of a Via": lambda: node.call(Via("names", value()), 1, timeout=10.0),
        "key of a whereis": lambda: node.whereis(Via("names", value())),
        "name of a Via": lambda: node.call(Via(value(), 1), 1, timeout=10.0),
        "request of a registry": lambda: node.call("names", ("register", value(), value(), value()), timeout=20.0),
        "cast of a registry": lambda: node.cast("names", ("unlock", value(), top, value())),
        "id": lambda: child(id=value()),
        "name": lambda: child(name=value()),
        "Via name": lambda: child(name=Via("names", value(), value())),
        "args": lambda: child(args=(value(),)),
        "kwargs": lambda: child(kwargs={"a": value()}),
        "Extra": lambda: child(kwargs={"extra": name}),
        "shutdown": lambda: child(shutdown=value()),
        "start_timeout": lambda: child(start_timeout=value()),
        "period": lambda: node.start_supervisor(SupervisorSpec([], period=value())),
    }


#: Python itself would go through all 2 to the 60 parts, in one process too; and 70 MB take their time.
LEFT_OUT = {
    "doubled": {"error reply", "exception"},
    "too large": {"passed on", "error reply", "stop reason", "key of a whereis", "id", "name", "kwargs"},
    "one block eighty times": {"passed on", "error reply", "stop reason", "key of a whereis", "id"},
}


#: Others go the ways that one of these goes.
EACH_DAY = {
    "None", "cycle", "doubled", "exception", "half a surrogate pair", "leaves when it is opened", "lock",
    "raises in eq", "raises in hash", "raises in reduce", "raises when it is opened", "rather deep lists",
}  # fmt: skip
NAMES = [name if name in EACH_DAY else pytest.param(name, marks=pytest.mark.soak) for name in KINDS]
assert set(KINDS) >= EACH_DAY


@pytest.mark.parametrize("name", NAMES)
def test_any_value_of_a_server_or_a_spec_is_a_result_or_an_error_at_the_caller(node, tree, name):
    before = _pids(node)
    wrong = {}
    for way, give in _ways(node, tree, name).items():
        if way in LEFT_OUT.get(name, ()):
            continue
        try:
            give()
        except errors.SupervisorsError:
            continue
        except BaseException as error:
            wrong[way] = f"{type(error).__name__}: {error}"[:200]
    assert not wrong
    assert node.status()["incarnation"] == 0
    now = _pids(node)
    assert [row for row in before if row not in now] == []
    assert node.call("taker", ("echo", 1)) == 1
    assert (node.data_dir / "logs" / "node.jsonl").stat().st_size < 5_000_000
