"""The recorder of a process: nothing is lost between threads, forks and tellings, and nothing grows without end."""

import asyncio
import logging
import math
import os
import signal
import sys
import threading
from decimal import Decimal
from fractions import Fraction

import pytest

from dspex_actors.errors import ConfigError
from dspex_actors.foundation import telemetry
from dspex_actors.foundation.telemetry import recorder as recorder_module
from dspex_actors.foundation.telemetry import recording
from dspex_actors.foundation.telemetry.checks import MOST_TAGS, NAME_CHARACTERS, TAG_CHARACTERS
from dspex_actors.foundation.telemetry.recorder import MOST_NAMES, MOST_SERIES, OVERFLOW_NAME, WAITING, Recorder
from dspex_actors.foundation.telemetry.stats import Stats


def told(recorder, **how):
    """Return name and tags → figures of what a recorder tells."""
    return {
        (name, *(f"{tag}={value}" for tag, value in tags)): Stats.from_plain(plain).figures()
        for _, name, tags, plain in recorder.take(**how)
    }


@pytest.fixture
def recorder(monkeypatch):
    made = Recorder()
    monkeypatch.setattr(recording, "recorder", made)
    return made


def test_what_is_new_is_told_once_and_everything_when_asked(recorder):
    counter, other = recorder.counter("a.b"), recorder.counter("c")
    counter.add(2)
    other.add()
    assert {key[0]: row["sum"] for key, row in told(recorder).items()} == {"a.b": 2, "c": 1}
    assert told(recorder) == {}
    counter.add(3)
    assert told(recorder)["a.b",]["sum"] == 5
    assert {key[0] for key in told(recorder, everything=True)} == {"a.b", "c"}


def test_threads_lose_nothing_while_somebody_takes(recorder):
    switch = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        series = recorder.histogram("h")
        threads = [threading.Thread(target=lambda: [series.add(1.5) for _ in range(20_000)]) for _ in range(4)]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            recorder.take()
        assert told(recorder, everything=True)["h",]["count"] == 80_000
    finally:
        sys.setswitchinterval(switch)


def test_the_listener_hears_of_news_once_until_it_takes_them(recorder):
    heard = []
    recorder.counter("before").add()
    recorder.listen(lambda: heard.append(1))
    assert heard == [1]
    recorder.take()
    for _ in range(3 * WAITING):
        recorder.counter("a").add()
    assert heard == [1, 1]
    recorder.take()
    recorder.counter("a").add()
    assert heard == [1, 1, 1]


def test_adding_in_a_signal_handler_in_the_midst_of_taking_ends(recorder):
    series = recorder.counter("a")

    def add_and_wind(*_):
        for _ in range(2 * WAITING):
            series.add()
        signal.setitimer(signal.ITIMER_REAL, 0.001)  # from now on: the test gets on however long this has taken

    before = signal.signal(signal.SIGALRM, add_and_wind)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.001)
        for _ in range(5_000):
            series.add()
            recorder.take()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert told(recorder, everything=True)["a",]["sum"] >= 5_000


def test_a_forked_child_tells_its_own_only():
    script = """
import os
from dspex_actors.foundation.telemetry.recorder import recorder
series = recorder.counter("a")
recorder.listen(lambda: None)
for _ in range(700):
    series.add()
with series._lock:
    child = os.fork()
if not child:
    series.add(5)
    rows = recorder.take(everything=True)
    os._exit(0 if [row[3][1] for row in rows] == [5] and recorder._listener is None else 1)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
assert recorder.take()[0][3][1] == 700
"""
    assert os.spawnv(os.P_WAIT, sys.executable, [sys.executable, "-c", script]) == 0


def test_a_name_has_so_many_series_the_rest_is_one_and_said_once(recorder, caplog):
    with caplog.at_level(logging.WARNING):
        for user in range(MOST_SERIES + 50):
            recorder.counter("by.user", user=user).add()
    rows = told(recorder)
    assert len(rows) == MOST_SERIES + 1
    assert rows["by.user", "overflow=true"]["sum"] == 50
    assert len(caplog.records) == 1


def test_a_process_has_so_many_names(recorder):
    for number in range(MOST_NAMES + 10):
        recorder.histogram(f"name.{number}").add(1.0)
    rows = told(recorder)
    assert len(rows) == MOST_NAMES + 1
    assert rows[OVERFLOW_NAME,]["count"] == 10


def test_one_that_is_off_records_nothing_until_it_is_on_again(recorder):
    series = recorder.counter("a")
    recorder.switch(is_on=False)
    series.add()
    recorder.counter("b").add()
    assert told(recorder) == {}
    recorder.switch(is_on=True)
    series.add()
    recorder.counter("b").add()
    assert {key[0] for key in told(recorder)} == {"a", "b"}


def test_one_that_was_made_to_be_off_stays_so():
    recorder = Recorder(is_on=False)
    recorder.switch(is_on=True)
    recorder.counter("a").add()
    assert told(recorder) == {}


# --- by hand --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 10**400, True, "1", None, 1j, Decimal(1), [1]])
@pytest.mark.parametrize("kind", ["counter", "gauge", "histogram", "summary"])
def test_what_is_no_number_is_refused(recorder, kind, value):
    with pytest.raises(ConfigError, match=r"the value of a\.b is invalid: got .*, expected"):
        getattr(telemetry, kind)("a.b", value)


