"""Ecosystems of users' own: members by role, under a supervisor of their own, with their owner's life or beyond it."""

import asyncio
import os
import signal
import subprocess
import textwrap

import pytest
from e2e_kit import Host, gone, run_script, until

import dspex_actors as dspex
from dspex_actors.ecosystem.handle import list_ecosystems
from supervisors import GenServer


class Writer(GenServer):
    def init(self, style="plain"):
        self.style, self.heard = style, []

    def handle_call(self, request, caller):
        return self.heard if request == "heard" else f"{self.style} {request}"

    def handle_cast(self, message):
        self.heard.append(message)


class Reviewer(GenServer):
    def init(self):
        self.heard = []

    async def handle_call(self, request, caller):
        others = dspex.ecosystem_of(self)
        if request == "heard":
            return self.heard
        if request == "tell all":
            await others.broadcast("from the reviewer")
            return others.kind, others.id, others.role, sorted(await others.members())
        return "reviewed " + await others.call("writer", request)

    def handle_cast(self, message):
        self.heard.append(message)


class Broken(GenServer):
    def init(self):
        raise RuntimeError("no ink")


MEMBERS = [dspex.Member("writer", Writer, kwargs={"style": "terse"}), dspex.Member("reviewer", Reviewer)]


@pytest.fixture(scope="module")
def system(tmp_path_factory):
    host = Host(tmp_path_factory.mktemp("home"), workers=1)
    try:
        host.start()
        with dspex.connect(home=host.home) as made:
            yield made
    finally:
        host.close()


def test_members_find_each_other_by_role(system):
    with system.spawn_ecosystem(("essay", "1"), MEMBERS) as made:
        assert list(made.members()) == ["writer", "reviewer"]
        assert made.call("reviewer", "text") == "reviewed terse text"
        made.broadcast("to all")
        assert made.call("writer", "heard") == ["to all"]
        assert made.call("reviewer", "heard") == ["to all"]
        assert made.call("reviewer", "tell all") == ("essay", "1", "reviewer", ["reviewer", "writer"])
        assert made.call("writer", "heard") == ["to all", "from the reviewer"]
        assert made.call("reviewer", "heard") == ["to all"]
        pids = [ref.pid for ref in made.members().values()]
    until(lambda: all(map(gone, pids)))
    made.stop()
    with pytest.raises(dspex.ConfigError, match="has ended"):
        made.call("writer", "text")
    assert not list_ecosystems(system.node)


async def _from_a_loop(system):
    async with system.spawn_ecosystem(("essay", "loop"), MEMBERS) as made:
        await made.abroadcast("to all")
        return await made.acall("reviewer", "text"), sorted(await made.amembers()), await made.acall("writer", "heard")


def test_the_same_from_an_event_loop(system):
    assert asyncio.run(_from_a_loop(system)) == ("reviewed terse text", ["reviewer", "writer"], ["to all"])


def test_a_member_that_is_killed_comes_back_with_those_after_it(system):
    with system.spawn_ecosystem(("essay", "killed"), MEMBERS) as made:
        before = made.members()
        os.kill(before["writer"].pid, signal.SIGKILL)
        until(lambda: len(now := made.members()) == 2 and not set(now.values()) & set(before.values()))
        assert made.call("reviewer", "text") == "reviewed terse text"


def test_one_of_each_kind_and_id(system):
    with system.spawn_ecosystem(("essay", "one"), MEMBERS):
        with pytest.raises(dspex.ConfigError, match="runs already"):
            system.spawn_ecosystem(("essay", "one"), MEMBERS)
        assert system.find_ecosystem(("essay", "one")).call("writer", "x") == "terse x"
    with pytest.raises(dspex.ConfigError, match="no ecosystem essay:one"):
        system.find_ecosystem(("essay", "one"))


def test_a_member_that_does_not_start_leaves_nothing_behind(system):
    before = system.node.status()["processes"]
    with pytest.raises(dspex.ConfigError, match="no ink"):
        system.spawn_ecosystem(("essay", "broken"), [*MEMBERS, dspex.Member("broken", Broken)])
    until(lambda: system.node.status()["processes"] == before)
    with system.spawn_ecosystem(("essay", "broken"), MEMBERS) as made:
        assert made.call("writer", "x") == "terse x"


