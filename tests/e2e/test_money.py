"""Every request is in the books, whoever died meanwhile; and what cannot succeed is not asked again."""

import json
import sqlite3
from collections import Counter

import pytest
from e2e_kit import ANSWER, Answering, Background, check_whole, metric, tickets, triage, until

import dspex_actors as dspex
from dspex_actors.lm.request import Complete
from supervisors.errors import CallTimeout


def attempts(home, run_id):
    """Return the requests of a run as dicts."""
    with sqlite3.connect(home / "journal.db") as db:
        db.row_factory = sqlite3.Row
        return [dict(row) for row in db.execute("SELECT * FROM attempt WHERE run_id = ?", (run_id,))]


def check_books(rows, server, result):
    """Compare the rows with what the server booked, request by request, and the run's totals with the rows."""
    booked = {one["id"]: one for one in server.booked()}
    told = [row for row in rows if row["request_id"] is not None]
    assert len({row["request_id"] for row in told}) == len(told)
    for row in told:
        one = booked.pop(row["request_id"])
        assert one["status"] == (row["status"] or 200)
        if row["outcome"] == "answered":
            usage = json.loads(row["usage"])
            assert (usage["input_total"], usage["output_total"]) == (one["input"], one["output"])
            assert row["finish_reason"] == ("length" if one["finish"] == "length" else "stop")
        else:
            assert (row["cost"], json.loads(row["usage"])["input_total"]) == (0.0, 0)
    # What is left had no answer that could name it: broken off, or given up, or its worker died.
    silent = Counter(row["outcome"] for row in rows if row["request_id"] is None)
    # Each request that the server has seen has its row; and one of a worker that died may not have got so far.
    assert 0 <= sum(silent.values()) - len(booked) <= silent["lost"]
    assert silent["answered"] == 0
    assert all(row["cost"] is None for row in rows if row["request_id"] is None)
    assert result.asked == len(rows)
    totals = Counter()
    for row in rows:
        totals.update({name: n for name, n in json.loads(row["usage"]).items() if name != "estimated"})
    assert {name: result.usage[name] for name in ("input_total", "output_total")} == {
        name: totals[name] for name in ("input_total", "output_total")
    }
    return silent


def run_and_kill(host, lm_server, count, kills, **settings):
    """Evaluate; kill parts of the node as results come in. `kills`: results → what."""
    with dspex.connect(home=host.home) as system:
        lm = lm_server.lm(**settings)
        # Answers of 8 tokens are whole; those of odd tickets are cut, and cannot be read.
        run_id = "books"
        work = Background(
            dspex.evaluate, Cutting(), tickets(count), metric(), lm=lm, run_id=run_id, display_progress=False
        )
        for done, what in kills.items():
            until(lambda at=done: getattr(system.journal.get_run(run_id), "done", 0) >= at, 60)
            host.kill(what, system.node)
        result = work.result(240)
        check_whole(result, count)
        return result


class Cutting(dspex.Module):
    """Asks for short answers now and then: they are cut, and their example fails."""

    def __init__(self):
        super().__init__()
        self.ask = dspex.Predict("ticket -> team")

    async def aforward(self, ticket):
        short = int(ticket.split()[1]) % 20 == 3
        return await self.ask.acall(ticket=ticket, config={"max_tokens": 3} if short else {})


FAULTS = ("rate_limit=0.02", "server_error=0.03", "overloaded=0.01", "truncated=0.01", "reset=0.01", "hang=0.002")


@pytest.mark.parametrize("count", [400, pytest.param(5000, marks=pytest.mark.soak)])
def test_the_requests_of_a_run_are_what_the_server_booked(host, server, count):
    options = [word for fault in FAULTS for word in ("--fault", fault)]
    lm_server = server("--latency-ms", 20, "--answer", ANSWER, "--book", *options)
    kills = {count // 4: "worker-1", count // 2: "run:books", 3 * count // 4: "worker-2"}
    result = run_and_kill(host, lm_server, count, kills, timeout=2.0)
    rows = attempts(host.home, "books")
    silent = check_books(rows, lm_server, result)
    assert silent["lost"]
    assert result.cost is None
    cut = [one for one in result.results if one.index % 20 == 3]
    assert all(one.error["type"] == "AdapterParseError" for one in cut)


@pytest.mark.soak
def test_a_request_that_is_always_wrong_ends_the_run_soon(home):
    body = json.dumps({"error": {"message": "Unsupported parameter: temperature", "code": "unsupported"}}).encode()
    with dspex.connect(home=home, workers=2), (answering := Answering(400, body)) as url:
        lm = dspex.LM("openai/x", base_url=url)
        with pytest.raises(dspex.RunFailed, match=r"20 examples in a row failed with InvalidRequest.*temperature"):
            dspex.evaluate(triage(), tickets(300), metric(), lm=lm)
    assert len(answering.seen) <= 25


@pytest.mark.soak
def test_a_limit_on_speed_that_lets_nothing_through_ends_the_run(home):
    body = json.dumps({"error": {"message": "slow down"}}).encode()
    with dspex.connect(home=home, workers=2), Answering(429, body) as url:
        lm = dspex.LM("openai/x", base_url=url, deadline=1.0)
        # Two: which of many examples gets the rare turns of a learnt rate is chance, and one of them has to get three.
        with pytest.raises(dspex.RunFailed, match="a limit on speed let nothing through"):
            dspex.evaluate(triage(), tickets(2), metric(), lm=lm)


@pytest.mark.soak
def test_a_request_that_is_larger_than_a_minute_s_budget_is_final(home, server):
    lm_server = server("--answer", ANSWER)
    with dspex.connect(home=home, workers=2):
        lm = lm_server.lm(tpm=1000, max_tokens=2000)
        with pytest.raises(dspex.errors.RateLimited, match="tpm=1000"):
            lm("hello", max_tokens=2000)
    assert lm_server.requests == 0


@pytest.mark.soak
def test_a_server_that_does_one_at_a_time_is_not_drowned(home, server):
    lm_server = server("--latency-ms", 100, "--answer", ANSWER, "--at-once", 1)
    with dspex.connect(home=home, workers=2):
        result = dspex.evaluate(triage(), tickets(300), metric(), lm=lm_server.lm(timeout=2.0))
    check_whole(result, 300)
    assert result.failed == 0
    assert lm_server.requests <= 315


@pytest.mark.soak
def test_a_large_prediction_is_the_error_of_its_example(home):
    class Large(dspex.Module):
        async def aforward(self, ticket):
            number = int(ticket.split()[1])
            return dspex.Prediction(team="billing", text="x" * ((70 << 20) if number == 3 else (1 << 20)))

    with dspex.connect(home=home, workers=2):
        result = dspex.evaluate(Large(), tickets(30), metric(), max_in_flight=30)
        check_whole(result, 30)
        assert [(one.index, one.error["type"]) for one in result.errors] == [(3, "CodecError")]
        assert "at most" in result.errors[0].error["message"]


@pytest.mark.soak
def test_a_caller_that_has_gone_takes_its_request_along(home, server):
    lm_server = server("--fault", "hang=1")
    with dspex.connect(home=home, workers=1) as system:
        lm = lm_server.lm(timeout=60.0)
        with pytest.raises(CallTimeout):
            system.node.call("worker-1", Complete(lm.to_dict(), [{"role": "user", "content": "x"}], {}), timeout=5.0)
        until(lambda: lm_server.stats()["requests"] == 1 and lm_server.stats()["in_flight"] == 0, 60.0)
