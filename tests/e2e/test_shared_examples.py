"""The examples of an optimisation are handed to the node once; what began before that was so goes on."""

import pytest
from optimised import Scripted, chosen, is_yes, one, questions

import dspex_actors as dspex
from dspex_actors.client import shared, spools
from dspex_actors.errors import BudgetExceeded
from dspex_actors.journal.index import SPOOL_FOLDER
from dspex_actors.teleprompt import optimizer


def copro(run_id, **options):
    best = dspex.COPRO(metric=is_yes, breadth=3, depth=2).compile(
        one(), trainset=questions(20), display_progress=False, run_id=run_id, **options
    )
    return chosen(best)


def left(system, run_id):
    return [path.name for path in (system.data_dir / SPOOL_FOLDER).glob("*") if path.name.startswith(run_id)]


def parts(system, run_id):
    return {part.run_id: system.journal.get_run(part.run_id) for part in system.journal.parts_of(run_id)}


@pytest.mark.soak
def test_they_are_written_once_and_an_optimisation_that_began_with_copies_goes_on_as_views(shared_host, monkeypatch):
    written = []
    for module in (shared, spools):

        def noted(items, path, *rest, real=module.spool):
            written.append(path.name)
            return real(items, path, *rest)

        monkeypatch.setattr(module, "spool", noted)
    with dspex.connect(home=shared_host.home, lm=Scripted()) as system:
        best = copro("whole")
        examples = [name for name in written if not name.startswith("whole.")]
        assert len(examples) == 1
        assert {(row.spec.total, row.spec.dataset["kind"]) for row in parts(system, "whole").values()} >= {(20, "view")}
        assert left(system, "whole") == []
    # As an earlier version did it: with copies for each run, up to where something stops it.
    with dspex.connect(home=shared_host.home, lm=Scripted(seconds=0.02)) as system:
        with monkeypatch.context() as before:
            before.setattr(optimizer, "Shared", lambda *given: None)
            with pytest.raises(BudgetExceeded):
                copro("half done", budget={"calls": 10}, max_in_flight=2)
        begun = parts(system, "half done")
        assert "paused" in {row.state for row in begun.values()}
        assert {row.spec.dataset["kind"] for row in begun.values()} == {"spool"}
        assert copro("half done") == best
        ended = parts(system, "half done")
        assert [(row.state, row.spec.dataset["kind"]) for row in ended.values() if row.spec.total == 20] == [
            ("finished", "spool" if begun.get(run_id, row).state == "finished" and run_id in begun else "view")
            for run_id, row in ended.items()
            if row.spec.total == 20
        ]
        for run_id, row in begun.items():
            assert ended[run_id].spec.dataset_digest == row.spec.dataset_digest
        assert left(system, "half done") == []
