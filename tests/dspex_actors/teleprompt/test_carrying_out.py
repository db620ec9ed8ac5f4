"""Who carries an optimiser's steps out: killed at any moment, short of money, without its keeper; without a node."""

import contextlib
import time
import weakref
from types import SimpleNamespace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import dspex_actors as dspex
from dspex_actors.client import progress
from dspex_actors.errors import BudgetExceeded, ConfigError, RunFailed, RunInterrupted, failed_as
from dspex_actors.foundation.scores import METRIC_FAILED
from dspex_actors.journal.errors import Fenced, JournalError, NotHere
from dspex_actors.runs.budget import BUDGET
from dspex_actors.runs.optimisations import NOT_NEEDED
from dspex_actors.teleprompt import carry, keeper, outcomes
from dspex_actors.teleprompt.carry import carry_out
from dspex_actors.teleprompt.endings import Away, TakenOver
from dspex_actors.teleprompt.optimizer import _Bar
from dspex_actors.teleprompt.outcomes import outcome
from dspex_actors.teleprompt.step_runs import How
from dspex_actors.teleprompt.steps import Bootstrap, Evaluate, Together

EXAMPLES = [dspex.Example(question=str(number)).with_inputs("question") for number in range(4)]


class Killed(BaseException):
    """The process is gone."""


def metric(example, prediction, trace=None):
    return True


def worded(text):
    return dspex.Predict(dspex.Signature("question -> answer", text))


class Node:
    """A node whose runs are in memory: each look at one answers an example, which costs a dollar."""

    def __init__(self):
        self.rows, self.looks, self.kills_at, self.away, self.deaf = {}, 0, None, 0, 0
        self.starts, self.pauses, self.fails, self.most, self.forced = [], True, {}, 0, {}
        self.data_dir = "nowhere"

    @property
    def journal(self):
        return self

    def parts_of(self, run_id):
        return list(self.rows.values())

    def get_run(self, run_id):
        return self.rows.get(run_id)

    @property
    def cost(self):
        return sum(row.cost for row in self.rows.values())

    def start_run(self, kind, program, rows, metric, *, settings, run_id, force_resume, **rest):
        if self.away:
            self.away -= 1
            raise RunInterrupted("the node does not answer (it fell): connect again")
        row = self.rows.get(run_id)
        self.starts.append((run_id, None if row is None else row.state))
        self.forced[run_id] = force_resume
        if row is None:
            row = self.rows[run_id] = SimpleNamespace(
                run_id=run_id, state="running", reason=None, cost=0.0, asked=0, created_at=0.0, scores=[],
                total=len(rows), text=program.signature.instructions, spec=SimpleNamespace(settings=settings),
            )  # fmt: skip
        elif row.state == "cancelled" and not force_resume:
            raise ConfigError(f"run {run_id} was cancelled")
        elif row.state not in ("running", "finished"):
            row.state, row.reason, row.spec = "running", None, SimpleNamespace(settings=settings)
        self.most = max(self.most, sum(one.state == "running" for one in self.rows.values()))
        return run_id

    def _ask(self, what, run_id, *rest, timeout):
        if what == "wait":
            assert run_id, "who waits for nothing asks nobody"
            return []
        self.looks += 1
        if self.looks == self.kills_at:
            self.pauses = False
            raise Killed
        row = self.rows[run_id]
        if row.state == "running" and run_id in self.fails:
            row.state, row.reason = "failed", self.fails[run_id]
        if row.state == "running":
            if row.cost + 1 > row.spec.settings.get("budget", 1e9):
                row.state, row.reason = "paused", BUDGET
            elif sum(one.asked for one in self.rows.values()) >= row.spec.settings.get("whole_calls", 1e9):
                row.state, row.reason = "paused", f"{BUDGET}: 5 of 5 calls are made"
            else:
                row.cost, row.asked = row.cost + 1, row.asked + 1
                row.scores.append(float(hash_of(row.text, len(row.scores)) % 2))
                if len(row.scores) == row.total:
                    row.state = "finished"
        summary = {
            "state": row.state, "reason": row.reason, "asked": row.asked, "done": len(row.scores), "total": row.total,
            "spent": row.cost, "score": 100 * sum(row.scores) / len(row.scores) if row.scores else None,
        }  # fmt: skip
        return {"summary": summary, "note": {}}

    def _ended(self, run_id):
        row = self.rows[run_id]
        if row.state != "finished":
            raise RunFailed(f"run {run_id} {row.state}: {row.reason}", run_id=run_id)
        results = [SimpleNamespace(score=score, error=None) for score in row.scores]
        return SimpleNamespace(results=results, failed=0, run_id=run_id, score=-1.0)

    def _order(self, run_id, what, _, reason):
        self.hear()
        if self.pauses and self.rows[run_id].state == "running":
            self.rows[run_id].state, self.rows[run_id].reason = "paused", reason

    def hear(self):
        if self.deaf:
            self.deaf -= 1
            raise RunInterrupted("the node does not answer (it fell): connect again")

    def cancel(self, run_id, reason):
        self.hear()
        self.rows[run_id].state, self.rows[run_id].reason = "cancelled", reason

    def pause(self, run_id, reason):
        with contextlib.suppress(RunInterrupted):  # as that of a connection
            self._order(run_id, "pause", run_id, reason)


