"""What a user's slip costs: an error at the caller, and nothing on the node."""

import contextlib
import json
import os

import pytest
from node_helpers import Counter, alive, until

from supervisors import ChildSpec, Down, GenServer, Node, PoolSpec, Ref, SupervisorSpec, Via, errors
from supervisors.application.application import Application
from supervisors.groups.server import ProcessGroups
from supervisors.pool.handle import Pool
from supervisors.registry.handle import RegistryHandle
from supervisors.registry.server import Registry
from supervisors.tasks.inside import AsyncTaskSupervisor
from supervisors.tasks.outside import TaskSupervisor
from supervisors.terms.tasks import TaskSupervisorSpec

NO_TARGETS = [None, 7, "", b"name", [], ("a", 1), object()]
STRAY = [
    *(None, 7, "", [], {}, (), ("checkin", []), ("checkin", [], {}), ("discard", [], True), ("lock", [], None, [])),
    *(("unlock", [], None, []), ("run", 1, 2, 3), ("start", (1, 2, 3), None), ("prepared",), Down([], None)),
    *(Down(None, None), ("EXIT",), ("_pool tick", []), "claim", "finish", ("join", [], [None]), ("register", [], [])),
]


@pytest.fixture(scope="module")
def node():
    with Node.start() as started:
        yield started


def root_of(node):
    return Ref(**json.loads((node.data_dir / "node.json").read_text())["root"])


@pytest.mark.parametrize("target", NO_TARGETS, ids=lambda target: f"{type(target).__name__}")
def test_what_is_no_target_is_refused_at_the_caller(node, target):
    for refused in (
        lambda: node.call(target, 1),
        lambda: node.cast(target, 1),
        lambda: node.send(target, 1),
        lambda: node.monitor(target),
        lambda: node.pid(target),
        lambda: node.stop(target),
        lambda: node.exit(target, "kill"),
        lambda: node.get_state(target),
        lambda: node.which_children(target),
        lambda: node.send_request(target, 1),
    ):
        with pytest.raises(errors.SpecError, match=r"target|supervisor"):
            refused()
    assert node.status()["incarnation"] == 0


class Careless(GenServer):
    """Does to a target whatever a test asks for."""

    async def handle_call(self, request, caller):
        what, target = request
        arguments = (target,) if what in ("monitor", "stop", "link", "unlink", "which_children") else (target, 1)
        try:
            outcome = getattr(self, what)(*arguments)
            if what in ("call", "stop", "which_children"):
                await outcome
        except errors.SpecError:
            return "refused"
        return "sent"


@pytest.mark.parametrize(
    "what", ["call", "cast", "send", "monitor", "stop", "exit", "link", "unlink", "which_children"]
)
def test_what_is_no_target_is_refused_in_a_server_too(node, supervise, what):
    supervise([ChildSpec("careless", Careless, name="careless")])
    before = node.whereis("careless")
    for target in NO_TARGETS[:-1]:
        assert node.call("careless", (what, target)) == "refused"
    assert node.whereis("careless") == before


def test_stray_calls_casts_and_messages_fell_no_server_of_this_library(node, supervise):
    supervise(
        [
            ChildSpec("registry", Registry, kwargs={"keys": "unique"}, name="stray registry"),
            ChildSpec("groups", ProcessGroups, name="stray groups"),
            ChildSpec("pool", PoolSpec(ChildSpec("worker", Counter), name="stray pool", size=1)),
            ChildSpec("tasks", TaskSupervisorSpec(name="stray tasks")),
        ]
    )
    node.start_application(Application("stray", SupervisorSpec(name="stray tree")))
    system = {row.id: row.ref for row in node.which_children(root_of(node)) if row.type == "worker"}
    names = ("stray registry", "stray groups", "stray pool", "stray tasks")
    before = {name: node.whereis(name) for name in names} | system
    assert len(before) == 7
    for target in before.values():
        for stray in STRAY:
            node.cast(target, stray)
            node.send(target, stray)
            with contextlib.suppress(errors.SupervisorsError):  # it may be a request that is answered
                node.call(target, stray)
    assert Pool(node, "stray pool").status() == ("ready", 1, 0, 0)
    after = {name: node.whereis(name) for name in names}
    after |= {row.id: row.ref for row in node.which_children(root_of(node)) if row.id in system}
    assert after == before
    assert node.status()["incarnation"] == 0
    node.stop_application("stray")


class Poison:
    """A key that no registry can compare."""

    def __eq__(self, other):
        raise RuntimeError("never")

    __hash__ = None


def test_a_lookup_that_its_registry_cannot_answer_is_made_once(node, supervise):
    supervise([ChildSpec("registry", Registry, kwargs={"keys": "unique"}, name="poisoned")])
    before = node.whereis("poisoned")
    with pytest.raises(errors.SupervisorsError):
        node.call(Via("poisoned", Poison()), 1)
    assert node.whereis("poisoned") == before


class Brittle(GenServer):
    """A resolver that crashes on what it is asked."""

    def handle_call(self, request, caller):
        with open(self.file, "a") as out:
            out.write("asked\n")
        raise RuntimeError("crashed on it")

    def init(self, file):
        self.file = file


