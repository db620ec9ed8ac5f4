"""The leases of a node alone: on its disk before they count, and a server that renews what its servers own."""

import asyncio
import errno
import os
import signal
import subprocess
import sys
from types import SimpleNamespace

import pytest
from lease_kit import Owner
from node_helpers import kill, until

from supervisors import ChildSpec, Node, SupervisorSpec, errors
from supervisors.cluster.leases import disk
from supervisors.cluster.leases.alone import FileStore
from supervisors.cluster.leases.disk import RecordFile
from supervisors.cluster.leases.handle import LeaseEnded
from supervisors.cluster.leases.messages import LEASES, Acquire, Get, LeaseChanged, Put, Read, Release, Renew, Watch
from supervisors.cluster.leases.server import Leases
from supervisors.cluster.leases.store import packed_value

# --- the file -------------------------------------------------------------------------------------------------------


def test_records_are_there_again_and_what_a_kill_left_unfinished_is_not(tmp_path):
    path = tmp_path / "f"
    file = RecordFile(path)
    file.append([b"one", b"two"])
    file.close()
    whole = path.read_bytes()
    for cut in range(len(whole)):
        path.write_bytes(whole[:cut])
        file = RecordFile(path)
        assert file.records == [b"one", b"two"][: 0 if cut < 11 else 1]
        file.append([b"three"])
        file.close()
        assert RecordFile(path).records[-1] == b"three"


@pytest.mark.parametrize("place", [8, 11, 12, 15, 20, 21])
def test_a_file_that_is_damaged_before_its_end_is_not_opened_and_stays_as_it_is(tmp_path, place):
    path = tmp_path / "f"
    file = RecordFile(path)
    file.append([b"one", b"two", b"three"])
    file.close()
    data = bytearray(path.read_bytes())
    data[place] ^= 64
    path.write_bytes(data)
    begin = 0 if place < 11 else 11
    with pytest.raises(
        OSError, match=f"f is damaged at byte {begin} of 35, with whole records behind it; put"
    ) as error:
        RecordFile(path)
    assert "\n" not in str(error.value)
    assert path.read_bytes() == data


@pytest.mark.parametrize("end", [b"\x05\x00\x00\x00\x00\x00\x00\x00three", bytes(5000), os.urandom(100_000)])
def test_an_end_that_was_not_written_whole_is_cut_off(tmp_path, end):
    path = tmp_path / "f"
    file = RecordFile(path)
    file.append([b"one", b"two"])
    file.close()
    whole = path.read_bytes()
    path.write_bytes(whole + end)
    assert RecordFile(path).records == [b"one", b"two"]
    assert path.read_bytes() == whole


def test_a_store_whose_file_is_damaged_says_so_where_a_node_reads_it(tmp_path):
    store = FileStore(tmp_path / "alone")
    asyncio.run(store.put("a", b"1", None))
    asyncio.run(store.put("b", b"2", None))
    asyncio.run(store.close())
    data = bytearray((tmp_path / "alone").read_bytes())
    data[10] ^= 1
    (tmp_path / "alone").write_bytes(data)
    with pytest.raises(OSError, match="damaged at byte 0") as error:
        FileStore(tmp_path / "alone")
    assert "damaged at byte 0" in error.value.strerror


def test_every_record_is_synced_before_append_returns(tmp_path, monkeypatch):
    synced = []
    monkeypatch.setattr(disk.os, "fdatasync", lambda fd: synced.append(os.fstat(fd).st_size))
    file = RecordFile(tmp_path / "f")
    file.append([b"x" * 92])
    assert synced == [100]


def test_a_full_disk_is_an_error_and_the_file_stays_whole(tmp_path, monkeypatch):
    file = RecordFile(tmp_path / "f")
    file.append([b"one"])
    whole = (tmp_path / "f").read_bytes()

    def full(fd, view, place):
        os.lseek(fd, place, os.SEEK_SET)
        os.write(fd, view[:3])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(disk.os, "pwrite", full)
    with pytest.raises(OSError, match="No space"):
        file.append([b"two"])
    with pytest.raises(OSError, match="No space"):
        file.replace([b"three"])
    assert (tmp_path / "f").read_bytes() == whole
    assert os.listdir(tmp_path) == ["f"]


