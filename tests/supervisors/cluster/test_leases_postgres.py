"""Leases in a PostgreSQL server: the same rules, whatever happens to the server, and whatever its clock says."""

import asyncio

import pytest

from supervisors import errors
from supervisors.cluster.leases import postgres
from supervisors.cluster.leases.postgres import PostgresStore
from tests.postgres_kit import postgres_of_module

server = postgres_of_module()


@pytest.fixture
def using(server, monkeypatch):
    """Run a function with some stores, as that many nodes have them."""
    monkeypatch.setattr(postgres, "LOOK_SECONDS", 0.1)
    if server.process is None:
        server.start()
    server.execute(f"DROP SCHEMA IF EXISTS {postgres.SCHEMA} CASCADE")

    def run(count, function, address=server.address):
        async def main():
            stores = [PostgresStore(address) for _ in range(count)]
            for store in stores:
                store.start()
            try:
                return await function(*stores)
            finally:
                for store in stores:
                    await store.close()

        return asyncio.run(main())

    return run


async def when(store, name, ttl, holder="y"):
    """Acquire a lease as soon as it is free."""
    async with asyncio.timeout(30):
        while True:
            try:
                return await store.acquire(name, holder, ttl, None)
            except (errors.LeaseHeld, errors.NoMajority):
                await asyncio.sleep(0.05)


def test_a_lease_has_one_holder_and_ends_by_itself_with_the_next_epoch(using):
    async def main(one, two):
        row = await one.acquire("a", "x", 0.5, b"1")
        assert (row.epoch, row.holder) == (1, "x")
        with pytest.raises(errors.LeaseHeld, match=r"has another holder, x \(epoch 1\)"):
            await two.acquire("a", "y", 0.5, b"")
        for _ in range(12):
            await asyncio.sleep(0.1)
            assert (await one.renew("a", "x", 1, None)).epoch == 1
            with pytest.raises(errors.LeaseHeld):
                await two.acquire("a", "y", 0.5, b"")
        row = await when(two, "a", 0.5)
        assert (row.epoch, row.holder, row.value) == (2, "y", b"1")
        with pytest.raises(errors.LeaseLost, match="has epoch 2 now, held by y"):
            await one.renew("a", "x", 1, None)
        await two.release("a", "y", 2)
        assert (await one.acquire("a", "x", 5.0, None)).epoch == 3
        assert await two.names("") == ["a"]

    using(2, main)


def test_many_that_want_one_lease_get_it_one_after_the_other(using):
    async def main(*stores):
        held, epochs = [], []

        async def want(number, store):
            for _ in range(3):
                row = await when(store, "a", 5.0, f"h{number}")
                held.append(number)
                assert held == [number]
                epochs.append(row.epoch)
                await asyncio.sleep(0.01)
                held.remove(number)
                await store.release("a", f"h{number}", row.epoch)

        await asyncio.gather(*(want(number, store) for number, store in enumerate(stores)))
        assert epochs == list(range(1, 13))

    using(4, main)


def test_values_are_set_from_their_version_and_under_their_epoch_and_changes_are_told(using):
    async def main(one, two):
        told = []
        both = asyncio.Event()

        def hear(kind, name):
            told.append((kind, name))
            if {("value", "v"), ("lease", "a")} <= set(told):
                both.set()

        two.watch(hear)
        await asyncio.sleep(0.5)  # it looks from now on
        assert await one.put("v", b"1", 0) == 1
        with pytest.raises(errors.VersionConflict, match="has version 1 by now"):
            await two.put("v", b"2", 0)
        await one.acquire("a", "x", 5.0, b"")
        assert await one.put("v", b"3", 1, "a", 1) == 2
        with pytest.raises(errors.Fenced, match="has epoch 1 now, held by x"):
            await two.put("v", b"4", None, "a", 2)
        assert await two.read("v") == (b"3", 2)
        async with asyncio.timeout(20):
            await both.wait()

    using(2, main)


