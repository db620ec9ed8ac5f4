"""What outlives the owner of a deployment's limits."""

import logging

import pytest

from dspex_actors.lm.control import memory
from dspex_actors.lm.control.budget import Budget
from dspex_actors.lm.control.learnt import Learnt
from dspex_actors.lm.control.memory import Memory, all_learnt, limits_folder
from dspex_actors.lm.deployment import Limits

DIGEST = "d" * 32


@pytest.fixture
def dead(monkeypatch):
    """Processes that have ended, by their ids."""
    ended = set()
    monkeypatch.setattr(memory.processes, "has_ended", lambda pid, born: pid in ended)
    return ended


class Me:
    """Stands for an owner's Ref."""

    def __init__(self, pid):
        self.pid, self.born = pid, 1.0


def test_nodes_of_programs_share_the_folder_of_this_hosts_node(tmp_path):
    assert limits_folder(tmp_path / "embedded" / "20261126-1-ab") == limits_folder(tmp_path) == tmp_path / "limits"


def test_what_an_owner_that_has_ended_has_used_is_taken_over_once(tmp_path, dead):
    budget = Budget(0.0)
    budget.limit(Limits(rpd=5.0), 0.0)
    budget.buckets.clock(100.0, 1.7e9)
    budget.buckets.reserve({"rpd": 4}, 100.0)
    first = Memory(tmp_path / "embedded" / "one", DIGEST, Me(1))
    first.keep_used(budget.kept(), 100.0, 1.7e9)

    second = Memory(tmp_path / "embedded" / "two", DIGEST, Me(2))
    assert list(second.used(101.0, 1.7e9 + 1)) == [], "it lives still"
    dead.add(1)
    found = list(second.used(101.0, 1.7e9 + 1))
    assert len(found) == 1
    after = Budget(101.0)
    after.restore(*found[0])
    after.limit(Limits(rpd=5.0), 101.0)
    assert after.buckets.free("rpd", 101.0) == 1
    second.keep_used(after.kept(), 102.0, 1.7e9 + 2)
    dead.add(2)
    third = Memory(tmp_path / "embedded" / "three", DIGEST, Me(3))
    (found,) = third.used(103.0, 1.7e9 + 3)
    last = Budget(103.0)
    last.restore(*found)
    last.limit(Limits(rpd=5.0), 103.0)
    assert last.buckets.free("rpd", 103.0) == 1, "not counted twice"


def test_after_a_start_of_the_machine_the_clock_is_translated(tmp_path, dead):
    first = Memory(tmp_path, DIGEST, Me(1))
    first.keep_used({"rpm": [["Window", [[990.0, 3.0]]]]}, 1000.0, 5000.0)
    again = Memory(tmp_path, DIGEST, Me(2))
    again._boot = "another"
    (found,) = again.used(20.0, 5030.0)
    assert found[1] == pytest.approx(20.0 - 1000.0 - 30.0), "what was 10 s ago then was 40 s ago"


def test_a_broken_file_and_a_folder_that_cannot_be_written_stop_nobody(tmp_path, dead, caplog):
    here = Memory(tmp_path, DIGEST, Me(1))
    here.keep_used({}, 1.0, 1.0)
    (tmp_path / "limits" / f"{DIGEST}.x.used.json").write_text("{broken")
    (tmp_path / "limits" / f"{DIGEST}.learnt.json").write_text('{"rate": "fast"}')
    assert [kept for kept, _ in here.used(2.0, 2.0)] == [{}]
    assert here.learnt(2.0) is None
    full = Memory(tmp_path / "nowhere" / "deep", DIGEST, Me(1))
    with caplog.at_level(logging.WARNING):
        full.keep_used({}, 1.0, 1.0)
        full.keep_used({}, 1.0, 1.0)
    assert len(caplog.records) == 1


def test_what_was_learnt_is_remembered_and_forgotten(tmp_path):
    here = Memory(tmp_path, DIGEST, Me(1))
    budget = Budget(0.0)
    learnt = Learnt("openai/x", budget, here, 0.0, 1e9)
    assert learnt.refused(20, None, 2, 1.0, 1e9)
    assert not learnt.refused(20, None, 2, 1.0, 1e9)
    now = 2.0
    for counts in ({"answered": 20, "RateLimited": 3}, {"answered": 20}, {"answered": 24, "RateLimited": 6}):
        learnt.count(counts)
        now += 1.5
        learnt.tick(now, 1e9, is_used_up=True)
    learnt.close(now, 1e9)
    ((file, found),) = all_learnt(tmp_path, 1e9 + 60)
    assert found["model"] == "openai/x"
    assert file.stat().st_mode & 0o077 == 0
    again = Learnt("openai/x", Budget(0.0), here, 0.0, 1e9 + 60)
    assert again.rate == pytest.approx(found["rate"], rel=0.05)
    assert Learnt("openai/x", Budget(0.0), here, 0.0, 1e9 + 31 * 86_400).rate is None, "it is too old"
    again.forget(1.0)
    assert all_learnt(tmp_path, 1e9) == []


def test_there_are_not_ever_more_files(tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "MOST_LEARNT", 3)
    for number in range(6):
        Memory(tmp_path, f"{number}", Me(1)).keep_learnt({"model": "openai/x", "rate": 1.0, "at": 1e9})
    here = Memory(tmp_path, "0", Me(1))
    here.tidy((tmp_path / "limits").stat().st_mtime)
    assert len(all_learnt(tmp_path, 1e9)) == 3
    here.tidy((tmp_path / "limits").stat().st_mtime + 40 * 86_400)
    assert all_learnt(tmp_path, 1e9) == []
