"""What is paid is in the books, of runs and of single calls, by whom and what for; one node for all of it."""

import itertools
import os
import signal

import pytest
from e2e_kit import ANSWER, LMServer, metric, tickets, triage, until
from prices_kit import at_prices

import dspex_actors as dspex
from dspex_actors.client import own_books
from dspex_actors.client.costs import costs


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """Give a node whose LM has a price, and the LM's server."""
    folder = tmp_path_factory.mktemp("cost")
    with at_prices(folder, "openai/x"):
        server = LMServer("--answer", ANSWER)
        try:
            with dspex.connect(workers=2) as system:
                yield system, server
        finally:
            server.close()


def test_runs_and_single_calls_are_told_apart(shared):
    system, server = shared
    lm = server.lm(cache=False)
    result = dspex.evaluate(triage(), tickets(6), metric(), lm=lm, tags={"team": "search"}, display_progress=False)
    assert result.cost > 0
    with dspex.context(tags={"team": "ads"}):
        single = lm("hello", user="ada")
        lm("hello again", tags={"step": "2"})
    assert single.cost > 0
    found = until(lambda: (now := system.cost("tag,user"))["total"]["requests"] == 8 and now)
    rows = {(row["tag"], row["user"]): row for row in found["rows"]}
    assert {key: row["requests"] for key, row in rows.items()} == {
        ("team=search", None): 6,
        ("team=ads", "ada"): 1,
        ("team=ads", None): 1,
        ("step=2", None): 1,
    }
    assert rows["team=search", None]["cost"] == pytest.approx(result.cost)
    assert rows["team=ads", "ada"]["cost"] == pytest.approx(single.cost)
    assert {row["run"]: row["requests"] for row in system.cost("run")["rows"]} == {result.run_id: 6, None: 2}
    requests = list(system.journal.iter_attempts(result.run_id))
    assert {one.tags for one in requests} == {'{"team":"search"}'}


def test_an_inference_of_an_ecosystem_is_in_the_books(shared):
    system, server = shared
    before = system.cost()["total"]["requests"]
    with dspex.context(lm=server.lm(cache=False)), system.ecosystem(triage()) as ecosystem:
        assert ecosystem.infer(ticket="ticket 1").team == "billing"
    until(lambda: system.cost()["total"]["requests"] == before + 1)


def test_answers_of_a_cache_are_counted_apart_with_what_they_save(shared):
    system, server = shared
    options = {"lm": server.lm(cache=True), "display_progress": False, "max_in_flight": 1}
    tickets_ = [{"ticket": f"cached {number}", "team": "billing"} for number in range(4)]
    paid = dspex.evaluate(triage(), tickets_, metric(), run_id="paid", **options)
    tries = itertools.count(1)

    def again():
        return dspex.evaluate(triage(), tickets_, metric(), run_id=f"free {next(tries)}", **options)

    # What one worker was answered another one knows after a moment.
    free = until(lambda: (found := again()).asked == 0 and found)
    assert free.cost == 0.0
    assert {one.cached is not None for one in free.results} == {True}
    assert {one.cached for one in paid.results} == {None}
    rows = until(lambda: (now := {row["run"]: row for row in system.cost("run")["rows"]}).get(free.run_id) and now)
    assert (rows[free.run_id]["requests"], rows[free.run_id]["cached"], rows[free.run_id]["cost"]) == (0, 4, 0.0)
    assert rows[free.run_id]["saved"] == pytest.approx(paid.cost)
    assert (rows["paid"]["requests"], rows["paid"]["cached"]) == (4, 0)


def test_the_calls_of_a_judge_have_a_tag(shared):
    system, server = shared
    judge = dspex.metrics.judge("It names a team.")
    # The stand-in gives no score, so each judgement fails; it is asked, and paid, all the same.
    result = dspex.evaluate(
        triage(), tickets(3), judge, lm=server.lm(), tags={"team": "judged"}, failures="skip", display_progress=False
    )
    assert result.failed == 3
    rows = {row["tag"]: row for row in system.cost("tag")["rows"]}
    assert rows["team=judged"]["requests"] == result.asked
    assert rows["role=judge"]["requests"] == result.asked - 3 > 0


@pytest.mark.soak
def test_what_was_paid_just_before_a_program_closes_its_node_is_in_the_books(tmp_path, monkeypatch, shared):
    """The keeper of the books ends after those who bring what was paid last."""
    _, server = shared
    lm = server.lm(cache=False)
    monkeypatch.setenv("DSPEX_HOME", str(tmp_path / "home"))
    for asked in (10, 20):
        with dspex.connect(workers=2):
            for number in range(10):
                lm(f"hi {number}")
        with dspex.connect(workers=2) as system:
            assert system.cost()["total"]["requests"] == asked


class Paid(dspex.BaseLM):
    """Says what it costs; fails where it is told to."""

    def forward(self, messages, **params):
        if messages[-1]["content"] == "fail":
            raise ValueError("no")
        return {"text": "yes", "cost": 0.25, "usage": {"prompt_tokens": 10, "completion_tokens": 2}}


class Asks(dspex.BaseLM):
    """Asks another one, which is booked."""

    def forward(self, messages, **params):
        return Paid("paid")(messages).text


@pytest.mark.soak
def test_calls_of_own_lms_outside_of_runs_are_in_the_books(tmp_path, monkeypatch):
    monkeypatch.setenv("DSPEX_HOME", str(tmp_path))
    monkeypatch.setattr(own_books, "CLOSE_SECONDS", 60.0)
    lm = Paid("paid")
    assert lm("before").cost == 0.25  # nobody is connected: nobody books it
    with dspex.connect(workers=1) as system:
        for _ in range(3):
            lm("hi")
        Asks("asks")("hi")
        with dspex.context(tags={"team": "a"}), pytest.raises(ValueError, match="no"):
            lm("fail")
        list(lm.stream("hi"))
        until(lambda: system.cost("model")["total"]["requests"] == 6)
        [row] = system.cost("model")["rows"]
        assert (row["model"], row["answered"], row["failed"]) == ("own/paid", 5, 1)
        assert row["cost"] == pytest.approx(5 * 0.25)
        assert {one["tag"]: one["requests"] for one in system.cost("tag")["rows"]} == {None: 5, "team=a": 1}
        os.kill(system.node.pid("runs"), signal.SIGKILL)
        lm("hi")  # and the last one is told when the connection is closed
    assert costs()["total"]["requests"] == 7
    lm("after")
    assert costs()["total"]["requests"] == 7