def test_a_killed_server_is_said_in_one_line_and_what_it_has_granted_is_there_when_it_is_back(using, server):
    async def main(one, two):
        await one.acquire("a", "x", 1.0, b"1")
        await one.put("v", b"1", 0)
        server.kill()
        with pytest.raises(errors.NoMajority, match=r"the store of leases at postgresql://.* does not answer") as error:
            await one.renew("a", "x", 1, None)
        assert "\n" not in str(error.value)
        await asyncio.to_thread(server.start)
        row = await when(two, "a", 5.0)
        assert (row.epoch, row.value) == (2, b"1")
        assert await one.read("v") == (b"1", 1)

    using(2, main)


def test_a_server_that_is_absent_read_only_or_too_old_is_said_in_one_line(using, server, monkeypatch):
    async def refused(store):
        with pytest.raises(errors.NoMajority) as error:
            await store.acquire("a", "x", 5.0, b"")
        assert "\n" not in str(error.value)
        return str(error.value)

    assert "does not answer" in using(1, refused, "postgresql://nobody@127.0.0.1:1/none")
    server.execute("ALTER ROLE dspex SET default_transaction_read_only = on")
    try:
        assert "cannot be written (the server is read-only): use its primary" in using(1, refused)
    finally:
        server.execute("ALTER ROLE dspex SET default_transaction_read_only = off")
    monkeypatch.setattr(postgres, "OLDEST", 99)
    assert "is too old for leases" in using(1, refused)


def test_a_full_disk_is_said_in_one_line(using):
    import psycopg

    async def main(store):
        async def full(db, command):
            raise psycopg.errors.DiskFull("could not extend file: No space left on device")

        store._carry_out = full
        with pytest.raises(
            errors.NoMajority, match=r"no space left for the store of leases at postgresql://.*: free some"
        ):
            await store.acquire("a", "x", 5.0, b"")

    using(1, main)


def test_a_node_that_stands_still_in_a_transaction_does_not_keep_a_lease_from_others(using, monkeypatch):
    monkeypatch.setattr(postgres, "IDLE_MS", 300)

    async def main(stopped, other):
        await stopped.acquire("a", "x", 0.5, b"")
        stopped._looking.cancel()  # it does nothing from here on, with the lease's row locked
        db = await stopped._connected()
        await db.execute("BEGIN")
        await stopped._locked(db, "leases", "epoch", "a")
        row = await when(other, "a", 5.0)
        assert (row.holder, row.epoch) == ("y", 2)

    using(2, main)


def test_who_waits_too_long_for_its_turn_breaks_nothing_of_whose_turn_it_is(using, monkeypatch):
    async def main(store):
        await store.put("a", b"1", None)
        begun, goes_on = asyncio.Event(), asyncio.Event()

        async def slow(db):
            begun.set()
            await goes_on.wait()
            return (await (await db.execute("SELECT 7")).fetchone())[0]

        async def first():
            monkeypatch.setattr(postgres, "ANSWER_SECONDS", 20.0)
            return await store._ask(slow)

        task = asyncio.create_task(first())
        await begun.wait()
        monkeypatch.setattr(postgres, "ANSWER_SECONDS", 0.2)
        with pytest.raises(errors.NoMajority, match="does not answer"):
            await store.read("a")
        goes_on.set()
        assert await task == 7
        monkeypatch.setattr(postgres, "ANSWER_SECONDS", 20.0)
        assert await store.read("a") == (b"1", 1)

    using(1, main)


def test_a_value_that_is_deleted_is_gone_and_its_versions_never_come_again(using):
    async def main(one, two):
        told, done = [], asyncio.Event()
        two.watch(lambda kind, name: (told.append((kind, name)), done.set()))
        for version in range(2):
            assert await one.put("a", b"1", version) == version + 1
        with pytest.raises(errors.VersionConflict):
            await two.put("a", b"", 1)
        async with asyncio.timeout(20):
            while ("value", "a") not in two._seen:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            done.clear()
            assert await one.put("a", b"", 2) == 0
            assert await one.put("a", b"", 2) == 0
            await done.wait()
        assert told[-1] == ("value", "a")
        assert await two.read("a") == (b"", 0)
        assert await two.put("a", b"2", 0) == 3

    using(2, main)


