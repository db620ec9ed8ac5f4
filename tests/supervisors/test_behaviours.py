"""What holds for every behaviour: twins, targets, unknown requests, a small class for the user to fill."""

import asyncio
import inspect
import json
import re
from pathlib import Path

import pytest
from node_helpers import Counter

import supervisors
from supervisors import (
    Application,
    AsyncGroups,
    AsyncPartitionSupervisor,
    AsyncPool,
    AsyncRegistryHandle,
    AsyncTask,
    AsyncTaskSupervisor,
    ChildSpec,
    DynamicSupervisorSpec,
    GenServer,
    Groups,
    PartitionSupervisor,
    PartitionSupervisorSpec,
    Pool,
    PoolSpec,
    ProcessGroups,
    Ref,
    Registry,
    RegistryHandle,
    SupervisorSpec,
    Task,
    TaskSupervisor,
    TaskSupervisorSpec,
    Via,
    errors,
)
from supervisors.terms import checks

TWINS = [
    (Groups, AsyncGroups),
    (PartitionSupervisor, AsyncPartitionSupervisor),
    (Pool, AsyncPool),
    (RegistryHandle, AsyncRegistryHandle),
    (Task, AsyncTask),
    (TaskSupervisor, AsyncTaskSupervisor),
]
HANDLES = [twin for pair in TWINS for twin in pair if pair[0] is not Task]

#: What is written for the user to override.
CALLBACKS = {
    "init",
    "handle_call",
    "handle_cast",
    "handle_info",
    "handle_continue",
    "terminate",
    "format_status",
}

NO_TARGETS = [None, "", 5, b"name", ("name",), object]


def public(cls):
    return {name for name in dir(cls) if not name.startswith("_")}


def parameters(function):
    """Return names, kinds and defaults of a method's parameters."""
    return [(each.name, each.kind, each.default) for each in inspect.signature(function).parameters.values()]


# --- twins --------------------------------------------------------------------------------------------------------

#: What a handle has for other files of its room, and not for users.
INTERNAL = {
    TaskSupervisor: {"claim", "submit_start", "submit_shutdown", "shutdown_tasks"},
    AsyncTaskSupervisor: {"server", "ask", "claim", "shutdown_tasks", "spec"},
}


@pytest.mark.parametrize(("outside", "inside"), TWINS, ids=lambda cls: cls.__name__)
def test_twins_have_the_same_methods_with_the_same_arguments(outside, inside):
    assert inside.__name__ == f"Async{outside.__name__}"
    assert {outside.__name__, inside.__name__} <= set(supervisors.__all__)
    names = public(outside) - INTERNAL.get(outside, set())
    assert names == public(inside) - INTERNAL.get(inside, set())
    for name in names:
        assert parameters(getattr(outside, name)) == parameters(getattr(inside, name)), name


def test_the_page_of_behaviours_names_every_handle():
    page = (Path(__file__).parents[2] / "docs" / "behaviours.md").read_text()
    for outside, inside in TWINS:
        assert f"`{outside.__name__}`" in page
        assert f"`{inside.__name__}`" in page
    for spec in re.findall(r"`(\w+Spec)\(", page):
        assert spec in supervisors.__all__


# --- targets ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", NO_TARGETS, ids=repr)
@pytest.mark.parametrize("handle", HANDLES, ids=lambda cls: cls.__name__)
def test_a_handle_of_nobody_is_refused_where_it_is_made(handle, target):
    with pytest.raises(errors.SpecError, match=r"^target is invalid: got .*, expected a Ref, a registered name"):
        handle(None, target)


@pytest.mark.parametrize("target", NO_TARGETS, ids=repr)
def test_a_node_refuses_what_is_no_process_before_anything_is_sent(node, target):
    asks = [
        lambda: node.call(target, "value"),
        lambda: node.cast(target, "value"),
        lambda: node.send(target, "value"),
        lambda: node.send_request(target, "value"),
        lambda: node.stop(target),
        lambda: node.exit(target, "normal"),
        lambda: node.pid(target),
        lambda: node.monitor(target),
        lambda: node.get_state(target),
        lambda: node.suspend(target),
        lambda: node.whereis(target),
        lambda: node.which_children(target),
        lambda: node.start_child(target, ChildSpec("c", Counter)),
        lambda: node.terminate_child(target, "c"),
    ]
    for ask in asks:
        with pytest.raises(errors.SpecError, match=r"is invalid: got .*, expected a (Ref|non-empty text)"):
            ask()


class Asker(GenServer):
    """Tries what a server has; returns what it was refused with."""

    def init(self):
        self.tasks = self.registry = self.groups = self.pool = []  # hide nothing

    async def handle_call(self, request, caller):
        match request:
            case ("targets", target):
                asks = [
                    lambda: self.call(target, "x"),
                    lambda: self.cast(target, "x"),
                    lambda: self.send(target, "x"),
                    lambda: self.stop(target),
                    lambda: self.monitor(target),
                    lambda: self.link(target),
                    lambda: self.unlink(target),
                    lambda: self.exit(target, "normal"),
                    lambda: self.whereis(target),
                    lambda: self.which_children(target),
                    lambda: self.start_child(target, ChildSpec("c", Counter)),
                ]
                refused = []
                for ask in asks:
                    try:
                        found = ask()
                        if inspect.isawaitable(found):
                            await found
                    except errors.SpecError as error:
                        refused.append(str(error))
                return len(asks), refused
            case ("ask", target, question):
                try:
                    return await self.call(target, question)
                except errors.CallFailed as error:
                    return str(error)
            case "node":
                return dict(self.node)
            case "change the node":
                self.node["name"] = "another"
            case ("pool", method, *arguments):
                return await getattr(AsyncPool(self, "db"), method)(*arguments)
            case ("partition", method, *arguments):
                return await getattr(AsyncPartitionSupervisor(self, "parts"), method)(*arguments)
        return None


