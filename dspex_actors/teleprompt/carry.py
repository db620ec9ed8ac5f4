"""Carrying an optimiser's steps out: each is a run of the node, many at a time; what is finished is not done again."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from dspex_actors.client.looking import ENDED, POLL_FIRST, POLL_LAST
from dspex_actors.errors import BudgetExceeded, DspexError, RunInterrupted
from dspex_actors.foundation.purses import CALLS_MADE
from dspex_actors.journal.errors import Fenced, JournalError, NotHere
from dspex_actors.journal.records import RunRow
from dspex_actors.runs.budget import BUDGET, WHOLE_BUDGET, WHOLE_CALLS
from dspex_actors.runs.identity.parts import program_identity
from dspex_actors.runs.optimisations import CANNOT_WIN, NOT_NEEDED
from dspex_actors.runs.plan.hopeless import is_own_fault
from dspex_actors.teleprompt.endings import Away, Cancelled, TakenOver
from dspex_actors.teleprompt.keeper import Keeper
from dspex_actors.teleprompt.outcomes import Tried, outcome, says_nothing
from dspex_actors.teleprompt.purse import Purse
from dspex_actors.teleprompt.race import Race
from dspex_actors.teleprompt.step_runs import How, start
from dspex_actors.teleprompt.steps import Bootstrap, Evaluate, Scored, Steps
from dspex_actors.teleprompt.strands import Strands, Task
from supervisors.errors import SupervisorsError

#: What is added to the id of a run that is made anew.
ANEW = "b"


def carry_out(steps: Steps, how: How) -> Any:
    """Carry an optimiser's steps out and return what it returned.

    Raises:
        RunFailed, RunInterrupted: a step's run ended so, and the optimiser does not go on without.
    """
    return _Carrier(steps, how).run()


class _Carrier:
    def __init__(self, steps: Steps, how: How) -> None:
        self._how, self._system, self._keeper = how, how.system, Keeper(how)
        self._strands = Strands(steps, how.tell)
        self._purse, self._poll = Purse(how.budget), POLL_FIRST
        self._running: dict[str, Task] = {}
        #: What each run has asked.
        self._asked: dict[str, int] = {}
        #: Runs that are there; of these those that were begun before and are not through.
        self._there: set[str] = set()
        self._begun: set[str] = set()
        #: Runs that were under way when this began, and that nobody has asked for yet.
        self._before: set[str] = set()
        #: Bootstraps that an account or an outage has ended, and not what they have tried.
        self._spoiled: set[str] = set()
        #: Of tasks that were looked at: whether their runs are through; and what their evaluations ask.
        self._looked: dict[Task, bool] = {}
        self._keys: dict[Task, int] = {}
        self._asks: dict[tuple[Any, ...], int] = {}
        #: Runs whose part of the budget is used up, each with what was left when it was.
        self._short: dict[str, tuple[Task, float]] = {}
        #: Evaluations by what they ask, tasks that wait for an equal one, and what those that are through came to.
        self._known: dict[int, Task] = {}
        self._equal: dict[Task, list[Task]] = {}
        self._outcomes: dict[Task, Any] = {}
        self._races: dict[str, Race] = {}
        self._tried = Tried(how.run_id)

    def _take_in(self) -> None:
        """Take in what its runs have cost so far, also those that are asked for later, or never again."""
        if self._how.parent_id is None:
            return
        parent, under_way = self._how.parent_id, []
        for part in self._keeper.parts(parent):
            self._there.add(part.run_id)
            if part.state in ("running", "paused", "failed"):
                self._begun.add(part.run_id)
            if part.state == "running":
                under_way.append(part.run_id)
            self._asked[part.run_id] = part.asked
            self._purse.ended(part.run_id, part.cost)
        self._before = set(under_way)
        rows = [self._keeper.row(run_id) for run_id in under_way]
        has_less = self._how.budget is not None and (None in [*map(self._keep, rows)] or self._purse.left < 0)
        if has_less or any(row and row.spec.settings.get(WHOLE_CALLS) != self._how.calls for row in rows):
            for run_id in under_way:  # they have larger parts than there are now, or count by another limit
                self._pause(run_id, "its optimisation has another budget")
            self._before = set()

    def _pause_forgotten(self) -> None:
        """Pause what was under way before and is not asked for now: nobody would follow it, and what it spends."""
        asked = {*self._running, *self._short, *map(self._run_id, self._strands.todo)}
        for run_id in self._before - asked:
            self._pause(run_id, "its optimisation has not asked for it again")
        self._before = set()

    def _pause(self, run_id: str, why: str) -> None:
        """Pause a run, and take in what it has cost."""
        self._keeper.pause(run_id, why)
        row = self._keeper.row(run_id)
        self._purse.ended(run_id, 0.0 if row is None else row.cost)

    def run(self) -> Any:
        try:
            self._take_in()
            while not self._strands.over:
                self._drop()
                self._how.check()
                self._start_some()
                if self._before:
                    self._pause_forgotten()
                if not self._look() and not self._strands.over:
                    self._keeper.wait(self._running, self._poll)
                    self._poll = min(POLL_LAST, self._poll * 1.3)
            self._drop()
            self._tried.check()
            return self._strands.result
        except BaseException as error:
            if not isinstance(error, Cancelled | TakenOver):  # its runs are cancelled, too; or are another's
                self._pause_all(error)
            raise
        finally:
            self._how.spent = self._purse.spent
            self._strands.close()

    def _pause_all(self, error: BaseException) -> None:
        """Pause what is under way. The keeper of runs, where it is just away, is waited for once."""
        waits = isinstance(error, Exception) and not isinstance(error, Away)
        for run_id in {**self._running, **dict.fromkeys(self._before)}:
            order = partial(self._system._order, run_id, "pause", run_id, "the optimisation was interrupted")
            try:
                self._keeper.insist(order, checks=False) if waits else order()
            except (RunInterrupted, SupervisorsError):
                return
            except DspexError:
                continue  # it has just ended

    # --- starting ---------------------------------------------------------------------------------------------------

    def _start_some(self) -> None:
        """Start what there is room for, after all that was through before: that may say that the rest is not needed."""
        todo = self._strands.todo
        self._start_answered()
        for run_id, (task, left) in list(self._short.items()):
            if self._purse.left > left or not self._running:
                del self._short[run_id]
                self._begin(task, self._row(task), 1)
        while todo and len(self._running) < self._how.at_once():
            self._start(min(todo, key=self._turn))
            self._start_answered()

    def _turn(self, task: Task) -> int:
        """Return when a task is started: first what is under way and takes up room, then what has begun.

        Of equal ones that are asked for that is the one that is paid for in part.
        """
        run_id = self._run_id(task)
        return 0 if run_id in self._before else 1 if run_id in self._begun else 2

    def _start_answered(self) -> None:
        todo = self._strands.todo
        while known := [task for task in todo if self._is_answered(task)]:
            for task in known:
                if task in todo:
                    self._start(task)

    def _is_answered(self, task: Task) -> bool:
        """Tell whether nothing is left to start for a task: it is through, or an equal one is, or is under way.

        What was not needed is not answered: it may be needed now.
        """
        if task not in self._looked:
            row = self._row(task)
            self._looked[task] = row is not None and (row.state == "finished" or _has_lost(row))
        equal = self._equal_of(task)
        return self._looked[task] or equal in self._outcomes or equal in self._running.values()

    def _start(self, task: Task) -> None:
        self._strands.todo.remove(task)
        row, equal = self._row(task), self._equal_of(task)
        if equal is None and isinstance(task.step, Evaluate):
            self._known[self._key(task)] = task
        if equal is not None:
            if equal in self._outcomes:
                self._come(task, self._outcomes[equal])
            else:
                self._equal.setdefault(equal, []).append(task)
        elif row is not None and _has_lost(row):
            self._come(task, Scored(None, run_id=row.run_id))
        else:
            self._begin(task, row, min(self._how.at_once() - len(self._running), 1 + len(self._strands.todo)))

    def _begin(self, task: Task, row: RunRow | None, parts: int) -> None:
        run_id = self._run_id(task)
        is_over = row is not None and row.state == "finished"
        if row is not None:
            self._purse.ended(run_id, row.cost)
            self._asked[run_id] = row.asked
        held = None if is_over else self._keep(row) or self._purse.hold(run_id, parts)
        money = {} if held is None else {"budget": held, "unknown_price": self._how.unknown_price}
        is_forced = row is not None and (row.reason == NOT_NEEDED or row.created_at < (self._how.forced_at or 0.0))
        try:
            self._keeper.insist(lambda: start(self._how, task.step, run_id, money, force=is_forced))
        except (RunInterrupted, Fenced, NotHere):
            raise  # it says nothing of the program
        except Exception as error:
            self._how.check(now=True)  # nothing is started for an optimisation that was paused
            self._purse.ended(run_id, 0.0 if row is None else row.cost)
            self._fail(task, error)
            return
        self._there.add(run_id)
        if is_over:
            self._ended(task, run_id, is_earlier=True)
        else:
            self._running[run_id] = task
            self._poll = POLL_FIRST

    def _keep(self, row: RunRow | None) -> float | None:
        """Have a run that is under way keep its part of the budget, which its evaluator has; None: it has none."""
        settings = {} if row is None or row.state != "running" else row.spec.settings
        part = settings.get("budget")
        if row is None or part is None or self._how.budget is None:
            return None
        if settings.get(WHOLE_BUDGET, part) > self._how.budget:
            return None  # it would take what there is no more
        return self._purse.keep(row.run_id, part)

    def _equal_of(self, task: Task) -> Task | None:
        """Return an earlier task that asks the same: what it comes to is what this one would come to."""
        if not isinstance(task.step, Evaluate):
            return None
        earlier = self._known.get(self._key(task))
        if earlier is not None and isinstance(earlier.step, Evaluate):
            came = self._outcomes.get(earlier)
            if came is not None and came.score is None and earlier.step.race != task.step.race:
                return None  # one that was stopped in a race says nothing to those outside
        return earlier

    def _key(self, task: Task) -> int:
        """Return a number for what an evaluation asks."""
        step = task.step
        if task not in self._keys and isinstance(step, Evaluate):
            asks = program_identity(step.program).digest, *map(id, (step.metric, step.lm, *step.examples))
            self._keys[task] = self._asks.setdefault(asks, len(self._asks))
        return self._keys[task]

    def _run_id(self, task: Task) -> str:
        run_id = f"{self._how.run_id}.{task.name}"
        while run_id in self._spoiled or f"{run_id}{ANEW}" in self._there:
            run_id += ANEW
        return run_id

    def _row(self, task: Task) -> RunRow | None:
        run_id = self._run_id(task)
        return self._keeper.row(run_id) if run_id in self._there else None

    # --- following --------------------------------------------------------------------------------------------------

    def _look(self) -> bool:
        """Look at each run once; return whether something came."""
        came, done, total, cost, trouble = False, 0, 0, 0.0, None
        for run_id, task in list(self._running.items()):
            if run_id not in self._running:
                continue  # it was dropped meanwhile
            found = self._keeper.look(run_id)
            summary = found["summary"]
            self._asked[run_id] = summary["asked"]
            done, total, cost = done + summary["done"], total + (summary["total"] or 0), cost + summary["spent"]
            is_lost = self._loses(task, summary)
            if summary["state"] not in ENDED and not is_lost:
                trouble = trouble or found["note"].get("trouble")
                continue
            if summary["state"] in ("paused", "cancelled"):
                self._how.check(now=True)  # it was the optimisation that was
            came = True
            del self._running[run_id]
            cost -= summary["spent"]  # it is in the purse from now on
            self._purse.ended(run_id, summary["spent"])
            if summary["state"] == "paused" and summary["reason"] == BUDGET:
                self._run_short(task, run_id)
            elif summary["state"] == "paused" and (summary["reason"] or "").endswith(CALLS_MADE):
                self._out_of_calls(summary["reason"])
            elif summary["state"] in ENDED:
                self._ended(task, run_id)
            else:
                self._keeper.cancel(run_id, CANNOT_WIN)
                self._come(task, Scored(None, run_id=run_id))
            self._drop()
        if self._how.watch is not None:
            paid, asked = self._purse.spent + cost, sum(self._asked.values())
            self._how.watch({"done": done, "total": total or None, "cost": paid, "asked": asked, "trouble": trouble})
        return came

    def _run_short(self, task: Task, run_id: str) -> None:
        """Have a run wait for what others leave; where there is nobody who could, the budget is used up."""
        left = self._purse.left
        if self._how.budget is None:  # it had its part when there was one
            self._begin(task, self._row(task), 1)
            return
        if self._running or any(left > before for _, before in self._short.values()):
            self._short[run_id] = (task, left)
            return
        spent, budget = self._purse.spent, self._how.budget
        raise BudgetExceeded(
            f"optimisation {self._how.run_id} is paused: ${spent:,.4f} of its budget of ${budget:,.4f} are spent, and "
            "the next request may cost more than is left; go on with "
            f"compile(..., run_id={self._how.run_id!r}, budget={2 * budget:g})",
            run_id=self._how.run_id,
            spent=spent,
            budget=budget,
        )

    def _out_of_calls(self, reason: str) -> None:
        """End where no call is left, for none of its runs, and none is under way."""
        raise BudgetExceeded(
            f"optimisation {self._how.run_id} is paused: {reason.removeprefix(f'{BUDGET}: ')}; a larger budget under "
            "the same id goes on",
            run_id=self._how.run_id,
            spent=self._purse.spent,
            budget=self._how.budget,
        )

    def _ended(self, task: Task, run_id: str, *, is_earlier: bool = False) -> None:
        try:
            came = self._keeper.insist(lambda: outcome(self._system, task.step, run_id), (JournalError,))
        except RunInterrupted:
            raise  # it is no outcome: it goes on another time
        except Exception as error:
            row = self._row(task)
            if isinstance(task.step, Bootstrap) and says_nothing(error):
                # It has counted errors that are no example's; what has ended so does not go on, and is made anew.
                if not is_earlier:
                    raise
                self._spoiled.add(run_id)
                self._looked[task] = False
                self._strands.todo.append(task)
                return
            if row is not None and row.state != "finished" and not (row.state == "failed" and is_own_fault(row.reason)):
                raise  # it says nothing of the program, and is none either
            self._fail(task, error)
        else:
            self._come(task, came)

    def _fail(self, task: Task, error: Exception) -> None:
        self._tried.failed(task.step, error)
        self._forget(task)
        self._tell(task, lambda one: self._strands.failed(one, error))

    def _forget(self, task: Task) -> None:
        """Have nobody wait for a task that comes to nothing."""
        self._known = {key: one for key, one in self._known.items() if one is not task}

    def _come(self, task: Task, came: Any) -> None:
        self._tried.see(came)
        if isinstance(task.step, Evaluate):
            self._outcomes[task] = came
            if task.step.race is not None:
                self._races.setdefault(task.step.race, Race()).through(_place(task), came.score, came.subscores)
        self._tell(task, lambda one: self._strands.done(one, came))

    def _tell(self, task: Task, tell: Callable[[Task], None]) -> None:
        """Tell a task, and those that wait for it, what it came to. With a metric that always fails, nobody goes on."""
        turn = self._strands.turn
        for one in (task, *self._equal.pop(task, ())):
            tell(one)
        if self._strands.turn != turn:  # not sooner: who is ready first among several has no say
            self._tried.check_metric()

    def _loses(self, task: Task, summary: Mapping[str, Any]) -> bool:
        step = task.step
        race = self._races.get(step.race) if isinstance(step, Evaluate) and step.race is not None else None
        if isinstance(step, Evaluate) and any(
            isinstance(one.step, Evaluate) and one.step.race != step.race for one in self._equal.get(task, ())
        ):
            return False  # somebody outside of the race waits for its score
        return race is not None and race.is_lost(_place(task), summary)

    def _drop(self) -> None:
        """End the runs that nobody waits for any more."""
        while self._strands.dropped:
            task = self._strands.dropped.pop()
            self._forget(task)
            # Who has waited for it is wanted still, or is among the dropped, too.
            self._strands.todo.extend(one for one in self._equal.pop(task, ()) if one.strand.task is one)
            for run_id, one in list(self._running.items()):
                if one is task:
                    del self._running[run_id]
                    self._keeper.cancel(run_id, NOT_NEEDED)
                    row = self._row(task)
                    self._purse.ended(run_id, 0.0 if row is None else row.cost)
            self._short = {run_id: pair for run_id, pair in self._short.items() if pair[0] is not task}


def _has_lost(row: RunRow) -> bool:
    return row.state == "cancelled" and row.reason == CANNOT_WIN


def _place(task: Task) -> tuple[int, ...]:
    return tuple(map(int, task.name.split(".")))
