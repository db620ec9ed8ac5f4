"""What comes to supervisors and is not theirs: none of it ends one, and what ends one is told."""

import json
import os
import threading
import time
from pathlib import Path

import pytest
from node_helpers import Counter, Init, ready_again, until

from supervisors import (
    ChildSpec,
    DynamicSupervisorSpec,
    GenServer,
    Node,
    PartitionSupervisorSpec,
    Ref,
    Stop,
    SupervisorSpec,
    TaskSupervisorSpec,
    errors,
)
from supervisors.terms.ports import engine_of
from supervisors.terms.reason import SHUTDOWN
from supervisors.wire import messages
from supervisors.wire.messages import encode, parcel

SOMEBODY = Ref("127.0.0.1", 9, 1, 1, "nobody", 0)
#: A good message of every kind but those that are to end a supervisor, and what may stand in it instead.
GOOD = [
    messages.Boot("", 1, 1, "x", None, None, (), {}, None, None, {}),
    messages.BootResult("", 1, 1, "started", SOMEBODY, None, None),
    messages.Call("", 1, SOMEBODY, b"x"),
    messages.Reply("", 1, True, b"x"),
    messages.Cast("", b"x"),
    messages.Info("", b"x"),
    messages.Watch("", 1, SOMEBODY),
    messages.Unwatch("", 1, SOMEBODY),
    messages.Ending("", SOMEBODY, SHUTDOWN),
    messages.ChildExited("", 99, 1, SHUTDOWN),
    messages.RegistryIs("", SOMEBODY),
    messages.Abandon("", 1, SOMEBODY),
    messages.System("", 1, SOMEBODY, "get_state", b"x"),
    messages.Link("", SOMEBODY),
    messages.Unlink("", SOMEBODY),
    messages.Exit("", SOMEBODY, SHUTDOWN),
    messages.Stop("", SHUTDOWN),
]
ODD = [None, 7, -(2**70), "text", b"\xc1", [], {}, [[]], SOMEBODY, SHUTDOWN, 1.5]


def malformed(to):
    """Yield messages with one field that is what it must not be."""
    for good in GOOD:
        fields = {name: getattr(good, name) for name in messages._FIELDS[type(good)]} | {"to": to}
        for name, value in fields.items():
            for odd in ODD if name != "to" else ():
                both_stop = isinstance(good, messages.Stop) and odd is SHUTDOWN
                moves = isinstance(good, messages.RegistryIs) and odd is SOMEBODY
                if type(odd) is not type(value) and not both_stop and not moves:
                    yield type(good)(**(fields | {name: odd}))


class Postman(GenServer):
    """Sends messages of the system that a test has made up."""

    def handle_call(self, request, caller):
        target, words = request
        for each in words:
            engine_of(self)._outlet.post(target.host, target.port, each)
        return len(words)


@pytest.fixture(scope="module")
def supervisors(node):
    """One supervisor of each kind, with a child where it can have one from the start."""
    node.start_supervisor(SupervisorSpec([ChildSpec("postman", Postman, name="postman")]))
    child = ChildSpec("child", Counter)
    specs = [
        SupervisorSpec([child]),
        SupervisorSpec([child], strategy="simple_one_for_one"),
        DynamicSupervisorSpec(),
        TaskSupervisorSpec(),
        PartitionSupervisorSpec(child, name="partitioned", partitions=2),
    ]
    return [node.start_supervisor(spec) for spec in specs]


def view(node, supervisors):
    return [(ref, node.which_children(ref)) for ref in supervisors]


def test_a_malformed_message_of_the_system_is_dropped_by_a_supervisor(node, supervisors):
    before = view(node, supervisors)
    root = root_of(node)
    for target in (*supervisors, root):
        words = [encode(message) for message in malformed(target.uid)]
        assert len(words) > 300
        assert node.call("postman", (target, words), timeout=20.0) == len(words)
        node.call("postman", (target, [parcel([b"\xc1"]), encode(messages.Cast(target.uid, b"the end"))]))
    assert view(node, supervisors) == before
    assert node.status()["incarnation"] == 0


def root_of(node):
    return Ref(**json.loads((node.data_dir / "node.json").read_text())["root"])


def deep(levels):
    value = []
    for _ in range(levels):
        value = [value]
    return value


REQUESTS = [
    *(([], 1), ({}, None), ((), ()), (None, None), (b"which_children", None), ("", None), ("start_child",), "call", 7),
    *((name, odd) for name in ("shutdown_tasks", "resize", "resolve", "no such call", "__init__") for odd in ODD),
    *(
        (name, odd)
        for name in ("which_child", "get_childspec", "start_child", "terminate_child", "restart_child", "delete_child")
        for odd in (*ODD, "x" * 100_000, {"a": deep(100)})
    ),
    ("shutdown_tasks", ([None], 1.0)),
    ("shutdown_tasks", (None, 1.0)),
    ("shutdown_tasks", ([SOMEBODY], "soon")),
    ("shutdown_tasks", ([SOMEBODY], -1)),
]


