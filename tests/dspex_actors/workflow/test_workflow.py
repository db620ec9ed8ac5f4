"""Workflows as they run: data, order, branches, tries, time, ends; both ways of running them."""

import asyncio
import contextvars
import pickle
import signal
import threading
import time

import pytest

import dspex_actors as dspex
from dspex_actors.foundation.operation import current_operation
from dspex_actors.foundation.telemetry.recorder import recorder

WAIT = 20.0


def sync_way(workflow, *args, **kwargs):
    return workflow.run(*args, **kwargs)


def async_way(workflow, *args, **kwargs):
    return asyncio.run(workflow.arun(*args, **kwargs))


@pytest.fixture(params=[sync_way, async_way])
def run(request):
    return request.param


def puts(**given):
    return lambda data: given


async def aputs(data):
    await asyncio.sleep(0)
    return {"a": 1}


def fails(data):
    raise ValueError("no")


class Flaky:
    """Fails so many times, then gives its number of calls."""

    def __init__(self, failures):
        self.failures, self.calls = failures, 0

    def __call__(self, data):
        self.calls += 1
        if self.calls <= self.failures:
            raise ValueError(f"call {self.calls}")
        return {"calls": self.calls}


def test_what_steps_give_is_merged_in_their_order(run):
    seen = []

    def look(data):
        seen.append(dict(data))

    workflow = dspex.Workflow([("a", aputs), ("look", look), ("b", puts(a=2, b=3)), ("c", look)])
    result = run(workflow, {"q": "?", "a": 0})
    assert result.data == {"q": "?", "a": 2, "b": 3}
    assert seen == [{"q": "?", "a": 1}, {"q": "?", "a": 2, "b": 3}]
    assert [(step.name, step.attempts, step.state, step.error) for step in result.steps] == [
        (name, 1, "completed", None) for name in ("a", "look", "b", "c")
    ]
    assert all(step.duration >= 0 for step in result.steps)
    assert result.run_id is None
    assert run(workflow).data == {"a": 2, "b": 3}


def test_what_a_step_does_to_its_dict_is_its_own_affair(run):
    def vandal(data):
        data["q"] = "gone"
        data.clear()

    assert run(dspex.Workflow([("v", vandal)]), {"q": 1}).data == {"q": 1}


def test_sync_steps_run_where_run_was_called_and_in_threads_under_arun():
    where = []
    workflow = dspex.Workflow([("a", lambda data: where.append(threading.current_thread()))])
    workflow.run()
    asyncio.run(workflow.arun())
    assert where[0] is threading.current_thread()
    assert where[1] is not threading.current_thread()


def test_steps_see_the_context_variables_of_the_caller(run):
    variable = contextvars.ContextVar("variable", default=None)
    variable.set("mine")
    look = lambda data: {threading.current_thread().name: variable.get()}  # noqa: E731
    workflow = dspex.Workflow([("a", look), dspex.Step("b", look, timeout=WAIT), dspex.Branches({"c": look})])
    assert set(run(workflow).data.values()) == {"mine"}


@pytest.mark.parametrize("given", [7, "text", [1], dict, object()])
def test_what_is_no_mapping_is_a_clear_error_and_not_tried_again(run, given):
    calls = []
    step = dspex.Step("a", lambda data: calls.append(1) or given, retries=3, fallback=puts(x=1))
    with pytest.raises(
        dspex.WorkflowError, match=r"what step 'a' returned is invalid: got .*, expected a mapping"
    ) as caught:
        run(dspex.Workflow([step]))
    assert isinstance(caught.value.__cause__, dspex.ConfigError)
    assert len(calls) == 1


def test_keys_are_texts(run):
    with pytest.raises(dspex.WorkflowError, match="got the key 7, expected texts as keys"):
        run(dspex.Workflow([("a", lambda data: {7: 1})]))
    with pytest.raises(dspex.ConfigError, match="the data of a workflow are invalid"):
        run(dspex.Workflow([("a", aputs)]), {7: 1})
    with pytest.raises(dspex.ConfigError, match="the data of a workflow are invalid"):
        run(dspex.Workflow([("a", aputs)]), "q")


