"""A run's copy in another journal: batch by batch, by the log, from the beginning; never what it is not meant for."""

import dataclasses

import pytest

from dspex_actors.errors import ConfigError
from dspex_actors.journal import copies, log
from dspex_actors.journal.copies import Portion, Stand, make_whole, portion_after, stand_of, take_batch, take_portion
from dspex_actors.journal.copying import content_of
from dspex_actors.journal.errors import Fenced
from dspex_actors.journal.family import claim_family, head_of
from dspex_actors.journal.reader import JournalReader
from dspex_actors.journal.records import ResultRow, RunSpec, StepRow
from dspex_actors.journal.rows import packed_rows
from dspex_actors.journal.sameness import IN_NODE, OPTIMISE
from dspex_actors.journal.schema import attempt_values, values_of_result
from dspex_actors.journal.steps import add_step, begin_anew, forsaken
from dspex_actors.journal.store import Batch
from dspex_actors.journal.writer import Journal
from dspex_actors.lm.attempts import Attempt
from dspex_actors.runs.standby.answering import answer_coordinator
from dspex_actors.runs.standby.messages import CopyPortion


@pytest.fixture
def here(tmp_path):
    with Journal(tmp_path / "here.db", owner="a") as journal:
        journal.create_run(RunSpec(run_id="r", program=b"p"))
        journal.claim("r", 3, "a")
        journal.next_epoch("r")
        yield journal


@pytest.fixture
def there(tmp_path):
    with Journal(tmp_path / "there.db", owner="b") as journal:
        yield journal


def rows(*indices, n=1):
    """Return results and requests of these examples, packed."""
    results = [
        ResultRow(index=index, example=b"e", prediction=b"p", score=1.0, worker="a/w", at=5.0) for index in indices
    ]
    usage = '{"input_total":7}'
    asked = [Attempt(index, 1, n, 7.0, "openai", "x", "answered", cost=0.5, usage=usage) for index in indices]
    return packed_rows(list(map(values_of_result, results)), list(map(attempt_values, asked)))


def write(journal, number, *indices, epoch=3):
    packed = rows(*indices)
    results, attempts = copies.unpacked_rows(packed)
    journal.append("r", epoch, Batch(1, number), results, attempts)
    return Batch(1, number), packed


def catch_up(here, there, epoch=3, anew=False):
    """Bring a copy up to date by the log; return how many portions it took."""
    count = 0
    while True:
        stand = stand_of(there, "r")
        portion = portion_after(here, "r", 0 if anew else stand.seq)
        take_portion(there, "r", epoch, stand, portion, anew=anew)
        anew, count = False, count + 1
        if portion.is_last:
            return count


def same(here, there):
    mine, theirs = (content_of(JournalReader(journal.path), "r") for journal in (here, there))
    assert mine is not None
    assert mine == theirs
    assert here.get_run("r") == there.get_run("r")
    assert here.log_since("r", 0) == there.log_since("r", 0)


def test_a_copy_is_made_by_the_log_and_goes_on_batch_by_batch(here, there):
    write(here, 1, 0, 1)
    catch_up(here, there)
    same(here, there)
    batch, packed = write(here, 2, 2, 3)
    after = take_batch(there, "r", 3, stand_of(there, "r"), batch, packed)
    assert after == stand_of(here, "r")
    same(here, there)
    here.set_state("r", "paused", "why")
    catch_up(here, there)
    same(here, there)
    assert there.get_run("r").owner == "a"
    assert JournalReader(there.path).spent(0, ()) == []  # who paid has it in his books


def test_what_comes_twice_or_late_or_with_a_gap_changes_nothing(here, there):
    catch_up(here, there)
    before = stand_of(there, "r")
    first, second = write(here, 1, 0), write(here, 2, 1)
    seen = before._replace(seq=before.seq + 1)
    assert take_batch(there, "r", 3, seen, *second) == before
    assert take_batch(there, "r", 3, before, *first).seq == before.seq + 1
    assert take_batch(there, "r", 3, before, *first).seq == before.seq + 1
    old = portion_after(here, "r", 0)
    take_portion(there, "r", 3, Stand(), old)
    take_portion(there, "r", 3, before, old, anew=True)
    assert there.get_run("r").done == 1
    catch_up(here, there)
    same(here, there)


