"""The owner of limits of money on a node: what a run, a day or a tag may cost; `foundation.purses` decides.

Where the node belongs to a cluster it gives of its share (`shares`), which it enlarges when that is used up.
It is started when somebody sets a limit. What it gives is on the disk before it is told; what becomes of it stands in
the files of those who have it. So whatever is killed, a new owner knows what the old one knew, and never gives twice.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
import time
from dataclasses import astuple
from pathlib import Path
from typing import Any, ClassVar

from dspex_actors.errors import DspexError
from dspex_actors.foundation.purses import Answer, Book, Given, PurseId, Used, unit_of
from dspex_actors.foundation.together import Together
from dspex_actors.lm.control.shares import Shares
from dspex_actors.lm.control.spending_file import FOLDER, file_of, read_used
from dspex_actors.lm.control.spending_messages import SPENDING, CloseSlot, Fund, GiveBack, Returned, ShareBack
from dspex_actors.observe.reporting import report_from_actor
from supervisors import NO_REPLY, ChildSpec, GenServer, Ref
from supervisors.errors import SupervisorsError
from supervisors.host import processes

#: In the node's data folder.
SPENDING_FILE = "spending.db"
#: Who has money of an account is asked to give it back at most this often, in seconds.
ASK_SECONDS = 0.05
#: Accounts of days are forgotten after so many days; those of runs when nobody has spent of them for so many. A run
#: that goes on after that begins with what its requests have cost by the journal.
KEPT_DAYS, KEPT_RUN_DAYS = 8, 90
#: It is looked for them this often, in seconds.
FORGET_SECONDS = 3600.0
_SCHEMA = (
    "CREATE TABLE IF NOT EXISTS accounts (name TEXT PRIMARY KEY, spent INTEGER NOT NULL, at REAL NOT NULL)",
    "CREATE TABLE IF NOT EXISTS purses (holder TEXT, slot INTEGER, accounts TEXT NOT NULL, given INTEGER NOT NULL, "
    "returned INTEGER NOT NULL, PRIMARY KEY (holder, slot))",
    "CREATE TABLE IF NOT EXISTS boot (id TEXT NOT NULL)",
)


def spending_spec() -> ChildSpec:
    """Return the owner as a child of the branch of observers."""
    return ChildSpec(SPENDING, Spending, name=SPENDING, shutdown=5.0)


class Spending(GenServer):
    """The owner. Requests: `Fund`, `CloseSlot`, and "accounts" for what each has spent, in dollars or calls."""

    #: It looks for holders that have ended this often, in seconds.
    look_seconds: ClassVar[float] = 2.0

    def init(self) -> None:
        """Read what was written down; what is left of processes that have ended counts as spent."""
        report_from_actor(self)
        self._data_dir = Path(self.node["data_dir"])
        (self._data_dir / FOLDER).mkdir(mode=0o700, exist_ok=True)
        self._limits: dict[str, int] = {}
        self._refs: dict[str, Ref] = {}
        self._asked: dict[str, float] = {}
        self._together = Together(self._data_dir)
        self._shares = Shares(self, self._used_of)
        path = self._data_dir / SPENDING_FILE
        path.touch(mode=0o600)
        self._db = sqlite3.connect(path, isolation_level=None)
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = FULL")
        for statement in _SCHEMA:
            self._db.execute(statement)
        rows = self._db.execute("SELECT holder, slot, accounts, given, returned FROM purses")
        self._book = Book(
            dict(self._db.execute("SELECT name, spent FROM accounts")),
            {(row[0], row[1]): Given(tuple(json.loads(row[2])), row[3], row[4]) for row in rows},
        )
        self._outlive_boot()
        self._bury()
        self._forget()
        known = {holder for holder, _ in self._book.purses}
        for path in (self._data_dir / FOLDER).iterdir():
            if path.name not in known and _has_ended(path.name):
                path.unlink(missing_ok=True)
        self.send_after(self.look_seconds, "look")

    def terminate(self, reason: Any) -> None:
        """Close the file."""
        self._db.close()

    def handle_call(self, request: Any, caller: Any) -> Any:
        """Answer one request."""
        match request:
            case Fund():
                if self._is_shared(request):
                    self.spawn(self._fund_shared(request, caller))
                    return NO_REPLY
                return self._answer(request)
            case CloseSlot(holder, slot):
                self._close([(holder, slot)])
                if all(other != holder for other, _ in self._book.purses):
                    self._refs.pop(holder, None)  # it has nothing to give back; an evaluator asks only once
                return "ok", True
            case "accounts":
                return "ok", self._accounts()
        return "error", DspexError(f"the owner of limits does not know {request!r:.200}").to_record()

    def handle_cast(self, message: Any) -> None:
        """Take in what comes back."""
        if isinstance(message, Returned):
            self._take_back((message.holder, message.slot), message.returned)
        elif isinstance(message, ShareBack):
            self._ask_back(message.accounts, self._used())
            self.spawn(self._shares.give_back(message.accounts))

    def handle_info(self, message: Any) -> None:
        """Look for holders that have ended."""
        if message == "look":
            self._bury()
            if self._together:
                self.spawn(self._look_after_shares())
            if time.monotonic() > self._forget_at:
                with contextlib.suppress(sqlite3.Error):  # a full disk: another time
                    self._forget()
            self.send_after(self.look_seconds, "look")

    # --- inside -----------------------------------------------------------------------------------------------------

    def _answer(self, asked: Fund) -> tuple[str, Any]:
        try:
            return "ok", astuple(self._fund(asked))
        except sqlite3.Error as error:  # a full disk: nobody gets what could be given twice
            return "error", DspexError(f"limits of money cannot be written down: {error}").to_record()

    def _fund(self, asked: Fund) -> Answer:
        self._refs[asked.holder] = asked.worker
        self._limits |= {name: limit for name, limit, _ in asked.accounts}
        shares = self._shares.most
        limits = {name: min(limit, shares.get(name, limit)) for name, limit, _ in asked.accounts}
        for name, _, before in asked.accounts:
            self._know(name, before)
        purse = asked.holder, asked.slot
        mine = self._book.open(purse, tuple(limits))
        before_given = mine.given
        self._book.take_back(purse, asked.returned)
        answer = self._book.ask(purse, asked.need, asked.want, limits, {})
        if answer.verdict != "given":
            self._bury()
            used = self._used()
            answer = self._book.ask(purse, asked.need, asked.want, limits, used)
            if answer.verdict == "wait":
                self._ask_back(list(limits), used, purse)
        try:
            self._write(purse)
        except sqlite3.Error:
            mine.given = before_given
            raise
        return answer

    def _know(self, account: str, before: int) -> None:
        if account not in self._book.spent:
            self._db.execute("INSERT INTO accounts VALUES (?, ?, ?)", (account, max(0, before), time.time()))
            self._book.spent[account] = max(0, before)

    def _ask_back(self, names: list[str], used: dict[PurseId, Used], asker: PurseId | None = None) -> None:
        """Have those who have money lying give it back; who asks may have some in another purse."""
        now = time.monotonic()
        for holder in self._book.holders_of(names, used, asker):
            if holder in self._refs and now - self._asked.get(holder, 0.0) > ASK_SECONDS:
                self._asked[holder] = now
                self.cast(self._refs[holder], GiveBack(names))

    # --- shares -----------------------------------------------------------------------------------------------------

    def _is_shared(self, asked: Fund) -> bool:
        """Whether more is to be asked for than this node has: not while its shares last."""
        if not self._together and all(before >= 0 for _, _, before in asked.accounts):
            return False
        names = [name for name, _, _ in asked.accounts]
        return any(
            name not in self._shares or self._shares.most[name] - self._book.out(name) < asked.need for name in names
        )

    async def _fund_shared(self, asked: Fund, caller: Any) -> None:
        self.reply(caller, await self._answer_shared(asked))

    async def _answer_shared(self, asked: Fund) -> tuple[str, Any]:
        """Enlarge the shares that are too small, then answer as a node alone does."""
        self._book.take_back((asked.holder, asked.slot), asked.returned)
        wait = ""
        empty: tuple[str, int] | None = None
        try:
            for name, limit, before in asked.accounts:
                if not await self._shares.claim(name, self._first(name, before), creates=before >= 0):
                    wait = "the account of its run: the run's own node has not made it yet"
                    break
                verdict, theirs = await self._shares.enlarge(name, asked.need, asked.want, limit)
                if verdict == "wait":
                    wait = wait or "other nodes may give back"
                elif verdict == "empty" and empty is None:
                    empty = name, theirs
        except (SupervisorsError, sqlite3.Error) as error:
            return "ok", astuple(Answer("wait", 0, f"money that no node can give now: {error}"))
        if any(name not in self._shares for name, _, _ in asked.accounts):
            return "ok", astuple(Answer("wait", 0, wait))
        kind, told = self._answer(asked)
        if kind != "ok" or told[0] != "empty":
            return kind, told
        answer = Answer(*told)
        if wait or empty is None or empty[0] != answer.account:
            return "ok", astuple(Answer("wait", answer.given))
        name, theirs = empty
        return "ok", astuple(Answer("empty", answer.given, name, answer.spent + theirs, self._limits[name]))

    def _first(self, account: str, before: int) -> Any:
        """Return what is to be called when it is known whether other nodes have counted an account before."""
        return lambda is_there: self._know(account, 0 if is_there else before)

    def _used_of(self, account: str) -> tuple[int, bool]:
        """Return what was spent of an account here or is with workers, and whether all of that is spent."""
        used, mine = self._used(), [(purse, one) for purse, one in self._book.purses.items() if account in one.accounts]
        is_spent = all((known := used.get(purse)) and known.held == 0 and known.spent >= one.out for purse, one in mine)
        return self._book.out(account), is_spent

    async def _look_after_shares(self) -> None:
        """Share accounts that were begun while this node was alone; give back what lies in those that nobody uses."""
        open_ones = {name for purse in self._book.purses.values() for name in purse.accounts}
        try:
            for name in open_ones - set(self._shares.most):
                await self._shares.claim(name, self._first(name, 0), creates=True)
        except SupervisorsError as error:
            self.log.info("an account is not shared yet", error=str(error))
        for name in set(self._shares.most) - open_ones:
            await self._shares.lower(name)

    def _take_back(self, purse: PurseId, returned: int) -> None:
        if self._book.take_back(purse, returned):
            with contextlib.suppress(sqlite3.Error):  # it is told again
                self._write(purse)

    def _write(self, purse: PurseId) -> None:
        one = self._book.purses[purse]
        self._db.execute(
            "INSERT INTO purses VALUES (?, ?, ?, ?, ?) "
            "ON CONFLICT DO UPDATE SET given = excluded.given, returned = excluded.returned",
            (*purse, json.dumps(one.accounts), one.given, one.returned),
        )

    def _used(self) -> dict[PurseId, Used]:
        found: dict[PurseId, Used] = {}
        for holder in {holder for holder, _ in self._book.purses}:
            for slot, used in enumerate(read_used(self._data_dir, holder) or ()):
                if (holder, slot) in self._book.purses:
                    found[holder, slot] = used
        return found

    def _bury(self) -> None:
        """Close the purses of processes that have ended."""
        ended = {holder for holder, _ in self._book.purses if _has_ended(holder)}
        if ended:
            self._close([purse for purse in self._book.purses if purse[0] in ended])
            for holder in ended:
                file_of(self._data_dir, holder).unlink(missing_ok=True)
                self._refs.pop(holder, None)

    def _forget(self) -> None:
        """Let go of accounts that nobody spends of any more."""
        self._forget_at = time.monotonic() + FORGET_SECONDS
        days, runs = (time.time() - days * 86_400 for days in (KEPT_DAYS, KEPT_RUN_DAYS))
        found = self._db.execute(
            "SELECT name FROM accounts WHERE at < CASE WHEN name LIKE 'run:%' THEN ? ELSE ? END", (runs, days)
        )
        used = {name for purse in self._book.purses.values() for name in purse.accounts}
        gone = [name for (name,) in found.fetchall() if name not in used]
        for name in gone:
            self._db.execute("DELETE FROM accounts WHERE name = ?", (name,))
            self._book.spent.pop(name, None)
            self._limits.pop(name, None)
        if gone and self._together:
            self.spawn(self._forget_shared(gone))

    async def _forget_shared(self, names: list[str]) -> None:
        """Delete the cluster's accounts of them: its store keeps all of its values in memory."""
        for name in names:
            try:
                await self._shares.forget(name, is_over=not name.startswith("run:"))
            except SupervisorsError as error:
                self.log.info(
                    "an account of the cluster stays, though nobody spends of it", account=name, error=str(error)
                )

    def _outlive_boot(self) -> None:
        """Count all that was out as spent where the machine has started anew: files may have lost the last of it."""
        boot = _boot_id()
        before = self._db.execute("SELECT id FROM boot").fetchone()
        if before is not None and before[0] != boot:
            self._close(list(self._book.purses), {})
        self._db.execute("DELETE FROM boot")
        self._db.execute("INSERT INTO boot VALUES (?)", (boot,))

    def _close(self, purses: list[PurseId], used: dict[PurseId, Used] | None = None) -> None:
        used = self._used() if used is None else used
        self._db.execute("BEGIN IMMEDIATE")
        try:
            for purse in purses:
                one = self._book.purses.get(purse)
                if one is None:
                    continue
                self._book.close(purse, used.get(purse))
                self._db.execute("DELETE FROM purses WHERE holder = ? AND slot = ?", purse)
                for name in one.accounts:
                    self._db.execute(
                        "UPDATE accounts SET spent = ?, at = ? WHERE name = ?",
                        (self._book.spent[name], time.time(), name),
                    )
            self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise  # it is restarted, and reads what is written

    def _accounts(self) -> dict[str, dict[str, float | None]]:
        used = self._used()
        found: dict[str, dict[str, float | None]] = {}
        for name, spent in self._book.spent.items():
            mine = [used.get(purse, Used(one.out)) for purse, one in self._book.purses.items() if name in one.accounts]
            limit = self._limits.get(name)
            found[name] = {
                "spent": (spent + sum(one.spent for one in mine)) / unit_of(name),
                "held": sum(one.held for one in mine) / unit_of(name),
                "limit": None if limit is None else limit / unit_of(name),
            }
        return found


def _boot_id() -> str:
    """Return what is another text after each start of the machine; empty where it cannot be had."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def _has_ended(holder: str) -> bool:
    pid, _, born = holder.partition("-")
    try:
        return processes.has_ended(int(pid), int(born))
    except ValueError:
        return True
