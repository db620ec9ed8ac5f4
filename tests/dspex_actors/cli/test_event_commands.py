"""`dspex events` and `dspex trace`: what they find in the stores of a home, and how they show it."""

import json
import os
import select
import signal
import subprocess
import sys
import time

import pytest
import warm

from dspex_actors.foundation.events.event import Event
from dspex_actors.foundation.events.kinds import LMRequested, ModuleCompleted, ModuleStarted
from dspex_actors.foundation.events.record import to_record
from dspex_actors.observe.events.store import EventStore


class CommandUsed(Event):
    tool_name: str
    number: int = 0


def module(name, id, parent=None, at=1.0, **inputs):  # noqa: A002
    return ModuleStarted(
        id=id, parent_id=parent, correlation_id="c-1", at=at, module=name, inputs=inputs, actor="worker-1"
    )


@pytest.fixture
def home(tmp_path):
    folder = tmp_path / "home"
    (folder / "embedded" / "one").mkdir(parents=True)
    return folder


@pytest.fixture
def store(home):
    made = EventStore(home / "events.db")
    yield made
    made.close()


@pytest.fixture
def own(home):
    """The store of a node of a program's own."""
    made = EventStore(home / "embedded" / "one" / "events.db")
    yield made
    made.close()


def keep(store, *events):
    store.write([to_record(event) for event in events])


def rows(result):
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_where_nothing_happened_it_says_so(run):
    assert rows(run("events", "--json")) == []
    assert "no events" in run("events").stdout


def test_events_of_all_stores_come_in_the_order_of_time(run, store, own):
    keep(store, CommandUsed(tool_name="a", at=1.0), CommandUsed(tool_name="c", at=3.0))
    keep(own, CommandUsed(tool_name="b", at=2.0))
    assert [row["data"]["tool_name"] for row in rows(run("events", "--json"))] == ["a", "b", "c"]
    assert [row["data"]["tool_name"] for row in rows(run("events", "--json", "--limit", 2))] == ["b", "c"]
    shown = run("events").stdout
    assert shown.index("tool_name=a") < shown.index("tool_name=b") < shown.index("tool_name=c")


@pytest.mark.parametrize(
    ("words", "numbers"),
    [
        (["--where", "tool_name=7"], [1, 2]),
        (["--where", "tool_name=7", "--where", "number=2"], [2]),
        (["--where", "tool_name=a=b"], [3]),
        (["--where", "tool_name=1e999"], [4]),
        (["--where", "missing=null", "--type", "CommandUsed"], [1, 2, 3, 4]),
        (["--type", "x", "--type", "y"], []),
        (["--correlation", "mine"], [2]),
        (["--since", "1h"], [1, 2, 3, 4]),
        (["--since", "2090-01-01"], []),
    ],
)
def test_events_are_found_by_what_is_asked_for(run, store, words, numbers):
    keep(
        store,
        CommandUsed(tool_name="7", number=1),
        CommandUsed(tool_name="7", number=2, correlation_id="mine"),
        CommandUsed(tool_name="a=b", number=3),
        CommandUsed(tool_name="1e999", number=4),
    )
    assert [row["data"]["number"] for row in rows(run("events", "--json", *words))] == numbers


@pytest.mark.parametrize("words", [["--where", "x"], ["--where", "=1"], ["--since", "yesterday"], ["--limit", "0"]])
def test_a_misuse_is_one_line_that_says_what_is_legal(run, words):
    result = run("events", *words)
    assert result.exit_code == 2
    assert len(result.stderr.strip().splitlines()) == 1


def test_a_field_with_a_name_that_cannot_be_is_one_line(run, store):
    keep(store, CommandUsed(tool_name="x"))
    result = run("events", "--where", 'a"b=1')
    assert (result.exit_code, len(result.stderr.strip().splitlines())) == (2, 1)


def test_a_long_type_and_its_actor_are_two_words(run, store):
    keep(store, ModuleCompleted(module="Predict", duration=0.1, actor="worker-1"))
    assert "module.execution.completed worker-1 " in run("events").stdout