def test_the_epoch_of_a_number_is_found_among_the_claims_alone_however_long_the_log_is(here):
    """It is looked for before each batch: reading the log for it each time, a copy took time by the square of it."""
    steps = []
    with here.transaction() as db:
        db.set_progress_handler(lambda: steps.append(1), 100)
        number, seq = db.execute("SELECT number, seq FROM runs WHERE run_id = 'r'").fetchone()
        db.executemany(log.INSERT, [(number, seq + at, 3, 1, at, b"", b"") for at in range(1, 5001)])
        db.execute("UPDATE runs SET seq = seq + 5000")
        steps.clear()
        assert log.epoch_at(db, number, seq + 5000) == 3
        assert log.epoch_at(db, number, 1) == 3
        assert log.epoch_at(db, number, 0) == 0
        db.set_progress_handler(None, 0)
    assert len(steps) < 5


def test_a_long_log_comes_in_portions_and_a_copy_in_between_can_be_made_whole(here, there, monkeypatch):
    monkeypatch.setattr(copies, "ROWS", 2)
    for number in range(1, 12):
        write(here, number, 2 * number, 2 * number + 1)
    stand = stand_of(there, "r")
    take_portion(there, "r", 3, stand, portion_after(here, "r", 0))
    stand = stand_of(there, "r")
    assert not stand.is_whole
    batch, packed = write(here, 12, 100)
    assert take_batch(there, "r", 3, stand, batch, packed) == stand
    make_whole(there, "r")
    row = there.get_run("r")
    assert (row.done, row.asked, row.cost, row.usage) == (
        len(there.done_indices("r")),
        row.done,
        row.done / 2,
        {"input_total": 7 * row.done},
    )
    assert 0 < row.done < here.get_run("r").done
    take_portion(there, "r", 3, Stand(), portion_after(here, "r", 0), anew=True)
    assert catch_up(here, there) > 3
    same(here, there)


def test_a_coordinator_of_before_is_refused_and_its_tail_is_dropped(here, there):
    """The node that has died had batches that nobody else has: its journal is brought to what counts."""
    write(here, 1, 0, 1)
    catch_up(here, there)
    batch, packed = write(here, 2, 2)  # nobody else has it
    there.claim("r", 4, "b")
    write(there, 3, 3, 4, epoch=4)
    with pytest.raises(Fenced, match="epoch 4"):
        take_batch(there, "r", 3, stand_of(there, "r"), batch, packed)
    with pytest.raises(Fenced):
        take_portion(there, "r", 3, stand_of(there, "r"), portion_after(here, "r", 0), anew=True)
    tail = stand_of(here, "r")
    assert stand_of(there, "r", tail.seq).epoch != tail.epoch
    catch_up(there, here, epoch=4, anew=True)
    same(here, there)
    assert list(here.done_indices("r")) == [0, 1, 3, 4]
    assert here.get_run("r").owner == "b"


def test_a_copy_that_is_set_aside_keeps_its_number(here, there):
    """Another number would be one that only a coordinator gives."""
    catch_up(here, there)
    before = stand_of(there, "r")
    copies.set_aside(there, "r", "gone on elsewhere")
    assert stand_of(there, "r") == before
    assert (there.get_run("r").state, there.get_run("r").reason) == ("paused", "gone on elsewhere")
    assert copies.leased_runs(there) == []
    assert [run.run_id for run in copies.leased_runs(here)] == ["r"]


def half(here, there, monkeypatch):
    """Bring some of a run into a copy."""
    monkeypatch.setattr(copies, "ROWS", 2)
    for number in range(1, 4):
        write(here, number, 2 * number, 2 * number + 1)
    here.set_state("r", "finished")
    take_portion(there, "r", 3, Stand(), portion_after(here, "r", 0))