@pytest.mark.parametrize("kind", [None, 7, "x", 0, -1, float("inf"), True])
def test_arguments_of_a_run(run, kind):
    workflow = dspex.Workflow([("a", aputs)])
    with pytest.raises(dspex.ConfigError, match="run_id is for a durable run"):
        run(workflow, run_id="r")
    if kind is not None and kind != 7:
        with pytest.raises(dspex.ConfigError, match="deadline is invalid"):
            run(workflow, deadline=kind)
    if kind is not True:
        with pytest.raises(dspex.ConfigError, match="durable is invalid"):
            run(workflow, durable=kind)


# --- programs ---------------------------------------------------------------------------------------------------------


class Only(dspex.Module):
    async def aforward(self, question, style="plain"):
        return dspex.Prediction(answer=f"{question} {style}")


def test_a_program_gets_its_inputs_and_gives_its_fields(run):
    lm = dspex.testing.scripted_lm(["[[ ## answer ## ]]\n4\n\n[[ ## completed ## ]]"])
    workflow = dspex.Workflow([("ask", dspex.Predict("question -> answer")), ("only", Only())])
    with dspex.context(lm=lm):
        found = run(workflow, {"question": "2+2?", "more": object})
    assert found.data["answer"] == "2+2? plain"
    assert "2+2?" in lm.calls[0].messages[-1]["content"]


# --- branches ---------------------------------------------------------------------------------------------------------


def test_branches_run_at_the_same_time_and_each_has_data_of_its_own(run):
    barrier = threading.Barrier(2, timeout=WAIT)

    def meets(data):
        barrier.wait()
        data["shared"].append(1)
        return {f"seen {len(data['shared'])}": True}

    async def counts(data):
        return {"n": len(data["shared"])}

    workflow = dspex.Workflow(
        [dspex.Branches({"a": [("x", meets), ("y", counts)], "b": [("x", meets), ("y", counts)]})]
    )
    result = run(workflow, {"shared": []})
    assert result.data == {"shared": [], "seen 1": True, "n": 1}
    assert sorted(step.name for step in result.steps) == ["a/x", "a/y", "b/x", "b/y"]


def test_a_conflict_names_key_and_branches(run):
    branches = {"a": puts(x=1), "b": puts(x=2)}
    with pytest.raises(dspex.WorkflowError, match="the branches 'a' and 'b' give different values of 'x'") as caught:
        run(dspex.Workflow([("z", puts(z=1)), dspex.Branches(branches)]))
    assert caught.value.step == "a, b"
    assert caught.value.data["z"] == 1
    assert run(dspex.Workflow([dspex.Branches(branches, on_conflict="first")])).data == {"x": 1}
    assert run(dspex.Workflow([dspex.Branches(branches, on_conflict="last")])).data == {"x": 2}


def test_when_a_branch_fails_the_others_are_cancelled_and_named(run):
    cancelled, there = [], threading.Event()

    async def long(data):
        there.set()
        try:
            await asyncio.sleep(WAIT)
        except asyncio.CancelledError:
            cancelled.append(True)
            raise

    def fails_then(data):
        there.wait(WAIT)
        raise ValueError("no")

    steps = [("before", puts(z=1)), dspex.Branches({"quick": puts(q=1), "long": long, "bad": fails_then})]
    with pytest.raises(
        dspex.WorkflowError, match=r"step 'bad' of 'workflow' failed: ValueError: no \(cancelled: long\)"
    ) as caught:
        run(dspex.Workflow([*steps, ("never", fails)]))
    error = caught.value
    assert (error.step, error.data["z"], type(error.__cause__)) == ("bad", 1, ValueError)
    assert cancelled == [True]
    states = {step.name: step.state for step in error.steps}
    assert states == {"before": "completed", "quick": "completed", "long": "cancelled", "bad": "failed"}


