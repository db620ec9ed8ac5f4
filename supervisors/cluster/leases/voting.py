"""The leases of a cluster: a table of which each voter has a copy, kept the same by Raft, on a majority's disks.

A node that is no voter asks those that are; so does a voter that does not lead. Nobody waits for a node that is away.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import secrets
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

from supervisors.cluster.leases.between import Post, at_most, outcome_of, outcome_to_plain
from supervisors.cluster.leases.clock import now
from supervisors.cluster.leases.core import Command, Expire, Outcome, Row, Table, from_plain, to_plain
from supervisors.cluster.leases.raft import Raft
from supervisors.cluster.leases.raft_disk import RaftFile
from supervisors.cluster.leases.raft_terms import COMMAND, LEADER, VOTERS, Entry, Kept, Snapshot
from supervisors.cluster.leases.tables import TableStore
from supervisors.terms.errors import NoMajority, SupervisorsError
from supervisors.wire.values import pack, unpack

#: How long a request may take until it is said that no majority answers, and how long one voter has for it, in seconds.
ANSWER_SECONDS, ONE_SECONDS = 6.0, 2.0
#: Between two attempts, and until a voter whose disk has failed tries it again.
PAUSE_SECONDS, ILL_SECONDS = 0.1, 2.0
#: So many changes are remembered, for nodes that have missed some; and they ask so often at least, in seconds.
NEWS, NEWS_SECONDS = 1000, 10.0


class VotingStore(TableStore):
    """The store of one node.

    Args:
        path: of the file with this node's copy.
        me: uid of this node.
        post: how others are reached.
        log: of the process.
    """

    def __init__(self, path: Path, me: str, post: Post, log: Any) -> None:
        """Read the file.

        Raises:
            OSError: it cannot be opened.
        """
        super().__init__()
        self.me, self._path, self._post, self._log = me, path, post, log
        #: Of the group of voters: no other group's messages are taken in. "": not known yet.
        self.group = ""
        #: Whether the group may be one that this node had alone, before it joined others: nobody is told of it then.
        self.is_joining = False
        #: Whom to ask where this node is no voter, or was one while it was down: then it was told by others.
        self.known: tuple[str, ...] = ()
        self._hint = ""
        self._numbers = itertools.count(1)
        self._doing: dict[int, tuple[int, asyncio.Future[tuple[Outcome, float]]]] = {}
        self._reading: dict[int, asyncio.Future[None]] = {}
        self._news: deque[tuple[int, str, str]] = deque(maxlen=NEWS)
        self._waiting: set[asyncio.Future[None]] = set()
        self._is_closed, self._turn_comes = False, False
        self._tick_timer: asyncio.TimerHandle | None = None
        #: Why this voter takes no part: its disk has failed.
        self.ill = ""
        self._open()

    # --- the disk ---------------------------------------------------------------------------------------------------

    def _open(self) -> None:
        self._file = RaftFile(self._path)
        self.group = self._file.group
        self.raft = Raft(self.me, self._file.kept, now(), random.Random())  # noqa: S311 - no secret

    def _kept(self) -> Kept:
        return Kept(self.raft.term, self.raft.voted, self.raft.snapshot, self.raft.log)

    def found(self, table: Table) -> None:
        """Begin a group of which this node is the only voter, with what it has had alone.

        Raises:
            OSError: it cannot be written.
        """
        self._anew(secrets.token_hex(8), Kept(snapshot=Snapshot(1, 0, (self.me,), pack(table.to_plain()))))

    def forget(self) -> None:
        """Leave the group: what this node has of it is deleted.

        Raises:
            OSError: it cannot be written.
        """
        self.table = Table()
        self._anew("", Kept())

    def _anew(self, group: str, kept: Kept) -> None:
        self._file.replace(group, kept)
        self._file.close()
        self._open()

    # --- the loop ---------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Take part; on the loop."""
        self._kick()

    def _kick(self) -> None:
        """Do soon what is ready: what comes in one turn of the loop is written to the disk at once."""
        if not self._turn_comes and not self._is_closed:
            self._turn_comes = True
            asyncio.get_running_loop().call_soon(self._turn)

    def _turn(self) -> None:
        self._turn_comes = False
        if self._is_closed or self.ill:
            return
        try:
            self._do_ready()
        except Exception as error:  # what it has in memory is not what it has on its disk: it begins anew from there
            self._is_closed = True
            self._post.fail(error)

    def _do_ready(self) -> None:
        if now() >= self.raft.next_at():
            self.raft.tick(now())
        ready = self.raft.take()
        try:
            self._file.save(self.group, ready.saves, self._kept())
        except OSError as error:
            self._fall_ill(error)
            return
        for to, message in ready.sends:
            self._post.send(to, ("raft", self.group, self.me, message))
        if ready.restored is not None:
            self._restore(ready.restored)
        for entry in ready.entries:
            self._apply(entry)
        for number in ready.reads:
            if (future := self._reading.pop(number, None)) is not None and not future.done():
                future.set_result(None)
        for number in ready.failed:
            if (future := self._reading.pop(number, None)) is not None and not future.done():
                future.set_exception(NoMajority("another one leads by now"))
        if self._file.has_grown and self.raft.applied > self.raft.snapshot.at:
            self.raft.compact(pack(self.table.to_plain()))
            self._kick()
        if ready.entries or ready.restored is not None:
            self.count(self._end)
        if self._tick_timer is not None:
            self._tick_timer.cancel()
        pause = min(60.0, max(0.0, self.raft.next_at() - now()))
        self._tick_timer = asyncio.get_running_loop().call_later(pause, self._turn)

    def _restore(self, snapshot: Snapshot) -> None:
        before, self.table = self.table, Table.from_plain(unpack(snapshot.data))
        self.deadlines.begin(self.table, now())
        self._news.clear()
        for name in {**before.leases, **self.table.leases}:
            if before.leases.get(name) != self.table.leases.get(name):
                self._tell("lease", name)
        for name in {**before.values, **self.table.values}:
            if before.values.get(name) != self.table.values.get(name):
                self._tell("value", name)

    def _apply(self, entry: Entry) -> None:
        term, future = self._doing.pop(entry.at, (0, None))
        if entry.kind == VOTERS:
            self.known = ()
            self._log.info("the voters are others", voters=list(entry.data))
        outcome = None
        if entry.kind == COMMAND:
            try:
                command = from_plain(entry.data)
            except ValueError as error:  # it is in the logs of all: at each start it would end this voter again
                self._log.error("an entry in the log of leases is passed over", at=entry.at, error=str(error))
            else:
                outcome = self.table.apply(command)
                self.noticed(command, outcome)
        if future is not None and not future.done():
            if term == entry.term and outcome is not None:
                future.set_result((outcome, self.deadlines.left(command.name, now())))
            else:
                future.set_exception(NoMajority("another one leads by now"))

    def _tell(self, kind: str, name: str) -> None:
        super()._tell(kind, name)
        self._news.append((self.table.revision, kind, name))
        for future in self._waiting:
            if not future.done():
                future.set_result(None)

    def _end(self, commands: list[Expire]) -> None:
        if self.raft.role == LEADER and not self.ill:
            for command in commands:
                self.raft.propose(to_plain(command), now())
            self._kick()

    def _fall_ill(self, error: OSError) -> None:
        self.ill = f"the store of leases cannot write {self._path}: {error.strerror or error}"
        self._log.error("this node takes no part in deciding about leases until its disk is well", error=self.ill)
        futures: list[asyncio.Future[Any]] = [future for _, future in self._doing.values()]
        for future in [*futures, *self._reading.values()]:
            if not future.done():
                future.set_exception(NoMajority(f"{self.ill}; make room, or mend it, and try again"))
        self._doing, self._reading = {}, {}
        asyncio.get_running_loop().call_later(ILL_SECONDS, self._recover)

    def _recover(self) -> None:
        if self._is_closed:
            return
        self._file.close()
        try:
            self._open()
            self._file.replace(self.group, self._kept())
        except OSError:
            asyncio.get_running_loop().call_later(ILL_SECONDS, self._recover)
            return
        self.ill = ""
        self._kick()

    # --- what others send -------------------------------------------------------------------------------------------

    def take(self, group: str, sender: str, message: tuple[Any, ...]) -> None:
        """Take in a message of another voter."""
        if not self.group and message[0] in ("append", "snapshot"):
            self.group = group
        if group == self.group and group and not self.ill:
            self.raft.receive(sender, message, now())
            if self.raft.leader:
                self.known = ()  # what its log says is newer
            self._kick()

    def orient(self, group: str, voters: tuple[str, ...]) -> None:
        """Take in who votes, where this node does not, or hears of nobody who leads."""
        if not self.group or group == self.group:
            self.group, self.known = group, voters

    def wish(self, plan: Callable[[tuple[str, ...]], tuple[str, ...]]) -> None:
        """Where this node leads, bring the voters nearer to those of a plan, which gets those that are now."""
        if self.raft.role == LEADER and not self.ill:
            self.raft.wish(plan(self.raft.voters), now())
            self._kick()

    @property
    def about(self) -> tuple[str, list[str], str]:
        """The group, its voters, and who leads, as far as this node knows."""
        voters = self.known if self.known and not self.raft.leader else self.raft.voters
        return self.group, list(voters), self.raft.leader or self._hint

    async def answer(self, request: tuple[Any, ...]) -> Any:
        """Answer another server of leases: ("ok", what it has asked for), or ("ask", voters, leader).

        Raises:
            NoMajority: this one leads, and hears too few.
        """
        kind, group, *content = request
        if kind == "about":
            return self.about if not self.is_joining else ("", [], "")
        if group != self.group:
            return "ask", [], ""
        if self.raft.role != LEADER or self.ill:
            return "ask", *self.about[1:]
        return "ok", await self._here(kind, content)

    async def _here(self, kind: str, content: list[Any]) -> Any:
        """Do it as the leader; plain data."""
        if kind == "do":
            outcome, left = await self._propose(content[0])
            return outcome_to_plain(outcome), left
        if kind == "news":
            return await self._news_since(content[0])
        await self._confirm()
        name = content[0]
        match kind:
            case "get":
                return self.table.leases.get(name), self.deadlines.left(name, now())
            case "read":
                return self.table.values.get(name, (b"", 0, ""))[:2]
            case "names":
                return [each for each, _ in self.table.held() if each.startswith(name)]
        raise NoMajority(f"a request that is not known here: {kind!r:.50}")

    async def _propose(self, plain: Any) -> tuple[Outcome, float]:
        try:
            from_plain(plain)
        except ValueError as error:
            raise NoMajority(f"a request that is not known here: {error}") from None
        place = self.raft.propose(plain, now())
        if place is None:
            raise NoMajority("another one leads by now")
        future = asyncio.get_running_loop().create_future()
        self._doing[place[0]] = place[1], future
        self._kick()
        async with at_most(ANSWER_SECONDS):
            return await future  # type: ignore[no-any-return]

    async def _confirm(self) -> None:
        number = next(self._numbers)
        async with at_most(ANSWER_SECONDS):
            while not self.raft.read(number, now()):  # it has just begun to lead
                if self.raft.role != LEADER:
                    raise NoMajority("another one leads by now")
                await asyncio.sleep(0.02)
            self._reading[number] = future = asyncio.get_running_loop().create_future()
            self._kick()
            await future

    async def _news_since(self, since: int) -> tuple[int, list[list[str]]]:
        """Return the revision and what has, or may have, changed since. It waits until there is something."""
        if self.table.revision == since:
            future = asyncio.get_running_loop().create_future()
            self._waiting.add(future)
            try:
                async with asyncio.timeout(NEWS_SECONDS):
                    await future
            except TimeoutError:
                pass
            finally:
                self._waiting.discard(future)
        if since == self.table.revision or (self._news and self._news[0][0] <= since + 1):
            return self.table.revision, [[kind, name] for revision, kind, name in self._news if revision > since]
        every = [["lease", name] for name in self.table.leases] + [["value", name] for name in self.table.values]
        return self.table.revision, every if since >= 0 else []

    # --- what this node asks ----------------------------------------------------------------------------------------

    async def do(self, command: Command) -> tuple[Outcome, float]:
        """Carry out a command, wherever the leader is."""
        plain, left = await self.ask("do", to_plain(command))
        return outcome_of(plain), left

    async def get(self, name: str) -> tuple[Row | None, float]:
        """Return the lease."""
        row, left = await self.ask("get", name)
        return None if row is None else Row(*row), left

    async def read(self, name: str) -> tuple[bytes, int]:
        """Return a value and its version."""
        value, version = await self.ask("read", name)
        return value, version

    async def names(self, prefix: str) -> list[str]:
        """Return the names of the leases that somebody holds."""
        return list(await self.ask("names", prefix))

    async def ask(self, kind: str, content: Any, seconds: float = ANSWER_SECONDS) -> Any:
        """Have the leader answer, this node or another one.

        Raises:
            NoMajority: nobody has answered.
        """
        end, why = now() + seconds, ""
        order = itertools.cycle(random.sample(voters := self.about[1], len(voters)) or [""])
        while True:
            try:
                if self.raft.role == LEADER and not self.ill:
                    return await self._here(kind, [content])
                to = self.raft.leader or self._hint or next(order)
                if to and to != self.me:
                    word, *rest = await self._post.ask(
                        to, (kind, self.group, content), seconds if kind == "news" else ONE_SECONDS
                    )
                    if word == "ok":
                        return rest[0]
                    self._hear(to, *rest)
            except SupervisorsError as error:
                why, self._hint = error.message, ""
                if self.raft.leader != self.me and self.raft.role != LEADER:
                    self.raft.leader = ""  # it does not answer: the others know better, or will elect another
            if now() >= end:
                raise NoMajority(self._trouble(why))
            await asyncio.sleep(PAUSE_SECONDS)
            if self.about[1] != voters:
                order = itertools.cycle(random.sample(voters := self.about[1], len(voters)) or [""])

    def _hear(self, teller: str, voters: list[str], leader: str) -> None:
        if voters and (self.known or not self.raft.voters):
            self.known = tuple(voters)
        self._hint = "" if leader == teller else leader
        if self.raft.leader == teller:
            self.raft.leader = ""  # it does not lead any more; who votes no more hears of no other one

    def _trouble(self, why: str) -> str:
        if self.ill:
            return f"{self.ill}; make room, or mend it, and try again"
        if not self.about[1]:
            return "no voter for leases is known yet; the nodes that have them cannot be reached"
        return f"no majority of the {len(self.about[1])} voters for leases answers{why and ': '}{why}"

    async def close(self) -> None:
        """Take part no more."""
        await super().close()
        self._is_closed = True
        if self._tick_timer is not None:
            self._tick_timer.cancel()
        self._file.close()
