"""Steps: written once, carried out sync and async with the same result, trace, operations and records."""

import asyncio
import contextlib
import threading
from contextvars import ContextVar

import pytest

import dspex_actors as dspex
from dspex_actors.errors import ConfigError
from dspex_actors.foundation import late
from dspex_actors.foundation.config_errors import ConfigRuntimeError, ConfigTypeError
from dspex_actors.foundation.operation import current_operation, observe
from dspex_actors.settings import record_calls
from dspex_actors.steps import Ask, Parallel, Tool, acarry, carry
from supervisors.testing import wait_until
from tests.dspex_actors.program_fakes import FakeLM, chat

WAYS = ("sync", "async")


def done(way, steps):
    return carry(steps) if way == "sync" else asyncio.run(acarry(steps))


def called(way, program, **inputs):
    return program(**inputs) if way == "sync" else asyncio.run(program.acall(**inputs))


class Answer(dspex.Module):
    def __init__(self):
        self.plan = dspex.Predict("question -> query")
        self.answer = dspex.Predict("question, context -> answer")

    def steps(self, question):
        query = (yield Ask(self.plan, question=question)).query
        found = yield Parallel([Tool(search, {"query": f"{query} {number}"}) for number in (1, 2)])
        return (yield Ask(self.answer, question=question, context=found))


def search(query: str) -> str:
    """Search."""
    return f"about {query}"


@pytest.mark.parametrize("way", WAYS)
def test_a_program_written_in_steps_runs_both_ways_with_the_same_trace_operations_and_records(way):
    lm = FakeLM(chat(query="bees"), chat(answer="honey"))
    paths = []
    stop = observe(lambda op, error, ended: paths.append("/".join(op.path)) if ended else None)
    program = Answer()
    try:
        with dspex.context(lm=lm, trace=[]), record_calls() as calls:
            prediction = called(way, program, question="What do they make?")
            trace = list(dspex.settings.trace)
    finally:
        stop()
    assert prediction.answer == "honey"
    assert len(prediction.get_lm_calls()) == len(calls) == 2
    assert [step[0] for step in trace] == [program.plan, program.answer]
    assert trace[1][1] == {"question": "What do they make?", "context": ["about bees 1", "about bees 2"]}
    assert sorted(paths) == ["Answer", "Answer/Predict", "Answer/Predict", "Answer/search", "Answer/search"]


def test_steps_are_values_that_a_test_can_play():
    steps = Answer().steps("Why?")
    asked = next(steps)
    assert (asked.what.signature.signature, asked.kwargs) == ("question -> query", {"question": "Why?"})
    tools = steps.send(dspex.Prediction(query="bees"))
    assert [tool.args for tool in tools.branches] == [{"query": "bees 1"}, {"query": "bees 2"}]
    steps.send(["one", "two"])
    with pytest.raises(StopIteration) as ended:
        steps.send("the end")
    assert ended.value.value == "the end"


class Own(Answer):
    def forward(self, question):
        return dspex.Prediction(answer="mine", base=super().forward(question=question).answer)


class Earlier(dspex.Module):
    def forward(self, question):
        return [*self.steps(question)]


class Later(Earlier):
    def steps(self, question):
        yield question


@pytest.mark.parametrize("way", WAYS)
def test_a_subclass_overrides_either_and_a_users_own_forward_stays(way):
    with dspex.context(lm=FakeLM(chat(query="bees"), chat(answer="honey"))):
        assert called(way, Own(), question="Q").base == "honey"
    assert called(way, Later(), question="Q") == ["Q"]


def test_the_inputs_of_a_program_in_steps_are_those_of_its_steps():
    from dspex_actors.client.inputs import input_names

    assert input_names(Answer()) == ["question"]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("what", "expected"),
    [
        (lambda a, b: a + b, 3),
        ("async", 3),
        (lambda a, b: asyncio.sleep(0, a + b), 3),  # what it returns has to be awaited
    ],
    ids=["function", "async function", "a function that gives a coroutine"],
)
def test_any_function_can_be_asked(way, what, expected):
    async def add(a, b):
        await asyncio.sleep(0)
        return a + b

    def steps():
        return (yield Ask(add if what == "async" else what, 1, b=2))

    assert done(way, steps()) == expected


def test_a_sync_function_does_not_block_the_event_loop():
    here = []

    def steps():
        return (yield Ask(lambda: here.append(threading.get_ident())))

    asyncio.run(acarry(steps()))
    assert here != [threading.get_ident()]


