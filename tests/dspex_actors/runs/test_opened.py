"""What an evaluator is told of money: its run's, and that of the optimisation that it is a part of."""

import pytest

from dspex_actors.foundation.purses import DOLLAR
from dspex_actors.journal.errors import Fenced
from dspex_actors.journal.records import RunSpec
from dspex_actors.journal.sameness import OPTIMISE
from dspex_actors.journal.writer import Journal
from dspex_actors.lm.attempts import Attempt
from dspex_actors.runs.budget import run_budget
from dspex_actors.runs.keeper.opened import opened

WHOLE = {"budget": 0.5, "whole_budget": 2.0}


@pytest.mark.parametrize("is_far", [False, True])
def test_a_run_of_an_optimisation_is_told_of_both_accounts(tmp_path, is_far):
    with Journal(tmp_path / "journal.db") as journal:
        whole = journal.create_run(RunSpec(run_id="o", kind=OPTIMISE))
        for run_id in ("o.0", "o.1"):
            journal.create_run(RunSpec(run_id=run_id, parent_id="o", settings=WHOLE))
            journal.add_results(run_id, [], [Attempt(0, 1, 1, 0.0, "openai", "x", "answered", cost=0.25)])
        found = run_budget("o.1", opened(journal, "o.1")["settings"], is_far=is_far)
    assert found.account[1:] == (DOLLAR // 2, -1 if is_far else DOLLAR // 4)
    assert found.above == ((f"run:o#{round(1000 * whole.created_at)}", 2 * DOLLAR, -1 if is_far else DOLLAR // 2),)


@pytest.mark.parametrize(("settings", "parent"), [({}, "o"), ({"budget": 0.5}, "o"), (WHOLE, None), (WHOLE, "gone")])
def test_others_have_none_of_an_optimisation(tmp_path, settings, parent):
    with Journal(tmp_path / "journal.db") as journal:
        journal.create_run(RunSpec(run_id="o", kind=OPTIMISE))
        journal.create_run(RunSpec(run_id="r", parent_id=parent, settings=settings))
        found = run_budget("r", opened(journal, "r")["settings"])
    assert found is None if not settings else found.above == ()


@pytest.mark.parametrize("is_far", [False, True])
@pytest.mark.parametrize("money", [{}, WHOLE])
def test_a_run_of_an_optimisation_with_a_limit_of_calls_is_told_of_that_account(tmp_path, is_far, money):
    with Journal(tmp_path / "journal.db") as journal:
        whole = journal.create_run(RunSpec(run_id="o", kind=OPTIMISE))
        for run_id in ("o.0", "o.1"):
            journal.create_run(RunSpec(run_id=run_id, parent_id="o", settings={**money, "whole_calls": 7}))
            journal.add_results(run_id, [], [Attempt(0, 1, 1, 0.0, "openai", "x", "failed")])
        found = run_budget("o.1", opened(journal, "o.1")["settings"], is_far=is_far)
    assert found.calls == (f"run:o#calls-{round(1000 * whole.created_at)}", 7, -1 if is_far else 2)
    assert (found.account is None, found.above == ()) == (not money, not money)


@pytest.mark.parametrize("state", ["paused", "cancelled", "finished", "failed"])
def test_a_run_that_does_not_go_on_is_not_opened(tmp_path, state):
    """Its evaluator died as the journal went away, and its successor would go on asking when it is back."""
    with Journal(tmp_path / "journal.db") as journal:
        journal.create_run(RunSpec(run_id="r"))
        journal.set_state("r", state)
        with pytest.raises(Fenced, match=f"run r is {state}: nothing more is asked for it"):
            opened(journal, "r")
        journal.set_state("r", "running")  # goes on, unless it has finished
        if state != "finished":
            assert opened(journal, "r")["epoch"] == 2
