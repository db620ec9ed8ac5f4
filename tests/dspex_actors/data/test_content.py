"""Whether a file is still the one that a run began with."""

import os
import time

import pytest

from dspex_actors.data import content
from dspex_actors.data.content import check_content, stamp_of
from dspex_actors.data.opening import from_descriptor, open_dataset
from dspex_actors.errors import ConfigError


@pytest.fixture
def path(tmp_path):
    made = tmp_path / "data.jsonl"
    made.write_text('{"q": 1}\n{"q": 2}\n')
    return made


@pytest.fixture
def settled(monkeypatch):
    """Let files count as settled at once."""
    monkeypatch.setattr(content, "SETTLED_SECONDS", -1.0)


def never():
    raise AssertionError("the file is read")


def test_a_file_that_was_written_just_now_has_no_stamp(path, monkeypatch):
    assert stamp_of(path) is None
    now = time.time()
    monkeypatch.setattr(content.time, "time", lambda: now + 10.0)
    found = path.stat()
    assert stamp_of(path) == [found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino]


def test_a_file_that_nobody_touched_is_not_read(path, settled):
    check_content(path, {"digest": "x", "stamp": stamp_of(path)}, never)
    check_content(path, {}, never)


def test_one_that_was_touched_is_read_and_is_the_same(path, settled):
    descriptor = open_dataset(path).descriptor
    text = path.read_text()
    path.unlink()
    path.write_text(text)
    os.utime(path, (1, 1))
    assert [row["q"] for row in from_descriptor(descriptor)] == [1, 2]


def test_an_edit_that_keeps_size_and_time_is_seen(path, settled):
    descriptor = open_dataset(path).descriptor
    before = path.stat()
    path.write_text('{"q": 1}\n{"q": 3}\n')
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    with pytest.raises(ConfigError, match=r"was changed since the run began: it has 18 bytes as before, but others"):
        from_descriptor(descriptor)
    assert [row["q"] for row in from_descriptor(descriptor, check=False)] == [1, 3]


@pytest.mark.parametrize("limit", [None, 1])
def test_a_descriptor_of_before_it_had_a_stamp_is_checked_by_its_digest(path, limit):
    dataset = open_dataset(path, limit=limit)
    old = {name: dataset.descriptor[name] for name in ("kind", "path", "input_names", "on_bad_line", "limit")}
    assert len(list(from_descriptor(old | {"digest": dataset.digest}))) == (limit or 2)
    path.write_text('{"q": 1}\n')
    with pytest.raises(ConfigError, match="was changed since the run began: put it back"):
        from_descriptor(old | {"digest": dataset.digest})


def test_a_file_that_is_gone_is_named(path):
    descriptor = open_dataset(path).descriptor
    path.unlink()
    with pytest.raises(ConfigError, match=r"there is no file .*data\.jsonl"):
        from_descriptor(descriptor)


def test_a_run_of_100_000_rows_is_opened_again_at_once(tmp_path, settled):
    path = tmp_path / "many.jsonl"
    path.write_text("".join(f'{{"q": {n}, "text": "{"x" * 100}"}}\n' for n in range(100_000)))
    descriptor = open_dataset(path).descriptor
    for known in (descriptor, descriptor | {"stamp": None}):
        before = time.process_time()
        from_descriptor(known)
        assert time.process_time() - before < 0.5
