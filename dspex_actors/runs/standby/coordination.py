"""One run whose coordinator is this node: its standbys, the set of nodes in sync, and what counts."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections import deque
from collections.abc import Callable

from dspex_actors.journal.base import JournalBase
from dspex_actors.journal.copies import stand_of
from dspex_actors.journal.errors import Fenced, JournalError
from dspex_actors.journal.store import Batch
from dspex_actors.runs.standby.core import InSync
from dspex_actors.runs.standby.sender import Recent, Sender
from supervisors import GenServer
from supervisors.cluster.leases.handle import Holding
from supervisors.cluster.leases.messages import LEASES, Put, Read
from supervisors.cluster.membership.messages import FULL, Member
from supervisors.errors import Fenced as LeaseFenced
from supervisors.errors import SupervisorsError, VersionConflict

#: A standby that has had something for so long, in seconds, and has not answered, is taken out of the set.
SLOW_SECONDS = 3.0
#: One that was taken out may come in again after so many seconds.
REST_SECONDS = 5.0
#: Standbys are looked after this often, in seconds, if nothing happens before.
LOOK_SECONDS = 0.25
#: The store of leases is asked again after so many seconds.
STORE_SECONDS = 0.5
#: An evaluator hears after so many seconds why its batch does not count yet.
WAIT_SECONDS = 5.0
#: The first standby is waited for so many seconds before the run begins.
FIRST_SECONDS = 3.0
#: What `dspex nodes` says of copies that are missing has room for so many characters.
NOTE_CHARACTERS = 110


class Coordination:
    """Keeps a run's copies in sync, from when it was claimed until `end`.

    Args:
        server: the keeper of runs.
        journal: its journal.
        run_id: the run, claimed with the epoch of `holding`.
        holding: the lease of the run.
        me: uid of this node.
        agreed: the nodes in sync as the store has them.
        version: of that value.
        copies: how many nodes are to have the run, this one among them.
        members: returns the members of the cluster.
    """

    def __init__(
        self,
        server: GenServer,
        journal: JournalBase,
        run_id: str,
        holding: Holding,
        me: str,
        agreed: list[str],
        version: int,
        copies: int,
        members: Callable[[], list[Member]],
    ) -> None:
        """Begin to look for standbys."""
        self._server, self._journal, self.run_id, self.holding = server, journal, run_id, holding
        self._version, self._copies, self._members = version, copies, members
        self.sync = InSync(me, agreed, stand_of(journal, run_id).seq)
        self._recent = Recent()
        self._senders: dict[str, Sender] = {}
        #: Numbers and when they were written, of what a standby may lack.
        self._written: deque[tuple[int, float]] = deque()
        self._rests: dict[str, float] = {}
        self._waiters: list[tuple[int, asyncio.Future[None]]] = []
        self._news_event = asyncio.Event()
        self._over = False
        #: Why the set of nodes in sync cannot be changed; None: it can.
        self._trouble: str | None = None
        self.is_fenced = False
        server.spawn(self._attend())

    # --- what was written, and what counts --------------------------------------------------------------------------

    def wrote(self, seq: int, batch: Batch, packed: bytes) -> None:
        """Take note that a batch is in this node's journal."""
        if seq > self.sync.written:
            if self._senders:
                self._recent.add(seq, batch, packed)
            self._note(seq)

    def note(self) -> None:
        """Take note of changes of the run in this node's journal."""
        self._note(stand_of(self._journal, self.run_id).seq)

    def _note(self, seq: int) -> None:
        if seq > self.sync.written:
            self.sync.wrote(seq)
            self._written.append((seq, time.monotonic()))
            for sender in self._senders.values():
                sender.wake()

    async def counted(self) -> None:
        """Return when all that is written counts.

        Raises:
            JournalError: it does not yet; says why.
            Fenced: another coordinator has the run.
        """
        if self.sync.counted >= self.sync.written and not self.is_fenced:
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.append((self.sync.written, future))
        self.news()
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                await future
        except TimeoutError:
            raise JournalError(f"the run waits for its copies: {self.why()}") from None

    def check_own(self) -> None:
        """Refuse to say that the run is surely this node's, where all of the node may have stood still.

        Its journal says nothing then: another node has claimed the run in its own one.

        Raises:
            JournalError: it is not sure at present.
        """
        if not self.holding.held:
            raise JournalError("the run waits for its lease, which tells who has it")

    def why(self) -> str:
        """Return why what is written does not count, in a few words."""
        names = {member.uid: member.name for member in self._members()}
        parts = []
        for node in self.sync.waits_for():
            sender = self._senders.get(node)
            trouble = None if sender is None else sender.trouble
            parts.append(f"{names.get(node, node)} {trouble or 'is behind'}")
        if self._trouble is not None:
            parts.append(f"who has it cannot be changed ({self._trouble})")
        return "; ".join(parts) or "they are just being written"

    def news(self) -> None:
        """Take note that something has changed: let go on who waits for what counts now."""
        self._news_event.set()
        counted = self.sync.counted
        left = []
        for seq, future in self._waiters:
            if future.done():
                continue
            if self.is_fenced:
                future.set_exception(Fenced(f"run {self.run_id} belongs to another node now"))
            elif seq <= counted:
                future.set_result(None)
            else:
                left.append((seq, future))
        self._waiters = left

    # --- standbys ---------------------------------------------------------------------------------------------------

    async def first(self) -> None:
        """Wait for the first standbys, for a little while."""
        end = time.monotonic() + FIRST_SECONDS
        while time.monotonic() < end and not self.is_fenced:
            wanted = self._wanted()
            if len(self.sync.agreed) > min(len(wanted), self._copies - 1) or not wanted:
                return
            await asyncio.sleep(0.02)

    @property
    def lacks_copies(self) -> bool:
        """Whether fewer nodes than there are to be have all of the run."""
        return len(self.sync.agreed) < self._copies

    def lacking(self, nodes: int) -> str:
        """Return how many nodes have all of the run, and why no more, for people; `nodes`: full ones that there are."""
        names = {member.uid: member.name for member in self._members()}
        troubles = [f"{names.get(node, node)} {one.trouble}" for node, one in self._senders.items() if one.trouble]
        few = f"the cluster has {nodes} full node{'s' if nodes > 1 else ''}" if nodes < self._copies else ""
        why = few or "; ".join(troubles) or "another node catches up"
        return f"{len(self.sync.agreed)} of {self._copies} copies, {why}"

    def end(self) -> None:
        """Look after it no more; the lease is its owner's to release."""
        self._over = True
        for sender in self._senders.values():
            sender.end()
        self.news()

    def fence(self) -> None:
        """Take note that another coordinator has the run."""
        self.is_fenced = True
        self.end()

    async def _attend(self) -> None:
        while not self._over:
            self.note()
            self._choose()
            self._leave_out_slow()
            await self._agree()
            self.news()
            self._news_event.clear()
            try:
                async with asyncio.timeout(LOOK_SECONDS):
                    await self._news_event.wait()
            except TimeoutError:
                pass

    def _wanted(self) -> list[str]:
        """Return who is to have a copy, by uid."""
        now = time.monotonic()
        able = [m.uid for m in self._members() if m.role == FULL and m.takes_work and m.uid != self.sync.me]

        def order(uid: str) -> tuple[bool, bool, str]:
            digest = hashlib.blake2s(f"{self.run_id}\0{uid}".encode("utf-8", "surrogatepass")).hexdigest()
            return self._rests.get(uid, 0.0) > now, uid not in self.sync.agreed, digest

        return sorted(able, key=order)[: self._copies - 1]

    def _choose(self) -> None:
        wanted = self._wanted()
        alive = {member.uid for member in self._members() if member.is_up}
        for node in wanted:
            if node not in self._senders:
                self._senders[node] = Sender(
                    self._server, self._journal, self.run_id, self.holding.epoch, node, self.sync, self._recent,
                    self.news,
                )  # fmt: skip
        for node in self.sync.required - {self.sync.me} - alive:
            self._leave_out(node)
        for node, sender in list(self._senders.items()):
            if sender.is_fenced:
                self.fence()
            if node not in wanted and (node not in self.sync.required or node not in alive):
                sender.end()
                del self._senders[node]

    def _leave_out(self, node: str) -> None:
        self.sync.leave_out(node)
        self._rests[node] = time.monotonic() + REST_SECONDS

    def _leave_out_slow(self) -> None:
        now = time.monotonic()
        needed = [self.sync.known(node) for node in self.sync.required if node != self.sync.me]
        while self._written and self._written[0][0] <= min(needed, default=self.sync.written):
            self._written.popleft()
        for node in self.sync.required - {self.sync.me}:
            oldest = next((at for seq, at in self._written if seq > self.sync.known(node)), now)
            if now - oldest > SLOW_SECONDS:
                self._leave_out(node)
        for node, sender in self._senders.items():
            if sender.trouble is not None and node not in self.sync.required:
                self._rests[node] = now + REST_SECONDS  # another one comes first, if there is one
            elif sender.trouble is None and not sender.differs and self._rests.get(node, 0.0) <= now:
                self.sync.take_in(node)

    async def _agree(self) -> None:
        """Have the store of leases take the set that is wished for, if it is another one."""
        aim = self.sync.wish(self._senders)
        if aim is None or self._over:
            return
        self.sync.ask(aim)
        name, epoch = self.holding.name, self.holding.epoch
        try:
            try:
                put = Put(name, sorted(aim), self._version, name, epoch)
                self._version = await self._server.call(LEASES, put, timeout=5.0)
                self.sync.settled(aim)
            except VersionConflict:  # what was asked for before is there after all
                value, self._version = await self._server.call(LEASES, Read(name), timeout=5.0)
                self.sync.settled(value or [])
            self._trouble = None
            for sender in self._senders.values():
                sender.wake()  # one may have waited for its copy to be out of the set
        except LeaseFenced:
            self._trouble = "its lease is over"
            await asyncio.sleep(STORE_SECONDS)
        except SupervisorsError as error:
            self._trouble = error.message
            await asyncio.sleep(STORE_SECONDS)


def note_of(runs: list[Coordination], nodes: int) -> list[str]:
    """Return what `dspex nodes` is to say of a node's runs: nothing, or one line.

    Args:
        runs: that the node coordinates.
        nodes: how many full nodes the cluster has.
    """
    short = [run for run in runs if run.lacks_copies]
    if not short:
        return []
    which = short[0].run_id[:40] + (f" and {len(short) - 1} more" if len(short) > 1 else "")
    return [f"run {which}: {short[0].lacking(nodes)}"[:NOTE_CHARACTERS]]
