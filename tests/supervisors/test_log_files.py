"""Files of lines that many processes append to, and rename when they are full."""

import multiprocessing
import os

import pytest

from supervisors.host import log
from supervisors.host.log import LineFile, last_lines

WRITERS, LINES = 4, 3000


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(log, "ROTATE_BYTES", 64 * 1024)


def write(path, number, begin):
    file = LineFile(path)
    begin.wait()
    for line in range(LINES):
        file.write(f"{number} {line}")


def lines_of(path):
    return path.read_text().splitlines()


def test_processes_that_rotate_at_once_rename_one_file_once(tmp_path):
    """None renames the new file of another one, which would replace the full one: both are there, and hold the rest."""
    path = tmp_path / "lines"
    fork = multiprocessing.get_context("fork")
    begin = fork.Barrier(WRITERS)
    path.write_text("old\n" * (log.ROTATE_BYTES // 4 + 1))
    before = LineFile(path)
    writers = [fork.Process(target=write, args=(path, number, begin)) for number in range(WRITERS)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(60)
        assert writer.exitcode == 0
    whole = lines_of(path.with_suffix(".1")) + lines_of(path)
    for number in range(WRITERS):
        assert f"{number} {LINES - 1}" in whole
    assert os.stat(path.with_suffix(".1")).st_size > log.ROTATE_BYTES // 2
    before.write("last")
    assert last_lines(path, 1) == ["last"]


def test_two_that_see_a_full_file_at_the_same_moment(tmp_path):
    path = tmp_path / "lines"
    path.write_text("full\n" * (log.ROTATE_BYTES // 5 + 1))
    one, other = LineFile(path), LineFile(path)
    one._fd, other._fd = one._open(), other._open()
    one._rotate(one._fd)
    one._close()
    other._rotate(other._fd)
    assert "full" in path.with_suffix(".1").read_text()
    one.write("one")
    assert not path.exists() or "full" not in path.read_text()


def test_a_writer_that_was_silent_for_two_rotations_is_read_again(tmp_path):
    path = tmp_path / "lines"
    quiet, busy = LineFile(path), LineFile(path)
    quiet.write("first")
    for _ in range(2):
        path.write_text("x" * (log.ROTATE_BYTES + 1))
        busy._reopen()
    quiet.write("second")
    assert "second" in lines_of(path)