def test_a_branch_that_cancels_itself_is_no_success(run):
    async def cancels(data):
        raise asyncio.CancelledError

    with pytest.raises(dspex.WorkflowError, match="the branch was cancelled from inside"):
        run(dspex.Workflow([dspex.Branches({"a": cancels, "b": puts(x=1)})]))


# --- errors, tries, fallbacks -----------------------------------------------------------------------------------------


def test_an_error_ends_it_with_what_was_done(run):
    ran = []
    workflow = dspex.Workflow([("a", puts(x=1)), ("b", fails), ("c", lambda data: ran.append(1))], name="flow")
    with pytest.raises(dspex.WorkflowError, match="step 'b' of 'flow' failed: ValueError: no") as caught:
        run(workflow, {"q": 1})
    error = caught.value
    assert (error.step, error.data, ran) == ("b", {"q": 1, "x": 1}, [])
    assert [(step.name, step.state) for step in error.steps] == [("a", "completed"), ("b", "failed")]
    assert type(error.__cause__) is ValueError
    assert error.__cause__.context["path"] == ["flow", "b"]
    again = pickle.loads(pickle.dumps(error))
    assert (again.step, again.data, again.message) == (error.step, error.data, error.message)
    assert again.steps[1]["state"] == "failed"


def test_it_is_tried_again_and_then_its_fallback_does_it(run):
    flaky = Flaky(2)
    found = run(dspex.Workflow([dspex.Step("a", flaky, retries=2)]))
    assert (found.data, found.steps[0].attempts, found.steps[0].state) == ({"calls": 3}, 3, "completed")
    found = run(dspex.Workflow([dspex.Step("a", Flaky(9), retries=1, fallback=puts(x=1))]))
    assert (found.data, found.steps[0].attempts, found.steps[0].state) == ({"x": 1}, 2, "fallback")
    assert found.steps[0].error == "ValueError: call 2"
    with pytest.raises(dspex.WorkflowError, match="step 'a' of 'workflow' failed: KeyError: 'second'") as caught:
        run(dspex.Workflow([dspex.Step("a", Flaky(9), fallback=lambda data: {}["second"])]))
    assert str(caught.value.__cause__.__context__) == "call 1"


def test_steps_that_are_one_step_go_on_where_they_failed(run):
    first, flaky = Flaky(0), Flaky(1)
    found = run(dspex.Workflow([dspex.Step("all", [("first", first), ("flaky", flaky)], retries=1)]))
    assert (first.calls, flaky.calls, found.data) == (1, 2, {"calls": 2})
    found = run(dspex.Workflow([dspex.Step("all", [("a", puts(x=1)), ("b", fails)], fallback=puts(y=1))]))
    assert found.data == {"y": 1}
    assert [(step.name, step.state) for step in found.steps] == [
        ("all/a", "completed"),
        ("all/b", "failed"),
        ("all", "fallback"),
    ]
    with pytest.raises(dspex.WorkflowError) as caught:
        run(dspex.Workflow([dspex.Step("all", [("b", fails)], retries=1, timeout=WAIT)]))
    assert caught.value.step == "all/b"


# --- time and ends ----------------------------------------------------------------------------------------------------


def test_a_step_that_takes_too_long_is_given_up_and_changes_nothing_later(run):
    go, done = threading.Event(), threading.Event()

    def late(data):
        go.wait(WAIT)
        data["deep"].append("late")
        data["x"] = "late"
        done.set()
        return {"x": "late"}

    deep = []
    workflow = dspex.Workflow([dspex.Step("slow", late, timeout=0.3, fallback=puts(x="instead")), ("after", puts(z=1))])
    result = run(workflow, {"deep": deep})
    go.set()
    assert done.wait(WAIT)
    assert result.data == {"deep": [], "x": "instead", "z": 1}
    assert deep == []
    assert result.steps[0].error == "TimeoutError: it took longer than 0.3 s"


