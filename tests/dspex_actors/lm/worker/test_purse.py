"""Money for requests in a worker: taken before each of them, settled with its cost, given back if it is not made."""

import asyncio
import contextlib
from types import SimpleNamespace

import pytest

import dspex_actors as dspex
from dspex_actors.errors import BudgetExceeded, ConfigError, DeadlineExceeded
from dspex_actors.foundation.purses import DOLLAR, Book, Used, units
from dspex_actors.lm import attempts
from dspex_actors.lm.attempts import Ledger, RunBudget, opened
from dspex_actors.lm.control.spending_messages import CloseSlot, Fund, GiveBack, Returned
from dspex_actors.lm.lm import LM
from dspex_actors.lm.request import Options
from dspex_actors.lm.worker import purse, spending
from dspex_actors.lm.worker import session as session_module
from dspex_actors.lm.worker.own_money import OwnMoney
from dspex_actors.lm.worker.session import LMSession
from dspex_actors.lm.worker.spending import DayLimits, Wallet
from supervisors.testing import wait_until_async as until

HI = [{"role": "user", "content": "hi"}]


class Owner:
    """A worker whose messages are answered by an owner of limits in this process."""

    def __init__(self, folder):
        self.node = {"data_dir": str(folder)}
        self.ref = SimpleNamespace(pid=1, born=2)
        self.log = SimpleNamespace(warning=lambda *args, **about: None)
        self.book, self.places, self.asked = Book(), {}, 0
        self.closed = asyncio.Event()

    async def call(self, name, message):
        assert name == "spending"
        await asyncio.sleep(0)
        if isinstance(message, CloseSlot):
            place = self.places.pop(message.slot)
            self.book.close(("w", message.slot), Used(place._purse.spent, place._purse.held))
            self.closed.set()
            return "ok", True
        assert isinstance(message, Fund)
        self.asked += 1
        self.book.open(("w", message.slot), tuple(name for name, _, _ in message.accounts))
        self.book.take_back(("w", message.slot), message.returned)
        used = {("w", slot): Used(each._purse.spent, each._purse.held) for slot, each in self.places.items()}
        limits = {name: limit for name, limit, _ in message.accounts}
        answer = self.book.ask(("w", message.slot), message.need, message.want, limits, used)
        if answer.verdict == "wait" and self.book.holders_of(limits, used, ("w", message.slot)):
            spending._wallets[0].give_back(GiveBack(list(limits)))
        return "ok", (answer.verdict, answer.given, answer.account, answer.spent, answer.limit)

    def cast(self, name, message):
        assert isinstance(message, Returned)
        self.book.take_back(("w", message.slot), message.returned)

    def spawn(self, coroutine):
        return asyncio.ensure_future(coroutine)


@pytest.fixture
def owner(tmp_path):
    return Owner(tmp_path)


@pytest.fixture
def wallet(owner, monkeypatch):
    monkeypatch.setattr(spending, "_wallets", [])
    made = Wallet(owner)
    opening = made._open

    def opened(names):
        place = opening(names)
        owner.places[place.slot] = place
        return place

    made._open = opened
    return made


def budget(dollars):
    return ((("run:r#5", units(dollars), 0)),)


def run(coroutine):
    return asyncio.run(coroutine)


def test_most_requests_ask_nobody(owner, wallet):
    async def spend():
        for _ in range(1000):
            (await wallet.hold(budget(10.0), 0.001, 5.0)).settle(0.0005)

    run(spend())
    assert owner.asked < 30
    assert owner.places[0]._purse.spent == 1000 * units(0.0005)


def test_what_costs_an_unknown_amount_counts_as_the_most_it_may(owner, wallet):
    async def spend():
        (await wallet.hold(budget(1.0), 0.25, 5.0)).settle(None)

    run(spend())
    assert owner.places[0]._purse.spent == DOLLAR // 4


def test_a_request_that_does_not_fit_waits_for_those_under_way(owner, wallet):
    async def spend():
        first = await wallet.hold(budget(1.0), 0.75, 5.0)
        second = asyncio.ensure_future(wallet.hold(budget(1.0), 0.5, 5.0))
        await asyncio.sleep(0.05)
        assert not second.done()
        first.settle(0.25)
        (await second).settle(0.5)

    run(spend())