def test_a_finished_run_is_finished_in_a_copy_that_has_all_of_it_and_not_before(here, there, monkeypatch):
    """Else who asks there is answered by what is there of it."""
    half(here, there, monkeypatch)
    assert (there.get_run("r").state, there.get_run("r").reason) == ("paused", copies.UNFINISHED)
    assert copies.stale_runs(there) == [("r", "r")]
    catch_up(here, there)
    same(here, there)


def test_a_copy_that_is_set_aside_half_finished_is_not_taken_for_whole(here, there, monkeypatch):
    """Its counters are those of the original: with them what is asked again would count twice."""
    half(here, there, monkeypatch)
    with there.transaction() as db:
        db.execute("UPDATE runs SET state = 'running'")
    copies.set_aside(there, "r", "gone on elsewhere")
    assert not stand_of(there, "r").is_whole
    make_whole(there, "r")
    assert there.get_run("r").done == len(there.done_indices("r")) < here.get_run("r").done


def test_runs_under_leases_are_not_paused_by_the_start_of_their_node(here):
    here.create_run(RunSpec(run_id="s"))
    here.is_leased = True
    assert here.pause_interrupted("stopped") == ["s"]
    assert here.get_run("r").state == "running"


@pytest.fixture
def optimised(here):
    """Have an optimisation in the first journal, with its candidates and two runs."""
    here.create_run(RunSpec(run_id="o", kind=OPTIMISE, program=b"code", settings={IN_NODE: True}))
    for run_id in ("o.0", "o.1"):
        here.create_run(RunSpec(run_id=run_id, parent_id="o"))
    here.set_state("o.0", "finished")
    tell(here, "c1", "c2")
    return here


def tell(journal, *names, data=b"d", run_id="o"):
    for name in names:
        add_step(journal, run_id, journal.get_run(run_id).epoch, StepRow(name, "candidate", 1, 0.5, 3.0, None, data))


def steps_of(journal):
    return JournalReader(journal.path).steps("o")


def follow(here, there, *, anew=False, code=True, epoch=4):
    """Bring the copy of an optimisation up to date; return how many portions it took."""
    count, seq = 0, 0 if anew else stand_of(there, "o").seq
    while True:
        portion = portion_after(here, "o", seq, code=code)
        seq = take_portion(there, "o", epoch, stand_of(there, "o"), portion, anew=anew).seq
        anew, count = False, count + 1
        if portion.is_last:
            return count


def alike(here, there):
    assert steps_of(here) == steps_of(there)
    assert here.get_run("o") == there.get_run("o")
    assert here.log_since("o", 0) == there.log_since("o", 0)


@pytest.fixture
def running(optimised):
    claim_family(optimised, optimised.get_run("o"), 4, "a")
    return optimised


def test_the_candidates_of_an_optimisation_are_copied_as_they_are_told_and_its_code_is_not_sent_each_time(
    running, there
):
    follow(running, there)
    alike(running, there)
    tell(running, "c3", "c3")  # what is told twice is there once
    portion = portion_after(running, "o", stand_of(there, "o").seq, code=False)
    assert [step[1] for step in portion.steps] == ["c3"]
    assert b"code" not in portion.run
    follow(running, there, code=False)
    alike(running, there)
    assert there.get_run("o").spec.program == b"code"
    assert [one.step for one in steps_of(there)] == ["c1", "c2", "c3"]


def test_many_large_candidates_come_in_portions_and_what_is_there_of_them_can_be_made_whole(
    running, there, monkeypatch
):
    monkeypatch.setattr(copies, "ROWS", 2)
    tell(running, *(f"d{number}" for number in range(6)), data=b"x" * 4096)
    take_portion(there, "o", 4, Stand(), portion_after(running, "o", 0))
    assert not stand_of(there, "o").is_whole
    make_whole(there, "o")
    assert there.get_run("o").done == len(steps_of(there)) < 8
    assert follow(running, there, anew=True) > 3
    alike(running, there)


def test_an_optimisation_that_was_begun_anew_has_no_candidates_of_before_in_its_copy(running, there):
    tell(running, "c3")
    follow(running, there)
    running.set_state("o", "paused")
    begin_anew(running, "o")
    with pytest.raises(ConfigError, match="is paused"):  # it is written down all the same
        tell(running, "e1")
    follow(running, there)
    alike(running, there)
    assert [one.step for one in steps_of(there)] == ["e1"]


