"""Values of a program's own are computed once, by one of all that want them; what is bad is refused in one line."""

import asyncio
import multiprocessing
import os
import signal
import sqlite3
import threading
import time
from types import SimpleNamespace

import pytest
from click.testing import CliRunner

from dspex_actors import context
from dspex_actors.cache import face, store, values
from dspex_actors.cache import place as places
from dspex_actors.cache.claims import Claims
from dspex_actors.cache.values import aget_or_compute, get_or_compute
from dspex_actors.cli.cache import cache as command
from dspex_actors.errors import ConfigError
from dspex_actors.foundation.cache_settings import CacheSettings, cache_settings


@pytest.fixture
def data_dir(home):
    home.mkdir()
    yield home
    place = places._places.pop(home / "cache", None)
    if place is not None:
        place.close(5.0)


@pytest.fixture
def at_each(monkeypatch):
    """Have a function called each time before a call waits: at_each(values.Wait or values.Pause, function)."""

    def patch(step, function):
        class Told(step):
            def __new__(cls, *fields):
                function()
                return super().__new__(cls, *fields)

        monkeypatch.setattr(values, step.__name__, Told)

    return patch


class Counting:
    def __init__(self, value=1, before=lambda: None):
        self.value, self.before, self.times = value, before, 0

    def __call__(self):
        self.times += 1
        self.before()
        if isinstance(self.value, Exception):
            raise self.value
        return self.value


@pytest.mark.parametrize("value", [None, 0, "text", b"bytes", {"a": [1, (2, 3)]}, {1, 2}])
def test_a_value_is_computed_once_and_comes_back_as_it_was(data_dir, value):
    function = Counting(value)
    first, second = (get_or_compute(data_dir, ["key", 1], function, None) for _ in range(2))
    assert first == second == value
    assert type(first) is type(second) is type(value)
    assert function.times == 1


