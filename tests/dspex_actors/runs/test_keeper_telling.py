"""What the keeper of runs tells beside runs: keys that a node lacks, and batches that are to be cancelled."""

import asyncio
import re
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dspex_actors.errors import DspexError
from dspex_actors.runs.keeper import batches
from dspex_actors.runs.keeper.lacking import forget_others, note_lacking, notes_of
from supervisors.cluster.membership.table import checked_facts
from supervisors.errors import CallTimeout

NAMES = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,127}", fullmatch=True)


@given(names=st.sets(NAMES, min_size=1, max_size=12))
def test_keys_that_a_node_lacks_are_one_line_that_fits_and_are_forgotten_at_its_next_start(tmp_path_factory, names):
    node = {"data_dir": str(tmp_path_factory.mktemp("node")), "uid": "one"}
    for name in names:
        note_lacking(node, name)
    (line,) = notes_of(node)
    checked_facts({"notes": [line]})
    told = re.split(", | and ", line.removeprefix("lacks ").partition(":")[0])
    shown = [word for word in told if word in names]
    assert shown == sorted(names)[: len(shown)]
    assert shown
    assert told[len(shown) :] == ([] if len(shown) == len(names) else [f"{len(names) - len(shown)} more"])
    again = node | {"uid": "two"}
    assert notes_of(again) == []
    forget_others(again)
    assert notes_of(node) == []


class Keeper:
    """A server of which the collector answers at the last of so many calls."""

    def __init__(self, data_dir, tries):
        self.node, self.tries, self.asked, self.said = {"data_dir": str(data_dir)}, tries, 0, []
        self.log = SimpleNamespace(error=lambda text, **more: self.said.append(text))

    async def call(self, name, request, **options):
        self.asked += 1
        if self.asked < self.tries:
            raise CallTimeout("it is busy")


@pytest.mark.parametrize(
    ("states", "asked", "said"),
    [(["cancelled"] * 79, 80, 1), (["cancelled", "away", "finished", "running"], 4, 0), ([None] * 9, 10, 0)],
)
def test_batches_of_a_run_are_cancelled_however_often_that_is_refused(tmp_path, monkeypatch, states, asked, said):
    async def ensure(server, spec):
        return None

    def get_run(run_id):
        state = states.pop(0)
        if state == "away":
            raise DspexError("the journal is away")
        return None if state is None else SimpleNamespace(state=state)

    monkeypatch.setattr(batches, "ensure", ensure)
    monkeypatch.setattr(batches, "TRY_LAST", 0.0)
    (tmp_path / "batches.db").touch()
    keeper = Keeper(tmp_path, 99 if "running" in states else len(states) + 1)
    asyncio.run(batches.end_batches(keeper, SimpleNamespace(run_id="r"), SimpleNamespace(get_run=get_run)))
    assert (keeper.asked, len(keeper.said)) == (asked, said)