@pytest.mark.parametrize("way", WAYS)
def test_an_error_is_raised_where_the_step_was_yielded(way):
    def fails():
        raise OSError("no route")

    def steps():
        kept = []
        with contextlib.suppress(ZeroDivisionError):
            yield Ask(lambda: 1 / 0)
        try:
            yield Ask(fails)
        except OSError as error:
            kept.append(str(error))
        try:
            yield Parallel([Ask(fails)])
        finally:
            kept.append("ended")
            assert kept == ["no route", "ended"]

    with pytest.raises(OSError, match="no route"):
        done(way, steps())


@pytest.mark.parametrize("way", WAYS)
def test_settings_inside_of_steps_hold_for_what_they_ask_and_end_with_them(way):
    def steps():
        with dspex.context(user="ada"):
            return (yield Ask(lambda: dspex.settings.user))

    async def both():
        return await acarry(steps()), dspex.settings.user

    assert ((carry(steps()), dspex.settings.user) if way == "sync" else asyncio.run(both())) == ("ada", None)


def test_a_task_that_is_cancelled_ends_its_steps_in_order():
    ended = []

    def steps():
        with dspex.context(user="ada"):
            try:
                yield Ask(asyncio.sleep, 3600)
            except asyncio.CancelledError:
                ended.append("cancelled")
                raise

    async def main():
        task = asyncio.create_task(acarry(steps()))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert ended == ["cancelled"]


HERE = ContextVar("here", default="nowhere")


@pytest.mark.parametrize("way", WAYS)
def test_branches_run_at_once_and_their_trace_and_records_are_in_their_order(way):
    both = threading.Barrier(2, timeout=60)
    first, second = dspex.Predict("a -> b"), dspex.Predict("a -> c")

    def branch(program, number):
        assert HERE.get() == "here"
        assert current_operation().name == "all"
        if way == "sync":  # each waits for the other: they are under way at the same time
            yield Ask(both.wait)
        if number == 0:
            yield Ask(both.wait) if way == "sync" else Ask(asyncio.sleep, 0.05)
        result = yield Ask(program, a=number)
        if number == 1 and way == "sync":
            yield Ask(both.wait)  # the first one is asked after the second
        return result

    def steps():
        return (yield Parallel([branch(first, 0), branch(second, 1)]))

    class ByField(FakeLM):
        def __call__(self, messages, **params):
            self.answers = [chat(b="B") if "`b`" in messages[0]["content"] else chat(c="C")] * 9
            reply = super().__call__(messages, **params)
            reply.model = reply.text
            return reply

    HERE.set("here")
    with dspex.context(lm=ByField("x"), trace=[]), record_calls() as calls, dspex.operation("all"):
        b, c = done(way, steps())
        trace = list(dspex.settings.trace)
    assert (b.b, c.c) == ("B", "C")
    assert [step[0] for step in trace] == [first, second]
    assert [reply.model for reply in calls] == [chat(b="B"), chat(c="C")]


@pytest.mark.parametrize("way", WAYS)
def test_after_an_error_no_branch_is_begun_and_what_was_paid_is_in_the_books(way):
    begun = []
    predict = dspex.Predict("a -> b")

    def fails():
        begun.append("fails")
        raise OSError("no route")

    def steps(**how):
        asked = [Ask(predict, a=1), Ask(fails), Ask(begun.append, "never"), (Ask(begun.append, each) for each in "x")]
        return (yield Parallel(asked, at_once=1, **how))

    with dspex.context(lm=FakeLM(chat(b="B"))), record_calls() as calls:
        with pytest.raises(OSError, match="no route"):
            done(way, steps())
        assert (begun, len(calls)) == (["fails"], 1)
        answers = done(way, steps(return_errors=True))
    assert [type(answer) for answer in answers] == [dspex.Prediction, OSError, type(None), type(None)]
    assert begun == ["fails", "fails", "never", "x"]


@pytest.mark.parametrize("way", WAYS)
def test_branches_may_have_branches(way):
    def tree(depth):
        if not depth:
            return 1
        return sum((yield Parallel([tree(depth - 1) for _ in range(3)])))

    def steps():
        return (yield Parallel([]))

    assert (done(way, tree(3)), done(way, steps())) == (27, [])


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("wrong", "error", "words"),
    [
        (lambda: (yield ("search", {})), ConfigTypeError, "a step is invalid: got"),
        (lambda: (yield Parallel([1])), ConfigTypeError, "a step is invalid: got 1, expected Ask"),
        (lambda: (yield Ask("text")), ConfigTypeError, "Ask is invalid: got 'text', expected a program"),
        (lambda: (yield Ask(dspex.Signature)), ConfigTypeError, "expected a program, an LM or a function"),
        (lambda: (yield Parallel([], at_once=0)), ConfigError, "at_once: expected a whole number of at least 1, got 0"),
        (lambda: (yield Tool(search, {}, timeout=0)), ConfigError, "timeout is invalid: got 0, expected seconds"),
        (lambda: (yield Tool(search, {}, timeout=True)), ConfigError, "timeout is invalid: got True"),
        (lambda: (yield Tool(lambda *args: None)), ConfigError, "parameter 'args' cannot be given by name"),
    ],
)
def test_what_is_no_step_is_refused_where_it_is_yielded(way, wrong, error, words):
    with pytest.raises(error, match=words) as caught:
        done(way, wrong())
    assert "\n" not in str(caught.value)


