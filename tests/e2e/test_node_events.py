"""Events over a whole node: from programs and workers into one store; what a kill or a full disk costs."""

import asyncio
import json
import os
import resource
import signal
import threading
import time

import pytest
from e2e_kit import until

import dspex_actors as dspex
from dspex_actors.errors import ConfigError
from dspex_actors.observe.branch import OBSERVERS
from dspex_actors.observe.events.actor import OPEN_SECONDS
from dspex_actors.observe.events.live import FAILURES
from dspex_actors.observe.events.messages import EVENTS, Stats
from dspex_actors.observe.events.reader import EventReader
from dspex_actors.observe.events.store import EVENTS_FILE
from dspex_actors.runs.sample import recorded


class NodeToolUsed(dspex.Event):
    tool_name: str
    number: int = 0


@pytest.fixture(scope="module")
def system(tmp_path_factory):
    """One node for all tests here."""
    with dspex.connect(lm="embedded/nearest", home=tmp_path_factory.mktemp("events") / "home") as connection:
        yield connection


def emit(system, name, count, start=0):
    return [system.events.emit(NodeToolUsed(tool_name=name, number=n)) for n in range(start, start + count)]


def found(system, name):
    return [event.number for event in system.events.query(NodeToolUsed, where={"tool_name": name}, limit=100_000)]


def test_a_node_on_which_nothing_happens_has_no_actor_for_events(tmp_path):
    with dspex.connect(home=tmp_path / "home") as connection:
        assert connection.events.query() == []
        assert connection.node.whereis(EVENTS) is None
        assert not (connection.data_dir / EVENTS_FILE).exists()


def test_an_event_is_found_by_its_fields_right_after(system):
    emitted = emit(system, "right after", 3)
    with dspex.operation("answer", correlation_id="answer-1") as op:
        inside = system.events.emit(NodeToolUsed(tool_name="inside"))
    assert (
        system.events.query(type="NodeToolUsed", where={"tool_name": "right after", "number": [0, 2]}) == emitted[::2]
    )
    assert system.events.query(NodeToolUsed, correlation_id="answer-1") == [inside]
    assert (inside.parent_id, inside.node) == (op.id, system.node.info["name"])
    assert inside.actor == f"program:{os.getpid()}"


class TwoSteps(dspex.Module):
    """Two LM calls, one after the other."""

    def __init__(self):
        super().__init__()
        self.first, self.second = dspex.Predict("question -> thought"), dspex.Predict("thought -> answer")

    def forward(self, question):
        return self.second(thought=self.first(question=question).thought)


@pytest.mark.soak
def test_a_trace_over_two_workers_is_complete_at_once_and_one_tree(tmp_path):
    """The calls of a program go to two workers, in turn, whose first events these are."""
    with dspex.connect(lm="embedded/nearest", home=tmp_path / "home", workers=2) as connection:
        with dspex.operation("answer", customer=7) as op:
            answer = TwoSteps()(question="why?")
        tree = connection.events.trace_tree(op.correlation_id)
    rows = list(_walk(tree))
    assert tree.event.id == op.id
    assert {row.event.correlation_id for row in rows} == {op.correlation_id}
    assert shape(tree) == (
        "operation answer", [
            ("module.execution TwoSteps", [
                ("module.execution Predict", [("lm.request", [("lm.served", [])])]),
                ("module.execution Predict", [("lm.request", [("lm.served", [])])]),
            ]),
        ],
    )  # fmt: skip
    assert {row.event.actor for row in rows if row.event.type == "lm.served"} == {"worker-1", "worker-2"}
    requests = [row.event for row in rows if row.event.type == "lm.request"]
    assert all(one.asked == 1 and one.usage and one.model == "embedded/nearest" and one.text for one in requests)
    whole = tree.children[0]
    assert whole.event.inputs == {"question": "why?"}
    assert whole.children[-1].event.outputs == {"answer": answer.answer}
    json.dumps(tree.to_dict())


def shape(node):
    """A tree of names; what began and what ended are one."""
    event = node.event
    name = event.type.removesuffix(".started") + (f" {event.module}" if hasattr(event, "module") else "")
    name += f" {event.name}" if event.type == "operation.started" else ""
    children = [child for child in node.children if not child.event.type.endswith(".completed")]
    ended = [child for child in node.children if child.event.type.endswith(".completed")]
    assert len(ended) == event.type.endswith(".started")
    assert ended == node.children[len(children) :], "the end is the last"
    return name, [shape(child) for child in children]