def hash_of(text, place):
    return (len(text) * 31 + sum(map(ord, text)) * 7 + place * 13) // 3


def carried(node, steps, budget=None, at_once=3, calls=None):
    how = How(node, "night", budget=budget, calls=calls, parent_id="night", at_once=lambda: at_once)
    return carry_out(steps, how)


@pytest.fixture(autouse=True, scope="module")
def quick():
    clock = SimpleNamespace(sleep=lambda seconds: None, monotonic=time.monotonic)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(keeper, "time", clock)
        patched.setattr(keeper, "node_runs", lambda folder: True)
        yield


def one(text, examples=EXAMPLES):
    return Evaluate(worded(text), examples, metric)


def compared(texts, rounds=2):
    """Compare programs, and once more what was best with others."""

    def follow(text):
        first = yield one(text)
        second = yield one(f"{text} {first.score:g}")
        return text, second.score

    found = yield Together([follow(text) for text in texts])
    for _ in range(rounds - 1):
        best = max(found, key=lambda pair: pair[1])
        found = yield Together([follow(f"{best[0]}.{place}") for place in range(3)])
    return found


@given(
    texts=st.lists(st.sampled_from(["a", "b", "cc", "ddd"]), min_size=1, max_size=5),
    kills=st.lists(st.integers(1, 40), max_size=3),
    budgets=st.lists(st.integers(1, 60), min_size=1, max_size=3),
    at_once=st.integers(1, 4),
)
@example(texts=["a", "b", "cc"], kills=[3], budgets=[1], at_once=2)  # what is short is not begun beside what runs on
def test_whatever_it_is_killed_by_its_budget_is_not_passed_and_nothing_is_paid_twice(texts, kills, budgets, at_once):
    undisturbed = Node()
    expected = carried(undisturbed, compared(texts))
    node = Node()
    for kill, budget in zip([*kills, None], [*budgets, *[budgets[-1]] * 3], strict=False):
        node.looks, node.kills_at, node.pauses = 0, kill, True
        spent = node.cost
        with contextlib.suppress(Killed, BudgetExceeded):
            assert carried(node, compared(texts), float(budget), at_once) == expected
        assert node.cost <= max(budget, spent)
        assert node.most <= at_once
    node.kills_at = None
    assert carried(node, compared(texts), None, at_once) == expected
    assert node.cost == undisturbed.cost