def test_what_nobody_gives_back_is_refused_and_says_the_figures(owner, wallet):
    async def spend():
        (await wallet.hold(budget(1.0), 0.75, 5.0)).settle(0.75)
        with pytest.raises(
            BudgetExceeded, match=r"^\$0.7500 of the budget, \$1.0000, are spent, and the next"
        ) as caught:
            await wallet.hold(budget(1.0), 0.5, 5.0)
        assert (caught.value.spent, caught.value.budget, caught.value.run_id) == (0.75, 1.0, "r")
        (await wallet.hold(budget(1.0), 0.25, 5.0)).settle(0.25)  # a smaller one fits

    run(spend())


def test_of_many_that_wait_the_small_ones_are_served(owner, wallet):
    async def spend():
        first = await wallet.hold(budget(1.0), 0.6, 5.0)
        large = [asyncio.ensure_future(wallet.hold(budget(1.0), 0.9, 5.0)) for _ in range(3)]
        small = asyncio.ensure_future(wallet.hold(budget(1.0), 0.1, 5.0))
        await asyncio.sleep(0.01)
        first.settle(0.6)
        refused = await asyncio.gather(*large, return_exceptions=True)
        assert {type(each) for each in refused} == {BudgetExceeded}
        (await small).settle(0.1)

    run(spend())


def test_who_waits_too_long_gives_up_and_takes_nothing(owner, wallet):
    async def spend():
        first = await wallet.hold(budget(1.0), 0.9, 5.0)
        with pytest.raises(DeadlineExceeded, match="held back for requests under way"):
            await wallet.hold(budget(1.0), 0.5, 0.02)
        first.settle(0.0)
        (await wallet.hold(budget(1.0), 1.0, 5.0)).settle(0.0)

    run(spend())


def test_money_that_others_need_is_given_back(owner, wallet):
    async def spend():
        (await wallet.hold(budget(1.0), 0.01, 5.0)).settle(0.01)
        wallet.give_back(GiveBack(["run:r#5"]))
        assert owner.book.out("run:r#5") == units(0.01)
        held = await wallet.hold(budget(1.0), 0.3, 5.0)
        wallet.give_back(GiveBack(["run:r#5"]))
        held.settle(0.1)  # comes back soon, too
        await asyncio.sleep(5 * purse.COLLECT_SECONDS)
        assert owner.book.out("run:r#5") == units(0.01) + units(0.1)

    run(spend())


