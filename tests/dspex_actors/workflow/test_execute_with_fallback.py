"""Fallbacks: who answers, which errors move on, how long it takes."""

import asyncio
import functools
import pickle
import threading

import pytest

import dspex_actors as dspex
from dspex_actors.foundation.operation import current_operation
from dspex_actors.foundation.telemetry.recorder import recorder
from dspex_actors.workflow.stale import forget_answers

WAIT = 20.0


def sync_way(*args, **kwargs):
    return dspex.execute_with_fallback(*args, **kwargs)


def async_way(*args, **kwargs):
    return asyncio.run(dspex.aexecute_with_fallback(*args, **kwargs))


@pytest.fixture(params=[sync_way, async_way])
def execute(request):
    return request.param


def fails():
    raise ValueError("no")


def four():
    return 4


async def afive():
    await asyncio.sleep(0)
    return 5


def test_the_first_that_has_a_value_answers(execute):
    assert execute("sum", [four, fails]) == (4, "four", [])
    found = execute("sum", [fails, ("other", fails), afive, four])
    assert (found.value, found.strategy) == (5, "afive")
    assert [(label, str(error)) for label, error in found.errors] == [("fails", "no"), ("other", "no")]
    assert execute("sum", [fails, lambda: None]).value is None
    assert execute("sum", [lambda: afive()]).value == 5
    assert execute("sum", [fails, fails, functools.partial(max, 1, 7)])[1:] == (
        "max",
        [("fails", ANY), ("fails 2", ANY)],
    )


class _Any:
    def __eq__(self, other):
        return isinstance(other, Exception)

    __hash__ = None


ANY = _Any()


def test_an_lm_and_a_program_as_strategies(execute):
    good, bad = dspex.testing.scripted_lm(["yes", "[[ ## answer ## ]]\n4"]), dspex.testing.scripted_lm([])
    found = execute("ask", [("large", functools.partial(bad, "hm?")), ("small", functools.partial(good, "hm?"))])
    assert (found.value.text, found.strategy) == ("yes", "small")
    program = dspex.Predict("question -> answer")
    program.set_lm(good)
    assert execute("ask", [("own", functools.partial(program, question="2+2?"))]).value.answer == "4"


def test_when_all_fail_it_says_why_of_each(execute):
    with pytest.raises(
        dspex.AllStrategiesFailed, match="all strategies of 'sum' failed: fails: ValueError: no; b: KeyError"
    ) as caught:
        execute("sum", [fails, ("b", lambda: {}["k"])])
    error = caught.value
    assert [label for label, _ in error.errors] == ["fails", "b"]
    assert error.__cause__ is error.errors[-1][1]
    assert [crumb["text"] for crumb in error.context["breadcrumbs"]] == ["fails failed", "b failed"]
    again = pickle.loads(pickle.dumps(error))
    assert [(label, error.message) for label, error in again.errors] == [
        ("fails", "ValueError: no"),
        ("b", "KeyError: 'k'"),
    ]


@pytest.mark.parametrize(
    ("on", "moves"),
    [
        (None, True),
        (ValueError, True),
        ((KeyError, ValueError), True),
        ([KeyError], False),
        (KeyError, False),
        (lambda error: str(error) == "no", True),
        (lambda error: False, False),
    ],
)
def test_which_errors_move_on(execute, on, moves):
    if moves:
        assert execute("sum", [fails, four], on=on).value == 4
    else:
        with pytest.raises(ValueError, match="no"):
            execute("sum", [fails, four], on=on)


def test_an_interrupt_never_moves_on(execute):
    def interrupted():
        raise KeyboardInterrupt

    async def cancelled():
        raise asyncio.CancelledError

    called = []
    with pytest.raises(KeyboardInterrupt):
        sync_way("sum", [interrupted, lambda: called.append(1)])
    with pytest.raises(asyncio.CancelledError):
        async_way("sum", [cancelled, lambda: called.append(1)])
    assert not called


