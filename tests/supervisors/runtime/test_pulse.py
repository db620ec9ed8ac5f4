"""When a node is down: the decisions alone, time is a parameter."""

import pytest

from supervisors.runtime.process.pulse import PAUSES, REFUSED_SECONDS, SILENT_SECONDS, Pulse


def beats(pulse, start, count, heard=()):
    """Beat once a second; return the second in which the node was given up, if it was."""
    for second in range(start, start + count):
        if second in heard:
            pulse.heard(second - 0.99)
        if not pulse.beat(float(second)):
            return second
    return None


# rows: G10
@pytest.mark.parametrize(
    ("heard", "down"),
    [
        (range(1, 100), None),  # answers every beat
        ((), 5),  # never answered
        ((1, 2, 3), 7),  # fell silent
        ((4, 8, 12, 16, 20, 24, 28), None),  # slow, but there
    ],
)
def test_a_node_is_down_when_it_has_not_been_heard_for_five_beats(heard, down):
    assert SILENT_SECONDS == 5.0
    assert beats(Pulse(0.0), 1, 30, heard) == down


# rows: G10
def test_a_beat_that_came_late_by_our_own_fault_is_not_held_against_the_node():
    pulse = Pulse(0.0)
    assert beats(pulse, 1, 3, heard=(1, 2, 3)) is None
    assert pulse.beat(60.0)  # a handler blocked our loop for a minute
    assert beats(pulse, 61, 10) == 63  # 2 s of silence before it, and 3 s after it


# rows: G10
@pytest.mark.parametrize(
    ("losses", "last"),
    [
        ([(0.0, True), (0.05, True), (0.15, True), (0.15 + REFUSED_SECONDS, True)], None),  # nobody listens there
        ([(0.0, True), (0.1, False), (0.35, True)], PAUSES[2]),  # between two refusals somebody took the connection
        ([(0.0, False), (0.05, False), (0.15, False), (0.35, False), (0.75, False)], PAUSES[-1]),  # a slow restart
        ([(second / 2, False) for second in range(11)], None),  # it closes every connection: another key, say
    ],
)
def test_lost_connections_are_tried_again_more_and_more_slowly_until_the_node_is_down(losses, last):
    pulse = Pulse(0.0)
    answers = [pulse.lost(now, refused) for now, refused in losses]
    assert answers[:3] == list(PAUSES[:3])
    assert answers[-1] == last
    assert None not in answers[:-1]


# rows: G10
def test_an_answer_makes_up_for_everything_before_it():
    pulse = Pulse(0.0)
    assert [pulse.lost(now, True) for now in (0.0, 0.05, 0.15)] == [0.05, 0.1, 0.2]
    pulse.heard(4.0)
    assert pulse.lost(4.1, True) == 0.05
    assert pulse.lost(8.0, False) == 0.1
    assert pulse.lost(8.6, False) is None
