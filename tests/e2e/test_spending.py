"""What may be spent is never passed, by the server's own book, whoever is killed; a run goes on with more."""

import json

import pytest
from click.testing import CliRunner
from e2e_kit import ANSWER, Answering, Background, Host, LMServer, kill_part, metric, tickets, triage, until
from prices_kit import INPUT, OUTPUT, at_prices, use_folder

import dspex_actors as dspex
from dspex_actors.cli import main
from dspex_actors.teleprompt import BootstrapFewShotWithRandomSearch


def uneven(count):
    """Return examples whose prices differ tenfold."""
    return [{**one, "ticket": one["ticket"] + " please" * (place % 7) ** 3} for place, one in enumerate(tickets(count))]


class Shared:
    def __init__(self, folder):
        self.server = LMServer("--answer", ANSWER, "--book", "--latency-ms", 10)
        self.host = Host(folder / "home", workers=2)
        self.host.start()

    def lm(self, **settings):
        return self.server.lm(max_tokens=16, cache=False, **settings)

    def charged(self, since=0):
        """Return what the server would bill, in dollars."""
        return sum(one["input"] * INPUT + one["output"] * OUTPUT for one in self.server.booked()[since:]) / 1e6

    def booked(self):
        return len(self.server.booked())


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    folder = tmp_path_factory.mktemp("spending")
    with at_prices(folder, "openai/x"):
        made = Shared(folder)
        try:
            yield made
        finally:
            made.host.close()
            made.server.close()


@pytest.fixture(autouse=True)
def at_home(shared, monkeypatch):
    """Have commands look where the shared node is, and one that is started again know the prices."""
    use_folder(monkeypatch, shared.host.home.parent)


def evaluate(shared, count, **options):
    options = {"lm": shared.lm(), "display_progress": False, "max_in_flight": 16} | options
    return dspex.evaluate(triage(), uneven(count), metric(), **options)


@pytest.mark.soak
def test_a_run_is_paused_before_its_budget_is_passed_and_goes_on_with_more(shared):
    before = shared.booked()
    with dspex.connect(home=shared.host.home) as system:
        why = r"of its budget of \$0.1000 are spent.*max_tokens.*--budget 0.2"
        with pytest.raises(dspex.BudgetExceeded, match=why) as caught:
            evaluate(shared, 200, budget=0.1, run_id="more")
        row = system.journal.get_run("more")
        assert (row.state, row.reason) == ("paused", "budget")
        # Each request that the server has seen is in the books: what was under way was finished.
        assert row.asked == shared.booked() - before
        assert row.cost == pytest.approx(shared.charged(before))
        assert caught.value.spent == pytest.approx(row.cost)
        assert (caught.value.budget, caught.value.run_id) == (0.1, "more")
        assert 0.8 * 0.1 <= row.cost <= 0.1
        shown = CliRunner().invoke(main.dspex, ["runs", "show", "more", "--json"], prog_name="dspex")
        told = json.loads(shown.stdout)
        assert (told["budget"], told["spent"], told["reason"]) == (0.1, pytest.approx(row.cost), "budget")
        with pytest.raises(dspex.ConfigError, match=r"budget is invalid: got 0.05, and run more has cost"):
            system.resume("more", budget=0.05, display_progress=False)
        refused = CliRunner().invoke(main.dspex, ["runs", "resume", "more", "--budget", "0.05"], prog_name="dspex")
        assert refused.exit_code == 2
        assert "budget is invalid: got 0.05, and run more has cost" in " ".join(refused.output.split())
        with pytest.raises(dspex.BudgetExceeded):
            evaluate(shared, 200, budget=0.15, run_id="more")
        assert shared.charged(before) <= 0.15
        with pytest.raises(dspex.BudgetExceeded):  # without one, that of before holds
            evaluate(shared, 200, run_id="more")
        assert shared.charged(before) <= 0.15
        result = system.resume("more", budget=100.0, display_progress=False)
        assert [one.index for one in result.results] == list(range(200))
        assert result.cost == pytest.approx(shared.charged(before))


@pytest.mark.soak
def test_a_run_that_is_made_anew_under_its_id_has_spent_nothing(shared):
    with dspex.connect(home=shared.host.home) as system:
        for _ in range(2):
            with pytest.raises(dspex.BudgetExceeded):
                evaluate(shared, 200, budget=0.05, run_id="anew")
            assert system.journal.get_run("anew").done > 5
            system.delete("anew")