def test_what_was_not_needed_is_not_begun_again_and_a_finished_one_asks_nothing():
    def steps():
        def item(place):
            if place:
                yield one(f"a long way {place}")
            return (yield one(f"item {place}")).score

        return (yield Together([item(place) for place in range(6)], lambda first: len(first) == 2))

    node = Node()
    found = carried(node, steps())
    assert {row.reason for row in node.rows.values() if row.state == "cancelled"} <= {NOT_NEEDED}
    for row in list(node.rows.values()):
        if row.run_id > "night.0.2":  # the machines had begun others
            row.state, row.reason = "cancelled", NOT_NEEDED
    cost, node.starts = node.cost, []
    assert carried(node, steps()) == found
    assert node.cost == cost
    assert {state for _, state in node.starts} <= {"finished"}


def test_what_was_there_when_its_user_forced_it_may_be_another_and_what_came_later_may_not():
    node = Node()
    node.kills_at = 2
    with pytest.raises(Killed):
        carried(node, both(worded("a"), worded("bb")))
    first, second = sorted(node.rows)
    node.rows[first].created_at, node.rows[second].created_at = 10.0, 30.0
    node.kills_at = None
    carry_out(both(worded("a"), worded("bb")), How(node, "night", parent_id="night", forced_at=20.0))
    assert node.forced == {first: True, second: False}


def both(*programs):
    return (yield Together([single(program) for program in programs]))


def single(program):
    return (yield Evaluate(program, EXAMPLES, metric))


def _raced_and_asked_again(when):
    """Give a race of good and bad, and an evaluation of bad that is in no race: with it, or afterwards."""

    def bad(race):
        return Evaluate(worded(BAD), list(EXAMPLES), metric, race)

    race = [Evaluate(worded(GOOD), EXAMPLES, metric, "r"), bad("r")]
    if when == "meanwhile":
        return (yield Together([*race, bad(None)]))
    return [*(yield Together(race)), (yield bad(None)), (yield bad("another"))]


#: The first has more of the examples right than the second.
GOOD, BAD = sorted(
    (f"{'x' * more}{letter}" for more in range(6) for letter in "abcdef"),
    key=lambda text: -sum(hash_of(text, place) % 2 for place in range(4)),
)[:: len("abcdef") * 6 - 1]


@pytest.mark.parametrize("at_once", [1, 2, 3])
def test_an_evaluation_outside_of_a_race_waits_for_an_equal_one_in_it_and_pays_nothing(at_once):
    node = Node()
    *_, inside, outside = carried(node, _raced_and_asked_again("meanwhile"), at_once=at_once)
    assert outside.score is not None
    assert inside == outside
    assert len(node.rows) == 2
    assert node.cost == 2 * len(EXAMPLES)


@pytest.mark.parametrize("at_once", [1, 2])
def test_one_that_was_stopped_in_a_race_is_asked_again_once_and_one_that_was_not_never(at_once):
    node = Node()
    good, inside, outside, another = carried(node, _raced_and_asked_again("afterwards"), at_once=at_once)
    assert good.score > outside.score == another.score
    if inside.score is None:
        assert len(node.rows) == 3
    else:
        assert len(node.rows) == 2
        assert node.cost == 2 * len(EXAMPLES)


def test_of_equal_ones_the_one_goes_on_that_is_paid_for_in_part():
    def late():
        yield one("before")
        return (yield one("same")).score

    node = Node()
    for number, text, state, scores in (("0", "before", "finished", [1.0] * 4), ("1", "same", "paused", [1.0])):
        node.rows[f"night.0.1.{number}"] = SimpleNamespace(
            run_id=f"night.0.1.{number}", state=state, reason=None, cost=len(scores), asked=len(scores), scores=scores,
            total=4, text=text, created_at=0.0, spec=SimpleNamespace(settings={}),
        )  # fmt: skip
    first, second = carried(node, iter_of(lambda: Together([one("same"), late()])))
    assert first.score == second
    assert (node.cost, "night.0.0.0" in node.rows) == (8.0, False)


def iter_of(step):
    def steps():
        return (yield step())

    return steps()


