"""What a node does as a standby: it takes in what a run's coordinator sends; and what it tells of runs that it has."""

from __future__ import annotations

from typing import Any

from dspex_actors.errors import ConfigError
from dspex_actors.journal.base import JournalBase
from dspex_actors.journal.copies import Portion, Stand, parent_of, portion_after, stand_of, take_batch, take_portion
from dspex_actors.journal.deleted import deleted_after
from dspex_actors.journal.family import check_head
from dspex_actors.journal.records import RunRow
from dspex_actors.journal.store import Batch
from dspex_actors.runs.standby.messages import (
    CopyBatch,
    CopyPortion,
    GetDeleted,
    GetEnd,
    GetParts,
    GetPortion,
    GetStand,
    OfCoordinator,
    OfReader,
)


def answer_coordinator(journal: JournalBase, request: OfCoordinator) -> list[Any]:
    """Carry out what a coordinator asks for; return the fields of the copy's `Stand`.

    Raises:
        JournalError: it cannot be written just now.
        Fenced: another coordinator has claimed the run.
        ConfigError: this node's journal is in a server.
    """
    if journal.is_far:
        raise ConfigError("has its journal in a server, and keeps no copies")
    match request:
        case GetStand(run_id):
            stand = stand_of(journal, run_id)
        case CopyBatch(run_id, epoch, seen, opening, number, rows):
            stand = take_batch(journal, run_id, epoch, Stand(*seen), Batch(opening, number), rows)
        case CopyPortion(run_id, epoch, seen, anew, portion):
            told = Portion(*portion)
            check_head(journal, parent_of(told), epoch)
            stand = take_portion(journal, run_id, epoch, Stand(*seen), told, anew=anew)
    return list(stand)


def answer_reader(journal: JournalBase, request: OfReader) -> list[Any]:
    """Tell what a program on another host, or the keeper of another node, wants to know of runs.

    Raises:
        ConfigError: the run is not here.
    """
    match request:
        case GetPortion(run_id, seq):
            _row(journal, run_id)
            portion = portion_after(journal, run_id, seq)
            return [portion.seq, portion.entries, portion.rows, portion.run, portion.is_last, portion.steps]
        case GetEnd(run_id, seq):
            stand = stand_of(journal, run_id)
            return [_row(journal, run_id).state, list(stand), stand_of(journal, run_id, min(seq, stand.seq)).epoch]
        case GetParts(run_id):
            return [part.run_id for part in journal.parts_of(run_id)]
        case GetDeleted(number):
            return [list(one) for one in deleted_after(journal, number)]


def _row(journal: JournalBase, run_id: str) -> RunRow:
    row = journal.get_run(run_id)
    if row is None:
        raise ConfigError(f"no run {run_id!r} here: `dspex runs` lists them")
    return row
