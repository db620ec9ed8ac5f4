import errno
import stat

import pytest

from dspex_actors.data import spool as module
from dspex_actors.data.fields import unpack_example
from dspex_actors.data.spool import SpoolError, SpoolReader, spool
from dspex_actors.errors import ConfigError


def test_a_generator_is_written_once_and_read_from_anywhere(tmp_path):
    path = tmp_path / "in" / "x.spool"
    descriptor = spool(({"q": f"é{i}", "a": i} for i in range(1000)), path, ["q"])
    assert (descriptor["kind"], descriptor["count"]) == ("spool", 1000)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    reader = SpoolReader(path)
    assert reader.digest == descriptor["digest"]
    for start in (0, 1, 255, 256, 257, 999, 1000, 5000):
        found = [unpack_example(data) for data in reader.iter_packed(start)]
        assert found == [({"q": f"é{i}"}, {"a": i}) for i in range(start, 1000)]


def test_the_digest_is_that_of_the_content(tmp_path):
    first = spool([{"a": 1}, {"a": 2}], tmp_path / "1")
    assert spool([{"a": 1}, {"a": 2}], tmp_path / "2")["digest"] == first["digest"]
    assert spool([{"a": 1}, {"a": 3}], tmp_path / "3")["digest"] != first["digest"]


@pytest.mark.parametrize(
    ("items", "words"),
    [
        ([], "no examples"),
        ([{"q": 1}, {"a": 1}], "example 1 .*no field 'q'.*it has: a"),
        ([{"q": 1}, "x"], "got str"),
    ],
)
def test_unusable_items_leave_nothing_behind(tmp_path, items, words):
    with pytest.raises(ConfigError, match=words):
        spool(items, tmp_path / "x", ["q"])
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_leaves_nothing_behind(tmp_path, monkeypatch):
    def full(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(module.os, "fsync", full)
    with pytest.raises(SpoolError, match="no space left for the spool"):
        spool([{"a": 1}], tmp_path / "x")
    assert list(tmp_path.iterdir()) == []


def test_a_cut_off_or_missing_spool_is_refused(tmp_path):
    path = tmp_path / "x"
    spool([{"a": 1}] * 10, path)
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(ConfigError, match="not a whole spool"):
        SpoolReader(path)
    with pytest.raises(ConfigError, match="cannot be read"):
        SpoolReader(tmp_path / "none")