def test_an_outage_is_no_verdict_on_a_program_and_a_fault_of_its_own_is():
    def steps():
        try:
            return (yield one("bad")).score
        except RunFailed:
            return 0.0

    node = Node()
    node.fails["night.0"] = "20 examples in a row failed with AuthError: no such key (put that right and resume)"
    with pytest.raises(RunFailed, match=r"AuthError: no such key \(put that right and resume\)"):
        carried(node, steps())
    node.fails["night.0"] = "all 4 examples failed with ConfigError: metric returned None (put that right and resume)"

    def two():
        return [(yield from steps()), (yield one("good")).score]

    assert carried(node, two())[0] == 0.0
    node.fails.clear()
    carried(node, steps())
    assert (node.rows["night.0"].state, node.cost) == ("finished", 8.0)


def test_where_no_candidate_has_a_score_none_is_chosen():
    def steps():
        found = []
        for text in ("bad", "worse"):
            try:
                found.append((yield one(text)).score)
            except RunFailed:
                found.append(0.0)
        return found

    node = Node()
    for place in (0, 1):
        node.fails[f"night.{place}"] = "all 4 examples failed with ConfigError: metric returned None (put that right)"
    with pytest.raises(RunFailed, match=r"nothing could be compared: all examples of each of 2 .* failed.*None"):
        carried(node, steps())


def _one_after_the_other(count):
    for number in range(count):
        yield one(f"candidate {number}")


def _at_once(count):
    found = []
    for number in range(count):
        found += yield Together([one(f"candidate {number} {letter}") for letter in "abc"])
    return found


@pytest.mark.parametrize(("steps", "runs"), [(_one_after_the_other, 3), (_at_once, 3)])
@pytest.mark.parametrize("at_once", [1, 3])
def test_a_metric_that_fails_for_whatever_it_is_asked_is_not_paid_for_to_the_end(monkeypatch, steps, runs, at_once):
    error = {"type": "KeyError", "message": f"{METRIC_FAILED}'team'"}

    def fails(result):
        return SimpleNamespace(results=[SimpleNamespace(score=None, error=error)] * 4, failed=4, run_id="r", score=0.0)

    node = Node()
    ended = node._ended
    monkeypatch.setattr(node, "_ended", lambda run_id: fails(ended(run_id)))
    with pytest.raises(RunFailed, match=r"nothing could be compared: all examples of each of 3 .* KeyError: .*'team'"):
        carried(node, steps(20), at_once=at_once)
    assert len(node.rows) == runs
    assert list(node.rows.values())[-1].state == "finished"


def test_a_metric_that_fails_for_some_candidates_only_decides_nothing(monkeypatch):
    error = {"type": "KeyError", "message": f"{METRIC_FAILED}'team'"}
    node = Node()
    ended = node._ended

    def some(run_id):
        if run_id == "night.0.1.0":
            return ended(run_id)
        return SimpleNamespace(results=[SimpleNamespace(score=None, error=error)] * 4, failed=4, run_id="r", score=0.0)

    monkeypatch.setattr(node, "_ended", some)
    assert len(carried(node, _at_once(4))) == 12


@pytest.mark.parametrize("error", [Fenced, NotHere])
def test_that_a_run_is_another_nodes_is_no_verdict_on_a_program(monkeypatch, error):
    def steps():
        try:
            return (yield one("good")).score
        except ConfigError:
            return 0.0

    def refuse(*args, **options):
        raise error("run night.0 goes on at another node of the cluster")

    node = Node()
    monkeypatch.setattr(node, "start_run", refuse)
    with pytest.raises(error, match="goes on at another node"):
        carried(node, steps())
    monkeypatch.undo()
    assert carried(node, steps()) > 0.0