def test_a_counter_never_falls(recorder):
    with pytest.raises(ConfigError, match="got -1, expected 0 or more"):
        telemetry.counter("a", -1)
    telemetry.gauge("b", -1)
    telemetry.counter("c", Fraction(1, 2))
    assert {key[0]: row["sum"] for key, row in told(recorder).items()} == {"b": -1, "c": 0.5}


@pytest.mark.parametrize(
    "name", ["", " a", "a b", "a..b", ".a", "a.", "1a", "é", "a\n", "a" * (NAME_CHARACTERS + 1), 7, None]
)
def test_what_is_no_name_is_refused(recorder, name):
    with pytest.raises(ConfigError, match="the metric's name is invalid"):
        telemetry.counter(name)


@pytest.mark.parametrize(
    "tags",
    [
        {"a": ["list"]},
        {"a": {"un": "hashable"}},
        {"a": "x" * (TAG_CHARACTERS + 1)},
        {"a": b"x"},
        {"a b": 1},
        {"": 1},
        {f"t{number}": 1 for number in range(MOST_TAGS + 1)},
    ],
)
def test_what_are_no_tags_is_refused(recorder, tags):
    with pytest.raises(ConfigError, match="invalid: got"):
        telemetry.counter("a", 1, **tags)


def test_tags_of_other_types_that_are_equal_are_other_series(recorder):
    for value in (1, True, "1", 1.0, None):
        telemetry.counter("a", 1, tag=value)
    assert {key[1]: row["sum"] for key, row in told(recorder).items()} == {
        "tag=1": 2, "tag=true": 1, "tag=1.0": 1, "tag=None": 1,
    }  # fmt: skip


def test_tags_are_the_same_in_any_order_and_may_be_called_name_and_kind(recorder):
    telemetry.counter("a", 1, name="n", kind="k")
    telemetry.counter("a", 1, kind="k", name="n")
    assert told(recorder)["a", "kind=k", "name=n"]["sum"] == 2


def test_a_key_in_a_tag_is_not_kept(recorder):
    telemetry.counter("a", 1, key="sk-abcdefghijklmnopqrstuvwxyz0123456789ABCDEF", half="\ud800")
    (key,) = told(recorder)
    assert "abcdefghij" not in str(key)
    str(key).encode()


def test_a_name_is_of_one_kind(recorder):
    telemetry.counter("a")
    with pytest.raises(ConfigError, match="the kind of a is invalid: got a gauge, expected a counter"):
        telemetry.gauge("a", 1, tag="x")


def test_measuring_takes_the_time_of_blocks_and_functions_and_counts_errors(recorder):
    @telemetry.measure("f", what="sync")
    def sync(value):
        return 1 // value

    @telemetry.measure("f", what="async")
    async def later(value):
        async with telemetry.measure("f", what="inner"):
            await asyncio.sleep(0)
        return value

    assert sync(1) == 1
    assert asyncio.run(later(4)) == 4
    with pytest.raises(ZeroDivisionError):
        sync(0)
    with telemetry.measure("f", what="with") as outer, outer:
        pass
    rows = told(recorder)
    counts = {key[1]: row["count"] for key, row in rows.items() if key[0] == "f"}
    assert counts == {"what=sync": 2, "what=async": 1, "what=inner": 1, "what=with": 2}
    assert rows["f.errors", "error=ZeroDivisionError", "what=sync"]["sum"] == 1
    assert all(0 <= row["min"] <= row["max"] < 60 for key, row in rows.items() if key[0] == "f")


def test_a_generator_is_not_measured(recorder):
    def numbers():
        yield 1

    with pytest.raises(ConfigError, match="numbers cannot be measured"):
        telemetry.measure("f")(numbers)


def test_a_key_of_a_service_and_what_is_called_one_are_not_in_tags(recorder):
    telemetry.counter("a", 1, of="ghp_" + "a1" * 20, api_key="hunter2")
    assert [key[1:] for key in told(recorder)] == [("api_key=[key]", "of=[key]")]


def test_a_value_may_be_given_by_its_name(recorder):
    telemetry.counter("a", value=3)
    telemetry.gauge("g", value=2.5)
    telemetry.histogram("h", value=1)
    telemetry.summary("s", value=1)
    found = {key: row["sum"] for key, row in told(recorder).items()}
    assert found == {("a",): 3, ("g",): 2.5, ("h",): 1, ("s",): 1}


def finishes(work):
    """Whether a thread with this work ends: it would wait for itself for ever."""
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(60)
    return not thread.is_alive()


def test_a_series_may_be_looked_for_in_a_signal_handler_in_the_midst_of_looking(recorder):
    def interrupted():
        with recorder._lock:
            recorder.counter("new").add()

    assert finishes(interrupted)
    assert told(recorder)["new",]["sum"] == 1


def test_what_takes_the_log_may_count(recorder, monkeypatch):
    """A log handler waits for its lock while another thread that has it counts: neither may wait for the other."""
    monkeypatch.setattr(recorder_module, "MOST_SERIES", 1)
    heard = []

    class Counting(logging.Handler):
        def emit(self, record):
            heard.append(finishes(lambda: recorder.counter("logged", level="b").add()))

    handler = Counting()
    recorder_module._log.addHandler(handler)
    try:
        recorder.counter("n", user="a").add()
        recorder.counter("n", user="b").add()
    finally:
        recorder_module._log.removeHandler(handler)
    assert heard == [True]
