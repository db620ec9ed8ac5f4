"""One run whose coordinator is this node: its standbys, the set of nodes in sync, and what counts.

With an optimisation that the node carries out come the runs of its steps: they have its lease, its epoch and its set.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from dspex_actors.journal.base import JournalBase
from dspex_actors.journal.copies import stand_of
from dspex_actors.journal.errors import Fenced, JournalError
from dspex_actors.journal.store import Batch
from dspex_actors.runs.standby.core import Copied, InSync
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
#: Of runs that are over so many at once are brought to a standby.
CATCHING_UP = 4
#: What `dspex nodes` says of copies that are missing has room for so many characters.
NOTE_CHARACTERS = 110


@dataclass(slots=True)
class _Followed:
    """One run of those that are kept in sync.

    Args:
        run_id: the run.
        copied: how far its copies are.
        is_over: nothing is written any more, unless it goes on.
        recent: its last batches.
        written: numbers and when they were written, of what a standby may lack.
    """

    run_id: str
    copied: Copied
    is_over: bool = False
    recent: Recent = field(default_factory=Recent)
    written: deque[tuple[int, float]] = field(default_factory=deque)

    def wrote(self, seq: int) -> bool:
        """Take note that everything up to a number is in the journal; say whether that is new."""
        is_new = seq > self.copied.written
        if is_new:
            self.copied.wrote(seq)
            self.written.append((seq, time.monotonic()))
        return is_new

    def oldest(self, node: str, now: float) -> float:
        """Return since when a node lacks something."""
        return next((at for seq, at in self.written if seq > self.copied.known(node)), now)


class Coordination:
    """Keeps a run's copies in sync, and those of its parts, from when it was claimed until `end`.

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
        parts: runs that have the same lease, and whether each is over.
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
        parts: Iterable[tuple[str, bool]] = (),
    ) -> None:
        """Begin to look for standbys."""
        self._server, self._journal, self.run_id, self.holding = server, journal, run_id, holding
        self._version, self._copies, self._members = version, copies, members
        self.sync = InSync(me, agreed, stand_of(journal, run_id).seq)
        self._followed = {run_id: _Followed(run_id, self.sync)}
        #: Run and node → who keeps that copy up to date.
        self._senders: dict[tuple[str, str], Sender] = {}
        self._rests: dict[str, float] = {}
        self._waiters: list[tuple[_Followed, int, asyncio.Future[None]]] = []
        self._news_event = asyncio.Event()
        self._over = False
        #: Why the set of nodes in sync cannot be changed; None: it can.
        self._trouble: str | None = None
        self.is_fenced = False
        for part, is_over in parts:
            self.add(part, is_over=is_over)
        server.spawn(self._attend())

    # --- parts ------------------------------------------------------------------------------------------------------

    @property
    def run_ids(self) -> list[str]:
        """The runs that are kept in sync."""
        return list(self._followed)

    def add(self, run_id: str, *, is_over: bool = False) -> None:
        """Keep a part in sync, too; one that was over may go on."""
        one = self._followed.get(run_id)
        if one is None:
            copied = self.sync.add(stand_of(self._journal, run_id).seq)
            one = self._followed[run_id] = _Followed(run_id, copied)
        one.is_over = is_over
        for (sent, _), sender in self._senders.items():
            if sent == run_id:
                sender.renew()
        self.note(run_id)

    def is_over(self, run_id: str) -> None:
        """Take note that a part is written no more."""
        one = self._followed[run_id]
        one.is_over = True
        one.recent.clear()  # who lacks some of it catches up by the log; an optimisation has many runs
        self._news_event.set()

    # --- what was written, and what counts --------------------------------------------------------------------------

    def wrote(self, run_id: str, seq: int, batch: Batch, packed: bytes) -> None:
        """Take note that a batch is in this node's journal."""
        one = self._followed[run_id]
        if self._senders and seq > one.copied.written:
            one.recent.add(seq, batch, packed)
        self._note(one, seq)

    def note(self, run_id: str | None = None) -> None:
        """Take note of changes of a run in this node's journal; None: of all that are not over."""
        some = [one for one in self._followed.values() if not one.is_over or one.run_id == self.run_id]
        for one in some if run_id is None else [self._followed[run_id]]:
            self._note(one, stand_of(self._journal, one.run_id).seq)

    def _note(self, one: _Followed, seq: int) -> None:
        if one.wrote(seq):
            for (run_id, _), sender in self._senders.items():
                if run_id == one.run_id:
                    sender.wake()

    async def counted(self, run_id: str | None = None) -> None:
        """Return when all that is written of a run counts; None: of all of them.

        Raises:
            JournalError: it does not yet; says why.
            Fenced: another coordinator has the run.
        """
        asked = self._followed.values() if run_id is None else [self._followed[run_id]]
        some = [one for one in asked if self.is_fenced or one.copied.counted < one.copied.written]
        if not some:
            return
        futures = [asyncio.get_running_loop().create_future() for _ in some]
        self._waiters += [(one, one.copied.written, future) for one, future in zip(some, futures, strict=True)]
        self.news()
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                await asyncio.gather(*futures)
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
        waits_for = self.sync.waits_for()
        parts = [f"{names.get(node, node)} {self._trouble_of(node) or 'is behind'}" for node in waits_for]
        if self._trouble is not None:
            parts.append(f"who has it cannot be changed ({self._trouble})")
        return "; ".join(parts) or "they are just being written"

    def _trouble_of(self, node: str) -> str | None:
        """Return why a node's copies are not kept up to date; None: they are, or nothing is known yet."""
        return next((one.trouble for (_, there), one in self._senders.items() if there == node and one.trouble), None)

    def news(self) -> None:
        """Take note that something has changed: let go on who waits for what counts now."""
        self._news_event.set()
        left = []
        for one, seq, future in self._waiters:
            if future.done():
                continue
            if self.is_fenced:
                future.set_exception(Fenced(f"run {self.run_id} belongs to another node now"))
            elif seq <= one.copied.counted:
                future.set_result(None)
            else:
                left.append((one, seq, future))
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
        told = {node: self._trouble_of(node) for _, node in self._senders}
        troubles = [f"{names.get(node, node)} {trouble}" for node, trouble in told.items() if trouble]
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
            with contextlib.suppress(JournalError):  # what is there is looked at again
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
            for one in self._to_send(node):
                self._senders[one.run_id, node] = Sender(
                    self._server, self._journal, one.run_id, self.holding.epoch, node, one.copied, one.recent,
                    self.news, is_part=one.run_id != self.run_id,
                )  # fmt: skip
        for node in self.sync.required - {self.sync.me} - alive:
            self._leave_out(node)
        for (run_id, node), sender in list(self._senders.items()):
            one = self._followed[run_id]
            if sender.is_fenced:
                self.fence()
            is_gone = node not in wanted and (node not in self.sync.required or node not in alive)
            if is_gone and run_id != self.run_id:
                one.copied.forget(node)  # what is over is looked at again when it is back
            if is_gone or (_is_settled(one, node) and run_id != self.run_id):
                sender.end()
                del self._senders[run_id, node]

    def _to_send(self, node: str) -> list[_Followed]:
        """Return the runs that a node is to be sent, and is not yet; of those that are over a few at a time."""
        lacking = [
            one
            for one in self._followed.values()
            if (one.run_id, node) not in self._senders and (one.run_id == self.run_id or not _is_settled(one, node))
        ]
        under_way = sum(self._followed[run_id].is_over for run_id, there in self._senders if there == node)
        over = [one for one in lacking if one.is_over and one.run_id != self.run_id]
        return [one for one in lacking if one not in over] + over[: max(0, CATCHING_UP - under_way)]

    def _leave_out(self, node: str) -> None:
        self.sync.leave_out(node)
        self._rests[node] = time.monotonic() + REST_SECONDS

    def _leave_out_slow(self) -> None:
        now = time.monotonic()
        others = self.sync.required - {self.sync.me}
        for one in self._followed.values():
            least = min((one.copied.known(node) for node in others), default=one.copied.written)
            while one.written and one.written[0][0] <= least:
                one.written.popleft()
            for node in others:
                if now - one.oldest(node, now) > SLOW_SECONDS:
                    self._leave_out(node)
        for node in {node for _, node in self._senders}:
            differs = any(sender.differs for (_, there), sender in self._senders.items() if there == node)
            if self._trouble_of(node) is not None:
                if node not in self.sync.required:
                    self._rests[node] = now + REST_SECONDS  # another one comes first, if there is one
            elif not differs and self._rests.get(node, 0.0) <= now:
                self.sync.take_in(node)

    async def _agree(self) -> None:
        """Have the store of leases take the set that is wished for, if it is another one."""
        aim = self.sync.wish({node for _, node in self._senders})
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


def _is_settled(one: _Followed, node: str) -> bool:
    """Whether nothing is to be sent of a run any more: it is over, and the node has all of it."""
    copied = one.copied
    return one.is_over and copied.is_known(node) and copied.known(node) >= copied.written


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