def test_a_bootstrap_that_an_empty_account_has_ended_is_made_anew_when_it_goes_on(monkeypatch):
    node, empty = Node(), {"night.0", "night.0b"}

    def came(system, step, run_id):
        if run_id in empty:
            record = {"type": "QuotaExhausted", "message": "no money"}
            raise failed_as(record, "the bootstrap gave up after 10 errors", run_id)
        return run_id

    monkeypatch.setattr(carry, "outcome", came)

    def steps():
        with contextlib.suppress(RunFailed):
            return (yield Bootstrap(worded("teach"), EXAMPLES, metric, 2))

    for _ in range(2):
        with pytest.raises(dspex.QuotaExhausted, match="the bootstrap gave up"):
            carried(node, steps(), budget=20.0)
    assert list(node.rows) == ["night.0", "night.0b"]
    empty.discard("night.0b")  # that one ended well
    assert carried(node, steps(), budget=20.0) == "night.0b"
    empty.add("night.0b")
    assert carried(node, steps(), budget=20.0) == "night.0bb"
    assert node.cost == 12.0


REFUSED = {"type": "CircuitOpen", "message": "not asked: it has been failing", "retryable": True}


@pytest.mark.parametrize(
    ("errors", "is_verdict"),
    [
        ([REFUSED, {"type": "Overloaded", "message": "down", "status": 503}], False),
        ([{"type": "AdapterParseError", "message": "no answer"}, REFUSED], True),
        ([REFUSED, {"type": "Overloaded", "message": "a fault of the server", "status": 500}], True),
        ([REFUSED, {"type": "Timeout", "message": "the user's own", "traceback": "..."}], True),
        ([{"type": "Timeout", "message": "60 s", "retryable": True}] * 2, True),
    ],
)
def test_a_bootstrap_that_met_nothing_but_an_outage_is_no_verdict_and_is_made_anew(monkeypatch, errors, is_verdict):
    node, is_out = Node(), [True]

    def came(system, step, run_id):
        met = errors if is_out[0] or run_id == "night.0" else []
        rows = [SimpleNamespace(index=place, prediction=None, error=one) for place, one in enumerate(met)]
        return outcomes.bootstrapped(step, SimpleNamespace(results=rows), run_id)

    monkeypatch.setattr(carry, "outcome", came)

    def steps():
        try:
            return (yield Bootstrap(worded("teach"), EXAMPLES, metric, 2, max_errors=2)).errors
        except RunFailed:
            return "left out"

    if is_verdict:
        assert carried(node, steps()) == "left out"
        return
    with pytest.raises(RunFailed, match="gave up after 2 of 2 errors"):
        carried(node, steps())
    is_out[0] = False
    assert carried(node, steps()) == 0
    assert list(node.rows) == ["night.0", "night.0b"]


def test_of_what_teachers_wrote_nothing_is_kept_but_errors_and_results_are_gone_through_once():
    """They are as many as there are examples, and are read from the journal a page at a time."""
    alive, read = weakref.WeakSet(), []

    class Large:
        pass

    class Results:
        def __iter__(self):
            read.append(len(alive))
            for place in range(20):
                large = Large()
                alive.add(large)
                fields = {"success": False, "steps": [("self", {"q": large}, {})], "errors": []}
                del large
                yield SimpleNamespace(index=place, prediction=fields, error=None, score=1.0)
                del fields
                read.append(len(alive))

    step = Bootstrap(worded("teach"), EXAMPLES, metric, 2, max_errors=2)
    outcomes.bootstrapped(step, SimpleNamespace(results=Results()), "r")
    assert len(read) == 21
    assert max(read) <= 2
    read.clear()
    assert outcomes._scored(SimpleNamespace(results=Results(), failed=0, run_id="r")).score == 100.0
    assert len(read) == 21


def test_who_asks_the_same_as_one_that_failed_or_was_given_up_asks_itself():
    def fails():
        yield one("bad")

    def waits():
        yield one("long", EXAMPLES)
        yield one("long too", EXAMPLES)

    def steps():
        with contextlib.suppress(RunFailed):
            yield Together([fails(), waits(), waits()])
        return (yield Together([one("long", EXAMPLES), one("long too", EXAMPLES), one("bad")]))

    node = Node()
    node.fails["night.0.0.0"] = "ConfigError: a setting (put that right and resume)"
    assert [found.score is None for found in carried(node, steps())] == [False] * 3


