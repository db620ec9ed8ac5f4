"""The connection to another node's door, from a loop of the test's own to a real door."""

import asyncio
import contextlib
import time

import pytest

from supervisors import ChildSpec, GenServer, Node, SupervisorSpec
from supervisors.errors import NoProcess
from supervisors.runtime.process import far as module
from supervisors.runtime.process import pulse
from supervisors.runtime.process.far import Far
from supervisors.terms.reason import KILLED, NODEDOWN, NOPROC
from supervisors.testing import wait_until_async
from supervisors.wire.keys import load_or_create_key


class Sleeper(GenServer):
    pass


class Log:
    def __init__(self):
        self.lines = []

    def warning(self, event, **fields):
        self.lines.append((event, fields["why"]))


class Owner:
    """A process that waits for the refs in `needed`."""

    def __init__(self, loop, folder):
        self.loop, self.node, self.log, self.bonds = loop, {"data_dir": str(folder)}, Log(), self
        self.needed, self.ends, self.forgotten = set(), [], []
        self.far = Far(self, lambda ref, reason: self.ends.append((ref, reason)), self.forgotten.append)

    def needs(self, ref):
        return ref in self.needed

    async def until(self, condition):
        await wait_until_async(condition)

    async def watch(self, *refs):
        """Return when the door watches these processes."""
        for ref in refs:
            self.far.watch(ref)
        node = self.far._nodes[refs[0].host, refs[0].door]
        await self.until(lambda: set(refs) <= set(node._monitors.values()))
        return node


@pytest.fixture(scope="module")
def node(tmp_path_factory):
    folder = tmp_path_factory.mktemp("node")
    folder.chmod(0o700)
    with Node.start(host="127.0.0.2", data_dir=folder) as running:
        yield running


@pytest.fixture
def refs(node):
    children = [ChildSpec(str(number), Sleeper, restart="temporary") for number in range(3)]
    supervisor = node.start_supervisor(SupervisorSpec(children))
    yield [node.which_child(supervisor, str(number)).ref for number in range(3)]
    node.stop(supervisor)


@pytest.fixture
def quick(monkeypatch):
    """Beats that come much more often."""
    monkeypatch.setattr(module, "BEAT_SECONDS", 0.02)
    monkeypatch.setattr(pulse, "BEAT_SECONDS", 0.02)


@pytest.fixture
def run(node):
    """Run a coroutine with an owner whose key is in `folder`."""

    def run(function, folder=None):
        async def main():
            owner = Owner(asyncio.get_running_loop(), folder or node.data_dir)
            try:
                return await function(owner)
            finally:
                for each in list(owner.far._nodes.values()):
                    each._close(down=False)

        return asyncio.run(main())

    return run


# rows: X1
def test_what_nobody_needs_any_more_is_let_go_and_then_the_connection_too(node, refs, run, quick, monkeypatch):
    monkeypatch.setattr(module, "SWEEP_BEATS", 2)

    async def script(owner):
        owner.needed = set(refs)
        door = await owner.watch(*refs)
        owner.needed = {refs[0]}
        await owner.until(lambda: set(owner.forgotten) == set(refs[1:]))
        assert list(door._monitors.values()) == [refs[0]]
        assert list(owner.far._nodes.values()) == [door]
        owner.needed = set()
        await owner.until(lambda: not owner.far._nodes)
        assert owner.far._down == {}
        owner.needed = {refs[0]}
        assert (await owner.watch(refs[0])) is not door
        assert owner.ends == owner.log.lines == []

    run(script)


# rows: X1
@pytest.mark.parametrize("same_run", [True, False])
def test_after_a_lost_connection_the_dead_are_killed_and_another_run_of_the_node_has_none(node, refs, run, same_run):
    async def script(owner):
        door = await owner.watch(*refs[:2])
        if not same_run:
            door._run = "another node", 0
        door._line.close()
        node.stop(refs[0])
        owner.far.watch(refs[2])
        ends = {(refs[0], KILLED)} if same_run else {(refs[0], NODEDOWN), (refs[1], NODEDOWN)}
        await owner.until(lambda: set(owner.ends) == ends)
        await owner.until(lambda: refs[2] in door._monitors.values())

    run(script)


# rows: G10
def test_a_node_with_another_key_is_down(node, refs, run, quick, tmp_path, monkeypatch):
    monkeypatch.setattr(pulse, "SILENT_SECONDS", 0.5)
    tmp_path.chmod(0o700)
    load_or_create_key(tmp_path)

    async def script(owner):
        owner.far.watch(refs[0])
        await owner.until(lambda: owner.ends == [(refs[0], NODEDOWN)])
        ((event, why),) = owner.log.lines
        assert event == "another node is down"
        assert "the same cluster key?" in why
        with pytest.raises(NoProcess) as error:
            owner.far.watch(refs[1])
        assert error.value.reason == NODEDOWN

    run(script, tmp_path)


# rows: G10
def test_a_node_that_is_down_is_tried_again_after_a_while(node, refs, run, monkeypatch):
    monkeypatch.setattr(module, "DOWN_SECONDS", 0.05)

    async def script(owner):
        door = await owner.watch(refs[0])
        door._is_down("for the test")
        assert owner.ends == [(refs[0], NODEDOWN)]
        with pytest.raises(NoProcess):
            owner.far.watch(refs[0])

        def again():
            with contextlib.suppress(NoProcess):
                return owner.far.watch(refs[0]) is None

        await owner.until(again)
        assert (await owner.watch(refs[0])) is not door
        assert owner.far._down == {}

    run(script)


# rows: G10
def test_an_old_protocol_is_no_reason_to_wait(node, refs, run, monkeypatch):
    monkeypatch.setattr(module.wire, "VERSION", 0)

    async def script(owner):
        owner.far.watch(refs[0])
        await owner.until(lambda: owner.ends == [(refs[0], NODEDOWN)])
        assert "speaks version" in owner.log.lines[0][1]

    run(script)


# rows: X1
def test_the_dead_are_noproc_and_leave_nothing(node, refs, run):
    node.stop(refs[0])

    async def script(owner):
        owner.far.watch(refs[0])
        owner.far.watch(refs[0])
        await owner.until(lambda: owner.ends == [(refs[0], NOPROC)])
        (door,) = owner.far._nodes.values()
        assert not door._watched
        assert not door._monitors

    run(script)


# rows: G10
def test_our_own_loop_may_be_blocked_for_longer_than_a_node_may_be_silent(node, refs, run, quick, monkeypatch):
    monkeypatch.setattr(pulse, "SILENT_SECONDS", 0.5)

    async def script(owner):
        door = await owner.watch(refs[0])
        for _ in range(2):
            time.sleep(1.0)  # noqa: ASYNC251 - that is the point
            beats = door._beats
            await owner.until(lambda beats=beats: door._beats > beats + 2)
        assert owner.ends == []

    run(script)
