"""A full disk, a journal that cannot be written, a damaged one."""

import os
import subprocess

import pytest
from e2e_kit import Background, check_whole, metric, tickets, until

import dspex_actors as dspex
from dspex_actors.app import AppConfig
from dspex_actors.client.own_node import start_node
from dspex_actors.client.system import System
from dspex_actors.journal.errors import JournalCorrupt
from dspex_actors.journal.index import find_run, list_runs
from dspex_actors.journal.reader import JournalReader
from supervisors.errors import NodeDown


class Wordy(dspex.Module):
    """Predictions that fill a journal."""

    async def aforward(self, ticket):
        return dspex.Prediction(team="billing", words=os.urandom(1000).hex())


@pytest.fixture
def small_disk(tmp_path):
    folder = tmp_path / "small"
    folder.mkdir()
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small file system")
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=3m,mode=0700", "tmpfs", str(folder)], capture_output=True, text=True
    )
    if mounted.returncode:
        pytest.skip(f"cannot mount a small file system here: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_full_disk(small_disk):
    home = small_disk / "home"
    system = System(start_node(home, AppConfig(workers=2)), None, own=True)
    try:
        ballast = small_disk / "ballast"
        ballast.write_bytes(bytes(2_300_000))
        notes = []
        run = Background(
            dspex.evaluate,
            Wordy(),
            tickets(500),
            metric(),
            max_in_flight=16,
            system=system,
            on_progress=lambda summary: notes.append(summary["note"].get("trouble")),
        )
        until(lambda: notes and notes[-1], what=lambda: f"no trouble is told: {notes[-3:]}, alive {run.alive}")
        assert "no space left" in notes[-1]
        assert run.alive
        assert JournalReader(home / "journal.db").list_runs()[0].state == "running"
        ballast.unlink()
        result = run.result()
        check_whole(result, 500)
        assert result.failed == 0
        assert notes[-1] is None
    finally:
        system.close()


def test_corrupt_journal(home):
    home.mkdir(mode=0o700)
    (home / "journal.db").write_bytes(b"this is not a database" * 1000)
    with pytest.raises(NodeDown, match=r"journal.db is damaged .*\.recover") as caught:
        start_node(home)
    assert "\n" not in str(caught.value)


def test_a_damaged_journal_does_not_hide_the_others(home):
    with dspex.connect(workers=1) as system:
        run_id = dspex.evaluate(Wordy(), tickets(3), metric()).run_id
    other = home / "embedded" / "2020" / "journal.db"
    other.parent.mkdir()
    other.write_bytes(b"this is not a database" * 1000)
    assert [run["run_id"] for run in list_runs(home)] == [run_id]
    assert find_run(run_id, home).folder == system.data_dir
    with pytest.raises(JournalCorrupt, match="damaged"):
        find_run("evaluate-20200101", home)


def test_read_only_journal(home):
    home.mkdir(mode=0o700)
    journal = home / "journal.db"
    journal.touch(mode=0o400)
    mounted = False
    if os.geteuid() == 0:  # may write whatever the mode says
        bind = ["mount", "--bind", str(journal), str(journal)]
        if subprocess.run(bind, capture_output=True).returncode:
            pytest.skip("cannot make a file unwritable for root here")
        mounted = True
    try:
        if mounted:
            subprocess.run(["mount", "-o", "remount,bind,ro", str(journal)], check=True)
        with pytest.raises(NodeDown, match=r"journal.db cannot be written: make the file .* writable"):
            start_node(home)
    finally:
        if mounted:
            subprocess.run(["umount", "-l", str(journal)], check=True)
