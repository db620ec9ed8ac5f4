import multiprocessing
import os

import pytest

from supervisors.wire.keys import KEY_FILE, KeyFileError, load_or_create_key


def test_a_key_is_made_once_and_is_private(tmp_path):
    folder = tmp_path / "deep" / "data"
    key = load_or_create_key(folder)
    assert len(key) == 32
    assert load_or_create_key(folder) == key
    assert folder.stat().st_mode & 0o777 == 0o700
    assert (folder / KEY_FILE).stat().st_mode & 0o777 == 0o600
    assert [path.name for path in folder.iterdir()] == [KEY_FILE]


def _load(folder, start, out):
    start.wait()
    out.put(load_or_create_key(folder))


def test_processes_that_start_at_once_get_one_key(tmp_path):
    context = multiprocessing.get_context("fork")
    start, out = context.Event(), context.Queue()
    workers = [context.Process(target=_load, args=(tmp_path / "data", start, out)) for _ in range(8)]
    try:
        for worker in workers:
            worker.start()
        start.set()
        assert len({out.get(timeout=20) for _ in workers}) == 1
    finally:
        for worker in workers:
            worker.join(20)
            if worker.is_alive():
                worker.kill()


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o620])
def test_an_open_file_is_refused_with_the_fix(tmp_path, mode):
    load_or_create_key(tmp_path / "data")
    path = tmp_path / "data" / KEY_FILE
    path.chmod(mode)
    with pytest.raises(KeyFileError, match=f"chmod 600 {path}"):
        load_or_create_key(tmp_path / "data")


@pytest.mark.parametrize("mode", [0o750, 0o711, 0o702])
def test_an_open_folder_is_refused_with_the_fix(tmp_path, mode):
    folder = tmp_path / "data"
    folder.mkdir()
    folder.chmod(mode)
    with pytest.raises(KeyFileError, match=f"chmod 700 {folder}"):
        load_or_create_key(folder)
    assert not list(folder.iterdir())


def test_another_owner_is_refused(tmp_path, monkeypatch):
    load_or_create_key(tmp_path / "data")
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    with pytest.raises(KeyFileError, match="belongs to user"):
        load_or_create_key(tmp_path / "data")


@pytest.mark.parametrize("text", [b"", b"zz" * 32, b"ab" * 31, b"ab" * 33, b"\xff" * 64])
def test_a_file_without_a_key_is_refused(tmp_path, text):
    load_or_create_key(tmp_path / "data")
    (tmp_path / "data" / KEY_FILE).write_bytes(text)
    with pytest.raises(KeyFileError, match="64 hex digits"):
        load_or_create_key(tmp_path / "data")


def test_a_link_and_a_pipe_are_refused(tmp_path):
    load_or_create_key(tmp_path / "data")
    path = tmp_path / "data" / KEY_FILE
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(KeyFileError, match="plain file"):
        load_or_create_key(tmp_path / "data")
    path.unlink()
    os.mkfifo(path, 0o600)
    with pytest.raises(KeyFileError, match="plain file"):
        load_or_create_key(tmp_path / "data")


def test_a_file_in_the_place_of_the_folder_is_refused(tmp_path):
    (tmp_path / "data").touch()
    with pytest.raises(KeyFileError, match="not a folder"):
        load_or_create_key(tmp_path / "data")
