"""Services of a node and clients of its LMs: who is there, how each is, and what stays when the registry dies."""

import asyncio
import contextlib
import json
import os
import signal
import threading

import pytest
from click.testing import CliRunner
from e2e_kit import Host, until

import dspex_actors as dspex
from dspex_actors.cli.main import dspex as command
from dspex_actors.services.handle import NodeServices
from supervisors import ChildSpec, GenServer, SupervisorSpec
from supervisors.errors import AlreadyRegistered, CallFailed, CallTimeout, NoProcess, StartError

#: A minute's worth of patience with a busy machine.
PATIENT = {"timeout": 20.0, "slow": 19.0}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    host = Host(tmp_path_factory.mktemp("served"))
    try:
        yield host.start()
    finally:
        host.close()


@pytest.fixture
def system(place):
    with dspex.connect(home=place.home) as one:
        yield one


class Tool(GenServer):
    """Answers "health" by what it was given, and nothing else; without, it does not know it."""

    def init(self, health=None):
        self.health = health
        self.gate = threading.Event()

    def handle_call(self, request, caller):
        if request == "hang":
            return self.gate.wait(60)
        if request == "pid":
            return os.getpid()
        if request == "health" and self.health is not None:
            return self.health
        return super().handle_call(request, caller)


def start(system, *specs):
    return system.node.start_supervisor(SupervisorSpec(specs, intensity=100, period=1.0))


def one(system, name, health=None):
    top = start(system, ChildSpec(name, Tool, args=(health,)))
    return system.node.which_children(top)[0].ref


def kill_registry(system):
    pid = system.node.pid("services")
    os.kill(pid, signal.SIGKILL)
    return pid


def test_a_service_is_found_by_name_and_by_what_it_can(system):
    ref = one(system, "search")
    assert system.services.lookup("tools", "search") is None
    assert system.services.register("tools", "search", ref, {"capabilities": ["search", "rank"], "shard": 1}) == ref
    assert system.services.lookup("tools", "search") == ref
    assert system.services.find(capability="rank") == [
        ("tools", "search", ref, {"capabilities": ["search", "rank"], "shard": 1})
    ]
    assert system.services.find("rank", namespace="others") == []
    assert system.services.find(capability="ran") == []
    with pytest.raises(AlreadyRegistered) as caught:
        system.services.register("tools", "search", ref)
    assert caught.value.ref == ref
    system.services.unregister("tools", "search")
    system.services.unregister("tools", "search")
    assert system.services.lookup("tools", "search") is None


def test_the_nodes_own_parts_are_there_when_they_run(system):
    lm = dspex.LM("embedded/nearest")
    lm("hi")
    system.config.get("node")
    found = {(each.namespace, each.name): each for each in system.services.find()}
    assert {("node", "runs"), ("node", "config"), ("workers", "worker-1"), ("workers", "worker-2")} <= found.keys()
    client = found["lm", lm.deployment[:16]]
    assert (client.metadata["provider"], client.metadata["model"]) == ("embedded", "embedded/nearest")
    assert "prediction" in client.metadata["capabilities"]
    assert client in system.services.find(capability="prediction")
    assert system.services.lookup("node", "runs") == system.node.whereis("runs")
    # A part that comes back is another process under the same name.
    os.kill(found["workers", "worker-2"].ref.pid, signal.SIGKILL)
    until(lambda: system.services.lookup("workers", "worker-2") not in (None, found["workers", "worker-2"].ref))


def test_members_of_ecosystems_are_there_and_their_caches_among_caches(system):
    def found():
        return [(row.namespace, row.name) for row in system.services.find() if row.namespace in ("ecosystems", "cache")]

    with (
        system.ecosystem(lambda question: {"answer": question}, id="qa") as eco,
        system.spawn_ecosystem(("tools", "1"), [dspex.Member("tool", Tool)]),
    ):
        members = [("ecosystems", f"inference:qa:{role}") for role in sorted(eco.roles) if role != "cache"]
        assert found() == [("cache", "inference:qa"), *members, ("ecosystems", "tools:1:tool")]
        assert system.services.lookup("cache", "inference:qa") == eco.members()["cache"]
        assert system.node.call(system.services.lookup("cache", "inference:qa"), "stats")["entries"] == 0
    assert found() == []