def test_a_keeper_that_is_away_for_a_moment_is_waited_for_and_a_node_that_is_gone_is_told(monkeypatch):
    node = Node()
    node.away = 3
    assert carried(node, iter_of(lambda: one("a"))).score is not None
    node.away = 3
    monkeypatch.setattr(keeper, "node_runs", lambda folder: False)
    with pytest.raises(Away, match=r"night is interrupted \(the node does not answer \(it fell\)\); connect again"):
        carried(node, iter_of(lambda: Together([one("b"), one("c")])))


def left_running(node, *places, settings):
    for place in places:
        node.rows[f"night.{place}"] = SimpleNamespace(
            run_id=f"night.{place}", state="running", reason=None, cost=1.0, asked=1, scores=[1.0], total=4,
            text="old", created_at=0.0, spec=SimpleNamespace(settings=settings),
        )  # fmt: skip


def test_what_is_under_way_with_an_older_larger_budget_is_paused_though_its_keeper_is_away_for_a_moment():
    node = Node()
    left_running(node, "0.0.0", "0.1.0", settings={"budget": 2.0, "whole_budget": 40.0})
    node.deaf = 3
    with pytest.raises(BudgetExceeded):
        carried(node, iter_of(lambda: Together([one("a"), one("b")])), budget=5.0)
    assert {row.state for row in node.rows.values()} == {"paused"}
    assert {row.spec.settings["whole_budget"] for row in node.rows.values()} == {5.0}
    assert node.cost <= 5.0


def test_where_no_call_is_left_it_ends_and_all_go_on_by_a_larger_limit():
    node = Node()
    steps = lambda: iter_of(lambda: Together([one("a"), one("b")]))  # noqa: E731
    words = "optimisation night is paused: 5 of 5 calls are made; a larger budget under the same id goes on"
    with pytest.raises(BudgetExceeded, match=words) as caught:
        carried(node, steps(), calls=5)
    assert (caught.value.run_id, node.cost) == ("night", 5.0)
    assert {row.state for row in node.rows.values()} == {"paused"}
    carried(node, steps(), calls=50)
    assert {row.state for row in node.rows.values()} == {"finished"}
    assert {row.spec.settings["whole_calls"] for row in node.rows.values()} == {50}


def test_what_is_under_way_with_another_limit_of_calls_is_paused_and_goes_on_with_the_present_one():
    node = Node()
    left_running(node, "0.0.0", "0.1.0", settings={"whole_calls": 2})
    carried(node, iter_of(lambda: Together([one("a"), one("b")])), calls=50)
    assert {row.spec.settings["whole_calls"] for row in node.rows.values()} == {50}
    assert [state for _, state in node.starts] == ["paused", "paused"]


def test_what_is_under_way_and_not_asked_for_again_spends_no_more():
    node = Node()
    left_running(node, "0.0.0", "0.7.0", settings={})
    node.deaf = 3
    carried(node, iter_of(lambda: Together([one("a"), one("b")])))
    assert [node.rows[f"night.{place}"].state for place in ("0.0.0", "0.1.0", "0.7.0")] == [
        "finished",
        "finished",
        "paused",
    ]
    assert node.cost == 9.0


def test_what_is_not_needed_is_ended_though_its_keeper_is_away_for_a_moment(monkeypatch):
    def steps():
        return (yield Together([one("a", EXAMPLES[:1]), one("b"), one("c")], lambda first: len(first) == 1))

    node = Node()
    node.deaf = 3
    carried(node, steps())
    assert [row.state for row in node.rows.values()] == ["finished", "cancelled", "cancelled"]
    node = Node()
    node.deaf = 1000
    monkeypatch.setattr(keeper, "COME_BACK_SECONDS", 0.0)
    with pytest.raises(Away):  # nobody has its part of the budget
        carried(node, steps())