@pytest.fixture(scope="module")
def asker(node):
    return node.start_supervisor(SupervisorSpec([ChildSpec("asker", Asker, name="asker")], intensity=100))


@pytest.mark.parametrize("target", [None, "", 5], ids=repr)
def test_a_server_refuses_what_is_no_process_before_anything_is_sent(node, asker, target):
    count, refused = node.call("asker", ("targets", target))
    assert len(refused) == count
    assert all(re.search(r"is invalid: got .*, expected ", each) for each in refused)


@pytest.mark.parametrize("target", [Ref("h", 1, 2, 3, "u"), "name", Via("reg", "key")], ids=str)
def test_a_ref_a_name_and_a_via_are_targets(target):
    checks.check_target(target)


# --- the class ----------------------------------------------------------------------------------------------------


def test_a_genserver_has_few_names():
    assert public(GenServer) >= CALLBACKS
    names = public(GenServer) - CALLBACKS
    assert len(names) <= 27, sorted(names)
    own = [name for name in {*vars(GenServer), *GenServer.__annotations__} if name.startswith("_") and name[1] != "_"]
    assert own == ["_supervisors_engine"]


def test_a_server_knows_its_node_and_cannot_change_what_is_known(node, asker):
    known = node.call("asker", "node")
    assert known["name"] == node.info["name"]
    assert known["address"] == node.info["address"]
    assert known["data_dir"] == str(node.data_dir)
    with pytest.raises(errors.ServerExited, match="does not support item assignment"):
        node.call("asker", "change the node")


# --- unknown requests ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def system_servers(node):
    """Start one of each server of this library; return their names."""
    children = [
        ChildSpec("reg", Registry, kwargs={"keys": "unique"}, name="reg"),
        ChildSpec("pg", ProcessGroups, name="pg"),
        ChildSpec("db", PoolSpec(ChildSpec("w", Counter), name="db", size=1)),
        ChildSpec("parts", PartitionSupervisorSpec(ChildSpec("p", Counter), partitions=2, name="parts")),
        ChildSpec("dyn", DynamicSupervisorSpec(name="dyn")),
        ChildSpec("tasks", TaskSupervisorSpec(name="tasks")),
    ]
    node.start_supervisor(SupervisorSpec(children))
    node.start_application(Application("app", SupervisorSpec([])))


@pytest.mark.parametrize("name", ["reg", "pg", "db", "application_controller"])
def test_an_unknown_request_is_refused_and_does_no_harm(node, system_servers, name):
    before = node.whereis(name)
    for request in ("nonsense", ("nonsense", 1), None, 7):
        with pytest.raises(errors.CallFailed, match="does not know the request"):
            node.call(name, request)
    node.cast(name, "nonsense")
    node.send(name, "nonsense")
    with pytest.raises(errors.CallFailed, match="does not know the request"):
        node.call(name, "nonsense")
    assert node.whereis(name) == before


def test_the_nodes_own_servers_and_a_task_refuse_what_they_do_not_know(node, asker, system_servers):
    own = [row.ref for row in node.which_children(root(node)) if row.id in ("registry", "door")]
    task = TaskSupervisor(node, "tasks").async_nolink(wait_for_nobody)
    for ref in (*own, task.ref):
        node.cast(ref, "nonsense")
        node.send(ref, "nonsense")
        # Through a server, for the door cannot call itself.
        assert "does not know the request 'nonsense'" in node.call("asker", ("ask", ref, "nonsense"))
    assert own == [row.ref for row in node.which_children(root(node)) if row.id in ("registry", "door")]
    assert len(own) == 2
    task.shutdown("brutal_kill")


def root(node):
    return Ref(**json.loads((node.data_dir / "node.json").read_text())["root"])


async def wait_for_nobody():
    await asyncio.Event().wait()


# --- handles inside that nobody else tests --------------------------------------------------------------------------


def test_a_pool_and_a_partition_supervisor_inside_a_server(node, asker, system_servers):
    assert node.call("asker", ("pool", "transaction", ("add", 2))) == 2
    worker = node.call("asker", ("pool", "checkout"))
    assert Pool(node, "db").status().checked_out == 1
    assert isinstance(worker, Ref)
    assert node.call("asker", ("partition", "ref", 1)) == PartitionSupervisor(node, "parts").ref(1)
    assert node.call("asker", ("partition", "resize", 1)) == 1
    assert node.call("asker", ("partition", "partitions")) == 1
    node.call("asker", ("pool", "stop", 10.0), timeout=20.0)
    with pytest.raises(errors.NoProcess):
        Pool(node, "db").status()