@pytest.mark.soak
def test_health_tells_slow_dead_silent_and_unhealthy_apart(system):
    refs = {
        name: one(system, name, health)
        for name, health in {
            "well": True,
            "says so": {"ok": True, "why": "warm"},
            "ill": {"ok": False, "why": "no index"},
            "very ill": False,
            "odd": 3,
            "hangs": True,
            "not asked": None,
        }.items()
    }
    for name, ref in refs.items():
        metadata = {} if name == "not asked" else {"health": True}
        system.services.register("health", name, ref, metadata)
    with pytest.raises(CallTimeout):
        system.node.call(refs["hangs"], "hang", timeout=0.1)
    found = {each.name: each for each in system.services.health("health", timeout=3.0, slow=2.9)}
    assert {name: each.state for name, each in found.items()} == {
        "well": "ok",
        "says so": "ok",
        "ill": "unhealthy",
        "very ill": "unhealthy",
        "odd": "unknown",
        "hangs": "not answering",
        "not asked": "ok",
    }
    assert (found["ill"].why, found["says so"].why) == ("no index", "warm")
    assert found["hangs"].latency is None
    assert 0 < found["well"].latency < 3
    os.kill(refs.pop("hangs").pid, signal.SIGKILL)
    slow = system.services.health("health", timeout=3.0, slow=1e-9)
    assert {each.name for each in slow if each.state == "slow"} == {"well", "says so", "not asked"}
    # Nobody who was not to be asked was asked, and nobody ended of it.
    assert system.node.call(refs["not asked"], "pid") == refs["not asked"].pid
    for ref in refs.values():
        os.kill(ref.pid, signal.SIGKILL)
    until(lambda: all(system.services.lookup("health", name) != ref for name, ref in refs.items()))
    assert system.services.find(namespace="health") == []  # entries go with their processes


def test_one_that_ends_while_it_is_asked_is_dead(system, monkeypatch):
    ref = one(system, "dying")
    system.services.register("dying", "dying", ref)
    found = system.services.find(namespace="dying")
    os.kill(ref.pid, signal.SIGKILL)
    until(lambda: system.services.lookup("dying", "dying") is None)
    monkeypatch.setattr(NodeServices, "find", lambda self, namespace=None: found)
    assert [each.state for each in system.services.health("dying")] == ["dead"]


def test_a_server_under_a_via_name_is_entered_anew_at_each_start(system):
    name = dspex.via("tools", "index", capabilities=["index"])
    start(system, ChildSpec("index", Tool, name=name))
    for _ in range(3):
        ref = system.services.lookup("tools", "index")
        assert system.node.call(name, "pid") == ref.pid
        os.kill(ref.pid, signal.SIGKILL)
        until(lambda ref=ref: system.services.lookup("tools", "index") not in (None, ref))
    assert [each.name for each in system.services.find(capability="index")] == ["index"]


def test_kill_9_of_the_registry_costs_no_entry_and_no_service(system):
    name = dspex.via("kept", "a", capabilities=["kept"])
    start(system, ChildSpec("a", Tool, name=name))
    ref = one(system, "b")
    system.services.register("kept", "b", ref, {"capabilities": ["kept"]})
    gone = one(system, "c")
    system.services.register("kept", "c", gone)
    system.services.register("kept", "d", ref)
    system.services.unregister("kept", "d")
    before = system.services.find(capability="kept")
    workers = [each.ref for each in system.services.find(namespace="workers")]
    os.kill(gone.pid, signal.SIGKILL)
    for _ in range(8):
        killed = kill_registry(system)
        assert system.services.find(capability="kept") == before
        assert system.node.pid("services") != killed
    assert {each.name for each in system.services.find(namespace="kept")} == {"a", "b"}
    assert system.node.call(name, "pid") == before[0].ref.pid
    assert [each.ref for each in system.services.find(namespace="workers")] == workers
    assert system.node.status()["incarnation"] == 0


