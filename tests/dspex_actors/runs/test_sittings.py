"""The numbers that an evaluator and a worker have for what they say: whatever is lost on the way is said again."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from dspex_actors.runs.plan.sittings import MOST_SECONDS, SILENT_SECONDS, Sitting
from dspex_actors.runs.plan.types import Chunk


def chunk(index):
    return Chunk("n/worker-1", 4, ((index, 1, b"x"),))


@given(st.data(), st.integers(1, 30), st.integers(0, 20))
def test_over_a_line_that_loses_and_doubles_every_chunk_and_batch_arrives_once_and_in_order(data, chunks, batches):
    sitting = Sitting(1, 0.0)
    now, taken, sent, took, heard = 0.0, 0, 0, [], []

    def at_worker(number, part):
        nonlocal taken
        for _ in range(data.draw(st.integers(0, 2))):
            if number == taken + 1:
                taken = number
                took.append(part.items[0][0])

    def at_evaluator(number):
        times = range(data.draw(st.integers(0, 2)))
        heard.extend(number for _ in times if sitting.hear(number, taken, now) == "new")

    for index in range(chunks):
        part = chunk(index)
        at_worker(sitting.give(part), part)
        if sent < batches:
            sent += 1
            at_evaluator(sent)
    for _ in range(200):
        if took == list(range(chunks)) and heard == list(range(1, sent + 1)):
            break
        now += 60.0
        if sitting.is_to_ask(now, holds=True):  # the answer is a reply: it comes, or it is asked again
            sitting.taken(taken)
            for number, part in sitting.untaken:
                taken = max(taken, number)
                took += [part.items[0][0]]
            missing = range(sitting.batch + 1, sent + 1)
            heard.extend(number for number in missing if sitting.hear(number, taken, now) == "new")
    assert took == list(range(chunks))
    assert heard == list(range(1, sent + 1))
    sitting.taken(taken)
    assert not list(sitting.untaken)


def test_who_is_silent_is_asked_less_and_less_often_and_who_has_nothing_in_hand_never():
    sitting = Sitting(1, 0.0)
    assert not sitting.is_to_ask(1000.0, holds=False)
    asked = [now for now in (each / 4 for each in range(400)) if sitting.is_to_ask(now, holds=True)]
    gaps = [after - before for before, after in itertools.pairwise(asked)]
    assert asked[0] == SILENT_SECONDS
    assert gaps == sorted(gaps)
    assert gaps[-1] == MOST_SECONDS
    sitting.hear(1, 0, 100.0)
    assert not sitting.is_to_ask(100.0 + SILENT_SECONDS / 2, holds=True)
    assert sitting.is_to_ask(100.0 + SILENT_SECONDS, holds=True)


def test_a_batch_after_a_lost_one_is_not_taken_in():
    sitting = Sitting(1, 0.0)
    assert [sitting.hear(number, 0, 0.0) for number in (1, 3, 2, 2, 3)] == ["new", "early", "new", "known", "new"]
