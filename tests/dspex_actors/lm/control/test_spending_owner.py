"""The owner of limits of money: what it gives is written down before it is told, and a new one knows all of it."""

import asyncio
import os
import time
from dataclasses import astuple

import pytest

from dspex_actors.foundation.purses import DOLLAR, Answer
from dspex_actors.foundation.shares import Account, Share
from dspex_actors.lm.control import shares, spending
from dspex_actors.lm.control.spending_file import SpendingFile, file_of
from dspex_actors.lm.control.spending_messages import CloseSlot, Fund, Returned
from supervisors.cluster.leases.messages import Delete, Read
from supervisors.host import processes

HERE = f"{os.getpid()}-{processes.born(os.getpid())}"
GONE = "4000000-7"
ACCOUNTS = [("run:r", DOLLAR, 0)]


class Owner(spending.Spending):
    """An owner without a node."""

    node = property(lambda self: self._node)

    def __init__(self, folder):
        self._node = {"data_dir": str(folder)}
        self.told = []

    def send_after(self, seconds, message):
        pass

    def cast(self, ref, message):
        self.told.append((ref, message))


@pytest.fixture
def start(tmp_path, monkeypatch):
    monkeypatch.setattr(spending, "report_from_actor", lambda actor: None)

    def start():
        owner = Owner(tmp_path)
        owner.init()
        return owner

    return start


def fund(owner, holder=HERE, need=1000, want=1000, returned=0, slot=0):
    kind, told = owner.handle_call(Fund(f"ref {holder}", holder, slot, ACCOUNTS, returned, need, want), None)
    assert kind == "ok"
    return Answer(*told)


def out(owner):
    return owner._book.out("run:r")


def test_a_new_owner_knows_what_the_one_before_has_given(start):
    given = fund(start()).given
    assert out(start()) == given  # nobody said farewell
    assert fund(start(), returned=given).verdict == "given"


def test_of_a_process_that_has_ended_what_its_file_says_is_spent(start, tmp_path):
    owner = start()
    file = SpendingFile(tmp_path, GONE)
    fund(owner, holder=GONE, need=DOLLAR // 2)
    file.write_spent(0, 300)
    file.write_held(0, 20)
    assert out(start()) == 320
    assert not file_of(tmp_path, GONE).exists()


def test_without_its_file_all_that_it_was_given_is_spent(start):
    owner = start()
    given = fund(owner, holder=GONE, need=5000).given
    owner.handle_info("look")
    assert owner._book.spent["run:r"] == given


def test_after_a_new_start_of_the_machine_files_are_not_believed(start, tmp_path, monkeypatch):
    owner = start()
    SpendingFile(tmp_path, HERE)
    given = fund(owner, need=5000).given
    monkeypatch.setattr(spending, "_boot_id", lambda: "another")
    assert start()._book.spent == {"run:r": given}


def test_a_purse_is_closed_once(start, tmp_path):
    owner = start()
    file = SpendingFile(tmp_path, HERE)
    fund(owner, need=5000)
    file.write_spent(0, 4000)
    for _ in range(2):
        assert owner.handle_call(CloseSlot(HERE, 0), None) == ("ok", True)
    assert (owner._book.spent, owner._book.purses) == ({"run:r": 4000}, {})
    assert start()._book.spent == {"run:r": 4000}


def test_what_was_spent_before_anybody_counted_counts(start):
    owner = start()
    told = owner.handle_call(Fund("ref", HERE, 0, [("run:r", DOLLAR, DOLLAR - 10)], 0, 11, 11), None)[1]
    assert astuple(Answer(*told)) == ("empty", 0, "run:r", DOLLAR - 10, DOLLAR)
    assert start()._book.spent == {"run:r": DOLLAR - 10}


def test_who_has_money_lying_is_asked_for_it(start, tmp_path):
    owner = start()
    SpendingFile(tmp_path, HERE)
    fund(owner, need=DOLLAR)
    assert fund(owner, holder=f"{os.getppid()}-{processes.born(os.getppid())}").verdict == "wait"
    [(ref, message)] = owner.told
    assert (ref, message.accounts) == (f"ref {HERE}", ["run:r"])
    owner.handle_cast(Returned(HERE, 0, DOLLAR))
    assert out(owner) == 0


def test_a_disk_that_is_full_gives_nothing(start):
    owner = start()
    owner._db.execute("PRAGMA query_only = 1")
    kind, error = owner.handle_call(Fund("ref", HERE, 0, ACCOUNTS, 0, 10, 10), None)
    assert kind == "error"
    assert "limits of money cannot be written down" in error["message"]


def test_the_accounts_are_told_in_dollars(start, tmp_path):
    owner = start()
    file = SpendingFile(tmp_path, HERE)
    fund(owner, need=DOLLAR // 2)
    file.write_spent(0, DOLLAR // 4)
    file.write_held(0, DOLLAR // 8)
    assert owner.handle_call("accounts", None) == ("ok", {"run:r": {"spent": 0.25, "held": 0.125, "limit": 1.0}})


def test_accounts_that_nobody_spends_of_are_forgotten_and_no_others(start, monkeypatch):
    owner = start()
    now = time.time()
    names = {"run:old#1": 91, "run:new#1": 89, "day:old": 9, "day:new": 7, "tag:team=a:old": 9, "run:r": 1000}
    fund(owner)  # of run:r, and its purse is open
    for name, days in names.items():
        owner._db.execute("INSERT OR REPLACE INTO accounts VALUES (?, 5, ?)", (name, now - days * 86_400))
        owner._book.spent[name] = 5
    owner.handle_info("look")
    assert owner._book.spent.keys() == names.keys(), "not each time"
    monkeypatch.setattr(owner, "_forget_at", 0.0)
    owner.handle_info("look")
    assert owner._book.spent.keys() == {"run:new#1", "day:new", "run:r"}
    assert start()._book.spent.keys() == {"run:new#1", "day:new", "run:r"}


@pytest.mark.parametrize("share", [Share(5, is_spent=True), Share(7, is_spent=False)])
def test_accounts_of_the_cluster_are_forgotten_too_unless_another_node_may_go_on_with_one(start, monkeypatch, share):
    """Each run and each day has left one in the store of leases, which takes in nothing any more when it is full."""
    owner = start()
    store = {f"money:{name}": Account({"me": Share(5), "other": share}).plain() for name in ("run:old#1", "day:old")}
    tasks = []

    async def call(to, request, timeout):  # noqa: ASYNC109 - as GenServer has it
        if isinstance(request, Read):
            return store.get(request.name), 3 if request.name in store else 0
        assert (type(request), request.version) == (Delete, 3)
        return store.pop(request.name)

    async def main():
        owner.call, owner.spawn = call, lambda work: tasks.append(asyncio.ensure_future(work))
        owner._together, owner._shares._uid = True, "me"
        for name in ("run:old#1", "day:old", "day:known nowhere"):
            owner._db.execute("INSERT INTO accounts VALUES (?, 5, ?)", (name, time.time() - 91 * 86_400))
        owner._forget()
        await asyncio.gather(*tasks)

    async def nothing(server):
        pass

    monkeypatch.setattr(shares, "ensure_leases", nothing)
    asyncio.run(main())
    assert set(store) == (set() if share.is_spent else {"money:run:old#1"})