def test_a_disk_that_cannot_be_written_costs_no_service(place, system):
    ref = one(system, "written")
    system.services.register("disk", "before", ref)
    file = place.home / "run" / "services.jsonl"
    file.unlink()
    file.mkdir()  # as good as a full disk: nothing can take its place
    kill_registry(system)
    assert system.services.register("disk", "meanwhile", ref) == ref
    assert system.services.lookup("disk", "meanwhile") == ref
    file.rmdir()
    system.services.register("disk", "after", ref)
    kill_registry(system)
    assert [each.name for each in system.services.find(namespace="disk")] == ["after", "meanwhile"]
    # And an actor that cannot say whom it follows starts all the same.
    folder = place.home / "run" / "followers"
    aside = folder.rename(folder.with_name("aside")) if folder.exists() else None
    folder.write_text("no folder")
    assert dspex.LM("embedded/other")("hi").text
    folder.unlink()
    if aside is not None:
        aside.rename(folder)


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        (("", "x", "runs"), dspex.ConfigError, "the namespace is invalid: got ''"),
        (("x", 3, "runs"), dspex.ConfigError, "the name is invalid: got 3"),
        (("x", "y" * 201, "runs"), dspex.ConfigError, "1 to 200 characters"),
        (("x", "y", None), dspex.ConfigError, "the ref of x/y is invalid: got NoneType"),
        (("x", "y", 3), dspex.ConfigError, "expected a Ref or a registered name"),
        (("x", "y", ""), dspex.ConfigError, "the ref of x/y is invalid"),
        (("x", "y", "nobody"), NoProcess, "no process is registered as 'nobody'"),
        (("x", "y", "runs", {"a": object()}), dspex.ConfigError, "got object as a, expected plain data"),
        (("x", "y", "runs", [1]), dspex.ConfigError, "got list, expected a dict"),
        (("x", "y", "runs", {"a": float("nan")}), dspex.ConfigError, "plain data"),
    ],
)
def test_what_is_no_service_is_refused(system, arguments, error, words):
    with pytest.raises(error) as caught:
        system.services.register(*arguments)
    assert words in str(caught.value)
    assert system.services.find(namespace="x") == []


def test_a_stranger_does_the_registry_no_harm(system):
    pid = system.services.find() and system.node.pid("services")
    ref = system.node.whereis("runs")
    for request in (
        "entries",
        ("entries",),
        ("entry", 1),
        ("register",),
        ("register", ("x", 1), ref, None),
        ("register", "x", ref, None),
        ("register", ("x", "y"), ref, [object]),
        ("register_via", "x", ref, None),
        {"a": 1},
    ):
        with pytest.raises(CallFailed):
            system.node.call("services", request)
    with pytest.raises(StartError):
        start(system, ChildSpec("wrong", Tool, name=type(dspex.via("a", "b"))("services", "no pair")))
    assert system.node.pid("services") == pid


def test_a_dead_process_cannot_be_entered(system):
    ref = one(system, "short")
    os.kill(ref.pid, signal.SIGKILL)
    until(lambda: _ended(system, ref))
    with pytest.raises(NoProcess):
        system.services.register("short", "short", ref)


def _ended(system, ref):
    with contextlib.suppress(NoProcess):
        return system.node.monitor(ref).wait(0.01) is not None
    return True


def test_it_works_from_an_event_loop_too(system):
    async def program():
        ref = await system.services.aregister("loop", "runs", "runs")
        assert await system.services.alookup("loop", "runs") == ref
        assert [each.ref for each in await system.services.afind(namespace="loop")] == [ref]
        assert [each.state for each in await system.services.ahealth("loop", **PATIENT)] == ["ok"]
        await system.services.aunregister("loop", "runs")

    asyncio.run(program())


def test_the_command_lists_them(place, system, monkeypatch):
    monkeypatch.setenv("DSPEX_HOME", str(place.home))
    system.config.update("infrastructure.services", {"slow": 19.0, "timeout": 20.0})
    system.services.register("told", "ill", one(system, "ill", {"ok": False, "why": "no index"}), {"health": True})
    found = CliRunner().invoke(command, ["services", "--json"], prog_name="dspex")
    rows = {(row["namespace"], row["name"]): row for row in json.loads(found.stdout)}
    assert found.exit_code == 1
    assert (rows["told", "ill"]["state"], rows["told", "ill"]["why"]) == ("unhealthy", "no index")
    assert rows["node", "config"]["state"] == "ok"
    page = CliRunner().invoke(command, ["services", "node"], prog_name="dspex")
    assert (page.exit_code, "node/runs" in page.stdout, "told/ill" in page.stdout) == (0, True, False)


# --- clients of LMs -------------------------------------------------------------------------------------------------