def test_what_is_appended_to_a_file_whose_folder_could_not_be_synced_is_there_at_the_next_start(tmp_path, monkeypatch):
    """It has its new content by then: what was written to the old one had no name any more, and epochs came twice."""
    file = RecordFile(tmp_path / "f")
    file.append([b"one"])
    with monkeypatch.context() as patch:
        patch.setattr(disk, "_sync_folder", fails_to_sync)
        with pytest.raises(OSError, match="Input/output error"):
            file.replace([b"two"])
    file.append([b"three"])
    file.close()
    assert RecordFile(tmp_path / "f").records == [b"two", b"three"]


def fails_to_sync(folder):
    raise OSError(errno.EIO, "Input/output error")


# --- the store ------------------------------------------------------------------------------------------------------


def using(path, function):
    async def main():
        store = FileStore(path)
        store.start()
        try:
            return await function(store)
        finally:
            await store.close()

    return asyncio.run(main())


def test_epochs_and_values_are_those_of_before_the_restart_and_a_lease_has_its_whole_time_again(tmp_path):
    async def before(store):
        await store.acquire("a", "x", 60.0, b"1")
        await store.acquire("b", "x", 60.0, b"2")
        await store.release("b", "x", 1)
        return [await store.put("v", str(n).encode(), n) for n in range(4)]

    async def after(store):
        with pytest.raises(errors.LeaseHeld, match=r"the lease a has another holder, x \(epoch 1\), for (60|59)\.\d s"):
            await store.acquire("a", "y", 60.0, b"")
        row = await store.acquire("b", "y", 60.0, None)
        return row.epoch, row.value, await store.read("v")

    assert using(tmp_path / "f", before) == [1, 2, 3, 4]
    assert using(tmp_path / "f", after) == (2, b"2", (b"3", 4))


def test_a_lease_ends_by_itself(tmp_path):
    async def main(store):
        told = asyncio.Event()
        await store.acquire("a", "x", 0.5, b"")
        store.watch(lambda kind, name: told.set())
        async with asyncio.timeout(30):
            await told.wait()
        row = await store.acquire("a", "y", 0.5, b"")
        assert (row.holder, row.epoch) == ("y", 2)
        with pytest.raises(errors.LeaseLost, match="has epoch 2 now, held by y"):
            await store.renew("a", "x", 1, None)

    using(tmp_path / "f", main)


def test_what_could_not_be_written_was_not_done(tmp_path, monkeypatch):
    async def main(store):
        await store.put("v", b"1", 0)

        def full(fd):
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(disk.os, "fdatasync", full)
        with pytest.raises(errors.NoMajority, match=r"cannot write .*: No space left on device; make room"):
            await store.acquire("a", "x", 5.0, b"")
        with pytest.raises(errors.NoMajority):
            await store.put("v", b"2", 1)
        monkeypatch.undo()
        assert (await store.acquire("a", "y", 5.0, b"")).epoch == 1
        assert await store.read("v") == (b"1", 1)

    using(tmp_path / "f", main)


def test_a_file_that_grows_is_written_anew(tmp_path, monkeypatch):
    monkeypatch.setattr("supervisors.cluster.leases.alone.LEAST_GROWN", 2000)

    async def main(store):
        for number in range(500):
            await store.put("v", b"x" * 50, number)

    using(tmp_path / "f", main)
    assert (tmp_path / "f").stat().st_size < 3000

    async def after(store):
        return (await store.read("v"))[1]

    assert using(tmp_path / "f", after) == 500


KILLED = """
import asyncio, sys
from pathlib import Path
from supervisors.cluster.leases.alone import FileStore
async def main():
    store = FileStore(Path(sys.argv[1]))
    at = (await store.read("v"))[1]
    while True:
        at = await store.put("v", b"x" * 100, at)
        row = await store.acquire("a", "me", 5.0, b"")  # has it still where the kill came before the release
        await store.release("a", "me", row.epoch)
        print(at, row.epoch, flush=True)
asyncio.run(main())
"""


