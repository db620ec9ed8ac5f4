"""What a node knows of what its processes told: tellings may be lost and doubled, processes end and come back."""

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dspex_actors.foundation.telemetry import merge
from dspex_actors.foundation.telemetry.merge import ENDED, MOST_ENDED, Book, Source, view
from dspex_actors.foundation.telemetry.rates import STEP, WINDOW, Rates
from dspex_actors.foundation.telemetry.recorder import MOST_SERIES, OVERFLOW_NAME, Recorder


def travelled(value):
    return msgpack.unpackb(msgpack.packb(value), strict_map_key=False)


def told_by(book, incarnation, recorder, actor="worker", **how):
    return book.tell(incarnation, Source(actor, 1, 1), travelled(recorder.take(**how)))


def sums(book, prefix=""):
    return {name: sum(row["sum"] for row in rows) for name, rows in view(book.whole(prefix)).items()}


#: For each process its steps: what it counts, and what happens then.
STEPS = st.lists(
    st.lists(st.tuples(st.integers(0, 9), st.sampled_from(["told", "lost", "doubled", "all", "restart"])), max_size=8),
    max_size=5,
)


@given(STEPS)
def test_a_sum_is_exact_but_for_what_was_not_told_before_the_end(processes):
    book, expected = Book(), 0
    for number, steps in enumerate(processes):
        recorder, heard = Recorder(), 0
        total = 0
        for more, what in steps:
            recorder.counter("n").add(more)
            total += more
            rows = travelled(recorder.take(everything=what in ("all", "restart")))
            if what == "lost":
                recorder.counter("n").add(0)  # it is not known to be told: the next telling has it
                continue
            heard = total
            if what == "restart":  # of the actor, which has written its book down
                book = Book.from_plain(travelled(book.to_plain()))
            for _ in range(2 if what == "doubled" else 1):
                book.tell(str(number), Source("w", 1, 1), rows)
        book.end(str(number))
        expected += heard
    assert sums(book).get("n", 0) == expected


def test_an_actor_keeps_its_figures_over_its_incarnations_and_gauges_go():
    book = Book()
    for incarnation in ("first", "second"):
        recorder = Recorder()
        recorder.counter("n", worker=1).add(2)
        recorder.gauge("now").add(7)
        told_by(book, incarnation, recorder, "worker-1")
    book.end("first")
    assert {name: row["sum"] for name, (row,) in view(book.by_actor()["worker-1"]).items()} == {"n": 4, "now": 7}
    book.end("second")
    book.end("second")
    assert {name: row["sum"] for name, (row,) in view(book.by_actor()["worker-1"]).items()} == {"n": 4}


def test_a_gauge_is_what_was_set_last_by_anybody():
    book, early, late = Book(), Recorder(), Recorder()
    early.gauge("g").add(1)
    first = travelled(early.take())
    late.gauge("g").add(2)
    told_by(book, "late", late)
    book.tell("early", Source("w", 1, 1), first)
    (row,) = view(book.whole())["g"]
    assert row["value"] == 2


def test_ended_actors_are_bounded():
    book = Book()
    for number in range(MOST_ENDED + 20):
        recorder = Recorder()
        recorder.counter("n").add()
        told_by(book, str(number), recorder, f"run:{number}")
        book.end(str(number))
    assert len(book.ended) == MOST_ENDED + 1
    assert view(book.by_actor()[ENDED])["n"][0]["sum"] == 20
    assert sums(book) == {"n": MOST_ENDED + 20}


def test_series_of_a_name_are_bounded_over_all_processes_too():
    book = Book()
    for process in range(3):
        recorder = Recorder()
        for number in range(400):
            recorder.counter("n", user=f"{process}-{number}").add()
        told_by(book, str(process), recorder)
        book.end(str(process))
    rows = view(book.whole())["n"]
    assert len(rows) == MOST_SERIES + 1
    assert sum(row["sum"] for row in rows) == 1200


def test_what_two_programs_mean_by_a_name_is_not_mixed():
    book = Book()
    one, other = Recorder(), Recorder()
    one.counter("n").add(3)
    other.gauge("n").add(100)
    told_by(book, "one", one)
    told_by(book, "other", other)
    (row,) = view(book.whole())["n"]
    assert (row["kind"], row["sum"]) == ("counter", 3)


def test_only_what_begins_with_a_prefix_is_shown_in_the_order_of_names_and_tags():
    book, recorder = Book(), Recorder()
    for name, tag in (("lm.b", "2"), ("lm.b", "1"), ("lm.a", "1"), ("other", "1")):
        recorder.counter(name, tag=tag).add()
    told_by(book, "x", recorder)
    found = view(book.whole("lm."))
    assert [(name, row["tags"]["tag"]) for name, rows in found.items() for row in rows] == [
        ("lm.a", "1"), ("lm.b", "1"), ("lm.b", "2"),
    ]  # fmt: skip


def test_growth_is_what_is_new_of_sums_of_counters_and_of_counts_of_others():
    book, recorder = Book(), Recorder()
    recorder.counter("n").add(5)
    recorder.histogram("h").add(2.5)
    assert sorted(told_by(book, "x", recorder)) == [("h", (), 1), ("n", (), 5)]
    recorder.counter("n").add(2)
    assert told_by(book, "x", recorder, everything=True) == [("n", (), 2)]


def test_a_rate_is_of_the_last_minute():
    rates, key = Rates(1000.0), ("n", ())
    rates.grow(key, 30, 1001.0)
    assert rates.per_second(1010.0)[key] == pytest.approx(3.0)
    for second in range(1010, 1200):
        rates.grow(key, 2, float(second))
    assert rates.per_second(1200.0)[key] == pytest.approx(2.0, rel=0.1)
    assert rates.per_second(1200.0 + WINDOW + STEP) == {}


def test_a_rate_right_after_the_start_is_not_absurd():
    rates = Rates(50.0)
    rates.grow(("n", ()), 4, 50.001)
    assert rates.per_second(50.002)["n", ()] == 4


def test_names_are_bounded_over_all_processes_too(monkeypatch):
    monkeypatch.setattr(merge, "MOST_TOLD", 10)
    book = Book()
    for process in range(4):
        recorder = Recorder()
        for number in range(5):
            recorder.counter(f"n.p{process}x{number}").add(2)
        told_by(book, str(process), recorder, "program")
        book.end(str(process))
    found = sums(book)
    assert len(found) == 11
    assert found[OVERFLOW_NAME] == 20
    assert sum(found.values()) == 40
