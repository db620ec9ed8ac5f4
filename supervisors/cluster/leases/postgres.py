"""The leases of a cluster in a PostgreSQL server: a row per lease, changed with its lock held.

No clock is compared, the server's neither: it may be set. Each node looks at the rows that are held and counts by its
own clock since it has seen the last renewal (`Deadlines`); a lease whose time is over ends by a command that names that
renewal, and does nothing where there was another one.

Leases that nobody holds and values that are deleted have rows for their epochs and versions; of the oldest only the
greatest is kept, in the rows of the name "", which is nobody's: what begins anew begins above it.
"""

from __future__ import annotations

import asyncio
import os
import random
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit, urlunsplit

from supervisors.cluster.leases.clock import now
from supervisors.cluster.leases.core import KEPT_FREE, OK, Acquire, Command, Put, Raise, Row, Table
from supervisors.cluster.leases.core import Outcome as Outcome
from supervisors.cluster.leases.tables import TableStore
from supervisors.terms.errors import NoMajority, SpecError, SupervisorsError

if TYPE_CHECKING:
    import psycopg

#: Older servers are given up by those who make them.
OLDEST = 13
SCHEMA = "dspex_leases"
#: A server that does not answer is given up after so many seconds; rows are looked at so often.
ANSWER_SECONDS, LOOK_SECONDS = 5.0, 1.0
#: Rows that are there for their epochs or versions alone are thinned out so often, to `KEPT_FREE` of each kind.
FORGET_SECONDS = 600.0
#: A transaction whose client says nothing for so many milliseconds is rolled back.
IDLE_MS = 2_000
_TABLES = f"""
CREATE SCHEMA IF NOT EXISTS {SCHEMA};
CREATE TABLE IF NOT EXISTS {SCHEMA}.leases (
    name text PRIMARY KEY, holder text NOT NULL DEFAULT '', epoch bigint NOT NULL DEFAULT 0,
    ttl double precision NOT NULL DEFAULT 0, value bytea NOT NULL DEFAULT '', renewals bigint NOT NULL DEFAULT 0);
CREATE TABLE IF NOT EXISTS {SCHEMA}.kept (
    name text PRIMARY KEY, value bytea NOT NULL DEFAULT '', version bigint NOT NULL DEFAULT 0,
    token text NOT NULL DEFAULT '');
"""
#: Only one node at a time makes the tables.
_MAKING = 7_203_466_117
_ROW = "holder, epoch, ttl, value, renewals"
#: Of each table: the column whose greatest is kept, and which rows are there for it alone. The oldest are those that
#: were written longest ago: xmin is the number of the transaction that did it. Only they are locked: who wants one that
#: is kept waits for nobody. One that somebody has acquired meanwhile is free no more, and stays.
_BOUND = {"leases": ("epoch", "holder = ''"), "kept": ("version", "value = ''")}
_FORGET = """
WITH old AS (DELETE FROM {schema}.{table} WHERE name IN (
    SELECT name FROM {schema}.{table} WHERE {free} AND name IN (
        SELECT name FROM {schema}.{table} WHERE {free} AND name <> '' ORDER BY age(xmin) OFFSET {kept})
    FOR UPDATE SKIP LOCKED) RETURNING {bound})
INSERT INTO {schema}.{table} AS t (name, {bound}) SELECT '', max({bound}) FROM old HAVING count(*) > 0
    ON CONFLICT (name) DO UPDATE SET {bound} = greatest(t.{bound}, excluded.{bound})
"""