def test_an_example_of_a_traced_run_is_a_tree_of_its_own(system):
    devset = [dspex.Example(question=f"q{n}", answer="a").with_inputs("question") for n in range(30)]
    metric = dspex.metrics.exact_match("answer")
    result = dspex.evaluate(TwoSteps(), devset, metric, trace=True, display_progress=False, system=system)
    for index in (0, 29):
        tree = system.events.trace_tree(f"{result.run_id}/{index}")
        name, (program,) = shape(tree)
        assert (name, program[0]) == ("operation example", "module.execution TwoSteps")
        assert [step[1] for step in program[1]] == [[("lm.request", [])], [("lm.request", [])]]


def test_a_run_that_is_not_traced_records_no_calls_and_a_sample_those_of_its_examples(system):
    devset = [dspex.Example(question=f"s{n}", answer="a").with_inputs("question") for n in range(200)]
    program, metric = dspex.Predict("question -> answer"), dspex.metrics.exact_match("answer")

    def traced(**options):
        result = dspex.evaluate(program, devset, metric, display_progress=False, system=system, **options)
        assert result.succeeded == 200
        expected = {n for n in range(200) if recorded(result.run_id, options)(n)}
        events = system.events.query(["operation.started", "lm.request"], limit=100_000)
        found = [event.correlation_id for event in events if event.correlation_id.startswith(f"{result.run_id}/")]
        assert sorted(found) == sorted(2 * [f"{result.run_id}/{n}" for n in expected])
        return expected

    assert traced() == set()
    assert 0 < len(traced(sample=0.2)) < 200


def _walk(node):
    yield node
    for child in node.children:
        yield from _walk(child)


def test_an_optimiser_tells_of_itself(system):
    trainset = [dspex.Example(question=f"t{n}", answer="a").with_inputs("question") for n in range(12)]
    with dspex.operation("improve") as op:
        dspex.BootstrapFewShot(metric=None, max_bootstrapped_demos=2, max_labeled_demos=0).compile(
            dspex.Predict("question -> answer"), trainset=trainset, system=system, display_progress=False
        )
        with pytest.raises(dspex.RunFailed):
            dspex.BootstrapFewShot(metric=_fails, max_errors=1).compile(
                dspex.Predict("question -> answer"), trainset=trainset, system=system, display_progress=False
            )
    events = system.events.query(correlation_id=op.correlation_id)
    told = [event for event in events if event.type.startswith("optimisation.")]
    begun = [event for event in told if event.type == "optimisation.started"]
    assert [(one.optimiser, one.program, one.examples) for one in begun] == [("BootstrapFewShot", "Predict", 12)] * 2
    assert [one.parent_id for one in begun] == [op.id] * 2
    completed = next(event for event in told if event.type == "optimisation.completed")
    failed = next(event for event in told if event.type == "optimisation.failed")
    assert (completed.parent_id, failed.parent_id) == (begun[0].id, begun[1].id)
    assert completed.score == 100.0
    assert failed.error["type"] == "RunFailed" or "gave up" in failed.error["message"]
    steps = [event for event in told if event.type == "optimisation.iteration" and event.parent_id == begun[0].id]
    assert all(step.of == 12 for step in steps)
    assert [step.iteration for step in steps] == sorted({step.iteration for step in steps})


def _fails(example, prediction, trace=None):
    raise ValueError("this metric never works")


def test_a_fallback_and_a_failed_call_are_told(system):
    away = "http://127.0.0.1:9/v1"
    settings = {"api_key": None, "base_url": away, "deadline": 2.0, "timeout": 1.0}
    lm = dspex.LM("openai/away", **settings, fallbacks=["embedded/nearest"])
    with dspex.operation("fallback") as op:
        lm("is anybody there?")
        with pytest.raises(dspex.LMError):
            dspex.LM("openai/gone", **settings)("nobody?")
    events = {event.type: event for event in system.events.query(correlation_id=op.correlation_id)}
    assert (events["fallback.used"].failed, events["fallback.used"].used) == ("openai/away", "embedded/nearest")
    assert events["fallback.used"].error["type"]
    requests = system.events.query("lm.request", correlation_id=op.correlation_id)
    assert [one.model for one in requests] == ["openai/away", "openai/gone"]
    assert [one.error is None for one in requests] == [True, False]
    assert events["fallback.used"].parent_id == requests[0].id


