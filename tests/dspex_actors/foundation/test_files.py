"""Files that are there whole or not at all."""

import os
import stat
import threading

import pytest

from dspex_actors.errors import ConfigError
from dspex_actors.foundation.files import replaced, write_whole


def write_half(path):
    with replaced(path) as file:
        file.write("half")
        raise ZeroDivisionError


def test_a_file_takes_the_place_of_another_when_it_is_whole(tmp_path):
    path = tmp_path / "all.jsonl"
    path.write_text("old")
    with pytest.raises(ZeroDivisionError):
        write_half(path)
    assert (path.read_text(), os.listdir(tmp_path)) == ("old", ["all.jsonl"])
    with replaced(path) as file:
        file.write("new")
    assert (path.read_text(), os.listdir(tmp_path)) == ("new", ["all.jsonl"])


def test_a_pipe_or_device_is_written_to_and_stays_what_it_is(tmp_path):
    path = tmp_path / "pipe"
    os.mkfifo(path)
    read = []
    reader = threading.Thread(target=lambda: read.append(path.read_text()), daemon=True)
    reader.start()
    with replaced(path) as file:
        file.write("told")
    assert stat.S_ISFIFO(path.stat().st_mode), "a file has not taken its place"
    reader.join(60)
    assert read == ["told"]


@pytest.mark.parametrize("name", ["folder", ""])
def test_a_folder_is_no_file(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    with (
        pytest.raises(ConfigError, match="it is a folder"),
        replaced((tmp_path / "folder") if name else type(tmp_path)()),
    ):
        pass
    assert os.listdir(tmp_path) == ["folder"]


def test_what_is_written_for_ourselves_is_its_owners_alone(tmp_path):
    file = tmp_path / "state"
    file.write_bytes(b"before")
    file.chmod(0o644)
    before = os.umask(0)
    try:
        write_whole(file, b"after")
    finally:
        os.umask(before)
    assert (file.read_bytes(), file.stat().st_mode & 0o777) == (b"after", 0o600)
    assert list(tmp_path.iterdir()) == [file]
