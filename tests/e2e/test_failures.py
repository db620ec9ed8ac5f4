"""Examples that fail, programs and metrics that crash, providers that misbehave: every example has its end."""

import asyncio
import json
import os
import re
import time

import pytest
from e2e_kit import ANSWER, Answering, check_whole, metric, tickets, triage, until

import dspex_actors as dspex


class Poisoned(dspex.Module):
    """Kills its worker at one example, and fails at another one."""

    def __init__(self, deadly=(), failing=()):
        super().__init__()
        self.deadly, self.failing = deadly, failing

    async def aforward(self, ticket):
        number = int(ticket.split()[1])
        if number in self.deadly:
            os._exit(9)
        if number in self.failing:
            raise ValueError(f"cannot read {ticket}")
        return dspex.Prediction(team="billing")


@pytest.fixture(scope="module")
def system(tmp_path_factory):
    """One node for all: it outlives every failure here."""
    home = tmp_path_factory.mktemp("failures") / "home"
    with dspex.connect(home=home, workers=2) as connection:
        yield connection


def errors(result):
    return {one.index: (one.error["type"], one.attempts) for one in result.errors}


def test_a_deadly_example(system):
    result = dspex.evaluate(Poisoned(deadly=[150]), tickets(200), metric())
    check_whole(result, 200)
    assert errors(result) == {150: ("WorkerDied", 3)}
    assert "3 workers in turn died" in result.errors[0].error["message"]
    assert result.score == pytest.approx(100 * 100 / 199, abs=0.01)


def test_several_deadly_examples_and_slow_ones(system, server):
    class Slow(Poisoned):
        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            self.ask = dspex.Predict("ticket -> team")

        async def aforward(self, ticket):
            prediction = await self.ask.acall(ticket=ticket)
            await super().aforward(ticket)
            return prediction

    lm_server = server("--latency-ms", 50, "--answer", ANSWER)
    result = dspex.evaluate(Slow(deadly=[10, 90]), tickets(200), metric(), lm=lm_server.lm(), max_in_flight=32)
    check_whole(result, 200)
    assert errors(result) == {10: ("WorkerDied", 3), 90: ("WorkerDied", 3)}


@pytest.mark.parametrize("settings", [{}, {"max_attempts": 2}, {"failures": "skip"}, {"failures": "skip_failed"}])
def test_a_failing_program_is_not_tried_again(system, settings):
    result = dspex.evaluate(Poisoned(failing=[5, 6]), tickets(60), metric(), **settings)
    check_whole(result, 60)
    assert errors(result) == {5: ("ValueError", 1), 6: ("ValueError", 1)}
    assert result.errors[0].error["message"] == "cannot read ticket 5"
    assert (result.succeeded, result.failed) == (58, 2)


def test_failures_stop(system):
    with pytest.raises(dspex.RunFailed, match="an example failed") as caught:
        dspex.evaluate(Poisoned(failing=[5]), tickets(2000), metric(), failures="stop", max_in_flight=4)
    assert system.journal.get_run(caught.value.run_id).done < 2000


def test_max_failures(system):
    with pytest.raises(dspex.RunFailed, match="more than 3 examples failed"):
        dspex.evaluate(Poisoned(failing=range(100)), tickets(200), metric(), max_failures=3)
    result = dspex.evaluate(Poisoned(failing=range(3)), tickets(200), metric(), max_failures=3)
    assert result.failed == 3


def test_failure_score(system):
    program = Poisoned(failing=[0, 1])
    plain = dspex.evaluate(program, tickets(10), metric())
    assert (plain.score, plain.mean) == (50.0, 0.5)
    zero = dspex.evaluate(program, tickets(10), metric(), failure_score=0.0)
    assert (zero.score, zero.n, zero.failed) == (40.0, 10, 2)
    one = dspex.evaluate(program, tickets(10), metric(), failure_score=1)
    assert one.score == 60.0
    nothing = dspex.evaluate(Poisoned(failing=range(10)), tickets(10), metric())
    assert nothing.score is None


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (lambda: 1 / 0, "the metric failed, the prediction is kept: division by zero"),
        (lambda: "yes", "the metric failed, the prediction is kept: .*str"),
    ],
)
def test_a_failing_metric(system, server, bad, message):
    def scored(example, prediction, trace=None):
        return bad() if example.ticket == "ticket 7" else True

    lm_server = server("--answer", ANSWER)
    result = dspex.evaluate(triage(), tickets(30), scored, lm=lm_server.lm())
    check_whole(result, 30)
    (error,) = result.errors
    assert (error.index, error.attempts, result.failed, result.score) == (7, 1, 1, 100.0)
    assert re.match(message, error.error["message"]), error.error
    assert error.prediction.team == "billing"
    assert lm_server.requests == 30