@pytest.mark.parametrize(
    ("key", "members", "strategy", "said"),
    [
        (("essay", "x"), [], "rest_for_one", "one member for each role"),
        (("essay", "x"), [*MEMBERS, MEMBERS[0]], "rest_for_one", "two members of the role writer"),
        (("essay", "x"), MEMBERS[0], "rest_for_one", "a list of dspex.Member"),
        (("essay", "x"), [("writer", Writer)], "rest_for_one", "expected a dspex.Member"),
        (("essay", "x"), MEMBERS, "all_at_once", "strategy"),
        (("essay", "x"), MEMBERS, "simple_one_for_one", "the strategy of an ecosystem is invalid"),
        (("essay",), MEMBERS, "rest_for_one", "a pair of two texts"),
        ("ab", MEMBERS, "rest_for_one", "a pair of two texts"),
        (("essay", "a:b"), MEMBERS, "rest_for_one", "the id of an ecosystem is invalid"),
        (("", "x"), MEMBERS, "rest_for_one", "the kind of an ecosystem is invalid"),
        (("essay", 7), MEMBERS, "rest_for_one", "the id of an ecosystem is invalid"),
        (("essay", "x"), [dspex.Member("w", Writer, args=(open,), kwargs={"n": 1})], "rest_for_one", "did not start"),
    ],
)
def test_what_is_no_ecosystem_is_refused(system, key, members, strategy, said):
    with pytest.raises(dspex.ConfigError, match=said):
        system.spawn_ecosystem(key, members, strategy)
    assert not list_ecosystems(system.node)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("a:b", Writer), "the role of an ecosystem is invalid"),
        (("writer", object), "inherits from supervisors.GenServer"),
        (("writer", Writer()), "inherits from supervisors.GenServer"),
        (("writer", Writer, "args"), "args"),
        (("writer", Writer, (), 3), "invalid"),
        (("writer", Writer, (), {}, "sometimes"), "restart"),
    ],
)
def test_what_is_no_member_is_refused_when_it_is_made(arguments, said):
    with pytest.raises(dspex.ConfigError, match=said):
        dspex.Member(*arguments)


def test_a_role_that_is_not_there_is_told(system):
    with (
        system.spawn_ecosystem(("essay", "role"), MEMBERS) as made,
        pytest.raises(dspex.ConfigError, match="expected one of writer, reviewer"),
    ):
        made.call("editor", "x")


SCRIPT = textwrap.dedent(
    """
    import sys, time
    import dspex_actors as dspex
    from supervisors import GenServer

    class Echo(GenServer):
        def handle_call(self, request, caller):
            return request

    system = dspex.connect(home=sys.argv[1])
    members = [dspex.Member("echo", Echo)]
    system.spawn_ecosystem(("of", "program"), members)
    system.spawn_ecosystem(("kept", "one"), members, keep=True)
    print("ready", flush=True)
    sys.stdin.read()
    """
)


def test_it_ends_with_the_program_that_started_it_unless_it_is_kept(system):
    program = run_script(SCRIPT, system.data_dir, stdin=subprocess.PIPE)
    assert program.stdout.readline() == "ready\n"
    with dspex.connect(home=system.data_dir) as mine:
        made = mine.find_ecosystem(("of", "program"))
        pids = [ref.pid for ref in made.members().values()]
        assert made.call("echo", "x") == "x"  # a class of the script's
        program.kill()
        program.wait()
        until(lambda: all(map(gone, pids)), what="the ecosystem of a program that was killed is left")
        until(lambda: [place.kind for place in list_ecosystems(mine.node)] == ["kept"])
        kept = mine.find_ecosystem(("kept", "one"))
        assert kept.call("echo", "y") == "y"
        kept.stop()
        assert not list_ecosystems(mine.node)
    with pytest.raises(dspex.ConfigError, match="this connection is closed"):
        made.call("echo", "z")