def test_what_was_answered_before_a_kill_is_there_after_it(tmp_path):
    for _ in range(3):
        process = subprocess.Popen(
            [sys.executable, "-c", KILLED, str(tmp_path / "f")], stdout=subprocess.PIPE, text=True
        )
        lines = [process.stdout.readline() for _ in range(20)]
        process.send_signal(signal.SIGKILL)
        lines += process.stdout.readlines()
        process.wait()
        version, epoch = map(int, [line for line in lines if line.endswith("\n")][-1].split())

        async def after(store):
            return (await store.read("v"))[1], (await store.get("a"))[0].epoch

        found = using(tmp_path / "f", after)
        assert version <= found[0] <= version + 1
        assert epoch <= found[1] <= epoch + 1


# --- the server -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def node():
    with Node.start() as node:
        node.start_supervisor(
            SupervisorSpec(
                [
                    ChildSpec(LEASES, Leases, name=LEASES),
                    ChildSpec("one", Owner, args=(1.0, ["by", 1.0]), name="one"),
                    ChildSpec("two", Owner, args=(1.0, ["by", 1.0]), name="two"),
                ],
                intensity=100,
            )
        )
        yield node


def test_an_owner_renews_its_lease_and_another_one_waits_for_it(node):
    assert node.call("one", ("acquire", "thing", 0.0)) == 1
    watched = node.call("two", ("watch", ""))
    assert watched == ["thing"]
    with pytest.raises(errors.LeaseHeld, match="the lease thing has another holder") as refused:
        node.call("two", ("acquire", "thing", 2.0), timeout=10)  # longer than its time: it is renewed
    lease = node.call(LEASES, Get("thing"))
    assert refused.value.id == lease.holder
    assert (lease.epoch, lease.value, lease.ttl) == (1, ["by", 1.0], 1.0)
    node.call("one", ("value", {"sync": ["n1"]}))
    assert node.call(LEASES, Get("thing")).value == {"sync": ["n1"]}
    assert node.call("one", "check") == 1
    node.call("one", "release")
    with pytest.raises(errors.LeaseLost, match="lease thing is lost"):
        node.call("one", "check")
    assert node.call("two", ("acquire", "thing", 5.0)) == 2
    changes = until(lambda: [each.lease for each in node.call("two", "told") if isinstance(each, LeaseChanged)][-3:])
    assert {"sync": ["n1"]} in [lease.value for lease in changes]
    node.call("two", "release")


def test_the_lease_of_a_killed_owner_is_free_at_once(node):
    epoch = node.call("one", ("acquire", "thing", 5.0))
    kill(node.call("one", "pid"))
    assert node.call("two", ("acquire", "thing", 0.9), timeout=10) == epoch + 1
    node.call("two", "release")
    until(lambda: node.whereis("one"))  # it is back


def test_a_stopped_owner_learns_that_it_owns_nothing_any_more(node):
    epoch = node.call("one", ("acquire", "thing", 5.0))
    pid = node.call("one", "pid")
    kill(pid, signal.SIGSTOP)
    assert node.call("two", ("acquire", "thing", 10.0), timeout=15) == epoch + 1
    kill(pid, signal.SIGCONT)
    ended = until(lambda: [each for each in node.call("one", "told") if isinstance(each, LeaseEnded)])
    assert (ended[0].name, ended[0].epoch) == ("thing", epoch)
    with pytest.raises(errors.LeaseLost, match="lease thing is lost"):
        node.call("one", "check")
    assert node.call("two", "check") == epoch + 1
    node.call("two", "release")