FAULTS = ["rate_limit=0.01", "server_error=0.08", "truncated=0.05", "garbage=0.05", "reset=0.05", "hang=0.05"]


def test_a_provider_of_many_faults(system, server):
    options = [word for fault in FAULTS for word in ("--fault", fault)]
    lm_server = server("--latency-ms", 10, "--answer", ANSWER, *options)
    lm = lm_server.lm(timeout=2.0, deadline=120.0)
    result = dspex.evaluate(triage(), tickets(200), metric(), lm=lm, max_in_flight=64)
    check_whole(result, 200)
    stats = lm_server.stats()
    assert set(stats["faults"]) == {fault.split("=")[0] for fault in FAULTS}
    assert result.failed <= 3
    assert stats["answered"] >= 200 - result.failed
    assert result.asked == stats["requests"]


@pytest.mark.soak
def test_a_rate_limit_that_is_known(system, server):
    lm_server = server("--answer", ANSWER, "--rpm", 1200)
    started = time.monotonic()
    result = dspex.evaluate(triage(), tickets(60), metric(), lm=lm_server.lm(rpm=1200), max_in_flight=64)
    seconds = time.monotonic() - started
    check_whole(result, 60)
    stats = lm_server.stats()
    assert (stats["rate_limited"], stats["requests"], result.failed) == (0, 60, 0)
    assert 2.0 < seconds < 30.0


@pytest.mark.soak
def test_a_burst_of_429s(system, server):
    lm_server = server("--answer", ANSWER, "--rpm", 3000, "--burst-seconds", 1)
    # Of what waits out a 429 at the end of the run, some would be started twice on a busy host.
    result = dspex.evaluate(triage(), tickets(150), metric(), lm=lm_server.lm(), max_in_flight=64, hedge=False)
    check_whole(result, 150)
    stats = lm_server.stats()
    assert (stats["answered"], result.failed, result.asked) == (150, 0, stats["requests"])


def test_no_key(system):
    lm = dspex.LM("openai/x", base_url="http://127.0.0.1:9/v1", api_key="env:NOT_THERE")
    started = time.monotonic()
    with pytest.raises(dspex.RunFailed, match=r"20 examples in a row .*NOT_THERE is not set") as caught:
        dspex.evaluate(triage(), tickets(5000), metric(), lm=lm)
    assert time.monotonic() - started < 60.0  # each example alone may take ten minutes
    assert "\n" not in str(caught.value)
    assert system.journal.get_run(caught.value.run_id).state == "failed"


def test_no_such_model(system):
    """A server that answers 404 to everything, as a provider does when the model is misspelt."""
    with Answering(404, b'{"error": {"message": "The model x does not exist", "code": "model_not_found"}}') as url:
        lm = dspex.LM("openai/x", base_url=url)
        with pytest.raises(dspex.RunFailed, match=r"InvalidRequest: .*The model x does not exist"):
            dspex.evaluate(triage(), tickets(5000), metric(), lm=lm)


@pytest.mark.soak
def test_a_server_that_is_gone_for_good(system, server):
    """It ends the run, and costs no example: with a server that answers the same run goes on."""
    first = server("--latency-ms", 200, "--answer", ANSWER)
    done = []

    def follow(summary):
        done.append(summary["done"])
        if summary["done"] > 40:
            first.close()

    how = {"run_id": "gone", "max_attempts": 2, "max_in_flight": 32}
    with pytest.raises(dspex.RunFailed, match=r"20 examples in a row failed with .*no connection to .* and resume"):
        dspex.evaluate(triage(), tickets(600), metric(), lm=first.lm(deadline=3.0), on_progress=follow, **how)
    row = system.journal.get_run("gone")
    assert (row.state, row.failed) == ("failed", 0)
    assert 40 < row.done < 600
    second = server("--answer", ANSWER)
    result = dspex.evaluate(triage(), tickets(600), metric(), lm=second.lm(), **how)
    check_whole(result, 600)
    assert (result.failed, second.requests) == (0, 600 - row.done)