def test_an_async_step_that_takes_too_long_is_cancelled(run):
    ended = []

    async def slow(data):
        try:
            await asyncio.sleep(WAIT)
        finally:
            ended.append(1)

    with pytest.raises(dspex.WorkflowError, match=r"TimeoutError: it took longer than 0.05 s") as caught:
        run(dspex.Workflow([dspex.Step("slow", slow, timeout=0.05, retries=1)]))
    assert ended == [1, 1]
    assert caught.value.steps[0].attempts == 2


def test_a_deadline_is_for_all_steps_and_nothing_is_tried_after_it(run):
    tried = []

    async def slow(data):
        tried.append(1)
        await asyncio.sleep(WAIT)

    step = dspex.Step("slow", slow, retries=5, timeout=10.0, fallback=puts(x=1))
    with pytest.raises(dspex.WorkflowError, match="TimeoutError: the deadline of the run is over"):
        run(dspex.Workflow([("a", aputs), dspex.Branches({"b": step, "c": aputs})]), deadline=0.2)
    assert tried == [1]


def test_a_timeout_of_the_users_own_is_an_error_like_others(run):
    def raises(data):
        raise TimeoutError("theirs")

    with pytest.raises(dspex.WorkflowError, match="TimeoutError: theirs"):
        run(dspex.Workflow([dspex.Step("a", raises, timeout=WAIT)]), deadline=WAIT)


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_an_interrupt_is_never_tried_again(error):
    calls = []

    def interrupted(data):
        calls.append(1)
        raise error

    with pytest.raises(error), dspex.testing.capture_events() as events:
        dspex.Workflow([dspex.Step("a", interrupted, retries=3, fallback=puts(x=1))]).run()
    assert calls == [1]
    ended = [(event.state, event.error) for event in events if event.type == "workflow.step.completed"]
    assert ended == [("cancelled", error.__name__)]


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_an_interrupt_inside_a_branch_or_under_a_time_limit_leaves_the_loop_alive(run, error):
    async def interrupted(data):
        raise error

    def in_a_thread(data):
        raise error

    steps = [
        dspex.Branches({"a": interrupted, "b": aputs}),
        dspex.Branches({"a": in_a_thread, "b": aputs}),
        dspex.Step("a", interrupted, timeout=WAIT, retries=1),
        dspex.Step("a", in_a_thread, timeout=WAIT, fallback=puts(x=1)),
    ]
    for step in steps:
        with pytest.raises(error):
            run(dspex.Workflow([step]))
    assert run(dspex.Workflow([dspex.Branches({"a": aputs})])).data == {"a": 1}


def test_ctrl_c_ends_what_runs_side_by_side():
    cancelled, there = [], threading.Event()

    async def long(data):
        there.set()
        try:
            await asyncio.sleep(WAIT)
        except asyncio.CancelledError:
            cancelled.append(1)
            raise

    def presses(data):
        there.wait(WAIT)
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            dspex.Workflow([dspex.Branches({"a": long, "b": presses})]).run()
    finally:
        signal.signal(signal.SIGINT, before)
    assert cancelled == [1]
    assert current_operation() is None


def test_an_async_step_that_would_wait_for_its_own_loop_is_told():
    inner = dspex.Workflow([dspex.Branches({"a": puts(x=1)})])

    async def outer(data):
        return inner.run().data

    async def right(data):
        return (await inner.arun()).data

    with pytest.raises(dspex.WorkflowError, match="waits for an event loop in its own thread: await its async twin"):
        dspex.Workflow([("outer", outer)]).run()
    assert dspex.Workflow([("outer", right)]).run().data == {"x": 1}