def test_a_request_on_which_a_server_crashed_is_not_sent_again(node, supervise, tmp_path):
    supervise([ChildSpec("brittle", Brittle, args=(str(tmp_path / "asked"),), name="brittle")])
    for target in ("brittle", Via("brittle", "key")):
        with pytest.raises((errors.ServerExited, errors.NoProcess)):
            node.call(target, 1)
        assert (tmp_path / "asked").read_text() == "asked\n"
        (tmp_path / "asked").unlink()
        until(lambda: node.whereis("brittle"))


# --- smaller ----------------------------------------------------------------------------------------------------------


def test_to_ask_which_applications_run_starts_nothing():
    with Node.start() as node:
        before = [row.id for row in node.which_children(root_of(node))]
        assert node.which_applications() == []
        assert [row.id for row in node.which_children(root_of(node))] == before


class Failing(GenServer):
    """Does not start."""

    def init(self):
        raise ValueError("the first error")


def test_the_first_error_of_many_applications_is_the_one_that_is_seen(node, monkeypatch):
    good = Application("good", SupervisorSpec())
    bad = Application("bad", SupervisorSpec([ChildSpec("f", Failing)]), dependencies=("good",))

    def stop(node, name):
        raise errors.NodeDown("the second error")

    monkeypatch.setattr("supervisors.application.handle.stop_application", stop)
    with pytest.raises(errors.StartError, match="first error"):
        node.ensure_all_started(bad, good)
    monkeypatch.undo()
    node.stop_application("good")


def fail_after(step):
    step()
    raise ZeroDivisionError


def test_an_error_under_a_lock_is_not_hidden_by_the_node_that_went(tmp_path):
    with Node.start() as node:
        node.start_supervisor(SupervisorSpec([ChildSpec("r", Registry, kwargs={"keys": "unique"}, name="r")]))
        with pytest.raises(ZeroDivisionError), RegistryHandle(node, "r").lock("k"):
            fail_after(node.close)


def test_the_name_of_a_nested_supervisor_means_the_same_wherever_it_is_given(node, supervise):
    inner = ChildSpec("inner", SupervisorSpec(name="inner name"))
    assert inner.name == "inner name"
    assert ChildSpec("inner", SupervisorSpec(name="same"), name="same").name == "same"
    with pytest.raises(errors.SpecError, match="other"):
        ChildSpec("inner", SupervisorSpec(name="one"), name="other")
    (row,) = node.which_children(supervise([inner]))
    assert (row.name, row.ref) == ("inner name", node.whereis("inner name"))


class Unopenable:
    """A value that can be sent and not be opened."""

    def __reduce__(self):
        return _explode, ()


def _explode():
    raise RuntimeError("cannot be opened")


class Awaiting(GenServer):
    """Awaits a task."""

    async def handle_call(self, request, caller):
        task = await AsyncTaskSupervisor(self, "misuse tasks").async_nolink(Unopenable)
        return (await task.yield_(5.0))[0]


def test_a_result_that_cannot_be_opened_costs_the_task_and_not_the_server_that_awaits_it(node, supervise):
    supervise([ChildSpec("tasks", TaskSupervisorSpec(name="misuse tasks")), ChildSpec("a", Awaiting, name="awaiting")])
    before = node.whereis("awaiting")
    assert node.call("awaiting", "go") == "exit"
    assert node.whereis("awaiting") == before


def test_a_task_that_ends_its_process_at_once_costs_its_item_and_not_the_stream(node, supervise):
    supervise([ChildSpec("tasks", TaskSupervisorSpec(name="dying tasks"))])

    def dies(item):
        if item % 2:
            os._exit(3)
        return item

    found = list(TaskSupervisor(node, "dying tasks").async_stream_nolink(range(6), dies, max_concurrency=2))
    assert [kind for kind, _ in found] == ["ok", "exit"] * 3


@pytest.mark.parametrize(("restart", "state"), [("transient", "healthy"), ("permanent", "degraded")])
def test_a_child_that_has_ended_in_order_is_no_fault_of_its_node(node, supervise, restart, state):
    top = supervise([ChildSpec("c", Counter, restart=restart)])
    node.terminate_child(top, "c")
    (branch,) = [row for row in node.tree()["children"] if row["pid"] == top.pid]
    assert [(row["state"], row["at_rest"]) for row in branch["children"]] == [("stopped", restart == "transient")]
    assert node.status()["state"] == state


@pytest.mark.soak
def test_a_supervisor_that_does_not_answer_is_shown_as_such(node, supervise):
    top = supervise([ChildSpec("inner", SupervisorSpec([ChildSpec("c", Counter)], name="frozen"))])
    pid = node.pid("frozen")
    os.kill(pid, 19)
    try:
        (branch,) = [row for row in node.tree()["children"] if row["pid"] == top.pid]
        assert [row["state"] for row in branch["children"]] == ["unresponsive"]
        assert node.status()["state"] == "degraded"
    finally:
        os.kill(pid, 18)
    assert alive(pid)