@pytest.mark.parametrize(
    "victim", ["spending", *(pytest.param(other, marks=pytest.mark.soak) for other in ("worker-1", "run:"))]
)
def test_whoever_is_killed_the_budget_is_not_passed(shared, victim):
    before, run_id = shared.booked(), f"killed {victim}".replace(":", "")
    with dspex.connect(home=shared.host.home) as system:
        work = Background(evaluate, shared, 600, budget=0.3, run_id=run_id)
        for done in (20, 60):
            until(lambda at=done: getattr(system.journal.get_run(run_id), "done", 0) >= at, 60)
            kill_part(system.node, victim)
            assert shared.charged(before) <= 0.3
        with pytest.raises(dspex.BudgetExceeded):
            work.result(120)
        charged, row = shared.charged(before), system.journal.get_run(run_id)
        assert row.state == "paused"
        assert 0.5 * 0.3 <= charged <= 0.3
        [spent] = [
            account["spent"]
            for name, account in system.node.call("spending", "accounts")[1].items()
            if name.startswith(f"run:{run_id}#")
        ]
        assert charged <= spent + 1e-9 <= 0.3 + 1e-9
        system.cancel(run_id)


def test_a_node_that_is_killed_whole_knows_what_was_spent(shared):
    before = shared.booked()
    with dspex.connect(home=shared.host.home) as system:
        work = Background(evaluate, shared, 600, budget=0.3, run_id="whole")
        until(lambda: getattr(system.journal.get_run("whole"), "done", 0) >= 40, 60)
        shared.host.kill_everything()
        with pytest.raises(dspex.RunInterrupted):
            work.result(60)
    shared.host.start()
    with dspex.connect(home=shared.host.home) as system, pytest.raises(dspex.BudgetExceeded):
        system.resume("whole", display_progress=False)
    assert 0.5 * 0.3 <= shared.charged(before) <= 0.3


@pytest.mark.soak
def test_an_optimisation_never_passes_its_budget_whatever_of_it_is_killed(shared):
    before, name = shared.booked(), "searched"
    optimizer = BootstrapFewShotWithRandomSearch(
        metric(), max_bootstrapped_demos=2, max_labeled_demos=2, num_candidate_programs=2
    )
    train = [dspex.Example(row).with_inputs("ticket") for row in uneven(60)]
    with dspex.connect(home=shared.host.home) as system:
        handle = system.start_optimization(
            optimizer, triage(), train, run_id=name, lm=shared.lm(), budget=0.25, max_in_flight=4
        )
        for part, victim in ((0.08, "optimise:"), (0.12, "runs"), (0.15, "worker-1")):
            until(lambda least=part: shared.charged(before) >= least, 60)
            kill_part(system.node, victim)
        until(lambda: shared.charged(before) >= 0.18 or handle.status().state != "running", 60)
    shared.host.kill_everything()
    shared.host.start()
    with dspex.connect(home=shared.host.home) as system:
        handle = system.optimization(name).resume()
        with pytest.raises(dspex.BudgetExceeded, match="its budget is used up"):
            handle.wait(120)
        charged, accounts = shared.charged(before), system.node.call("spending", "accounts")[1]
        [spent] = [account["spent"] for of, account in accounts.items() if of.startswith(f"run:{name}#")]
        assert 0.5 * 0.25 <= charged <= spent + 1e-9 <= 0.25 + 1e-9


def test_a_judge_is_paid_out_of_the_budget_too(shared):
    judge = dspex.Predict("ticket, team -> verdict: bool")

    def metric(example, prediction, trace=None):
        judge(ticket=example.ticket, team=prediction.team)
        return True

    before = shared.booked()
    with dspex.connect(home=shared.host.home), pytest.raises(dspex.BudgetExceeded):
        dspex.evaluate(
            triage(), uneven(300), metric, lm=shared.lm(), display_progress=False, budget=0.1, max_in_flight=8
        )
    assert shared.charged(before) <= 0.1


def test_a_program_that_catches_everything_gets_no_result_that_was_not_paid(shared):
    class Careless(dspex.Module):
        def __init__(self):
            super().__init__()
            self.ask = dspex.Predict("ticket -> team")

        async def aforward(self, ticket):
            try:
                return await self.ask.acall(ticket=ticket)
            except Exception:
                return dspex.Prediction(team="nobody")

    with dspex.connect(home=shared.host.home) as system:
        with pytest.raises(dspex.BudgetExceeded):
            dspex.evaluate(
                Careless(), uneven(300), metric(), lm=shared.lm(), budget=0.05, run_id="care", display_progress=False
            )
        found = dspex.EvaluationResult.of(system.journal, "care")
        assert found.n > 0
        assert {one.prediction.team for one in found.results} == {"billing"}


@pytest.mark.soak
def test_a_bootstrap_has_a_budget_too_and_goes_on_with_a_larger_one(shared):
    before = shared.booked()
    bootstrap = dspex.BootstrapFewShot(metric=metric(), max_bootstrapped_demos=60, max_labeled_demos=0)
    trainset = [dspex.Example(**one).with_inputs("ticket") for one in uneven(300)]
    with dspex.connect(home=shared.host.home), dspex.context(lm=shared.lm()):
        with pytest.raises(dspex.BudgetExceeded) as caught:
            bootstrap.compile(triage(), trainset=trainset, budget=0.03, display_progress=False)
        assert shared.charged(before) <= 0.03
        compiled = bootstrap.compile(
            triage(), trainset=trainset, run_id=caught.value.run_id, budget=50.0, display_progress=False
        )
    assert len(compiled.demos) == 60