def test_a_generator_serves_once():
    steps = Answer().steps("Q")
    with dspex.context(lm=FakeLM(chat(query="bees"), chat(answer="honey"))):
        carry(steps)
    with pytest.raises(ConfigRuntimeError, match="carried out already: a generator serves once"):
        carry(steps)


def test_steps_without_a_yield_are_refused():
    program = type("Odd", (dspex.Module,), {"steps": lambda self, question: question})()
    with pytest.raises(ConfigError, match="`steps` of Odd is no generator"):
        program(question="Q")


# --- tools ------------------------------------------------------------------------------------------------------------


def tool_of(function, timeout=0.05, **args):
    def steps():
        return (yield Tool(function, args, timeout=timeout))

    return steps()


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", ["sync", "async", "async and deaf"])
def test_a_tool_that_hangs_is_given_up(way, kind):
    release = threading.Event()

    def hangs() -> str:
        release.wait(60)
        return "late"

    async def waits() -> str:
        await asyncio.sleep(3600)
        return "never"

    async def deaf() -> str:
        while not release.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(0.01)
        return "late"

    tool = {"sync": hangs, "async": waits, "async and deaf": deaf}[kind]
    before = late.late.count
    # asyncio.run would wait for one that is deaf
    carried_out = carry if kind == "async and deaf" else lambda steps: done(way, steps)
    with pytest.raises(TimeoutError, match=r"has not answered within 0\.05 s"):
        carried_out(tool_of(tool))
    release.set()
    wait_until(lambda: late.late.count == before)


def test_with_too_many_that_never_ended_no_tool_is_called(monkeypatch):
    release = threading.Event()
    monkeypatch.setattr(late, "MOST_LATE", late.late.count + 1)

    def hangs() -> str:
        release.wait(60)
        return "late"

    with pytest.raises(TimeoutError):
        carry(tool_of(hangs))
    with pytest.raises(ConfigRuntimeError, match="tool 'search' is not called: 1 calls of tools"):
        carry(tool_of(search, 60, query="bees"))
    release.set()
    wait_until(lambda: not late.late.count)
    assert carry(tool_of(search, 60, query="bees")) == "about bees"


@pytest.mark.parametrize("way", WAYS)
def test_what_a_tool_raises_ends_its_call_and_nothing_else(way):
    async def cancels_itself() -> str:
        raise asyncio.CancelledError

    async def leaves() -> str:
        raise SystemExit(3)

    def leaves_too() -> str:
        raise SystemExit(4)

    def steps():
        found = []
        for tool in (cancels_itself, leaves, leaves_too):
            try:
                yield Tool(tool, {}, timeout=60)
            except BaseException as error:
                found.append(type(error).__name__)
        return found

    assert done(way, steps()) == ["ConfigRuntimeError", "SystemExit", "SystemExit"]


def test_a_sync_call_without_a_limit_runs_the_tool_in_the_callers_thread():
    def where() -> int:
        return threading.get_ident()

    def steps():
        return (yield Tool(where))

    assert carry(steps()) == threading.get_ident()
    assert asyncio.run(acarry(steps())) != threading.get_ident()


@pytest.mark.parametrize("kind", ["sync", "async and deaf"])
def test_a_tool_whose_caller_is_given_up_counts_as_late_until_it_ends(kind):
    release, begun = threading.Event(), threading.Event()

    def hangs() -> str:
        begun.set()
        release.wait(60)
        return "late"

    async def deaf() -> str:
        begun.set()
        while not release.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(0.01)
        return "late"

    before = late.late.count

    async def give_up():
        task = asyncio.create_task(acarry(tool_of(hangs if kind == "sync" else deaf)))
        assert await asyncio.to_thread(begun.wait, 60)
        task.cancel()  # an example whose deadline is over
        with pytest.raises(asyncio.CancelledError):
            await task
        assert late.late.count == before + 1
        release.set()

    asyncio.run(give_up())
    wait_until(lambda: late.late.count == before)