def test_few_examples_with_a_refused_key(system, server):
    with Answering(401, b'{"error": {"message": "Incorrect API key provided."}}') as url:
        lm = dspex.LM("openai/x", base_url=url)
        with pytest.raises(dspex.RunFailed, match=r"all 7 examples failed with AuthError: .*Incorrect API key"):
            dspex.evaluate(triage(), tickets(7), metric(), run_id="few", lm=lm)
    # With a key that is good, and another server, the same run is continued: nothing was booked.
    lm_server = server("--answer", ANSWER)
    result = dspex.evaluate(triage(), tickets(7), metric(), run_id="few", lm=lm_server.lm())
    check_whole(result, 7)
    assert (result.failed, lm_server.requests) == (0, 7)


def test_what_came_before_a_broken_line_is_kept(system, server, tmp_path):
    lm_server = server("--latency-ms", 300, "--answer", ANSWER)
    rows = [json.dumps(one) for one in tickets(20)]
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join([*rows[:15], "{broken", *rows[15:]]))
    with pytest.raises(dspex.RunFailed, match="line 16: not valid JSON") as caught:
        dspex.evaluate(triage(), path, metric(), lm=lm_server.lm(), max_in_flight=8)
    assert system.journal.get_run(caught.value.run_id).done == 15
    result = dspex.evaluate(triage(), path, metric(), lm=lm_server.lm(), run_id=caught.value.run_id, on_bad_line="skip")
    check_whole(result, 20)
    assert lm_server.requests == 20


def test_the_attempts_that_failed_are_paid_too(system, server):
    class Twice(dspex.Module):
        def __init__(self):
            self.ask = dspex.Predict("ticket -> team")

        async def aforward(self, ticket):
            prediction = await self.ask.acall(ticket=ticket)
            if ticket == "ticket 3":
                raise dspex.errors.Overloaded("again")
            return prediction

    lm_server = server("--answer", ANSWER)
    result = dspex.evaluate(Twice(), tickets(10), metric(), lm=lm_server.lm())
    assert (result.asked, lm_server.requests, result.failed) == (12, 12, 1)
    one = result.results[3]
    assert (one.attempts, one.usage["input_total"]) == (3, 3 * result.results[4].usage["input_total"])


def test_odd_errors_fail_their_example_only(system):
    class Odd(dspex.Module):
        async def aforward(self, ticket):
            if ticket == "ticket 3":
                raise ValueError("half \ud800 a pair")
            if ticket == "ticket 5":
                raise asyncio.CancelledError
            return dspex.Prediction(team="billing")

    result = dspex.evaluate(Odd(), tickets(10), metric())
    check_whole(result, 10)
    assert errors(result) == {3: ("ValueError", 1), 5: ("CancelledError", 1)}


def test_a_program_that_cannot_be_opened(system):
    class Closed(dspex.Module):
        def __reduce__(self):
            return (eval, ("1/0",))

        async def aforward(self, ticket):
            return None

    with pytest.raises(dspex.DspexError, match="division by zero"):
        dspex.evaluate(Closed(), tickets(5000), metric())


def test_quota_and_recovery_by_resume(system, tmp_path):
    flag = tmp_path / "paid"

    class Paid(dspex.Module):
        async def aforward(self, ticket):
            if not flag.exists():
                raise dspex.errors.QuotaExhausted("the account is out of money")
            return dspex.Prediction(team="billing")

    with pytest.raises(dspex.RunFailed, match="20 examples in a row failed with QuotaExhausted") as caught:
        dspex.evaluate(Paid(), tickets(500), metric())
    run_id = caught.value.run_id
    flag.touch()
    result = system.resume(run_id, display_progress=False)
    check_whole(result, 500)
    assert (result.failed, result.score) == (0, 50.0)


def test_a_worker_that_dies_waits_for_nobody(system):
    """A run goes on while one of its workers is away for good."""
    until(lambda: system.node.whereis("worker-1"))
    system.node.terminate_child("http_workers", "worker-1")
    try:
        result = dspex.evaluate(Poisoned(), tickets(100), metric())
        check_whole(result, 100)
    finally:
        system.node.restart_child("http_workers", "worker-1")