@pytest.mark.soak
def test_a_kill_of_the_writer_costs_nothing_of_those_who_live_and_never_the_journal(system):
    """The actor is killed again and again while a program emits and a run goes on."""
    devset = [dspex.Example(question=f"q{n}", answer="a").with_inputs("question") for n in range(300)]
    result = []

    def run():
        program = dspex.Predict("question -> answer")
        metric = dspex.metrics.exact_match("answer")
        result.append(dspex.evaluate(program, devset, metric, display_progress=False, system=system))

    emit(system, "before", 1)
    assert found(system, "before") == [0]  # it is up: one that is killed while it starts has not terminated
    thread = threading.Thread(target=run)
    thread.start()
    emitted = 0
    for _ in range(5):
        emit(system, "killed", 400, start=emitted)
        emitted += 400
        pid = until(lambda: system.node.whereis(EVENTS), what="the actor is not back").pid
        os.kill(pid, signal.SIGKILL)
        until(lambda pid=pid: (ref := system.node.whereis(EVENTS)) and ref.pid != pid, what="the actor is not back")
        assert found(system, "before") == [0]  # this one, too, is up
    thread.join()
    assert found(system, "killed") == list(range(emitted))
    assert (result[0].succeeded, result[0].failed) == (300, 0)

    def told():
        return (
            len(system.events.query("supervision.report", where={"report": "child_terminated", "child": EVENTS})) >= 5
        )

    until(told, what="the reports of the supervisor are no events")


def test_a_kill_of_the_branch_ends_neither_the_node_nor_the_events(system):
    emit(system, "branch", 100)
    for _ in range(2):
        branch = until(lambda: system.node.whereis(OBSERVERS), what="the branch is not back")
        os.kill(branch.pid, signal.SIGKILL)
        until(lambda pid=branch.pid: (ref := system.node.whereis(OBSERVERS)) and ref.pid != pid)
        emit(system, "branch", 100, start=len(found(system, "branch")))
    assert found(system, "branch") == list(range(300))


def test_a_forked_child_tells_nothing_of_its_parents_and_does_not_hang(system):
    emit(system, "parent", 200)
    child = os.fork()
    if child == 0:
        try:
            NodeToolUsed(tool_name="child")  # what a child of a fork does with a connection is its own affair
            os._exit(len(system._reporting.events.outbox))
        finally:
            os._exit(99)
    assert os.waitpid(child, 0)[1] == 0, "what the parent has to send is the parent's to send"
    assert found(system, "parent") == list(range(200))


def test_a_full_disk_drops_events_and_nothing_else(system):
    """The writer may not make its files any larger for a while: what a full disk is to it."""
    emit(system, "before it was full", 1)
    assert found(system, "before it was full") == [0]
    pid = system.node.whereis(EVENTS).pid
    before = resource.prlimit(pid, resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))
    emit(system, "lost", 50)
    answer = dspex.Predict("question -> answer")(question="meanwhile")
    stats = until(lambda: (s := system.node.call(EVENTS, Stats())).dropped.get("disk", 0) >= 50 and s)
    assert answer.answer
    assert stats.error
    resource.prlimit(pid, resource.RLIMIT_FSIZE, before)
    after = iter(range(10_000))

    def is_well():
        emit(system, "after", 1, start=next(after))
        return found(system, "after")

    until(is_well, seconds=OPEN_SECONDS + 20, what="the store is not written again")
    told = until(lambda: system.events.query("events.dropped"))
    assert sum(event.why.get("disk", 0) for event in told) >= 50
    assert system.node.whereis(EVENTS).pid == pid, "nothing died"
    assert found(system, "lost") == []


def test_other_bounds_hold_while_it_runs(system):
    """What is older than the configuration says goes; nothing is restarted."""
    pid = system.node.whereis(EVENTS).pid
    system.events.emit(NodeToolUsed(tool_name="old", at=time.time() - 3600))
    assert found(system, "old") == [0]
    system.config.update("infrastructure.events.max_age", 600.0)
    until(lambda: found(system, "old") == [], seconds=30)
    system.config.update("infrastructure.events.max_age", 7 * 86_400.0)
    emit(system, "new", 1)
    assert found(system, "new") == [0]
    assert system.node.whereis(EVENTS).pid == pid


def test_a_subscriber_gets_what_comes_in_order_and_no_more_after_cancel(system):
    got = []
    handle = system.events.subscribe([NodeToolUsed, "other"], got.append)
    emitted = emit(system, "live", 500)
    until(lambda: len(got) >= 500)
    assert got == emitted
    handle.cancel()
    emit(system, "live", 5)
    found(system, "live")  # they are in the store
    assert (len(got), handle.dropped, handle.active) == (500, 0, False)


