"""Alarms: in order, passed over when they mean nothing any more, and never more than a few of those kept."""

from hypothesis import given
from hypothesis import strategies as st

from supervisors.host.alarms import SWEEP_AT, Alarms


def always(at, what):
    return True


def test_what_is_due_comes_in_the_order_of_time_then_of_set():
    alarms = Alarms(always)
    for at, what in [(2.0, "c"), (1.0, "a"), (2.0, "d"), (1.5, "b"), (3.0, "e")]:
        alarms.set(at, what)
    assert alarms.next_at() == 1.0
    assert list(alarms.due(2.0)) == ["a", "b", "c", "d"]
    assert alarms.next_at() == 3.0
    assert list(alarms.due(2.9)) == []
    assert list(alarms.due(3.0)) == ["e"]
    assert alarms.next_at() is None


def test_what_means_nothing_any_more_is_passed_over_also_when_that_is_so_since_the_one_before():
    wanted = {"a", "b", "c"}
    alarms = Alarms(lambda at, what: what in wanted)
    for at, what in enumerate("abc"):
        alarms.set(at, what)
    came = []
    for what in alarms.due(10.0):
        came.append(what)
        wanted.discard("b")
    assert came == ["a", "c"]


def test_an_alarm_that_is_set_while_others_come_up_comes_up_too_if_it_is_due():
    alarms = Alarms(always)
    alarms.set(1.0, "first")
    came = []
    for what in alarms.due(5.0):
        came.append(what)
        if what == "first":
            alarms.set(4.0, "second")
            alarms.set(6.0, "later")
    assert came == ["first", "second"]
    assert alarms.next_at() == 6.0


def test_those_without_meaning_do_not_pile_up():
    wanted = set(range(10))
    alarms = Alarms(lambda at, what: what in wanted)
    for number in range(20 * SWEEP_AT):
        alarms.set(1e9 + number, number)
    assert len(alarms) <= SWEEP_AT + 2 * len(wanted) + 1
    assert sorted(alarms.due(2e9)) == sorted(wanted)


@given(st.lists(st.tuples(st.floats(0, 100), st.booleans())), st.floats(0, 100))
def test_due_is_what_has_meaning_and_whose_time_has_come(entries, now):
    alarms = Alarms(lambda at, what: entries[what][1])
    for number, (at, _) in enumerate(entries):
        alarms.set(at, number)
    expected = [number for number, (at, wanted) in enumerate(entries) if wanted and at <= now]
    assert list(alarms.due(now)) == sorted(expected, key=lambda number: entries[number][0])
    left = [at for at, wanted in entries if wanted and at > now]
    assert alarms.next_at() == min(left, default=None)