def test_when_its_task_is_cancelled_all_that_is_under_way_is():
    cancelled = []

    async def long(data):
        started.set()
        try:
            await asyncio.sleep(WAIT)
        except asyncio.CancelledError:
            cancelled.append(1)
            raise

    async def main():
        global started
        started = asyncio.Event()
        task = asyncio.create_task(dspex.Workflow([dspex.Branches({"a": long, "b": long})]).arun())
        await started.wait()
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert len(asyncio.all_tasks()) == 1

    asyncio.run(main())
    assert cancelled


def test_where_an_event_loop_runs_sync_steps_run_and_async_ones_are_refused():
    async def main():
        workflow = dspex.Workflow(
            [("a", puts(x=1)), dspex.Step("b", puts(y=1), timeout=WAIT), dspex.Branches({"c": puts(z=1)})]
        )
        assert workflow.run().data == {"x": 1, "y": 1, "z": 1}
        with pytest.raises(
            dspex.ConfigError, match=r"step 'a' is async, and an event loop runs here: use `await workflow.arun"
        ):
            dspex.Workflow([("a", aputs)]).run()

    asyncio.run(main())


def test_a_workflow_is_used_by_many_at_once():
    workflow = dspex.Workflow(
        [("a", lambda data: {"b": data["n"] * 2}), dspex.Branches({"c": lambda d: {"c": d["b"] + 1}})]
    )

    async def main():
        return await asyncio.gather(*(workflow.arun({"n": n}) for n in range(50)))

    assert [result.data["c"] for result in asyncio.run(main())] == [2 * n + 1 for n in range(50)]


# --- what it tells ----------------------------------------------------------------------------------------------------


def test_each_step_is_an_operation_with_events_and_a_duration(run):
    inside = []

    def look(data):
        inside.append((current_operation().path, dspex.correlation_id()))

    workflow = dspex.Workflow(
        [("look", look), dspex.Branches({"x": look}), dspex.Step("bad", fails, fallback=puts(a=1))], name="told"
    )
    with dspex.testing.capture_events() as events:
        run(workflow, correlation_id="order-17")
    assert inside == [(["told", "look"], "order-17"), (["told", "x"], "order-17")]
    assert {event.correlation_id for event in events} == {"order-17"}
    began = {event.step: event for event in events if event.type == "workflow.step.started"}
    ended = {event.step: event for event in events if event.type == "workflow.step.completed"}
    assert began.keys() == ended.keys() == {"look", "x", "bad"}
    top = next(event for event in events if event.type == "operation.started")
    assert all(event.parent_id == top.id for event in began.values())
    assert all(ended[name].parent_id == began[name].id for name in began)
    assert (ended["bad"].state, ended["bad"].attempts, ended["bad"].error) == ("fallback", 1, "ValueError: no")
    [used] = [event for event in events if event.type == "fallback.used"]
    assert (used.name, used.failed, used.parent_id) == ("told", "bad", began["bad"].id)
    series = recorder.histogram("workflow.step.duration", workflow="told", step="look", state="completed")
    assert series.news(everything=True).figures()["count"] >= 1


def test_keys_in_errors_are_not_written_down(run):
    def leaks(data):
        raise ValueError(f"401 for sk-{'a1B2' * 8}")

    with pytest.raises(dspex.WorkflowError, match="ValueError: 401 for") as caught:
        run(dspex.Workflow([dspex.Step("a", leaks, fallback=puts(a=1)), ("b", leaks)]))
    assert [step.state for step in caught.value.steps] == ["fallback", "failed"]
    assert "a1B2" not in f"{caught.value}{caught.value.steps}"


def test_its_steps_do_not_disturb_the_operation_around(run):
    with dspex.operation("outer") as outer:
        with pytest.raises(dspex.WorkflowError):
            run(dspex.Workflow([dspex.Branches({"a": fails, "b": aputs})]))
        assert current_operation() is outer


def test_it_costs_little():
    workflow = dspex.Workflow([(f"s{n}", puts(x=n)) for n in range(100)])
    workflow.run()
    began = time.thread_time()
    workflow.run()
    assert time.thread_time() - began < 1.0  # 100 steps: 30 µs each on a quiet machine
