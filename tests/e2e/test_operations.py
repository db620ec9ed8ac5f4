"""An operation is seen by all that is done for it, in workers and servers; errors come back with what led to them."""

import os
import signal

import pytest
from e2e_kit import ANSWER, Background, tickets, until

import dspex_actors as dspex
from dspex_actors.foundation.operation import breadcrumb, current_operation
from supervisors import ChildSpec, GenServer, SupervisorSpec

#: Nobody listens there.
DEAD = dspex.LM("openai/dead", base_url="http://127.0.0.1:9/v1", deadline=0.5, timeout=0.3)


class Witness(GenServer):
    """Tells what operation its handlers are in, and those of another one that it asks."""

    def handle_call(self, request, caller):
        here = current_operation()
        return here and (here.correlation_id, here.id, here.path)


class Telling(dspex.Module):
    """Gives the correlation id as its answer."""

    async def aforward(self, ticket):
        breadcrumb("telling", ticket=ticket)
        if ticket == "ticket 7":
            raise ValueError(f"seven: {dspex.correlation_id()}")
        return dspex.Prediction(team=dspex.correlation_id())


class Asking(Telling):
    """Asks an LM before."""

    def __init__(self):
        self.ask = dspex.Predict("ticket -> team")

    async def aforward(self, ticket):
        await self.ask.acall(ticket=ticket)
        return await super().aforward(ticket)


def judged(example, prediction, trace=None):
    """Fail, unless program and metric are in one operation."""
    if prediction.team != dspex.correlation_id():
        raise AssertionError(f"{prediction.team} is not {dspex.correlation_id()}")
    return True


@pytest.fixture(scope="module")
def system(tmp_path_factory):
    with dspex.connect(home=tmp_path_factory.mktemp("operations") / "home", workers=2) as connection:
        yield connection


def test_a_server_that_is_called_from_an_operation_is_in_it(system):
    ref = system.node.start_supervisor(SupervisorSpec([ChildSpec("witness", Witness, name="witness")]))
    try:
        assert system.node.call("witness", "where") is None
        with dspex.operation("answer", correlation_id="order-7"), dspex.operation("look up") as op:
            assert system.node.call("witness", "where") == ("order-7", op.id, ["answer", "look up"])
        assert system.node.call("witness", "where") is None
    finally:
        system.node.stop(ref)


def test_an_lm_error_comes_back_with_what_was_noted_in_the_worker_and_here(system):
    lm = DEAD.copy(fallbacks=[dspex.LM("openai/also-dead", base_url="http://127.0.0.1:9/v1", deadline=0.5)])
    op = dspex.operation("answer", correlation_id="order-8", customer=7)
    op.breadcrumb("before")
    with pytest.raises(dspex.LMError) as caught, op:
        dspex.Predict("ticket -> team")(ticket="t", lm=lm)
    context = caught.value.context
    assert context["path"] == ["answer", "Predict", "openai/dead"]
    assert context["correlation_id"] == "order-8"
    assert context["metadata"] == {"customer": 7}
    assert [row["text"] for row in context["breadcrumbs"]] == ["before", "fallback: openai/also-dead is asked"]
    assert context["breadcrumbs"][1]["data"]["instead_of"] == "openai/dead"


def test_an_lm_error_outside_of_all_has_the_call_as_its_operation(system):
    with pytest.raises(dspex.LMError) as caught:
        DEAD("hello")
    assert caught.value.context["path"] == ["openai/dead"]


def test_each_example_of_a_run_is_one_also_when_a_worker_is_killed(system, server):
    lm_server = server("--latency-ms", 30, "--answer", ANSWER)
    run = Background(
        dspex.evaluate, Asking(), tickets(300), judged, lm=lm_server.lm(), max_in_flight=32, run_id="ops-1"
    )
    until(lambda: lm_server.requests > 60)
    os.kill(system.node.pid("worker-1"), signal.SIGKILL)
    result = run.result()
    assert [one.index for one in result.errors] == [7]
    assert all(one.prediction.team == f"ops-1/{one.index}" for one in result.results if one.index != 7)
    error = result.results[7].error
    assert error["message"] == "seven: ops-1/7"
    assert error["context"]["operation"] == "example/Asking"
    assert error["context"]["correlation_id"] == "ops-1/7"
    assert error["context"]["breadcrumbs"][0]["data"] == {"ticket": "ticket 7"}
