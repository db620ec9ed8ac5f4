"""A run through batches: half the price, and each request is submitted once, whoever is killed meanwhile."""

import json
import urllib.request
from collections import Counter

import pytest
from e2e_kit import ANSWER, Background, Host, LMServer, metric, tickets, triage, until
from prices_kit import INPUT, OUTPUT, at_prices, use_folder

import dspex_actors as dspex

QUICK = {"poll": 0.05, "gather": 0.3}


class Batching(LMServer):
    """A stand-in that takes batches, and says what was submitted."""

    def batches(self):
        with urllib.request.urlopen(self.url.removesuffix("/v1") + "/batched", timeout=20) as answer:
            return json.load(answer)

    def at(self, provider, **settings):
        url = self.url if provider == "openai" else self.url.removesuffix("/v1")
        return dspex.LM(f"{provider}/x", base_url=url, max_tokens=16, **{"cache": False, **settings})


class Shared:
    def __init__(self, folder):
        self.server = Batching("--answer", ANSWER, "--book", "--batch-seconds", "0.5")
        self.host = Host(folder / "home", workers=2).start()

    def evaluate(self, program, data, server=None, provider="openai", **settings):
        told = {"batch": QUICK, "display_progress": False, **settings}
        lm = told.pop("lm", None) or (server or self.server).at(provider)
        with dspex.connect(home=self.host.home) as system:
            return dspex.evaluate(program, data, metric(), lm=lm, system=system, **told)


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    folder = tmp_path_factory.mktemp("batches")
    with at_prices(folder, "openai/x", "anthropic/x"):
        made = Shared(folder)
        try:
            yield made
        finally:
            made.host.close()
            made.server.close()


@pytest.fixture(autouse=True)
def at_home(shared, monkeypatch):
    """Have a node that is started again know the prices."""
    use_folder(monkeypatch, shared.host.home.parent)


@pytest.mark.parametrize("provider", ["openai", "anthropic"])
def test_a_run_is_one_batch_and_costs_half(shared, provider):
    before, booked = len(shared.server.batches()), len(shared.server.booked())
    result = shared.evaluate(triage(), tickets(40), provider=provider, batch={**QUICK, "gather": 1.0})
    assert (result.n, result.failed, result.score) == (40, 0, 50.0)
    assert [len(batch["requests"]) for batch in shared.server.batches()[before:]] == [40]
    assert result.asked == 40
    usage = result.usage
    full = (usage["input_total"] * INPUT + usage["output_total"] * OUTPUT) / 1e6
    assert result.cost == pytest.approx(full / 2)
    assert len(shared.server.booked()) == booked


class TwoCalls(dspex.Module):
    """Thinks, then decides: two rounds."""

    def __init__(self):
        super().__init__()
        self.first = dspex.ChainOfThought("ticket -> team")
        self.second = dspex.Predict("ticket, thought -> team")

    async def aforward(self, ticket):
        first = await self.first.acall(ticket=ticket)
        return await self.second.acall(ticket=ticket, thought=first.reasoning)


THOUGHT = "[[ ## reasoning ## ]]\nso\n\n" + ANSWER


@pytest.fixture(scope="module")
def slow():
    """A server that takes its time to tell the id of a batch that it has taken."""
    server = Batching("--answer", THOUGHT, "--batch-seconds", "0.2", "--batch-answer-seconds", "1")
    yield server
    server.close()


@pytest.mark.soak
def test_a_program_of_two_calls_is_two_rounds(shared, slow):
    before = len(slow.batches())
    result = shared.evaluate(TwoCalls(), tickets(12), server=slow, batch={**QUICK, "gather": 1.0})
    assert (result.succeeded, result.failed) == (12, 0)
    assert [len(batch["requests"]) for batch in slow.batches()[before:]] == [12, 12]


def once(server, before, count):
    """Check that so many prompts were submitted since then, each once."""
    bodies = [body for batch in server.batches()[before:] for _, body in batch["requests"]]
    assert len(bodies) == len(set(bodies)) == count


def kill_child(host, what):
    with dspex.connect(home=host.home) as system:
        return host.kill(what, system.node)


@pytest.mark.parametrize(
    ("what", "provider"),
    [
        ("batches", "openai"),
        ("batches", "anthropic"),
        ("worker-1", "openai"),
        ("run:", "anthropic"),
        ("root", "openai"),
        pytest.param("worker-1", "anthropic", marks=pytest.mark.soak),
        pytest.param("run:", "openai", marks=pytest.mark.soak),
        pytest.param("root", "anthropic", marks=pytest.mark.soak),
    ],
)
def test_what_is_killed_while_a_batch_is_submitted_submits_it_once(shared, slow, provider, what):
    data = [{"ticket": f"{what} {provider} {number}", "team": "billing"} for number in range(10)]
    before = len(slow.batches())
    work = Background(shared.evaluate, triage(), data, server=slow, provider=provider, run_id=f"{provider}-{what[:4]}")
    until(lambda: len(slow.batches()) > before)  # it has it, and has not told the id
    kill_child(shared.host, what)
    result = work.result(60)
    assert (result.succeeded, result.failed) == (10, 0)
    once(slow, before, 10)
    assert result.asked == 10
    assert result.cost is not None