def test_a_subscriber_goes_on_over_a_kill_of_the_writer(system):
    got = []
    handle = system.events.subscribe(NodeToolUsed, got.append)
    emit(system, "over", 10)
    until(lambda: len(got) == 10)
    pid = system.node.whereis(EVENTS).pid
    os.kill(pid, signal.SIGKILL)
    emit(system, "over", 10, start=10)
    until(lambda: len(got) >= 20)
    assert [event.number for event in got] == list(range(20))
    handle.cancel()


def test_a_handler_that_fails_is_detached_and_one_that_recovers_is_not(system, caplog):
    seen = []

    def fails(event):
        raise RuntimeError("no")

    def recovers(event):
        seen.append(event)
        if len(seen) % FAILURES:
            raise RuntimeError("now and then")

    bad, good = system.events.subscribe(NodeToolUsed, fails), system.events.subscribe(NodeToolUsed, recovers)
    emit(system, "handlers", 3 * FAILURES)
    until(lambda: len(seen) == 3 * FAILURES)
    until(lambda: not bad.active)
    assert isinstance(bad.detached, RuntimeError)
    assert good.active
    assert "is given no more" in caplog.text
    good.cancel()


def test_a_handler_may_cancel_itself_and_emit(system):
    got, handles = [], []

    def once(event):
        got.append(event)
        handles[0].cancel()
        system.events.emit(NodeToolUsed(tool_name="from a handler"), parent=event)

    handles.append(system.events.subscribe(NodeToolUsed, once))
    emit(system, "self", 20)
    until(lambda: found(system, "from a handler"))
    assert len(got) == 1


@pytest.mark.parametrize("wrong", [None, "a name", 7])
def test_a_handler_that_is_none_is_refused(system, wrong):
    with pytest.raises(ConfigError, match="the handler is invalid"):
        system.events.subscribe(NodeToolUsed, wrong)


def test_an_export_is_whole_and_has_every_event(system, tmp_path):
    emit(system, "export", 3)
    system.events.emit(dspex.Event(type="wide", data={"large": 1 << 80, "half": "\ud800"}))
    count = system.events.export(tmp_path / "all.jsonl")
    rows = [json.loads(line) for line in (tmp_path / "all.jsonl").read_text().splitlines()]
    assert len(rows) == count
    assert [row["data"]["number"] for row in rows if row["data"].get("tool_name") == "export"] == [0, 1, 2]
    assert [row["data"] for row in rows if row["type"] == "wide"] == [{"large": 1 << 80, "half": "\ud800"}]
    with pytest.raises(ConfigError, match="cannot write"):
        system.events.export(tmp_path / "nowhere" / "all.jsonl")


def test_the_twins_do_the_same(system, tmp_path):
    asyncio.run(_twins(system, tmp_path))


async def _twins(system, tmp_path):
    event = await system.events.aemit(NodeToolUsed(tool_name="twins"))
    assert await system.events.aquery(NodeToolUsed, where={"tool_name": "twins"}) == [event]
    assert (await system.events.atrace_tree(event.correlation_id)).event == event
    assert await system.events.aexport(tmp_path / "x.jsonl") > 0
    (await system.events.asubscribe(NodeToolUsed, print)).cancel()


def test_what_was_emitted_before_the_end_is_there_and_a_closed_connection_takes_no_more(tmp_path):
    with dspex.connect(home=tmp_path / "home") as connection:
        path = connection.data_dir / EVENTS_FILE
        connection.events.emit(NodeToolUsed(tool_name="last"))
        connection._reporting.close()
        assert [record.type for record in EventReader(path).query("NodeToolUsed")] == ["NodeToolUsed"]
    with pytest.raises(ConfigError, match="closed"):
        connection.events.emit(NodeToolUsed(tool_name="late"))


def test_emitting_never_waits_and_what_is_too_much_is_counted(system):
    """A million events a second are more than go out: the queue is bounded, and what it has dropped is told."""
    event = NodeToolUsed(tool_name="flood")
    put = system._reporting.events.outbox.put
    from dspex_actors.foundation.events.record import to_record

    record = to_record(event)
    for n in range(30_000):
        put(record._replace(id=f"flood-{n}"))

    def dropped():
        return sum(event.why.get("queue", 0) for event in system.events.query("events.dropped"))

    until(lambda: len(found(system, "flood")) + dropped() == 30_000)
    assert dropped() > 0
