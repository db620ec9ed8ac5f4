"""Programs and LM calls are operations: what is open in them, and what an error says of where it came up."""

import asyncio

import pytest

import dspex_actors as dspex
from dspex_actors.errors import Overloaded
from dspex_actors.foundation.operation import current_operation, observe
from dspex_actors.lm.backend import set_process_backend
from dspex_actors.lm.reply import LMReply
from tests.dspex_actors.program_fakes import FakeLM, chat


class Triage(dspex.Signature):
    """Sort a ticket."""

    ticket: str = dspex.InputField()
    team: str = dspex.OutputField()


class Program(dspex.Module):
    def __init__(self):
        self.sort = dspex.Predict(Triage)

    def forward(self, ticket):
        current_operation().breadcrumb("begins")
        return self.sort(ticket=ticket)


class Backend:
    """Tells the operation that an LM call is made in; fails where it is told to."""

    def __init__(self, error=None):
        self.error, self.seen = error, []

    def complete(self, request):
        self.seen.append(current_operation())
        if self.error is not None:
            raise self.error
        return LMReply(chat(team="billing"))

    async def acomplete(self, request):
        await asyncio.sleep(0)
        return self.complete(request)


@pytest.fixture
def backend():
    made = Backend()
    set_process_backend(made)
    yield made
    set_process_backend(None)


@pytest.fixture
def heard():
    """Hear of every operation that ends: path, kind, inputs, outputs."""
    rows = []
    end = observe(lambda op, error, has_ended: has_ended and rows.append((op, error)))
    yield rows
    end()


LM = dspex.LM("openai/m")
CALLS = {
    "sync": lambda program, **kwargs: program(**kwargs),
    "async": lambda program, **kwargs: asyncio.run(program.acall(**kwargs)),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_each_program_and_each_lm_call_is_one(backend, heard, call):
    with dspex.context(lm=LM):
        call(Program(), ticket="t")
    lm, predict, program = [op for op, _ in heard]
    assert lm.path == ["Program", "Predict(Triage)", "openai/m"]
    assert (lm.kind, predict.kind, program.kind) == ("lm", "module", "module")
    assert lm.parent_id == predict.id
    assert program.parent_id is None
    assert len({op.correlation_id for op in (lm, predict, program)}) == 1
    assert program.inputs == {"ticket": "t"}
    assert program.outputs.team == predict.outputs.team == "billing"
    assert lm.outputs.text == chat(team="billing")
    assert backend.seen == [lm]


def test_names(backend, heard):
    with dspex.context(lm=LM):
        dspex.Predict("question -> team")(question="q")

        class Mine(dspex.Predict):
            pass

        Mine(Triage)(ticket="t")
    assert [op.name for op, _ in heard if op.kind == "module"] == ["Predict", "Mine(Triage)"]


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_an_error_says_where_it_came_up(backend, call):
    backend.error = Overloaded("down", provider="openai")
    with pytest.raises(Overloaded) as caught, dspex.operation("answer", customer=7), dspex.context(lm=LM):
        call(Program(), ticket="t")
    context = caught.value.context
    assert context["operation"] == "answer/Program/Predict(Triage)/openai/m"
    assert context["metadata"] == {"customer": 7}
    assert [row["text"] for row in context["breadcrumbs"]] == ["begins"]


def test_an_answer_that_cannot_be_read_is_predicts_affair():
    with pytest.raises(dspex.AdapterParseError) as caught, dspex.operation("answer"):
        dspex.Predict("ticket -> team")(ticket="t", lm=FakeLM("nonsense"))
    assert caught.value.context["operation"] == "answer/Predict"


def test_an_lm_of_ones_own_is_one(heard):
    class Parrot(dspex.BaseLM):
        def forward(self, messages, **params):
            assert current_operation().kind == "lm"
            if "fail" in messages[-1]["content"]:
                raise ValueError("no")
            return chat(team="billing")

    predict = dspex.Predict(Triage)
    predict(ticket="t", lm=Parrot())
    assert [op.name for op, _ in heard] == ["Parrot", "Predict(Triage)"]
    assert heard[0][0].outputs.text == chat(team="billing")
    with pytest.raises(ValueError, match="no") as caught:
        asyncio.run(predict.acall(ticket="fail", lm=Parrot()))
    assert caught.value.context["path"] == ["Predict(Triage)", "Parrot"]
    assert current_operation() is None


def test_the_correlation_id_is_seen_everywhere_in_a_program(backend):
    seen = []

    class Sync(dspex.Module):
        def forward(self):
            seen.append(dspex.correlation_id())

    class Async(dspex.Module):
        async def aforward(self):
            seen.append(dspex.correlation_id())
            await Sync().acall()
            await asyncio.gather(*[Sync().acall() for _ in range(3)])

    with dspex.operation("answer", correlation_id="order-7"):
        Async()()
        asyncio.run(Async().acall())
    assert seen == ["order-7"] * 10