def test_a_journal_that_is_away_for_a_moment_ends_nothing(monkeypatch):
    node, fails = Node(), [JournalError("the journal is away")] * 3
    ended, parts_of = node._ended, node.parts_of

    def away(answer):
        def answered(run_id):
            if fails:
                raise fails.pop()
            return answer(run_id)

        return answered

    node._ended, node.parts_of = away(ended), away(parts_of)
    assert carried(node, iter_of(lambda: one("a"))).score is not None
    fails.append(JournalError("the journal is away"))
    node.rows.clear()
    node.parts_of = parts_of
    assert carried(node, iter_of(lambda: one("a"))).score is not None
    assert not fails


def test_an_optimisation_that_fails_pauses_its_runs_though_their_keeper_is_away_for_a_moment():
    def steps():
        yield Together([one("a", EXAMPLES[:1]), raising(), one("b")])

    def raising():
        yield one("c", EXAMPLES[:1])
        node.deaf = 3
        raise ValueError("a mistake")

    node = Node()
    with pytest.raises(ValueError, match="a mistake"):
        carried(node, steps())
    assert node.rows["night.0.2.0"].state != "running"


def test_an_optimisation_that_fails_by_what_was_through_before_pauses_what_was_under_way_before():
    def steps():
        yield Together([one("a"), raising(), one("b")])

    def raising():
        yield one("c")
        raise ValueError("a mistake")

    node = Node()
    left_running(node, "0.0.0", "0.2.0", settings={})
    left_running(node, "0.1.0", settings={})
    node.rows["night.0.1.0"].state, node.rows["night.0.1.0"].scores = "finished", [1.0] * 4
    with pytest.raises(ValueError, match="a mistake"):
        carried(node, steps())
    assert [node.rows[f"night.0.{place}.0"].state for place in range(3)] == ["paused", "finished", "paused"]


def test_nothing_is_told_to_have_cost_what_it_has_cost_twice():
    node, told = Node(), []
    how = How(node, "night", parent_id="night", watch=lambda found: told.append((found["cost"], node.cost)))
    carry_out(iter_of(lambda: Together([one("a"), one("b"), one("c")])), how)
    assert told[-1] == (12.0, 12.0)
    assert all(said == paid for said, paid in told)


def test_what_its_runs_wait_for_is_said_while_they_do(monkeypatch, caplog):
    node = Node()
    asks = node._ask

    def ask(what, run_id, *rest, timeout):
        found = asks(what, run_id, *rest, timeout=timeout)
        return found if what == "wait" else {**found, "note": {"trouble": "the disk is full"}}

    monkeypatch.setattr(node, "_ask", ask)
    monkeypatch.setattr(progress, "SAY_SECONDS", 0.0)
    with _Bar("COPRO", shown=True) as bar, caplog.at_level("WARNING"):
        carry_out(iter_of(lambda: one("a")), How(node, "night", parent_id="night", watch=bar.watch))
    assert caplog.messages == ["COPRO: waiting: the disk is full"]


@pytest.mark.parametrize(("error", "state"), [(TakenOver, "running"), (RunInterrupted, "paused"), (OSError, "paused")])
def test_runs_that_belong_to_somebody_else_by_now_are_left_alone(error, state):
    node = Node()

    def check(*, now=False):
        if node.looks > 2:
            raise error("it is over")

    how = How(node, "night", parent_id="night", check=check)
    with pytest.raises(error):
        carry_out(iter_of(lambda: Together([one("a"), one("b")])), how)
    assert {row.state for row in node.rows.values()} == {state}


def test_a_score_is_summed_in_the_order_of_the_examples():
    node = Node()
    scores = [0.1] * 10 + [1e16, -1e16, 0.3]
    node.rows["night.0"] = SimpleNamespace(run_id="night.0", state="finished", reason=None, scores=scores)
    assert outcome(node, one("a"), "night.0").score == round(100 * sum(scores) / len(scores), 2)