@pytest.mark.soak
def test_whoever_follows_sees_what_comes(home, store):
    keep(store, CommandUsed(tool_name="before"))
    environment = {**os.environ, "DSPEX_HOME": str(home)}
    command = [sys.executable, "-m", "dspex_actors", "events", "-f", "--json", "--where", "number=1"]
    with warm.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        found, number, deadline = "", 0, time.monotonic() + 60
        while not found and time.monotonic() < deadline:
            number += 1
            keep(store, CommandUsed(tool_name=f"live {number}", number=1), CommandUsed(tool_name="other", number=2))
            if select.select([process.stdout], [], [], 0.1)[0]:
                found = process.stdout.readline()
        process.send_signal(signal.SIGINT)
        rest, _ = process.communicate(timeout=60)
    lines = [json.loads(line)["data"] for line in [found, *rest.splitlines()]]
    assert lines[0]["tool_name"].startswith("live")
    assert all(line["number"] == 1 for line in lines)


def trace_of(store):
    keep(
        store,
        module("Outer", "m1", question="why?"),
        module("Inner", "m2", "m1", 2.0, question="because"),
        LMRequested(model="openai/x", duration=0.25, usage={"total": 9}, parent_id="m2", correlation_id="c-1", at=3.0),
        ModuleCompleted(
            module="Inner",
            duration=1.5,
            parent_id="m2",
            correlation_id="c-1",
            at=4.0,
            error={"type": "Timeout", "message": "too slow"},
        ),
        ModuleCompleted(
            module="Outer", duration=2.5, outputs={"answer": "so"}, parent_id="m1", correlation_id="c-1", at=5.0
        ),
    )


def test_a_trace_is_a_tree_with_durations_and_what_each_step_took_in_and_gave(run, store):
    trace_of(store)
    lines = run("trace", "c-1").stdout.splitlines()
    assert "Outer" in lines[0]
    assert "2.50 s" in lines[0]
    text = "\n".join(lines)
    assert '{"question": "why?"}' in text
    assert '{"answer": "so"}' in text
    inner = next(line for line in lines if "Inner" in line)
    request = next(line for line in lines if "lm.request" in line)
    assert "1.50 s" in inner
    assert "openai/x" in request
    assert len(inner) - len(inner.lstrip("│├└─ ")) < len(request) - len(request.lstrip("│├└─ "))
    assert "Timeout: too slow" in text
    assert "completed" not in text


def test_a_trace_as_json_is_nested(run, store):
    trace_of(store)
    tree = rows(run("trace", "c-1", "--json"))
    assert tree["event"]["id"] == "m1"
    assert [child["event"]["type"] for child in tree["children"]] == [
        "module.execution.started",
        "module.execution.completed",
    ]


def test_what_has_not_ended_says_so(run, store):
    keep(store, module("Outer", "m1"))
    assert "not ended" in run("trace", "c-1").stdout


def test_a_trace_of_nothing_says_what_to_do(run, store):
    result = run("trace", "nothing")
    assert result.exit_code == 2
    assert "dspex events" in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1


def test_a_deep_trace_is_shown(run, store):
    events = [
        Event(type="step", id=f"{n:04}", parent_id=f"{n - 1:04}" if n else None, correlation_id="deep", at=float(n))
        for n in range(300)
    ]
    keep(store, *events)
    assert run("trace", "deep").exit_code == 0
    assert rows(run("trace", "deep", "--json"))["event"]["id"] == "0000"


def test_nothing_that_an_event_holds_moves_the_cursor(run, store):
    keep(store, CommandUsed(tool_name="x\x1b[2J\x1b]0;title\x07y", data={"odd\x1b[1mname": 1}, correlation_id="c-9"))
    for command in (("events",), ("trace", "c-9")):
        result = run(*command)
        assert result.exit_code == 0
        assert "\x1b" not in result.stdout
        assert "\x07" not in result.stdout
        assert "x·[2J" in result.stdout


def test_a_field_that_is_asked_for_twice_is_refused(run, store):
    result = run("events", "--where", "number=1", "--where", "number=2")
    assert result.exit_code == 2
    assert "one field twice" in result.stderr