def test_what_has_no_known_price_is_refused_before_it_is_asked(shared):
    with dspex.connect(home=shared.host.home), Answering(200, b"{}") as url:
        unknown = dspex.LM("openai/nobody-lists-this", base_url=url)
        with pytest.raises(dspex.ConfigError, match=r"openai/nobody-lists-this is not known.*DSPEX_PRICES"):
            evaluate(shared, 3, lm=unknown, budget=1.0)
        # One that appears only as a fallback, too.
        with pytest.raises(dspex.ConfigError, match="the price of openai/nobody-lists-this is not known"):
            evaluate(shared, 3, lm=shared.lm(fallbacks=[unknown]), budget=1.0)


@pytest.mark.parametrize("budget", [0, -1, float("nan"), "5", True, 1e9])
def test_a_budget_that_is_none_is_refused(shared, budget):
    with pytest.raises(dspex.ConfigError, match=r"^budget is invalid: got .*, expected US dollars above 0"):
        evaluate(shared, 3, budget=budget)


def test_a_policy_that_is_none_is_refused(shared):
    with pytest.raises(dspex.ConfigError, match=r"^unknown_price is invalid: got 'ask', expected 'refuse' or 'warn'"):
        evaluate(shared, 3, budget=1.0, unknown_price="ask")


def calls_until_refused(lm, most=200):
    for number in range(most):
        try:
            lm(f"ticket {number}")
        except dspex.BudgetExceeded as error:
            return number, error
    raise AssertionError(f"{most} calls were let through")


@pytest.mark.soak
def test_a_day_and_a_tag_have_limits_that_a_worker_that_is_killed_keeps(shared):
    lm, before = shared.lm(), shared.booked()
    with dspex.connect(home=shared.host.home) as system:
        budgets = "infrastructure.budgets"
        try:
            system.config.update(budgets, {"per_day": 0.06, "tags": {"team=search": 0.02}})
            until(lambda: (shared.host.home / "run" / "money_limited").exists())
            with dspex.context(tags={"team": "search"}):
                asked, error = calls_until_refused(lm)
            assert asked > 1
            assert "the limit of team=search, $0.0200, are spent" in error.message
            assert (error.budget, error.run_id) == (0.02, None)
            for worker in ("worker-1", "worker-2"):
                kill_part(system.node, worker)
            with pytest.raises(dspex.BudgetExceeded), dspex.context(tags={"team": "search"}):
                lm("once more")
            with pytest.raises(dspex.BudgetExceeded, match=r"the limit of a day, \$0.0600, are spent.*another day"):
                evaluate(shared, 200, run_id="today", tags={"team": "ads"})
            assert system.journal.get_run("today").reason.startswith("budget: $0.0")
            charged = shared.charged(before)
            assert 0.7 * 0.06 < charged <= 0.06
        finally:
            system.config.reset(budgets)
        until(lambda: not (shared.host.home / "run" / "money_limited").exists())
        assert lm("free again").text
        result = system.resume("today", display_progress=False)
        assert (result.n, result.failed) == (200, 0)


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ({"per_day": 0}, "above 0"),
        ({"per_day": -1.0}, "above 0"),
        ({"tags": {"search": 1.0}}, "'search' is no tag, expected name=text"),
        ({"tags": {"team=search": 0.0}}, "expected US dollars above 0"),
        ({"unknown_price": "ask"}, "one of refuse, warn"),
    ],
)
def test_limits_that_are_none_are_refused(shared, value, why):
    with dspex.connect(home=shared.host.home) as system, pytest.raises(dspex.ConfigError, match=why):
        system.config.update("infrastructure.budgets", value)


class Costly(dspex.BaseLM):
    """Says afterwards what it has cost."""

    def forward(self, messages, **params):
        return {"text": ANSWER, "cost": 0.01}


def test_a_run_of_an_own_lm_is_paused_by_what_that_says_it_has_cost(shared):
    with dspex.connect(home=shared.host.home) as system:
        with pytest.raises(dspex.BudgetExceeded):
            evaluate(shared, 300, lm=Costly(), budget=0.2, run_id="own")
        row = system.journal.get_run("own")
        assert (row.state, row.reason) == ("paused", "budget")
        # What was under way when it was used up has been asked: nobody knew its price.
        assert 0.2 - 1e-9 <= row.cost <= 0.2 + 64 * 0.01
        result = system.resume("own", budget=100.0, display_progress=False)
        assert (result.n, result.failed) == (300, 0)