def test_the_deadline_is_for_all_together(execute):
    go, called = threading.Event(), []
    with pytest.raises(dspex.AllStrategiesFailed, match=r"the deadline was over.*no time was left: four") as caught:
        execute("sum", [fails, lambda: go.wait(WAIT), four], deadline=0.1)
    go.set()
    assert [label for label, _ in caught.value.errors] == ["fails", "<lambda>"]
    # The deadline moves on by itself, and to nothing: whatever `on` says.
    with pytest.raises(dspex.AllStrategiesFailed, match="the deadline was over"):
        execute("sum", [lambda: asyncio.sleep(WAIT), lambda: called.append(1)], deadline=0.1, on=KeyError)
    assert not called
    assert execute("sum", [fails, afive], deadline=WAIT).value == 5


@pytest.mark.parametrize(
    ("strategies", "said"),
    [
        ([], "got none"),
        (None, "expected a list of functions"),
        ("ab", "expected a list of functions"),
        ([7], r"expected a function without arguments, or \(label, function\)"),
        ([("", four)], "expected a function without arguments"),
        ([(four, "label")], "expected a function without arguments"),
        ([dict], "expected a function without arguments"),
    ],
)
def test_what_is_no_strategy(execute, strategies, said):
    with pytest.raises(dspex.ConfigError, match=said):
        execute("sum", strategies)


def test_other_arguments(execute):
    with pytest.raises(dspex.ConfigError, match=r"got a coroutine, expected a function: lambda: program.acall"):
        execute("sum", [afive()])
    for on in (7, "ValueError", [], BaseException, [int]):
        with pytest.raises(dspex.ConfigError, match="on is invalid"):
            execute("sum", [four], on=on)
    for deadline in (0, -1, "1", True, float("nan")):
        with pytest.raises(dspex.ConfigError, match="deadline is invalid"):
            execute("sum", [four], deadline=deadline)
    with pytest.raises(dspex.ConfigError, match="the name of an operation is invalid"):
        execute("", [four])


def test_it_tells_what_it_did(execute):
    places = []
    with dspex.testing.capture_events() as events:
        execute("sum", [lambda: fails(), lambda: places.append(current_operation().name) or 1])
    [used] = [event for event in events if event.type == "fallback.used"]
    assert (used.name, used.failed, used.used) == ("sum", "<lambda>", "<lambda> 2")
    assert used.error == {"type": "ValueError", "message": "no"}
    assert places == ["sum"]


# --- a program, its earlier answer, a simpler one, a default ----------------------------------------------------------


ANSWERS = dspex.Predict("question -> answer")


def scripted(*answers, model="scripted"):
    """Have programs answer these, or raise them."""
    chat = [answer if not isinstance(answer, str) else f"[[ ## answer ## ]]\n{answer}" for answer in answers]
    return dspex.context(lm=dspex.testing.scripted_lm(chat, model))


class Simple(dspex.Module):
    def forward(self, question):
        return dspex.Prediction(answer=f"simply {question}")


def sync_module(*args, **kwargs):
    return dspex.execute_module_with_cache_fallback(*args, **kwargs)


def async_module(*args, **kwargs):
    return asyncio.run(dspex.aexecute_module_with_cache_fallback(*args, **kwargs))


@pytest.fixture(params=[sync_module, async_module])
def module(request):
    forget_answers()
    return request.param


DOWN = dspex.Overloaded("down")


def test_who_answers_for_a_program(module):
    with scripted(DOWN, "four", DOWN, DOWN):
        with pytest.raises(dspex.AllStrategiesFailed, match="program: Overloaded: down"):
            module(ANSWERS, {"question": "q"})
        found = module(ANSWERS, {"question": "q"})
        assert (found.value.answer, found.strategy, found.errors) == ("four", "program", [])
        found = module(ANSWERS, {"question": "q"}, Simple(), "default")
        assert (found.value.answer, found.strategy, found.errors) == ("four", "cache", [("program", DOWN)])
        found = module(ANSWERS, {"question": "another"}, Simple(), "default")
        assert (found.value.answer, found.strategy) == ("simply another", "simplified")