def test_a_client_asks_counts_and_is_found(system, server):
    lm = server("--answer", "blue").lm()
    client = dspex.Client(lm)
    found = [each for each in system.services.find(namespace="lm") if each.name == client.name]
    assert [(each.metadata["provider"], each.metadata["capabilities"]) for each in found] == [
        ("openai", ["prediction", "streaming"])
    ]
    before = client.stats()
    assert (before.requests, before.errors, before.last_request, before.cost) == (0, 0, None, 0.0)
    assert before.latency == {"p50": None, "p90": None, "p99": None, "mean": None}
    for number in range(3):
        assert client.request(f"colour {number}", user="ada", max_tokens=5).text == "blue"
    assert asyncio.run(client.arequest([{"role": "user", "content": "colour"}])).text == "blue"
    stats = client.stats()
    assert (stats["requests"], stats.errors) == (4, 0)
    assert stats.usage.output_total > 0
    assert 0 < stats.latency["p50"] <= stats.latency["p99"]
    assert stats.last_request is not None
    # The node knows of everybody who asks this deployment.
    dspex.Client(lm).request("colour")
    assert client.stats().requests == 4
    until(lambda: client.stats().node["requests"] == 5)
    node = client.stats().node
    assert node["errors"] == 0
    assert (node["cost"], stats.cost) == (None, None), "nobody knows what this server takes"
    assert node["usage"]["output_total"] == stats.usage.output_total // 4 * 5
    assert 0 < node["latency"]["p50"] <= node["latency"]["p99"]
    assert client.workers() == ["worker-1", "worker-2"]


def test_a_clients_errors_are_counted_and_its_mistakes_are_not(system):
    client = dspex.Client(dspex.LM("openai/x", base_url="http://127.0.0.1:1/v1"))
    with pytest.raises(dspex.LMError):
        client.request("hi", timeout=0.3)
    assert (client.stats().requests, client.stats().errors) == (1, 1)
    for wrong in (
        {"messages": 3},
        {"messages": "hi", "timeout": -1},
        {"messages": "hi", "timeout": "1"},
        {"messages": "hi", "user": 3},
        {"messages": []},
    ):
        with pytest.raises(dspex.ConfigError):
            client.request(**wrong)
    assert client.stats().requests == 1


@pytest.mark.soak
def test_a_client_asks_through_its_own_connection(system, tmp_path):
    """Whichever was connected last; and through none when that is closed."""
    with dspex.connect(home=tmp_path / "other", workers=1) as other:
        first, second = (dspex.Client("embedded/nearest", one) for one in (system, other))
        before = first.stats().node["requests"]  # other tests have asked it, too
        first.request("hi")
        asyncio.run(first.arequest("hi"))
        until(lambda: first.stats().node["requests"] == before + 2)
        assert (first.stats().cost, first.stats().node["cost"]) == (0.0, 0.0), "it is known to be free"
        assert second.stats().node["requests"] == 0
    with pytest.raises(dspex.ConfigError, match="this connection is closed"):
        second.request("hi")
    assert first.request("hi").text


@pytest.mark.parametrize("lm", [None, 3, "nonsense", lambda text: text])
def test_what_is_no_lm_is_refused(system, lm):
    with pytest.raises(dspex.ConfigError):
        dspex.Client(lm)


def test_a_request_is_an_operation(system, server):
    client = dspex.Client(server("--answer", "blue").lm())
    client.request("hi", correlation_id="order-17", user="ada")
    until(lambda: system.events.query(correlation_id="order-17", type="operation.completed"))
    started = system.events.query(correlation_id="order-17", type="operation.started")
    assert [(event.name, event.metadata["user"]) for event in started] == [("request", "ada")]


def test_workers_that_come_and_go_are_seen(system, monkeypatch):
    from dspex_actors.lm import node_backend
    from dspex_actors.workers.actor import HttpWorker

    monkeypatch.setattr(node_backend, "LOOK_SECONDS", 0.0)
    client = dspex.Client("embedded/nearest")
    assert client.workers() == ["worker-1", "worker-2"]
    system.node.start_child("http_workers", ChildSpec("worker-3", HttpWorker, args=(3, {}), name="worker-3"))
    until(lambda: client.workers() == ["worker-1", "worker-2", "worker-3"])
    assert [client.request("hi").text for _ in range(3)]
    system.node.terminate_child("http_workers", "worker-3")
    until(lambda: client.workers() == ["worker-1", "worker-2"])
    assert [client.request("hi").text for _ in range(3)]


def test_what_a_user_holds_shows_what_it_is(system):
    news = system.events.subscribe(None, lambda event: None)
    settings = system.config.subscribe("modules", lambda *change: None)
    assert repr(system).startswith(f"<System {system.data_dir} (")
    assert "events.db" in repr(system.events) or str(system.data_dir) in repr(system.events)
    assert repr(news) == "<Subscription to all events, active>"
    assert repr(settings) == "<Subscription to modules, active>"
    news.cancel()
    settings.cancel()
    assert "cancelled" in repr(news)
    assert "ended" in repr(settings)