class PostgresStore(TableStore):
    """Leases in a server that all nodes of the cluster use.

    Args:
        address: `postgresql://USER@HOST:PORT/DATABASE`; its password is in ~/.pgpass or PGPASSWORD, or it is
            `?password=env:NAME`.
    """

    def __init__(self, address: str) -> None:
        """Connect to nothing yet."""
        super().__init__()
        self._address = address
        self._db: psycopg.AsyncConnection[Any] | None = None
        self._turn = asyncio.Lock()
        self._looking: asyncio.Task[None] | None = None
        self._seen: dict[tuple[str, str], Any] = {}

    @property
    def shown(self) -> str:
        """The address without its options."""
        return urlunsplit(urlsplit(self._address)._replace(query="", fragment=""))

    def start(self) -> None:
        """Look at what is held, from now on; on the loop."""
        self._looking = asyncio.get_running_loop().create_task(self._look())

    async def close(self) -> None:
        """Let go of the server."""
        await super().close()
        if self._looking is not None:
            self._looking.cancel()
        await self._hang_up()

    # --- the server -------------------------------------------------------------------------------------------------

    async def _connected(self) -> psycopg.AsyncConnection[Any]:
        if self._db is not None and not self._db.closed:
            return self._db
        import psycopg

        db = await psycopg.AsyncConnection.connect(**connect_options(self._address), autocommit=True)
        if (version := db.info.server_version) < OLDEST * 10_000:
            await db.close()
            raise NoMajority(
                f"the PostgreSQL server at {self.shown} is too old for leases: it is {version // 10_000}, expected "
                f"{OLDEST} or newer"
            )
        # A node that stands still in the middle of a transaction must not keep a lease from those who wait for its end.
        await db.execute(f"SET idle_in_transaction_session_timeout = {IDLE_MS}")
        found = await (await db.execute("SELECT to_regclass(%s)", (f"{SCHEMA}.kept",))).fetchone()
        if found is None or found[0] is None:
            async with db.transaction():
                await db.execute("SELECT pg_advisory_xact_lock(%s)", (_MAKING,))
                await db.execute(_TABLES)
        self._db = db
        return db

    async def _hang_up(self) -> None:
        db, self._db = self._db, None
        if db is not None:
            await db.close()

    async def _ask(self, function: Any, *args: Any) -> Any:
        """Do something with the server; one at a time.

        Raises:
            NoMajority: it is not there, or refuses, or others keep it busy; in one line.
        """
        try:
            import psycopg
        except ImportError:
            raise NoMajority(
                "leases in PostgreSQL need psycopg: install it with `pip install 'dspex-actors[postgresql]'`"
            ) from None
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                await self._turn.acquire()
        except TimeoutError as error:  # whose turn it is goes on with the connection
            raise NoMajority(self._words(error)) from None
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                return await function(await self._connected(), *args)
        except (TimeoutError, psycopg.Error, OSError) as error:
            await self._hang_up()
            raise NoMajority(self._words(error)) from None
        finally:
            self._turn.release()

    def _words(self, error: Exception) -> str:
        where, text = f"the store of leases at {self.shown}", " ".join(str(error).split())[:200]
        match getattr(error, "sqlstate", None) or "":
            case "53100":
                return f"no space left for {where}: free some, and it goes on"
            case "25006":
                return f"{where} cannot be written (the server is read-only): use its primary"
            case "42501":
                return f"{where} cannot be written ({text}): grant it to this user"
            case state if not state or state.startswith(("08", "57P")):
                return f"{where} does not answer ({text or 'in time'}); what it has granted ends by itself"
            case state:
                return f"{where}: {text} ({state})"

    # --- commands ---------------------------------------------------------------------------------------------------

    async def do(self, command: Command) -> tuple[Outcome, float]:
        """Carry out a command, with the locks of its rows."""
        outcome: Outcome = await self._ask(self._carry_out, command)
        if not isinstance(command, Put | Raise):
            self.deadlines.see(command.name, outcome.row, now())
        return outcome, self.deadlines.left(command.name, now())

    async def _carry_out(self, db: psycopg.AsyncConnection[Any], command: Command) -> Outcome:
        if isinstance(command, Raise):
            await self._raise_bound(db, "leases", command.epoch)
            return Outcome(OK)
        table, name = Table(), command.name
        async with db.transaction():
            lease = command.lease if isinstance(command, Put) else name
            if lease:
                row = await self._locked(db, "leases", _ROW, lease, makes=isinstance(command, Acquire))
                if row is not None and row[1]:
                    table.leases[lease] = Row(row[0], row[1], row[2], bytes(row[3]), row[4])
            if isinstance(command, Acquire):
                table.floor = await self._bound(db, "leases")
            elif isinstance(command, Put):
                kept = await self._locked(db, "kept", "value, version, token", name, makes=bool(command.value))
                value, version, token = kept or (b"", 0, "")
                table.take_value(name, bytes(value), version, token)
                if not value:
                    table.deleted = max(version, await self._bound(db, "kept"))
            outcome = table.apply(command)
            if outcome.word == OK and isinstance(command, Put):
                await db.execute(
                    f"UPDATE {SCHEMA}.kept SET value = %s, version = %s, token = %s WHERE name = %s",  # noqa: S608
                    (*table.value_row(name), name),
                )
            elif outcome.word == OK:
                await db.execute(
                    f"UPDATE {SCHEMA}.leases SET ({_ROW}) = (%s, %s, %s, %s, %s) WHERE name = %s",  # noqa: S608
                    (*table.leases[name], name),
                )
        return outcome

    async def _locked(
        self, db: psycopg.AsyncConnection[Any], table: str, columns: str, name: str, makes: bool = True
    ) -> Any:
        """Return a row with its lock held; None: there is none, and none is to be made."""
        while True:
            if makes:
                await db.execute(
                    f"INSERT INTO {SCHEMA}.{table} (name) VALUES (%s) ON CONFLICT DO NOTHING",  # noqa: S608
                    (name,),
                )
            row = await self._row_of(db, table, columns, name, "FOR UPDATE")
            if row is not None or not makes:
                return row  # else it was forgotten between the two

    # --- what is forgotten ------------------------------------------------------------------------------------------

    async def _bound(self, db: psycopg.AsyncConnection[Any], table: str) -> int:
        """Return the greatest epoch or version of what was forgotten; asked while the row that needs it is locked."""
        row = await self._row_of(db, table, _BOUND[table][0], "")
        return 0 if row is None else int(row[0])

    async def _raise_bound(self, db: psycopg.AsyncConnection[Any], table: str, least: int) -> None:
        bound = _BOUND[table][0]
        await db.execute(
            f"INSERT INTO {SCHEMA}.{table} AS t (name, {bound}) VALUES ('', %s) "  # noqa: S608
            f"ON CONFLICT (name) DO UPDATE SET {bound} = greatest(t.{bound}, excluded.{bound})",
            (least,),
        )

    async def _forget(self, db: psycopg.AsyncConnection[Any]) -> None:
        """Forget the oldest of what is there for its epoch or version alone."""
        for table, (bound, free) in _BOUND.items():
            await db.execute(_FORGET.format(schema=SCHEMA, table=table, bound=bound, free=free, kept=KEPT_FREE))

    async def _row_of(
        self, db: psycopg.AsyncConnection[Any], table: str, columns: str, name: str, lock: str = ""
    ) -> Any:
        found = await db.execute(f"SELECT {columns} FROM {SCHEMA}.{table} WHERE name = %s {lock}", (name,))  # noqa: S608
        return await found.fetchone()

    async def get(self, name: str) -> tuple[Row | None, float]:
        """Return the lease."""
        found = await self._ask(self._row_of, "leases", _ROW, name)
        if found is None or not found[1]:
            return None, 0.0
        row = Row(found[0], found[1], found[2], bytes(found[3]), found[4])
        self.deadlines.see(name, row, now())
        return row, self.deadlines.left(name, now())

    async def read(self, name: str) -> tuple[bytes, int]:
        """Return a value and its version."""
        found = await self._ask(self._row_of, "kept", "value, version", name)
        return (b"", 0) if found is None or not found[0] else (bytes(found[0]), found[1])

    async def names(self, prefix: str) -> list[str]:
        """Return the names of the leases that somebody holds."""
        return [name for name, *_ in await self._ask(self._held) if name.startswith(prefix)]

    async def _held(self, db: psycopg.AsyncConnection[Any]) -> list[Any]:
        found = await db.execute(f"SELECT name, {_ROW} FROM {SCHEMA}.leases WHERE holder <> ''")  # noqa: S608
        return await found.fetchall()

    async def _versions(self, db: psycopg.AsyncConnection[Any]) -> list[Any]:
        found = await db.execute(f"SELECT name, version FROM {SCHEMA}.kept WHERE value <> ''")  # noqa: S608
        return await found.fetchall()

    # --- what happens elsewhere -------------------------------------------------------------------------------------

    async def _look(self) -> None:
        """End what is over, and tell of changes."""
        is_first = True
        forget_at = now() + FORGET_SECONDS * random.random()  # noqa: S311 - each node at a time of its own
        while True:
            try:
                held = await self._ask(self._held)
                versions = await self._ask(self._versions) if self._changed else []
                for name, *row in held:
                    self.deadlines.see(name, Row(row[0], row[1], row[2], bytes(row[3]), row[4]), now())
                for name in set(self.deadlines.names()) - {each[0] for each in held}:
                    self.deadlines.see(name, None, now())
                for command in self.deadlines.due(now()):
                    await self.do(command)
                seen = {("lease", name): (row[0], row[1], bytes(row[3])) for name, *row in held}
                seen |= {("value", name): version for name, version in versions}
                for kind, name in {*seen, *self._seen} if not is_first else ():
                    if seen.get((kind, name)) != self._seen.get((kind, name)):
                        self._tell(kind, name)
                self._seen, is_first = seen, False
                if now() > forget_at:
                    forget_at = now() + FORGET_SECONDS
                    await self._ask(self._forget)
            except SupervisorsError:
                pass  # who asks hears of it
            await asyncio.sleep(LOOK_SECONDS)


def connect_options(address: str) -> dict[str, Any]:
    """Return what psycopg is given for an address; a password that is a reference is read here, and kept nowhere.

    Raises:
        SpecError: the address is none, or its password is in no variable.
    """
    import psycopg
    from psycopg.conninfo import conninfo_to_dict

    try:
        found: dict[str, Any] = dict(conninfo_to_dict(address))
    except psycopg.ProgrammingError as error:
        raise SpecError(f"the address of leases is invalid: {' '.join(str(error).split())}") from None
    password = found.get("password")
    if isinstance(password, str) and password.startswith("env:"):
        if (secret := os.environ.get(password[4:])) is None:
            raise SpecError(f"the address of leases is invalid: its password is in {password[4:]}, which is not set")
        found["password"] = secret
    return {"connect_timeout": 4, "tcp_user_timeout": 5000, "application_name": "dspex leases"} | found