def test_an_open_circuit_moves_on_too(module):
    shut = dspex.CircuitOpen("the circuit is open", retry_after=5.0)
    with scripted("four", shut, shut):
        module(ANSWERS, {"question": "q"})
        found = module(ANSWERS, {"question": "q"}, default="d")
        assert (found.value.answer, found.strategy, found.errors) == ("four", "cache", [("program", shut)])
        assert module(ANSWERS, {"question": "another"}, default="d").strategy == "default"


def test_a_default_may_be_none(module):
    with scripted(DOWN, DOWN, DOWN):
        found = module(ANSWERS, {"question": "q"}, default=None)
        assert (found.value, found.strategy) == (None, "default")
        found = module(ANSWERS, {"question": "q"}, simplified=lambda question: 1 / 0, default="sorry")
        assert (found.value, found.strategy) == ("sorry", "default")
        assert [label for label, _ in found.errors] == ["program", "simplified"]
        with pytest.raises(dspex.AllStrategiesFailed):
            module(ANSWERS, {"question": "q"})


def test_an_earlier_answer_is_of_the_same_program_inputs_and_lm(module):
    with scripted("four", DOWN, DOWN, DOWN):
        module(ANSWERS, {"question": "q"})
        other = ANSWERS.deepcopy()
        other.signature = other.signature.with_instructions("Answer in French.")
        assert module(other, {"question": "q"}, default="d").strategy == "default"
        assert module(ANSWERS, {"question": "r"}, default="d").strategy == "default"
        assert module(ANSWERS.deepcopy(), {"question": "q"}, default="d").strategy == "cache"
    with scripted(DOWN, model="another"):
        assert module(ANSWERS, {"question": "q"}, default="d").strategy == "default"


def test_an_earlier_answer_is_there_though_it_had_to_make_room_while_the_program_was_asked(module):
    def forgets(messages, **params):
        forget_answers()
        raise DOWN

    hits = recorder.counter("cache.hits", tier="fallback")
    hits.add(0)
    with scripted("four", forgets):
        module(ANSWERS, {"question": "q"})
        before = figure_of(hits)
        found = module(ANSWERS, {"question": "q"}, on=dspex.Overloaded)
    assert (found.value.answer, found.strategy, figure_of(hits)) == ("four", "cache", before + 1)


def figure_of(series):
    return series.news(everything=True).figures()["sum"]


def test_an_earlier_answer_is_nobody_elses_to_change(module):
    with scripted("four", DOWN, DOWN):
        for _ in range(2):
            found = module(ANSWERS, {"question": "q"}).value
            assert found.answer == "four"
            found.answer = "changed"
        assert module(ANSWERS, {"question": "q"}).strategy == "cache"


def test_what_cannot_be_kept_is_answered_all_the_same(module):
    class Locks(dspex.Module):
        def forward(self, question):
            return threading.Lock()

    assert module(Locks(), {"question": "q"}).strategy == "program"
    assert module(Locks(), {"question": threading.Lock()}).strategy == "program"


def test_what_takes_no_time_is_there_after_the_deadline(module):
    found = module(Slow(), {"question": "q"}, Simple(), "default", deadline=0.05)
    assert (found.value, found.strategy, [label for label, _ in found.errors]) == ("default", "default", ["program"])


class Slow(dspex.Module):
    async def aforward(self, question):
        await asyncio.sleep(WAIT)


def test_an_earlier_answer_of_an_async_function(module):
    async def answers(question):
        lm = dspex.settings.lm
        return (await lm.acall(question)).text

    with scripted("four", DOWN):
        assert module(answers, {"question": "q"}).strategy == "program"
        found = module(answers, {"question": "q"})
    assert ("four" in found.value, found.strategy) == (True, "cache")


def test_arguments_of_a_program_with_fallbacks(module):
    for program in (7, Simple, None):
        with pytest.raises(dspex.ConfigError, match="the program is invalid"):
            module(program, {"question": "q"})
    with pytest.raises(dspex.ConfigError, match="the inputs are invalid"):
        module(Simple(), "q")
    with pytest.raises(dspex.ConfigError, match="the program is invalid"):
        module(Simple(), {"question": "q"}, 7)
    with scripted(DOWN), pytest.raises(dspex.Overloaded):
        module(ANSWERS, {"question": "q"}, Simple(), on=ValueError)