def test_candidates_of_before_it_was_under_a_lease_are_copied_too(optimised, there):
    """It was begun alone by an earlier release, which had no entries for them, or its journal was copied."""
    with optimised.transaction() as db:
        db.execute("DELETE FROM log WHERE run = (SELECT number FROM runs WHERE run_id = 'o')")
    claim_family(optimised, optimised.get_run("o"), 4, "a")
    before = optimised.log_since("o", 0)
    claim_family(optimised, optimised.get_run("o"), 4, "a")
    assert optimised.log_since("o", 0) == before
    follow(optimised, there)
    alike(optimised, there)
    assert len(steps_of(there)) == 2


def test_who_claims_an_optimisation_claims_its_runs_and_pauses_what_another_node_had_under_way(running):
    family = ("o", "o.0", "o.1")
    assert [running.get_run(one).claimed for one in family] == [4, 0, 4]
    row = claim_family(running, running.get_run("o"), 6, "b")
    assert (row.claimed, row.owner, row.state) == (6, "b", "running")
    part = running.get_run("o.1")
    assert (part.claimed, part.owner, part.state, part.reason) == (
        6,
        "b",
        "paused",
        "its optimisation goes on at another node",
    )
    assert running.get_run("o.0").state == "finished"
    running.owner = "b"
    assert forsaken(running, lambda holder: "node" in holder) == ["o"]  # a server for it is on its way
    running.claim("o.1", 9, "c")
    with pytest.raises(Fenced):
        claim_family(running, running.get_run("o"), 8, "b")
    assert running.get_run("o").claimed == 6  # all or nothing


def test_what_a_coordinator_of_before_had_under_way_alone_is_paused_in_its_journal_by_the_next_ones(running, there):
    """Nobody would end it: the next one does not know it."""
    follow(running, there)
    claim_family(there, there.get_run("o"), 6, "b")
    before = stand_of(running, "o.1")
    follow(there, running, epoch=6)
    part = running.get_run("o.1")
    assert (part.state, part.reason) == ("paused", "its optimisation goes on at another node")
    assert stand_of(running, "o.1") == before
    there.create_run(RunSpec(run_id="o.2", parent_id="o"))
    there.claim("o.2", 6, "b")
    follow(there, running, epoch=6)
    assert there.get_run("o.2").state == "running"


def test_a_run_that_only_a_coordinator_of_before_has_is_refused_where_the_optimisation_is_anothers(running, there):
    """It woke up, and sends what nobody has: the run itself is new there, and says nothing of epochs."""
    follow(running, there)
    portion = portion_after(running, "o.1", 0)
    request = CopyPortion("o.1", 4, list(Stand()), False, [getattr(portion, name) for name in Portion.__slots__])
    claim_family(there, there.get_run("o"), 6, "b")
    with pytest.raises(Fenced, match="run o belongs to the coordinator with epoch 6"):
        answer_coordinator(there, request)
    assert there.get_run("o.1") is None
    request = dataclasses.replace(request, epoch=6)
    assert answer_coordinator(there, request) == list(stand_of(running, "o.1"))


def test_a_run_of_an_optimisation_is_looked_at_with_it_and_by_itself_only_where_that_is_a_programs(running):
    assert [run.run_id for run in copies.leased_runs(running)] == ["r", "o"]
    assert [head_of(running, running.get_run(one)) for one in ("o", "o.1", "r")] == ["o", "o", "r"]
    running.create_run(RunSpec(run_id="p", kind=OPTIMISE))
    running.create_run(RunSpec(run_id="p.0", parent_id="p"))
    running.claim("p.0", 1, "a")
    assert head_of(running, running.get_run("p.0")) == "p.0"
    assert [run.run_id for run in copies.leased_runs(running)] == ["r", "o", "p.0"]
    # What ended while this node was away is asked for: of a run of steps also where it seems to go on.
    assert copies.stale_runs(running) == []
    running.set_state("o", "paused")
    assert copies.stale_runs(running) == [("o", "o"), ("o.1", "o")]