def test_a_request_that_is_none_is_an_error_of_the_caller(node, supervisors):
    before = view(node, supervisors)
    for target in supervisors:
        for request in REQUESTS:
            try:
                node.call(target, request, timeout=10.0)
            except errors.CallTimeout:
                pytest.fail(f"no answer to {request!r:.100}")
            except errors.SupervisorsError:
                pass
        for request in REQUESTS[:9]:
            node.cast(target, request)
            node.send(target, request)
    for target, (_, rows) in zip(supervisors, before, strict=True):
        for row in node.which_children(target):  # a tuple of arguments is a start under simple_one_for_one
            if row not in rows:
                node.terminate_child(target, row.ref)
    assert view(node, supervisors) == before


class Leaver(GenServer):
    """Stops, and gives a large reason."""

    def handle_cast(self, message):
        raise Stop(("shutdown", bytes(70_000_000) if message == "bytes" else "x" * 70_000_000))


@pytest.mark.parametrize("kind", ["bytes", "text"])
def test_a_reason_too_large_to_be_sent_harms_nobody(node, supervise, kind):
    top = supervise([ChildSpec("leaver", Leaver, name="leaver"), ChildSpec("other", Counter, name="other")])
    other, old = node.whereis("other"), node.whereis("leaver")
    monitor = node.monitor(old)
    node.cast("leaver", kind)
    assert monitor.wait(20.0).reason.kind in ("shutdown", "killed")
    until(lambda: node.whereis("leaver") not in (None, old), 20.0)
    assert node.whereis("other") == other
    assert [row.restarts for row in node.which_children(top)] == [0, 1]


class Gone(GenServer):
    """Starts, and is gone without a word at its first message."""

    def init(self):
        self.continue_with("go")

    def handle_continue(self, value):
        os._exit(7)


def test_a_server_that_is_gone_at_its_first_message_had_started(node, supervise):
    top = supervise([])
    ref = node.start_child(top, ChildSpec("gone", Gone, restart="temporary"))
    assert node.monitor(ref).wait(20.0).reason.kind in ("killed", "noproc")
    until(lambda: [report.kind for report in node.reports() if report.id == "gone"] == ["progress", "child_terminated"])


NAMES = ["обработчик заказов", "эээээээээээээээээ", "😀" * 30, "a😀b" * 9, "日本語のサーバー", "ab\u0301" * 12]


def test_ids_and_names_are_of_any_script(node, supervise):
    top = supervise([ChildSpec(name, Counter, name=name) for name in NAMES])
    for name in NAMES:
        assert node.call(name, ("add", 1)) == 1
        assert node.which_child(top, name).name == name
        old = node.call(name, "pid")
        comm = Path(f"/proc/{old}/comm").read_bytes().strip()
        assert name.encode().startswith(comm)
        comm.decode()
        os.kill(old, 9)
        ready_again(node, name, old)


def test_the_name_of_a_nested_supervisor_is_shown_whichever_spec_gives_it(node, supervise):
    top = supervise(
        [
            ChildSpec("by child", SupervisorSpec(), name="named by child"),
            ChildSpec("by supervisor", SupervisorSpec(name="named by supervisor")),
        ]
    )
    for row in node.which_children(top):
        assert row.name == f"named {row.id}"
        assert node.whereis(row.name) == row.ref


BROKEN_CORE = """
from supervisors.supervisor.core import SupervisorCore

_call = SupervisorCore.call


def call(self, caller, name, argument, now):
    if name == "break":
        raise RuntimeError("the core is broken")
    return _call(self, caller, name, argument, now)


SupervisorCore.call = call
"""


@pytest.fixture(scope="module")
def breakable(tmp_path_factory):
    """A node whose supervisors break when they are asked to."""
    folder = tmp_path_factory.mktemp("modules")
    (folder / "broken_core.py").write_text(BROKEN_CORE)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)  # a node finds what its program finds
        node = Node.start(preload=["broken_core"])
    with node:
        yield node


def test_a_supervisor_that_crashes_says_why_to_its_parent_its_watchers_and_its_callers(breakable):
    node = breakable
    top = node.start_supervisor(SupervisorSpec([ChildSpec("lower", SupervisorSpec(name="lower"))], intensity=9))
    lower = node.whereis("lower")
    monitor = node.monitor(lower)
    raised = []

    def start():
        try:
            node.start_child(lower, ChildSpec("slow", Init, args=("hang",)))
        except errors.SupervisorsError as error:
            raised.append(error)

    waiting = threading.Thread(target=start)
    waiting.start()
    until(lambda: [row.state for row in node.which_children(lower)])
    with pytest.raises(errors.ServerExited) as caught:
        node.call(lower, ("break", None), timeout=10.0)
    assert "the core is broken" in str(caught.value.reason)
    assert "the core is broken" in str(monitor.wait(20.0).reason)
    waiting.join(20.0)
    assert raised[0].message.startswith("the supervisor has crashed: error: RuntimeError: the core is broken")
    until(lambda: node.whereis("lower") not in (None, lower), 20.0)
    assert [row.restarts for row in node.which_children(top)] == [1]
    (report,) = [report for report in node.reports() if report.kind == "child_terminated"]
    assert (report.id, report.reason.detail["message"]) == ("lower", "the core is broken")
    assert time.time() - report.at < 60.0
