"""What a worker wrote down before it asked, read by whoever takes over."""

import os
import subprocess
import sys

from dspex_actors.runs import notes
from dspex_actors.runs.evaluator.rows import lost_rows
from dspex_actors.runs.notes import LARGE, Notes, clear, folder_of, left_behind
from supervisors.host import processes as fate

ME = os.getpid()
RUN = "a/../run 7"


def write(data_dir, count, *, told=(), born=0, model="gpt x"):
    one = Notes(data_dir, RUN, ME, born)
    for index in range(count):
        one.write(index, 1, 1, 12.5, 30, "openai", model)
        if index in told:
            one.told(index, 1)
    return one


def asked(data_dir, **how):
    return [line.example for line in left_behind(data_dir, RUN, ended_only=how.get("ended_only", False))]


def test_what_is_written_is_read(tmp_path):
    assert asked(tmp_path) == []
    write(tmp_path, 3, told=[1])
    assert asked(tmp_path) == [0, 1, 2]  # told ones too: the journal knows them
    (line, *_) = left_behind(tmp_path, RUN, ended_only=False)
    assert line == (0, 1, 1, 12.5, 30, "openai", "gpt x")
    assert folder_of(tmp_path, RUN).parent == tmp_path / notes.FOLDER
    assert folder_of(tmp_path, RUN).stat().st_mode & 0o777 == 0o700
    clear(tmp_path, RUN)
    assert asked(tmp_path) == []
    clear(tmp_path, RUN)


def test_a_line_that_was_cut_and_a_strange_name_of_a_model_do_no_harm(tmp_path):
    write(tmp_path, 2, model="a\nb c")
    (path,) = folder_of(tmp_path, RUN).iterdir()
    path.write_bytes(path.read_bytes() + b"7 1 1 12.")
    assert asked(tmp_path) == [0, 1]


def test_a_process_that_lives_is_known_by_its_start(tmp_path):
    write(tmp_path, 1, born=fate.born(ME))
    write(tmp_path, 2, born=1)  # another process had this number
    assert len(asked(tmp_path)) == 3
    assert asked(tmp_path, ended_only=True) == [0, 1]


def test_a_file_does_not_grow_without_end(tmp_path):
    count = 3 * LARGE // 40
    write(tmp_path, count, told=range(count - 5))
    (path,) = folder_of(tmp_path, RUN).iterdir()
    assert path.stat().st_size <= LARGE + 100
    assert set(range(count - 5, count)) <= set(asked(tmp_path))


def test_what_was_written_survives_a_kill(tmp_path):
    program = (
        "import os, sys, pathlib; from dspex_actors.runs.notes import Notes;"
        "Notes(pathlib.Path(sys.argv[1]), sys.argv[2], os.getpid(), 1).write(4, 2, 1, 0.0, 9, 'openai', 'm');"
        "os.kill(os.getpid(), 9)"
    )
    assert subprocess.run([sys.executable, "-c", program, str(tmp_path), RUN], check=False).returncode == -9
    (row,) = lost_rows(tmp_path, RUN, ended_only=True)
    assert (row.index, row.send, row.n, row.outcome, row.cost) == (4, 2, 1, "lost", None)
    assert (row.tokens["input_total"], row.tokens["estimated"]) == (9, True)