@pytest.mark.soak
def test_a_node_that_is_gone_and_back_finds_its_batch(shared, slow):
    data = [{"ticket": f"gone {number}", "team": "billing"} for number in range(10)]
    before = len(slow.batches())
    work = Background(shared.evaluate, triage(), data, server=slow, run_id="gone")
    until(lambda: len(slow.batches()) > before)
    shared.host.kill_everything()
    with pytest.raises(dspex.RunInterrupted):
        work.result(60)
    shared.host.start()
    with dspex.connect(home=shared.host.home) as system:
        result = system.resume("gone", display_progress=False)
    assert (result.succeeded, result.asked) == (10, 10)
    once(slow, before, 10)
    assert result.cost is not None


@pytest.mark.soak
def test_what_is_late_is_asked_again_and_what_fails_is_an_error_of_its_example(shared):
    server = Batching("--answer", ANSWER, "--batch-expired", "0.3", "--batch-failed", "0.1", "--book")
    try:
        result = shared.evaluate(triage(), tickets(60), server=server, failures="skip", provider="anthropic")
        batches = server.batches()
    finally:
        server.close()
    statuses = Counter(status for batch in batches for status in batch["statuses"])
    assert len(batches) > 1
    assert statuses[0] > 0
    assert result.failed == statuses[500] > 0
    assert result.succeeded == statuses[200] == 60 - result.failed
    assert all("Internal server error (injected)" in str(one) for one in result.errors)
    full = (result.usage["input_total"] * INPUT + result.usage["output_total"] * OUTPUT) / 1e6
    assert result.cost == pytest.approx(full / 2)


def test_a_run_that_is_cancelled_cancels_its_batches_and_says_before_how_they_stand(shared):
    server = Batching("--answer", ANSWER, "--batch-seconds", "600")
    try:
        work = Background(shared.evaluate, triage(), tickets(20), server=server, run_id="cancelled")
        with dspex.connect(home=shared.host.home) as system:
            until(server.batches)
            look = lambda: system._ask("progress", "cancelled")["note"].get("trouble") or ""  # noqa: E731
            until(lambda: " of 20" in look() and "0 done, submitted" in look(), what=look)
            system.cancel("cancelled")
            with pytest.raises(dspex.RunFailed):
                work.result(30)
            until(lambda: server.batches()[0]["cancelled"])
    finally:
        server.close()


def test_equal_requests_are_one_and_answers_are_kept(shared):
    before = len(shared.server.batches())
    data = [{"ticket": f"equal {number % 5}", "team": "billing"} for number in range(20)]
    lm = shared.server.at("openai", cache=True)
    result = shared.evaluate(triage(), data, lm=lm)
    assert (result.succeeded, result.asked) == (20, 5)
    again = shared.evaluate(triage(), data, lm=lm)
    assert (again.succeeded, again.asked, again.cost) == (20, 0, 0.0)
    at_once = shared.evaluate(triage(), data, lm=lm, batch=False)
    assert (at_once.succeeded, at_once.asked) == (20, 0)
    once(shared.server, before, 5)


@pytest.mark.soak
def test_a_budget_is_kept_and_a_larger_one_goes_on(shared):
    data = [{"ticket": f"paid {number}", "team": "billing"} for number in range(30)]
    before = len(shared.server.batches())
    with pytest.raises(dspex.BudgetExceeded):
        shared.evaluate(triage(), data, run_id="paid", budget=0.02)
    first = sum(len(batch["requests"]) for batch in shared.server.batches()[before:])
    assert 0 < first < 30
    result = shared.evaluate(triage(), data, run_id="paid", budget=1.0)
    assert (result.succeeded, result.asked) == (30, 30)
    once(shared.server, before, 30)


@pytest.mark.parametrize(
    ("lm", "what"),
    [
        (lambda server: dspex.LM("embedded/nearest"), "embedded/nearest"),
        (lambda server: dspex.LM("gemini/x", base_url=server.url, fallbacks=[server.at("openai")]), "gemini/x"),
        (lambda server: server.at("openai", fallbacks=["embedded/nearest"]), "embedded/nearest"),
        (lambda server: server.at("openai", service_tier="flex"), "service_tier='flex'"),
    ],
)
def test_an_lm_without_batches_is_refused_before_anything_is_asked(shared, lm, what):
    before = len(shared.server.batches())
    with pytest.raises(dspex.ConfigError, match="batch is invalid with") as error:
        shared.evaluate(triage(), tickets(3), lm=lm(shared.server))
    assert what in str(error.value)
    assert "\n" not in str(error.value)
    assert len(shared.server.batches()) == before


@pytest.mark.parametrize("batch", ["yes", 1, {"poll": 0}, {"pol": 3}, {"gather": float("nan")}, {"poll": True}])
def test_a_setting_that_is_none_is_refused(shared, batch):
    with pytest.raises(dspex.ConfigError, match="batch"):
        shared.evaluate(triage(), tickets(3), batch=batch)


def test_certain_nodes_are_refused(shared):
    with pytest.raises(dspex.ConfigError, match="nodes is invalid with batch"):
        shared.evaluate(triage(), tickets(3), nodes=["host"])