def test_threads_and_tasks_compute_it_once(data_dir, at_each):
    waiting = threading.Semaphore(0)
    at_each(values.Wait, waiting.release)

    def until_waiting(count):
        for _ in range(count):
            assert waiting.acquire(timeout=30)

    function = Counting(5, lambda: until_waiting(19))
    threads = [threading.Thread(target=get_or_compute, args=(data_dir, "a", function, None)) for _ in range(20)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert function.times == 1
    function.before = lambda: None

    async def slow():
        await asyncio.to_thread(until_waiting, 49)
        return function()

    async def many():
        return await asyncio.gather(*(aget_or_compute(data_dir, "b", slow, None) for _ in range(50)))

    assert asyncio.run(many()) == [5] * 50
    assert function.times == 2


def test_what_fails_is_kept_by_nobody(data_dir):
    function = Counting(ValueError("no"))
    for _ in range(2):
        with pytest.raises(ValueError, match="no"):
            get_or_compute(data_dir, "a", function, None)
    assert function.times == 2


def test_a_ttl_and_a_cache_that_is_off(data_dir, monkeypatch):
    function, now = Counting(), time.time()
    get_or_compute(data_dir, "a", function, 60)
    monkeypatch.setattr("time.time", lambda: now + 100)
    get_or_compute(data_dir, "a", function, 200)
    assert function.times == 1
    get_or_compute(data_dir, "a", function, 60)
    assert function.times == 2
    with context(cache=False):
        get_or_compute(data_dir, "a", function, None)
    with context(cache=CacheSettings(tenant="another")):
        get_or_compute(data_dir, "a", function, None)
    assert function.times == 4


def test_what_is_no_plain_data_is_given_and_not_kept(data_dir, caplog):
    function = Counting(threading.Event)
    assert get_or_compute(data_dir, "a", function, None) is threading.Event
    assert get_or_compute(data_dir, "a", function, None) is threading.Event
    assert function.times == 2
    assert "plain data only" in caplog.text


@pytest.mark.parametrize(
    ("key", "function", "ttl", "message"),
    [
        (object(), Counting(), None, "key is invalid"),
        ("x" * (2 << 20), Counting(), None, "key is invalid"),
        ("a", 5, None, "fn is invalid"),
        ("a", Counting(), 0, "ttl is invalid"),
        ("a", Counting(), "1h", "ttl is invalid"),
    ],
)
def test_what_is_not_usable_is_refused_in_one_line(data_dir, key, function, ttl, message):
    with pytest.raises(ConfigError, match=message) as caught:
        get_or_compute(data_dir, key, function, ttl)
    assert "\n" not in caught.value.message


def test_a_function_that_asks_for_its_own_key_does_not_wait_for_itself(data_dir):
    def function():
        return get_or_compute(data_dir, "a", function, None)

    with pytest.raises(ConfigError, match="would wait for itself"):
        get_or_compute(data_dir, "a", function, None)


def _hold(data_dir, started, go_on):
    def function():
        started.set()
        go_on.wait(60)
        return "theirs"

    get_or_compute(data_dir, "a", function, None)


@pytest.mark.parametrize("is_killed", [False, True])
def test_of_several_processes_one_computes_and_a_dead_one_is_no_hindrance(data_dir, at_each, is_killed):
    spawn = multiprocessing.get_context("spawn")
    started, go_on, waits = spawn.Event(), spawn.Event(), []
    other = spawn.Process(target=_hold, args=(data_dir, started, go_on))
    other.start()
    assert started.wait(30)

    def end():
        waits.append(1)
        if len(waits) == 3:  # it has been found to be at work, and is waited for
            if is_killed:
                os.kill(other.pid, signal.SIGKILL)
            else:
                go_on.set()

    at_each(values.Pause, end)
    function = Counting("ours")
    assert get_or_compute(data_dir, "a", function, None) == ("ours" if is_killed else "theirs")
    assert function.times == is_killed
    assert len(waits) >= 3
    other.join(30)


def test_who_has_waited_long_enough_for_another_computes_for_himself(data_dir):
    spawn = multiprocessing.get_context("spawn")
    started, go_on = spawn.Event(), spawn.Event()
    other = spawn.Process(target=_hold, args=(data_dir, started, go_on))
    other.start()
    try:
        assert started.wait(30)
        ours = Counting("ours")
        assert get_or_compute(data_dir, "a", ours, None, wait=0.05) == "ours"
        assert get_or_compute(data_dir, "a", ours, None) == "ours"  # it is kept, whoever computes still
        assert asyncio.run(aget_or_compute(data_dir, "a", ours, None)) == "ours"
        assert ours.times == 1
    finally:
        other.kill()
        other.join(30)


def test_who_has_waited_long_enough_for_his_own_process_computes_for_himself(data_dir):
    begun, go_on = threading.Event(), threading.Event()

    def slow():
        begun.set()
        go_on.wait(30)
        return "slow"

    thread = threading.Thread(target=get_or_compute, args=(data_dir, "a", slow, None))
    thread.start()
    assert begun.wait(30)
    assert get_or_compute(data_dir, "a", Counting("quick"), None, wait=0.05) == "quick"
    with context(cache=CacheSettings(tenant="b")), pytest.raises(ConfigError, match="wait is invalid: got 0"):
        get_or_compute(data_dir, "a", slow, None, wait=0)

    async def both():
        async def hangs():
            await asyncio.Event().wait()

        first = asyncio.ensure_future(aget_or_compute(data_dir, "b", hangs, None))
        await asyncio.sleep(0)
        assert await aget_or_compute(data_dir, "b", Counting("quick"), None, wait=0.05) == "quick"
        first.cancel()

    asyncio.run(both())
    go_on.set()
    thread.join(30)


def test_the_loop_goes_on_while_a_value_is_written(data_dir, monkeypatch):
    get_or_compute(data_dir, "before", Counting(), None)
    writing, written = threading.Event(), threading.Event()

    def flush(self, seconds=5.0):
        writing.set()
        written.wait(30)

    monkeypatch.setattr(places.Place, "flush", flush)

    async def go():
        waits = asyncio.ensure_future(aget_or_compute(data_dir, "a", Counting("x"), None))
        assert await asyncio.to_thread(writing.wait, 30)
        assert not waits.done()  # and this is reached: nobody stands on the loop
        written.set()
        assert await waits == "x"

    asyncio.run(asyncio.wait_for(go(), 30))


def test_claims_that_another_thread_has_closed_are_an_os_error_and_touch_no_other_file(tmp_path):
    made = Claims(tmp_path / "claims")
    assert made.take(b"k" * 16)
    made.close()
    other = tmp_path / "other"
    with other.open("wb") as file:  # has the number now that the first claims file had
        file.write(b"-" * 32)
        file.flush()
        for ask in (made.writes, made.turn_writes, made.epoch, made.turn_epoch, lambda: made.take(b"k" * 16)):
            with pytest.raises(OSError, match="closed"):
                ask()
        made.free(b"k" * 16)
    assert other.read_bytes() == b"-" * 32


def test_a_place_that_is_closed_while_its_thread_writes_ends_its_claims_in_silence(data_dir):
    assert get_or_compute(data_dir, "a", Counting(), None) == 1
    place = places.place_of(data_dir / "cache")
    assert place.claim(b"q" * 16)
    claims = place._claims
    claims.close()  # as `close` does, of another thread
    place.landed([(b"q" * 16, b"value", True)])
    place.taken_back()


@pytest.mark.parametrize("where", ["below a file", "not to be made"])
def test_a_folder_that_cannot_be_made_is_refused_at_once(tmp_path, where):
    (tmp_path / "file").write_text("x")
    folder = {"below a file": tmp_path / "file" / "cache", "not to be made": "/proc/nothing/cache"}[where]
    with pytest.raises(ConfigError, match=r"disk_cache_dir is invalid: got .*, expected a folder that is there or can"):
        cache_settings(disk_cache_dir=folder)
    assert cache_settings(disk_cache_dir=folder, enable_disk_cache=False).disk is False
    cache_settings(disk_cache_dir=tmp_path / "new" / "cache")
    assert (tmp_path / "new" / "cache").is_dir()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"enable_disk_cache": "yes"}, "enable_disk_cache is invalid: got 'yes', expected True or False"),
        ({"disk_cache_dir": 5}, "disk_cache_dir is invalid: got 5"),
        ({"disk_cache_dir": __file__}, "expected a folder; this is a file"),
        ({"disk_size_limit_bytes": 0}, "disk_size_limit_bytes is invalid: got 0"),
        ({"disk_size_limit_bytes": float("nan")}, "disk_size_limit_bytes is invalid"),
        ({"memory_max_entries": None}, "memory_max_entries is invalid: got None"),
        ({"memory_max_entries": True}, "memory_max_entries is invalid: got True"),
        ({"memory_max_bytes": 10}, "memory_max_bytes is invalid: got 10"),
        ({"ttl": -1}, "ttl is invalid: got -1"),
        ({"tenant": None}, "tenant is invalid: got None"),
        ({"semantic": True}, "semantic is invalid"),
        ({"semantic": {}}, "embedder.*is invalid: got None, expected a dspex.Embedder or a function"),
        ({"semantic": {"embedder": len, "treshold": 0.9}}, "semantic is invalid: got treshold, expected some of"),
        ({"semantic": {"embedder": len, "threshold": 95}}, "threshold.*is invalid: got 95"),
        (
            {"semantic": {"embedder": len}, "enable_disk_cache": False, "enable_memory_cache": False},
            "semantic is invalid: got a semantic cache with both tiers off",
        ),
    ],
)
def test_settings_that_are_not_usable_are_refused_in_one_line(values, message):
    with pytest.raises(ConfigError, match=message) as caught:
        cache_settings(**values)
    assert "\n" not in caught.value.message


