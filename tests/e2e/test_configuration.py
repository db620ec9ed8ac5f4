"""The configuration of a node: updates reach what runs, survive what dies, and are refused whole."""

import asyncio
import contextlib
import json
import os
import signal
import stat
import threading
import time

import pytest
from click.testing import CliRunner
from e2e_kit import Host, until

import dspex_actors as dspex
from dspex_actors.cli.main import dspex as command
from dspex_actors.lm.control.client import client_name
from supervisors import ChildSpec, GenServer, SupervisorSpec

FILE = """
[optimization.copro]
depth = 5
[infrastructure.services]
slow = 0.4
"""
BREADTH = "optimisation.copro.breadth"


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A daemon with a file, a variable and a command line behind it."""
    folder = tmp_path_factory.mktemp("configured")
    (folder / "dspex.toml").write_text(FILE)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("DSPEX_OPTIMISATION__COPRO__INIT_TEMPERATURE", "0.5")
        host = Host(folder / "home", given={"node.workers": (2, "--workers")})
        try:
            yield host.start()
        finally:
            host.close()


@pytest.fixture
def system(place):
    with dspex.connect(home=place.home) as one:
        yield one


class Follower(GenServer):
    """Writes down what it is told."""

    def init(self, *prefixes):
        self.told = []
        dspex.follow(self, *prefixes)

    def handle_info(self, message):
        self.told.append(message)

    def handle_call(self, request, caller):
        return self.told


def follower(system, *prefixes):
    top = system.node.start_supervisor(SupervisorSpec([ChildSpec("follower", Follower, args=prefixes)]))
    return system.node.which_children(top)[0].ref


def kill_config(system):
    pid = system.node.pid("config")
    os.kill(pid, signal.SIGKILL)
    return pid


def run(place, *words):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DSPEX_HOME", str(place.home))
        return CliRunner().invoke(command, [str(word) for word in words], prog_name="dspex")


@pytest.mark.parametrize(
    ("path", "value", "layer", "where"),
    [
        ("optimisation.copro.depth", 5, "file", "dspex.toml:3"),
        ("infrastructure.services.slow", 0.4, "file", "dspex.toml:5"),
        (
            "optimization.copro.init_temperature",
            0.5,
            "environment",
            "DSPEX_OPTIMISATION__COPRO__INIT_TEMPERATURE",
        ),
        ("node.workers", 2, "command line", "--workers"),
        ("optimisation.bootstrap.max_labeled_demos", 16, "default", ""),
    ],
)
def test_where_a_value_comes_from(system, path, value, layer, where):
    found = system.config.explain(path)
    assert (found.value, found.layer) == (value, layer)
    assert found.where.endswith(where)
    assert system.config.get(path) == value
    assert found.description
    assert found.bounds


def test_an_update_reaches_an_actor_that_runs(system):
    lm = dspex.LM("embedded/nearest", rpm=900)
    lm("hi")
    name = client_name(lm.deployment)

    def limit():
        return system.node.call(name, "stats")["limits"]["rpm"]

    until(lambda: limit() == 900)
    system.config.update("providers.embedded.rpm", 60)
    until(lambda: limit() == 60, what=limit)
    # It follows from its start on, also where it comes back.
    os.kill(system.node.pid(name), signal.SIGKILL)
    lm("hi")
    until(lambda: limit() == 60, what=limit)
    system.config.reset("providers.embedded")
    until(lambda: limit() == 900, what=limit)


def test_the_store_of_events_keeps_to_another_age(system):
    system.events.emit(dspex.Event(type="old", at=time.time() - 90))
    system.events.emit(dspex.Event(type="new"))
    assert {event.type for event in system.events.query()} >= {"old", "new"}
    system.config.update("infrastructure.events.max_age", 60)
    until(lambda: not system.events.query(type="old"))
    assert system.events.query(type="new")
    system.config.reset("infrastructure.events")


def test_followers_get_what_they_follow_and_nothing_else(system):
    ref = follower(system, "optimization.copro", "providers.openai")
    # It began with the defaults: what differs from them it is told.
    until(lambda: len(system.node.call(ref, "told")) == 2)
    told = {change.path: (change.value, change.old) for change in system.node.call(ref, "told")}
    assert told == {"optimisation.copro.depth": (5, 3), "optimisation.copro.init_temperature": (0.5, 1.4)}
    system.config.update("providers.cohere.rpm", 5)
    version = system.config.update("providers.openai.rpm", 5)
    until(lambda: len(system.node.call(ref, "told")) == 3)
    assert system.node.call(ref, "told")[-1] == dspex.ConfigChanged("providers.openai.rpm", 5.0, None, version)
    system.config.reset("providers")


@pytest.mark.soak
def test_kill_9_of_the_configuration_loses_nothing(system):
    ref = follower(system, "optimisation.random_search")
    seen = []
    subscription = system.config.subscribe("optimisation.random_search", seen.append)
    setting, first = "optimisation.random_search.num_candidate_programs", None
    for value in range(1, 21):
        version = system.config.update(setting, value)
        first = version if first is None else first
        killed = kill_config(system)
        assert system.config.get(setting) == value
        assert system.node.pid("config") != killed
    assert version == first + 19
    until(lambda: len(seen) == 20, what=lambda: seen)
    assert [change.value for change in seen] == list(range(1, 21))  # once each, and in order
    assert [change.version for change in seen] == list(range(first, first + 20))
    until(lambda: system.node.call(ref, "told")[-1].value == 20)
    subscription.cancel()
    assert system.node.status()["incarnation"] == 0  # no branch and no root fell over it
    system.config.reset(setting)


def test_updates_at_the_same_time_come_one_after_the_other(system):
    seen, versions = [], {}
    subscription = system.config.subscribe("optimisation.simba", seen.append)

    def update(value):
        versions[value] = system.config.update("optimisation.simba.bsize", value)

    threads = [threading.Thread(target=update, args=(value,)) for value in range(101, 117)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(versions.values())) == 16
    last = max(versions, key=versions.get)
    assert system.config.get("optimisation.simba.bsize") == last
    until(lambda: len(seen) == 16)
    assert [change.value for change in seen] == sorted(versions, key=versions.get)
    assert [change.old for change in seen] == [32, *[change.value for change in seen[:-1]]]
    subscription.cancel()
    system.config.reset("optimisation.simba")


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("optimisation.copro.bredth", 3, "did you mean 'optimisation.copro.breadth'"),
        (BREADTH, "12", "got a text, expected a whole number, 2 to 1000"),
        (BREADTH, 1, "got 1, expected a whole number, 2 to 1000"),
        (BREADTH, float("nan"), "expected plain data"),
        (BREADTH, object(), "got object, expected plain data"),
        ("optimisation.copro", {"breadth": 5, "depth": 0}, "depth is invalid: got 0"),
        ("infrastructure.services.timeout", 0.3, "slow has to be below timeout"),
        ("node.port", 3, "is read when the node starts"),
        ("lm.fast", {"model": "openai/x", "api_key": "sk-verysecret123"}, "expected a reference such as 'env:"),
        ("", {}, "nothing is given"),
        (3, 3, "got int, expected a text"),
        ("a..b", 3, "names with dots between them"),
        ("x" * 100_000, 3, "there is no setting"),
    ],
)
def test_what_is_not_legal_is_refused_and_nothing_changes(system, path, value, words):
    before, seen = system.config.get(), []
    subscription = system.config.subscribe("", seen.append)
    with pytest.raises(dspex.ConfigError) as caught:
        system.config.update(path, value)
    assert words in caught.value.message
    assert "verysecret" not in caught.value.message
    assert system.config.get() == before
    subscription.cancel()
    assert seen == []


def test_get_has_a_default_for_what_is_not_there(system):
    assert system.config.get("lm.nobody", default=None) is None
    assert system.config.get("nope", 3) == 3
    assert system.config.get(BREADTH, 3) == 10
    with pytest.raises(dspex.ConfigError, match="nothing is set at"):
        system.config.get("lm.nobody")
    with pytest.raises(dspex.ConfigError, match="is a table: explain one of its settings"):
        system.config.explain("optimisation.copro")


def test_a_handler_that_raises_is_detached_and_the_others_go_on(system, caplog):
    good, calls = [], []

    def bad(change):
        calls.append(change)
        raise ValueError("no")

    failing = system.config.subscribe("optimisation.mipro", bad)
    well = system.config.subscribe("optimisation.mipro", good.append)
    for size in range(1, 15):
        system.config.update("optimisation.mipro.minibatch_size", size)
    until(lambda: len(good) == 14 and not failing.active)
    assert len(calls) == 10
    assert well.active
    assert "is detached" in caplog.text
    well.cancel()
    system.config.reset("optimisation.mipro")


def test_it_works_from_an_event_loop_too(system):
    async def program():
        done, seen = asyncio.Event(), []

        async def handler(change):
            seen.append(change.value)
            done.set()

        subscription = system.config.subscribe("modules", handler)
        version = await system.config.aupdate("modules.react.max_iters", 9)
        async with asyncio.timeout(30):
            await done.wait()
        subscription.cancel()
        assert (await system.config.aget("modules.react.max_iters"), seen) == (9, [9])
        assert (await system.config.aexplain("modules.react.max_iters")).where == f"version {version}"
        assert await system.config.areset("modules") == version + 1

    asyncio.run(program())


def test_what_was_updated_is_in_a_file_of_ones_own(place, system):
    system.config.update("lm.fast", {"model": "openai/x", "api_key": "env:SOME_KEY"})
    file = place.home / "config.json"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert ["lm", "fast", "api_key"] in [row[0] for row in json.loads(file.read_text())["updates"]]
    lm = system.config.lm("fast")
    assert (lm.model, lm.api_key) == ("openai/x", "env:SOME_KEY")
    # Where it cannot be written nothing changes.
    aside = file.rename(file.with_suffix(".aside"))
    file.mkdir()
    with pytest.raises(dspex.ConfigError, match="nothing was changed"):
        system.config.update("lm.fast.rpm", 3)
    file.rmdir()
    aside.rename(file)
    assert "rpm" not in system.config.get("lm.fast")
    system.config.reset("lm")


def test_a_stranger_does_it_no_harm(system):
    system.config.get("node")
    pid = system.node.pid("config")
    for request in ("get", ("get", 1), {"a": 1}, None, ["x"] * 1000):
        kind, _ = system.node.call("config", request)
        assert kind == "error"
        system.node.cast("config", request)
    assert system.node.call("config", "health") == {"ok": True, "why": None}
    assert system.node.pid("config") == pid


def test_the_command_shows_sets_and_explains(place, system):
    found = run(place, "config", "set", "optimization.copro.breadth", "12", "--json")
    assert found.exit_code == 0, found.output
    assert json.loads(found.stdout)["value"] == system.config.get(BREADTH) == 12
    assert run(place, "config", "get", BREADTH).stdout == "12\n"
    told = json.loads(run(place, "config", "explain", BREADTH, "--json").stdout)
    assert (told["value"], told["layer"], told["bounds"]) == (12, "update", "a whole number, 2 to 1000")
    page = run(place, "config", "explain", "optimisation.copro.depth").stdout
    assert "dspex.toml:3" in page
    rows = json.loads(run(place, "config", "show", "--json").stdout)
    assert {row["path"]: row["value"] for row in rows}["optimisation.copro.depth"] == 5
    assert "optimisation.copro.depth" in run(place, "config", "show", "optimisation").stdout
    wrong = run(place, "config", "set", BREADTH, "x")
    assert (wrong.exit_code, "expected a whole number, 2 to 1000" in wrong.stderr) == (2, True)
    assert run(place, "config", "reset", BREADTH).exit_code == 0
    assert system.config.get(BREADTH) == 10


def test_a_node_that_is_started_anew_keeps_what_was_updated(place):
    """The last test here: it ends the node."""
    with dspex.connect(home=place.home) as system:
        version = system.config.update("providers.embedded.rpm", 77)
    place.kill_everything()
    place.start()
    with dspex.connect(home=place.home) as system:
        # An actor may have to be told: the configuration is there from the start.
        assert system.node.whereis("config") is not None
        lm = dspex.LM("embedded/nearest")
        lm("hi")
        until(lambda: system.node.call(client_name(lm.deployment), "stats")["limits"]["rpm"] == 77)
        assert system.config.explain("providers.embedded.rpm").where == f"version {version}"
        assert system.config.update("providers.embedded.rpm", 78) == version + 1


def test_without_a_node_the_command_says_what_would_be(home, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "dspex.toml").write_text(FILE)
    invoke = CliRunner().invoke
    shown = invoke(command, ["config", "get", "optimisation.copro.depth"], prog_name="dspex")
    assert (shown.exit_code, shown.stdout, "no node runs" in shown.stderr) == (0, "5\n", True)
    offered = invoke(command, ["config", "set", BREADTH, "12"], prog_name="dspex")
    assert offered.exit_code == 2
    assert "dspex start" in offered.stderr
    assert "put `breadth = 12` under [optimisation.copro] in dspex.toml" in offered.stderr
    wrong = invoke(command, ["config", "set", BREADTH, "1"], prog_name="dspex")
    assert (wrong.exit_code, "2 to 1000" in wrong.stderr) == (2, True)
    with contextlib.suppress(FileNotFoundError):
        assert not list(home.iterdir())  # looking leaves nothing behind


def test_a_file_that_is_wrong_is_said_and_can_be_mended(home, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "dspex.toml"
    file.write_text("[optimisation.copro]\nbreadth = 1\n")
    with dspex.connect() as system:
        for _ in range(2):
            with pytest.raises(dspex.ConfigError, match=r"dspex\.toml:2: optimisation\.copro\.breadth is invalid"):
                system.config.get(BREADTH, default=3)
        file.write_text("[optimisation.copro]\nbreadth = 8\n")
        assert system.config.get(BREADTH) == 8
        file.write_text("[optimisation.copro]\nbreadth = 9\n")
        kill_config(system)
        assert system.config.get(BREADTH) == 8  # it is what the node was started with