@pytest.mark.parametrize(
    ("request_", "error", "words"),
    [
        (Acquire("", "x"), errors.SpecError, "name is invalid: got '', expected a non-empty text"),
        (Acquire("n" * 301, "x"), errors.SpecError, "at most 300 characters"),
        (Acquire("n", ""), errors.SpecError, "holder is invalid"),
        (Acquire("n", "x", 0.1), errors.SpecError, "ttl is invalid: got 0.1, expected 0.5 to 3600"),
        (Acquire("n", "x", float("nan")), errors.SpecError, "ttl is invalid"),
        (Acquire("n", "x", 5.0, "v" * 70_000), errors.SpecError, "got one of 70,005 bytes, expected at most 65,536"),
        (Acquire("n", "x", 5.0, object()), errors.CallFailed, "cannot be sent"),
        (Acquire("n", "x", 5.0, None, "me"), errors.SpecError, "owner is invalid"),
        (Renew("n", "x", -1), errors.SpecError, "epoch is invalid"),
        (Renew("n", "x", 1), errors.LeaseLost, "the lease n is lost: it has epoch 0 now, held by nobody"),
        (Put("n", 1, -1), errors.SpecError, "version is invalid"),
        (Put("n", 1, 3), errors.VersionConflict, "has version 0 by now: read it and try again"),
        (Put("n", 1, None, "l", 3), errors.Fenced, "has epoch 0 now, held by nobody"),
        (Watch("n", "me"), errors.SpecError, "watcher is invalid"),
        ("what", errors.CallFailed, "does not know the request"),
    ],
)
def test_bad_requests_are_refused_in_one_line(node, request_, error, words):
    with pytest.raises(error, match=words) as refused:
        node.call(LEASES, request_)
    assert "\n" not in str(refused.value)


def test_values_are_kept_beside_leases(node):
    assert node.call(LEASES, Read("colour")) == (None, 0)
    assert node.call(LEASES, Put("colour", ("red", 1), 0)) == 1
    assert node.call(LEASES, Put("colour", ("blue", 1))) == 2
    assert node.call(LEASES, Read("colour")) == (("blue", 1), 2)
    node.call(LEASES, Acquire("painter", "x"))
    assert node.call(LEASES, Put("colour", "green", 2, "painter", 1)) == 3
    node.call(LEASES, Release("painter", "x", 1))
    with pytest.raises(errors.Fenced, match="colour was not written"):
        node.call(LEASES, Put("colour", "black", None, "painter", 1))


def test_a_value_that_is_deleted_is_gone_after_a_restart_too(tmp_path):
    async def main():
        store = FileStore(tmp_path / "f")
        for version in range(3):
            assert await store.put("a", b"1", version) == version + 1
        assert await store.put("a", b"", 3) == 0
        await store.close()
        store = FileStore(tmp_path / "f")
        assert await store.read("a") == (b"", 0)
        assert store.table.values == {}
        assert await store.put("a", b"2", 0) == 4
        await store.close()

    asyncio.run(main())


def test_who_waits_for_a_value_leaves_nothing_behind(tmp_path):
    async def main():
        store = FileStore(tmp_path / "f")
        server = SimpleNamespace(_member=None, _store=store, _waits={}, _watchers={})
        store.watch(lambda kind, name: Leases._changed(server, kind, name))
        assert await Leases._wait(server, "never set", 0, 0.01) == (None, 0)
        waiting = [asyncio.create_task(Leases._wait(server, "a", version, 20.0)) for version in (0, 0)]
        await asyncio.sleep(0)
        for number in (1, 2):
            await store.put("a", packed_value(number), None)
        assert [version for _, version in await asyncio.gather(*waiting)] == [2, 2]
        assert server._waits == {}
        await store.close()

    asyncio.run(main())


def test_epochs_that_were_written_under_in_another_store_do_not_come_again(node):
    """A store that was lost, or is another cluster's, knows nothing of them, and began at 1 again."""
    assert node.call("one", ("acquire", "of old", 0.0, 7)) == 8
    node.call("one", "release")
    assert node.call("two", ("acquire", "of old", 0.0, 7)) == 9
    node.call("two", "release")
    assert node.call("one", ("acquire", "another", 0.0)) == 8
    node.call("one", "release")
