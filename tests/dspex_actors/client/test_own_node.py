"""The folders of nodes of programs' own: what stays when such a node ends."""

import pytest

from dspex_actors.client.own_node import KEPT, forget_if_unused
from dspex_actors.foundation.events.event import Event
from dspex_actors.foundation.events.record import to_record
from dspex_actors.journal.records import RunSpec
from dspex_actors.journal.writer import Journal
from dspex_actors.observe.events.store import EventStore


@pytest.fixture
def make(tmp_path):
    """Make the folder of a node that has ended."""

    def folder(number, *, events=True, runs=False):
        made = tmp_path / "embedded" / f"20260101-{number:06}"
        made.mkdir(parents=True)
        store = EventStore(made / "events.db")
        if events:
            store.write([to_record(Event(type="x"))])
        store.close()
        with Journal(made / "journal.db") as journal:
            if runs:
                journal.create_run(
                    RunSpec(
                        run_id=f"run-{number}", kind="evaluate", program=b"p", dataset={}, dataset_digest=None,
                        metric=b"m", metric_name="m", lm=None, settings={}, total=1,
                    )
                )  # fmt: skip
        return made

    return folder


def left(folder):
    return sorted(int(path.name[-6:]) for path in folder.parent.iterdir())


def test_a_folder_without_runs_and_events_goes(make):
    folder = make(1, events=False)
    forget_if_unused(folder)
    assert not folder.exists()


def test_of_those_with_events_the_last_ones_stay(make):
    folders = [make(number) for number in range(KEPT + 3)]
    forget_if_unused(folders[-1])
    assert left(folders[-1]) == list(range(3, KEPT + 3))


def test_those_with_runs_stay_and_count_for_nothing(make):
    folders = [make(number, runs=number % 2 == 0) for number in range(2 * KEPT + 4)]
    forget_if_unused(folders[-1])
    unused = [number for number in range(2 * KEPT + 4) if number % 2][-KEPT:]
    assert left(folders[-1]) == sorted([*range(0, 2 * KEPT + 4, 2), *unused])


def test_one_whose_journal_is_damaged_stays(make):
    folders = [make(number) for number in range(KEPT + 2)]
    (folders[0] / "journal.db").write_bytes(b"damaged" * 1000)
    forget_if_unused(folders[-1])
    assert left(folders[-1]) == [0, *range(2, KEPT + 2)]


@pytest.mark.parametrize("events", [b"damaged" * 1000, None])
def test_one_whose_events_cannot_be_read_stays_and_nothing_is_raised(make, events):
    folder = make(1)
    if events is None:
        EventStore(folder / "events.db")._db.execute("PRAGMA user_version = 99").close()
    else:
        (folder / "events.db").write_bytes(events)
    forget_if_unused(folder)
    assert folder.exists()
