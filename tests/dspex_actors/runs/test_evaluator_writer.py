"""Batches on their way to the journal: several at once where it has copies elsewhere, and each row once, in order."""

import asyncio
import random
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from property_kit import examples

from dspex_actors.journal.copies import check_order
from dspex_actors.journal.errors import JournalError
from dspex_actors.journal.records import ResultRow, RunSpec
from dspex_actors.journal.rows import unpacked_rows
from dspex_actors.journal.schema import values_of_result
from dspex_actors.journal.store import Batch
from dspex_actors.journal.writer import Journal
from dspex_actors.runs.evaluator import writer as module
from dspex_actors.runs.evaluator.writer import Writer

LOG = SimpleNamespace(error=lambda *args, **about: None, info=lambda *args, **about: None)


def result(index):
    return values_of_result(ResultRow(index=index, score=1.0, example=b"e", worker="n/w", at=1.0))


class Keeper:
    """Writes batches as the keeper of runs does, with answers that come late, or say that it cannot be done."""

    def __init__(self, journal, seed, trouble=0.0):
        self.journal, self.dice, self.trouble = journal, random.Random(seed), trouble
        self.under_way = self.most = 0

    async def ask(self, add):
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        try:
            if self.dice.random() < self.trouble:
                raise JournalError("not now")
            check_order(self.journal, "r", Batch(add.opening, add.after))
            self.journal.append("r", add.epoch, Batch(add.opening, add.number), *unpacked_rows(add.rows))
            for _ in range(self.dice.randrange(20)):
                await asyncio.sleep(0)
            if self.dice.random() < self.trouble:
                raise JournalError("it is written, and its copies are not")
        finally:
            self.under_way -= 1


@pytest.fixture(scope="module", autouse=True)
def quick():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "RETRY_SECONDS", 0.0)
        patch.setattr(module, "LARGE_BATCH", 3)
        patch.setattr(module, "BATCH", 5)
        yield


def journal_at(path):
    journal = Journal(path)
    journal.create_run(RunSpec(run_id="r"))
    journal.next_epoch("r")
    return journal


async def bring(keeper, depth, count, dice, stop_at=None):
    """Have results written while more come; return what was told to be written, in its order."""
    writer, told, over = Writer("r", keeper.ask, LOG), [], False
    writer.opened(0, 1, depth)
    writing = asyncio.create_task(writer.write(written=lambda: None, finished=lambda: over))
    for index in range(count):
        writer.add([result(index)])
        writer.mark(lambda index=index: told.append((index, keeper.journal.get_run("r").done)))
        if dice.random() < 0.3:
            await asyncio.sleep(0)
        if index == stop_at:
            while writer.left:
                try:
                    await writer.bring_rest()
                except JournalError:
                    continue
            writing.cancel()
            return told
    over = True
    writer.add([])
    async with asyncio.timeout(60):
        await writing
    return told


@pytest.mark.parametrize("depth", [1, 4])
@settings(max_examples=examples(8), deadline=None)
@given(seed=st.integers(0, 1 << 32), trouble=st.sampled_from([0.0, 0.3]))
def test_each_row_is_written_once_and_told_when_it_is(tmp_path_factory, depth, seed, trouble):
    with journal_at(tmp_path_factory.mktemp("writer") / "journal.db") as journal:
        keeper = Keeper(journal, seed, trouble)
        told = asyncio.run(bring(keeper, depth, 60, random.Random(seed)))
        assert [index for index, _ in told] == list(range(60))
        assert all(done > index for index, done in told)
        assert len(journal.done_indices("r")) == 60
        assert keeper.most <= depth


def test_several_batches_are_on_their_way_at_once_only_where_that_is_said(tmp_path):
    for depth in (1, 4):
        with journal_at(tmp_path / f"{depth}.db") as journal:
            keeper = Keeper(journal, 1)
            asyncio.run(bring(keeper, depth, 60, random.Random(1)))
            assert (keeper.most > 1) == (depth > 1)


def test_what_is_under_way_when_the_evaluator_is_told_to_end_is_brought_again_and_is_there_once(tmp_path):
    with journal_at(tmp_path / "journal.db") as journal:
        asyncio.run(bring(Keeper(journal, 2, 0.3), 4, 60, random.Random(2), stop_at=40))
        assert list(journal.done_indices("r")) == list(range(41))