def test_rows_that_nobody_needs_go_and_what_begins_anew_begins_above_them(using, server, monkeypatch):
    monkeypatch.setattr(postgres, "FORGET_SECONDS", 0.1)

    def rows(table):
        found = server.execute(f"SELECT name FROM {postgres.SCHEMA}.{table}")
        return sorted(name for (name,) in found)

    async def forgotten(table, names):
        async with asyncio.timeout(30):
            while await asyncio.to_thread(rows, table) != names:  # noqa: ASYNC110
                await asyncio.sleep(0.05)

    async def main(one, two):
        for _ in range(5):
            await one.acquire("first", "x", 5.0, b"")
            await one.release("first", "x", (await one.get("first"))[0].epoch)
        await one.put("first", b"1", None)
        await one.put("first", b"2", None)
        await one.put("first", b"", None)
        await one.acquire("held", "x", 60.0, b"")
        await one.put("there", b"1", 0)
        for number in range(6):
            store = (one, two)[number % 2]
            await store.acquire(f"r{number}", "x", 60.0, b"")
            await store.release(f"r{number}", "x", 1)
            await store.put(f"r{number}", b"1", 0)
            await store.put(f"r{number}", b"", None)
        # Not before: what begins after the first one is forgotten has another epoch.
        monkeypatch.setattr(postgres, "KEPT_FREE", 3)
        await forgotten("leases", ["", "held", "r3", "r4", "r5"])
        await forgotten("kept", ["", "r3", "r4", "r5", "there"])
        assert (await two.get("held"))[0].epoch == (await two.get("r5"))[0].epoch == 1
        assert await two.get("first") == (None, 0.0)
        assert await two.names("") == ["held"]
        assert (await two.acquire("first", "y", 60.0, None)).epoch == 6
        assert (await two.acquire("r4", "y", 60.0, None)).epoch == 6  # as in the other stores: above all that is gone
        assert await two.put("first", b"3", 0) == 3
        await two.raise_floor(40)
        await two.raise_floor(30)
        assert (await one.acquire("new", "y", 60.0, None)).epoch == 41

    using(2, main)


def test_only_what_is_forgotten_is_locked_meanwhile_and_what_somebody_holds_is_not_waited_for(
    using, server, monkeypatch
):
    monkeypatch.setattr(postgres, "KEPT_FREE", 2)

    async def main(one, two):
        for name in "abcde":
            await one.acquire(name, "x", 60.0, b"")
            await one.release(name, "x", 1)
        db, other = await one._connected(), await two._connected()
        async with db.transaction(), other.transaction():
            await other.execute(f"SELECT FROM {postgres.SCHEMA}.leases WHERE name = 'b' FOR UPDATE")
            await one._forget(db)
            left = f"SELECT name FROM {postgres.SCHEMA}.leases WHERE name <> '' FOR UPDATE SKIP LOCKED"
            assert sorted(name for (name,) in await (await other.execute(left)).fetchall()) == ["b", "d", "e"]

    using(2, main)


def test_what_is_refused_or_has_ended_makes_no_row(using, server):
    async def main(store):
        await store.release("a", "x", 1)
        with pytest.raises(errors.LeaseLost):
            await store.renew("b", "x", 1, None)
        with pytest.raises(errors.Fenced):
            await store.put("v", b"", None, "c", 1)
        await store.put("v", b"", None)
        for table in ("leases", "kept"):
            assert server.execute(f"SELECT name FROM {postgres.SCHEMA}.{table}") == []

    using(1, main)


def test_a_row_that_is_forgotten_while_somebody_wants_it_is_made_again_above_its_epoch(using, server):
    """Between the two statements that get a row with its lock, or while the second of them waits for it."""

    async def main(one, two):
        await one.acquire("a", "x", 5.0, b"")
        await one.release("a", "x", 1)
        db = await one._connected()
        async with db.transaction():
            await db.execute(f"DELETE FROM {postgres.SCHEMA}.leases")
            await one._raise_bound(db, "leases", 1)
            wanted = asyncio.create_task(two.acquire("a", "y", 5.0, None))
            waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
            async with asyncio.timeout(20):
                while (await asyncio.to_thread(server.execute, waits))[0][0] == 0:  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
        assert (await wanted).epoch == 2

    using(2, main)