def test_commands_show_and_clear_what_is_kept(data_dir):
    for number in range(3):
        get_or_compute(data_dir, f"{number}", Counting(), None)
    with context(cache=CacheSettings(tenant="other")):
        get_or_compute(data_dir, "a", Counting(), None)
    shown = CliRunner().invoke(command, ["stats", "--json"])
    assert '"entries":4' in shown.output
    assert shown.exit_code == 0
    assert "4" in CliRunner().invoke(command, ["stats"]).output
    gone = CliRunner().invoke(command, ["clear", "--tenant", "other", "--json"])
    assert '"removed":1' in gone.output
    assert '"removed":0' in CliRunner().invoke(command, ["clear", "--older-than", "1h", "--json"]).output
    assert "3 answers removed" in CliRunner().invoke(command, ["clear"]).output
    function = Counting()
    get_or_compute(data_dir, "0", function, None)
    assert function.times == 1


def test_where_a_full_disk_keeps_a_cache_from_being_cleared_it_says_what_helps(tmp_path, monkeypatch):
    def full(writer, tenant, before):
        error = sqlite3.OperationalError("database or disk is full")
        error.sqlite_errorcode = sqlite3.SQLITE_FULL
        raise error

    store.open_store(tmp_path).close()
    monkeypatch.setattr(store.Writer, "clear", full)
    with pytest.raises(ConfigError, match=r"disk is full; .* make room, or remove the folder"):
        face.clear_folder(tmp_path)


def test_clearing_what_is_not_there_is_no_error(tmp_path):
    assert face.clear_folder(tmp_path / "nothing") == 0
    with pytest.raises(ConfigError, match="tenant is invalid"):
        face.clear_folder(tmp_path, tenant=5)
    (tmp_path / "answers.db").write_text("no database at all, whatever it is called " * 50)
    assert face.clear_folder(tmp_path) == 0


class Opening:
    """A connection to a file that others open just now: it is locked so many times."""

    def __init__(self, times, code=sqlite3.SQLITE_BUSY):
        self.times, self.code, self.asked = times, code, 0

    def execute(self, statement):
        self.asked += 1
        if self.asked <= self.times:
            error = sqlite3.OperationalError("database is locked")
            error.sqlite_errorcode = self.code
            raise error


def test_a_file_that_others_open_just_now_is_waited_for():
    """Else a worker would be without its claims for half a minute, and ask what others ask."""
    db = Opening(3)
    store._use_log(db)
    assert db.asked == 4
    with pytest.raises(sqlite3.OperationalError):
        store._use_log(Opening(1, sqlite3.SQLITE_READONLY))


@pytest.mark.parametrize("step", ["write", "pause"])
def test_who_is_interrupted_while_it_waits_leaves_nobody_waiting(data_dir, monkeypatch, step):
    """In a notebook the traceback is kept, and with it the call: what it had begun was begun for ever."""
    interrupted = []

    def interrupt(*args):
        interrupted.append(args)
        raise KeyboardInterrupt

    if step == "write":
        monkeypatch.setattr(values.Place, "flush", interrupt)
    else:
        monkeypatch.setattr(values, "_lead", lambda *args: (yield values.Pause(1.0)))
        monkeypatch.setattr(values, "time", SimpleNamespace(sleep=interrupt, monotonic=time.monotonic))
    with pytest.raises(KeyboardInterrupt) as caught:
        get_or_compute(data_dir, "a", lambda: 1, None)
    assert (len(interrupted), values._flights) == (1, {})
    assert caught.value.__traceback__ is not None
