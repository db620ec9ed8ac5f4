"""`dspex.testing` on a node: a system of one's own, fakes of services and LMs, what was emitted."""

import contextlib
import os
import threading
from pathlib import Path

import pytest
from e2e_kit import gone, until

import dspex_actors as dspex
from supervisors import ChildSpec, GenServer, SupervisorSpec
from supervisors.errors import CallFailed

WAIT = 100.0


class ToolUsed(dspex.Event):
    tool_name: str


class Adder(GenServer):
    def handle_call(self, request, caller):
        return request + 1


@pytest.fixture(scope="module")
def shared():
    with dspex.testing.isolated_system() as one:
        yield one


@pytest.fixture
def system(shared, monkeypatch):
    # The fixture `home` gives each test another DSPEX_HOME.
    monkeypatch.setenv("DSPEX_HOME", str(shared.data_dir.parent.parent))
    return shared


def test_an_isolated_system_shares_nothing_and_is_gone(monkeypatch, tmp_path):
    monkeypatch.setenv("DSPEX_HOME", str(tmp_path / "mine"))
    before = dspex.settings.lm
    program, inputs = dspex.Predict("question -> answer"), {"question": "q"}
    with dspex.context(lm=dspex.testing.scripted_lm(["[[ ## answer ## ]]\nfour"])):
        dspex.execute_module_with_cache_fallback(program, inputs)
    with contextlib.ExitStack() as stack:
        stack.enter_context(contextlib.suppress(ZeroDivisionError))
        system = stack.enter_context(dspex.testing.isolated_system(dspex.testing.scripted_lm([KeyError("x")])))
        folder, pid = system.data_dir, system.node.info["pid"]
        assert dspex.current_system() is system
        assert folder.is_dir()
        assert not folder.is_relative_to(tmp_path)
        assert os.environ["DSPEX_HOME"] != str(tmp_path / "mine")
        assert system.runs() == []
        assert dspex.settings.lm is not before
        assert dspex.execute_module_with_cache_fallback(program, inputs, default="none").strategy == "default"
        raise ZeroDivisionError
    until(lambda: gone(pid))
    assert not folder.exists()
    assert not Path(folder).parent.parent.exists()
    assert os.environ["DSPEX_HOME"] == str(tmp_path / "mine")
    assert not (tmp_path / "mine").exists()
    assert dspex.settings.lm is before


def test_a_scripted_lm_goes_to_the_workers_of_a_node(system):
    def answer(messages, **params):
        return f"[[ ## answer ## ]]\nfunction {messages[-1]['content'].count('q2')}"

    lm = dspex.testing.scripted_lm(["[[ ## answer ## ]]\nzero", dspex.InvalidRequest("refused"), answer])
    rows = [{"question": f"q{n}", "answer": "zero"} for n in range(4)]
    result = dspex.evaluate(
        dspex.Predict("question -> answer"), rows, dspex.metrics.exact_match("answer"), lm=lm,
        max_in_flight=1, display_progress=False, failures="skip",
    )  # fmt: skip
    found = list(result.results)
    assert [one.prediction and one.prediction.answer for one in found] == ["zero", None, "function 1", None]
    assert [one.error and one.error["type"] for one in found] == [None, "InvalidRequest", None, "ConfigError"]
    assert "the scripted LM has run out of answers: this is call 4, and it has 3" in found[3].error["message"]
    assert [f"q{n}" in call.messages[-1]["content"] for n, call in enumerate(lm.calls)] == [True] * 4
    assert {call.pid for call in lm.calls} == {system.node.pid("worker-1")}
    assert result.score == 50.0


def test_a_fake_stands_in_the_place_of_a_service_and_the_real_one_is_back(system):
    top = system.node.start_supervisor(SupervisorSpec((ChildSpec("real", Adder),)))
    real = system.node.which_children(top)[0].ref
    system.services.register("tools", "add", real, {"capabilities": ["adding"]})

    def ask(request):
        return system.node.call(system.services.lookup("tools", "add"), request)

    def twice(request):
        return request * 2

    assert ask(1) == 2
    with contextlib.ExitStack() as stack:
        stack.enter_context(contextlib.suppress(ZeroDivisionError))
        mock = stack.enter_context(dspex.testing.with_mocked_service(("tools", "add"), twice))
        assert (ask(21), ask(2), mock.calls) == (42, 4, [21, 2])
        assert system.services.find(capability="adding")[0].ref == mock.ref
        with dspex.testing.with_mocked_service(("tools", "add"), {1: "one"}) as inner:
            assert (ask(1), inner.calls) == ("one", [1])
        assert ask(21) == 42
        raise ZeroDivisionError
    assert ask(1) == 2
    assert system.services.find("adding") == [("tools", "add", real, {"capabilities": ["adding"]})]
    until(lambda: gone(mock.ref.pid))


class Search:
    """A fake with a method for each request."""

    def __init__(self):
        self.asked = 0

    def find(self, text, limit=1):
        self.asked += 1
        return [text] * limit

    async def count(self):
        return self.asked


def test_kinds_of_fakes(system):
    def ask(request):
        return system.node.call(system.services.lookup("tools", "search"), request)

    with dspex.testing.with_mocked_service(("tools", "search"), Search(), metadata={"capabilities": ["search"]}):
        assert ask(("find", "x", 2)) == ["x", "x"]
        assert ask("count") == 1
        with pytest.raises(CallFailed, match="the fake raised TypeError"):
            ask("find")
        assert ask("count") == 1
        assert [one.name for one in system.services.find("search")] == ["search"]
    assert system.services.lookup("tools", "search") is None
    with dspex.testing.with_mocked_service(("tools", "search"), Adder) as mock:
        assert ask(1) == 2
        with pytest.raises(dspex.ConfigError, match="remembers its calls itself"):
            mock.calls  # noqa: B018 - it raises
    for fake, said in ((Search, "got the class Search, expected an object"), (threading.Lock(), "cannot be sent")):
        with (
            pytest.raises(dspex.ConfigError, match=said),
            dspex.testing.with_mocked_service(("tools", "search"), fake),
        ):
            pytest.fail("it was taken")
    with (
        pytest.raises(dspex.ConfigError, match="the service is invalid"),
        dspex.testing.with_mocked_service("a", Search()),
    ):
        pytest.fail("it was taken")


class Uses(dspex.Module):
    def forward(self, tool):
        from dspex_actors.foundation.events.outlet import emit

        emit(ToolUsed(tool_name=f"on the node: {tool}"))
        return dspex.Prediction(tool=tool)


def test_events_of_this_program_and_of_the_node_are_captured(system):
    system.events.emit(ToolUsed(tool_name="before"))
    with dspex.testing.capture_events() as events:
        system.events.emit(ToolUsed(tool_name="here"))
        assert [event.tool_name for event in events if event.type == "ToolUsed"] == ["here"]
        dspex.evaluate(Uses(), [{"tool": "t"}], lambda example, prediction, trace=None: 1, display_progress=False)
    system.events.emit(ToolUsed(tool_name="after"))
    told = [event for event in events if event.type == "ToolUsed"]
    assert [event.tool_name for event in told] == ["here", "on the node: t"]
    assert told[1].actor == "worker-1"
    assert [event.at for event in events] == sorted(event.at for event in events)
    assert len({event.id for event in events}) == len(events)