def test_the_purse_of_a_run_that_is_over_is_closed(owner, wallet):
    async def spend():
        (await wallet.hold(budget(1.0), 0.5, 5.0)).settle(0.25)
        spending.end_run("r")
        await asyncio.wait_for(owner.closed.wait(), 30)
        assert owner.book.spent == {"run:r#5": DOLLAR // 4}
        (await wallet.hold(budget(1.0), 0.5, 5.0)).settle(0.0)

    run(spend())


def test_a_request_counts_for_its_run_the_day_and_its_tags(wallet):
    wallet.day = DayLimits(20.0, {"team=search": 5.0, "team=ads": 1.0})
    ledger = Ledger(budget=RunBudget(budget(1.0)[0]))
    names = [name for name, _, _ in wallet.accounts(ledger, {"team": "search", "step": "1"})]
    assert [name.rpartition(":")[0] for name in names] == ["day", "run", "tag:team=search"]
    assert len(wallet.accounts(None, None)) == 1


def test_a_request_of_an_optimisation_s_run_counts_for_both_and_what_the_runs_got_is_no_matter(wallet):
    whole = ("run:o#1", DOLLAR, 0)

    async def spend():
        spent = 0.0
        for name in ("a", "b", "c"):  # each run has as much as the optimisation
            mine = RunBudget((f"run:{name}#1", DOLLAR, 0), above=(whole,))
            accounts = wallet.accounts(Ledger(budget=mine), None)
            with pytest.raises(BudgetExceeded) if name == "c" else contextlib.nullcontext() as refused:
                for _ in range(4):
                    (await wallet.hold(accounts, 0.125, 5.0)).settle(0.125)
                    spent += 0.125
        assert (spent, refused.value.run_id) == (1.0, "o")

    run(spend())


def test_without_a_limit_nothing_is_looked_at(wallet):
    async def look(ledger):
        async with opened(ledger):
            return spending.has_limits()

    assert not spending.has_limits()
    assert not run(look(Ledger()))
    assert run(look(Ledger(budget=RunBudget(budget(1.0)[0]))))
    wallet.day = DayLimits(1.0)
    assert spending.has_limits()


def test_models_without_a_price_are_named():
    asked = [
        ("openai", "gpt-4o-mini", None, True),
        ("openai", "mine", None, False),
        ("embedded", "nearest", None, True),
    ]
    assert spending.unpriced(asked) == ["openai/mine"]
    with pytest.raises(ConfigError, match="the price of openai/mine is not known"):
        raise spending.unknown_price("openai/mine")


class Gate:
    """Gives numbers as leases; keeps what became of them."""

    def __init__(self):
        self.leases, self.outcomes = 0, []

    def paces(self, user, tags):
        return True

    async def acquire(self, *request):
        self.leases += 1
        return self.leases

    def report(self, outcome):
        self.outcomes.append((outcome.lease, outcome.was_made))


def test_who_waits_for_money_keeps_no_turn_and_takes_one_when_it_is_there(wallet, serve, answer, chat, monkeypatch):
    """Else its turn would be over, its slot would be taken from others, and it would be sent in another window."""
    monkeypatch.setattr(spending, "most", lambda *args, **about: 0.6)
    monkeypatch.setattr(session_module.books, "price", lambda *args, **about: 0.1)
    wallet.day = DayLimits(1.0)

    async def go():
        go_on, gate = asyncio.Event(), Gate()
        async with serve(lambda *_: answer(200, chat())) as server:
            deployment = LM("openai/x", base_url=server.url + "/v1").request(HI, {}).lm.deployment
            session = LMSession(deployment, gate=gate)
            await session.complete(HI)  # more than one at a time are asked once a server has answered
            gate.outcomes.clear()
            post = session._http.post

            async def slow(*args):
                await go_on.wait()
                return await post(*args)

            session._http.post = slow
            first = asyncio.ensure_future(session.complete(HI))
            await until(lambda: session.in_flight == 1)
            second = asyncio.ensure_future(session.complete(HI))
            await until(lambda: gate.outcomes)
            assert (gate.outcomes, session._slots.taken, second.done()) == ([(3, False)], 1, False)
            go_on.set()
            assert [(await each).asked for each in (first, second)] == [1, 1]
            assert gate.outcomes == [(3, False), (2, True), (4, True)]
            assert session._slots.taken == 0
            # And who does not get a turn then gives the money back.
            gate.acquire = never
            with pytest.raises(DeadlineExceeded):
                await session.complete(HI, options=Options(deadline=0.05))
            [place] = wallet._places.values()
            assert place._purse.held == 0
            await session.aclose()

    async def never(*request):
        raise DeadlineExceeded("no turn")

    run(asyncio.wait_for(go(), 30))


CALLS = RunBudget(None, calls=("run:o#calls-1", 5, 0))


def test_each_request_is_a_call_whatever_becomes_of_it_and_none_more_is_made(owner, wallet, serve, answer, chat):
    """A 429 and an error of the server are requests: the server has counted them."""
    statuses = iter([429, 500, 200, 503, 200, 200])

    def answered(*_):
        status = next(statuses)
        return answer(status, chat() if status == 200 else b"{}")

    async def go():
        async with serve(answered) as server:
            deployment = LM("openai/x", base_url=server.url + "/v1").request(HI, {}).lm.deployment
            session = LMSession(deployment)
            ledger = Ledger(budget=CALLS)
            async with opened(ledger):
                assert [(await session.complete(HI)).asked for _ in range(2)] == [3, 2]
                with pytest.raises(BudgetExceeded, match="5 of 5 calls are made") as caught:
                    await session.complete(HI)
            assert ledger.refused is caught.value
            assert caught.value.run_id is None
            assert len(ledger.attempts) == 5
            await session.aclose()
        [place] = wallet._places.values()
        assert (place._purse.spent, place._purse.held) == (5, 0)

    run(asyncio.wait_for(go(), 60))


def test_money_that_is_held_for_a_request_without_a_call_is_given_back(owner, wallet, serve, answer, chat, monkeypatch):
    monkeypatch.setattr(spending, "most", lambda *args, **about: 0.125)
    monkeypatch.setattr(session_module.books, "price", lambda *args, **about: 0.125)
    limits = RunBudget(budget(9.0)[0], calls=("run:o#calls-1", 2, 0))

    async def go():
        async with serve(lambda *_: answer(200, chat())) as server:
            deployment = LM("openai/x", base_url=server.url + "/v1").request(HI, {}).lm.deployment
            session = LMSession(deployment)
            async with opened(Ledger(budget=limits)):
                together = [session.complete(HI) for _ in range(6)]
                found = await asyncio.gather(*together, return_exceptions=True)
            await session.aclose()
        assert sorted(type(one).__name__ for one in found) == ["BudgetExceeded"] * 4 + ["LMReply"] * 2
        purses = {names: place._purse for names, place in wallet._places.items()}
        assert {names: (purse.spent, purse.held) for names, purse in purses.items()} == {
            ("run:r#5",): (units(0.25), 0),
            ("run:o#calls-1",): (2, 0),
        }

    run(asyncio.wait_for(go(), 60))


@pytest.mark.parametrize("policy", ["warn", "refuse"])
def test_a_run_whose_calls_alone_are_limited_asks_a_model_without_a_price_as_the_limit_of_a_day_says(
    owner, wallet, serve, answer, chat, monkeypatch, policy
):
    monkeypatch.setattr(spending, "most", lambda *args, **about: None)
    wallet.day = DayLimits(1.0, unknown_price=policy)

    async def go():
        async with serve(lambda *_: answer(200, chat())) as server:
            deployment = LM("openai/x", base_url=server.url + "/v1").request(HI, {}).lm.deployment
            session = LMSession(deployment)
            async with opened(Ledger(budget=CALLS)):
                with pytest.raises(ConfigError) if policy == "refuse" else contextlib.nullcontext():
                    await session.complete(HI)
            await session.aclose()

    run(asyncio.wait_for(go(), 60))
    assert [place._purse.spent for place in wallet._places.values()] == ([1] if policy == "warn" else [])


class Asks(dspex.BaseLM):
    """Asks others: the first request of theirs is its own."""

    def __init__(self, others, sync=False):
        super().__init__("asks")
        self.others, self.sync = others, sync

    def forward(self, messages, **params):
        return {"text": "".join(other(messages).text for other in self.others) or "yes"}


@pytest.mark.parametrize(("inner", "counted"), [(0, 1), (1, 1), (2, 2)])
def test_a_call_of_an_own_lm_is_counted_before_it_is_made_and_once_with_the_one_that_it_asks(
    owner, wallet, monkeypatch, inner, counted
):
    monkeypatch.setattr(attempts, "_own_money", [])

    async def go():
        attempts.own_money_with(OwnMoney(wallet, asyncio.get_running_loop()))
        lm = Asks([Asks([]) for _ in range(inner)])
        ledger = Ledger(budget=CALLS)
        async with opened(ledger):
            await lm.acall("hi")
            [place] = wallet._places.values()
            assert (place._purse.spent, ledger.count) == (counted, counted)
            for _ in range((5 - counted) // counted):
                await asyncio.to_thread(lm, "hi")
            if place._purse.spent < 5:  # one is left, and two are needed
                with pytest.raises(BudgetExceeded):
                    await lm.acall("hi")
            with pytest.raises(BudgetExceeded, match="5 of 5 calls are made") as caught:
                await lm.acall("hi")
            assert ledger.refused is caught.value
            with pytest.raises(BudgetExceeded, match="5 of 5 calls are made"):
                lm("hi")  # which could wait for nobody here
        assert place._purse.spent == 5

    run(asyncio.wait_for(go(), 60))


class Own(dspex.BaseLM):
    def forward(self, messages, **params):
        return {"text": "yes", "cost": 0.3}


def test_what_an_own_lm_has_cost_is_taken_off_and_ends_a_run_whose_limit_is_used_up(owner, wallet, monkeypatch):
    monkeypatch.setattr(attempts, "_own_money", [])

    def is_spent(count):
        return owner.places and owner.places[0]._purse.spent == units(0.3) * count

    async def go():
        lm, limit, money = Own("own"), RunBudget(budget(1.0)[0]), OwnMoney(wallet, asyncio.get_running_loop())
        attempts.own_money_with(money)
        for asked in range(1, 5):
            async with opened(Ledger(budget=limit)):
                await lm.acall("hi")
            assert is_spent(asked), "a call is over when its cost is booked"
        ledger = Ledger(budget=limit)
        async with opened(ledger):
            with pytest.raises(BudgetExceeded) as caught:
                await lm.acall("hi")
        assert ledger.refused is caught.value
        assert (caught.value.budget, caught.value.run_id, ledger.attempts) == (1.0, "r", [])
        async with opened(Ledger(budget=limit._replace(calls=CALLS.calls))):
            with pytest.raises(BudgetExceeded):
                await lm.acall("hi")
        assert list(owner.places) == [0], "it was not made, so it is no call"
        async with opened(Ledger()):
            await lm.acall("hi")  # without a limit it goes on
        async with opened(Ledger(budget=RunBudget(budget(9.0)[0]))):
            await lm.acall("hi")  # and with a larger one
        assert is_spent(5)

    run(asyncio.wait_for(go(), 20))
