"""Keeps the copy of one run at one standby up to date: batch after batch, several of them on their way at once."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any

from dspex_actors.errors import DspexError, from_record
from dspex_actors.journal.base import JournalBase
from dspex_actors.journal.copies import Portion, Stand, portion_after, stand_of
from dspex_actors.journal.errors import Fenced, JournalError
from dspex_actors.journal.store import Batch
from dspex_actors.names import RUNS
from dspex_actors.runs.standby.core import Copied
from dspex_actors.runs.standby.messages import CopyBatch, CopyPortion, GetStand
from supervisors import GenServer, Ref
from supervisors.cluster.membership.messages import MEMBERSHIP, Lookup
from supervisors.errors import SupervisorsError

#: So many messages are on their way at once, and so long one may take, in seconds.
WINDOW, ANSWER_SECONDS = 8, 10.0
#: A standby that does not answer, or has not the space, is tried again after so many seconds.
AGAIN_SECONDS = 0.5
#: The last batches are kept for standbys, of so many bytes in all; who lacks more catches up by the log.
RECENT_BYTES = 16 << 20


class Recent:
    """The last batches of a run, by number, as its evaluator has packed them."""

    def __init__(self) -> None:
        """Begin without any."""
        self._batches: dict[int, tuple[Batch, bytes]] = {}
        self._size = 0

    def add(self, seq: int, batch: Batch, packed: bytes) -> None:
        """Keep one, and forget the oldest where it is too much."""
        self._batches[seq] = batch, packed
        self._size += len(packed)
        while self._size > RECENT_BYTES:
            oldest = next(iter(self._batches))
            self._size -= len(self._batches.pop(oldest)[1])

    def clear(self) -> None:
        """Forget all."""
        self._batches.clear()
        self._size = 0

    def get(self, seq: int) -> tuple[Batch, bytes] | None:
        """Return a batch; None where it was none, or is not kept any more."""
        return self._batches.get(seq)


class _Otherwise(DspexError):
    """The copy is not as it was thought to be: it is looked at again."""


class Sender:
    """Keeps one copy up to date, until it is told to end.

    Args:
        server: the keeper of runs.
        journal: its journal.
        run_id: the run.
        epoch: of its coordinator.
        node: uid of the standby.
        sync: what the coordinator knows of all copies of the run; told how far this one is.
        recent: the last batches.
        news: called whenever something has changed.
        is_part: it is a run of an optimisation: another run of its name is one that was made by a coordinator of
            before, and nowhere but there.
    """

    def __init__(
        self,
        server: GenServer,
        journal: JournalBase,
        run_id: str,
        epoch: int,
        node: str,
        sync: Copied,
        recent: Recent,
        news: Callable[[], None],
        *,
        is_part: bool = False,
    ) -> None:
        """Begin to look for the standby."""
        self._server, self._journal, self._run_id, self._epoch = server, journal, run_id, epoch
        self.node, self._sync, self._recent, self._news, self._is_part = node, sync, recent, news, is_part
        self._there = asyncio.Event()
        self._answers: deque[tuple[Stand, Any, Exception | None]] = deque()
        self._session = 0
        #: Whether program and metric of the run may be others than those of the copy.
        self._lacks_code = True
        self._over = False
        #: Why the copy is not kept up to date; None: it is, or nothing is known yet.
        self.trouble: str | None = None
        #: Whether the copy has another content, and must not be in the set before that is dropped.
        self.differs = False
        #: Whether a coordinator with a greater epoch has the run.
        self.is_fenced = False
        server.spawn(self._keep())

    def wake(self) -> None:
        """Look whether there is something to send."""
        self._there.set()

    def renew(self) -> None:
        """Send program and metric once more: the run goes on, perhaps with others."""
        self._lacks_code = True

    def end(self) -> None:
        """Send nothing more."""
        self._over = True
        self._there.set()

    async def _keep(self) -> None:
        while not self._over:
            try:
                await self._stream()
            except _Otherwise:
                pass
            except Fenced:
                self.is_fenced = self._over = True
            except DspexError as error:
                self.trouble = error.message
                if isinstance(error, JournalError):
                    self._sync.leave_out(self.node)
            except SupervisorsError:
                self.trouble = "does not answer"
            self._news()
            if not self._over:
                await asyncio.sleep(AGAIN_SECONDS)

    async def _stream(self) -> None:
        """Send what is missing, then whatever is written, until something goes wrong."""
        self._session += 1
        self._answers.clear()
        keeper: Ref = await self._server.call(MEMBERSHIP, Lookup(self.node, RUNS))
        seen = Stand(*opened(await self._server.call(keeper, GetStand(self._run_id), ANSWER_SECONDS)))
        anew = not self._is_same(seen)
        self.differs = anew
        while anew and not self._sync.is_left_out(self.node):  # until then it may claim the run with what it has
            self._sync.leave_out(self.node)
            self._news()
            await self._wait()
            if self._over:
                return
        self.differs = False
        self._sync.begins_at(self.node, 0 if anew else seen.seq)
        self._news()
        is_whole, flying, self._lacks_code = seen.is_whole and not anew, 0, True
        while not self._over:
            while flying < WINDOW and (seen.seq < self._sync.written or anew or not is_whole):
                request, seen, is_whole = self._next(seen, is_whole, anew)
                anew = False
                flying += 1
                answered = partial(self._answered, self._session, seen)
                self._server.call_then(keeper, request, answered, ANSWER_SECONDS)
                if isinstance(request, CopyPortion):
                    self._lacks_code = False
                    await asyncio.sleep(0)  # others have their turn
            await self._wait()
            while self._answers:
                thought, reply, error = self._answers.popleft()
                if error is not None:
                    raise error
                if Stand(*opened(reply))[:2] != thought[:2]:
                    raise _Otherwise("the copy is not as it was thought to be")
                flying -= 1
                self.trouble = None
                self._sync.has(self.node, thought.seq)
                self._news()

    async def _wait(self) -> None:
        await self._there.wait()
        self._there.clear()

    def _answered(self, session: int, thought: Stand, reply: Any, error: Exception | None) -> None:
        if session == self._session:
            self._answers.append((thought, reply, error))
            self._there.set()

    def _is_same(self, theirs: Stand) -> bool:
        """Whether a copy has the beginning of what is here.

        Raises:
            Fenced: it was claimed with a greater epoch.
            DspexError: it is none.
        """
        mine = stand_of(self._journal, self._run_id)
        is_other = theirs.created_at not in (0.0, mine.created_at)
        if is_other and not self._is_part:
            raise DspexError(f"has another run of the name {self._run_id}")
        if theirs.claimed > self._epoch:
            raise Fenced(f"run {self._run_id} was claimed with epoch {theirs.claimed}")
        if is_other:
            return False
        if theirs.seq > mine.seq:
            return False
        return stand_of(self._journal, self._run_id, theirs.seq).epoch == theirs.epoch

    def _next(self, seen: Stand, is_whole: bool, anew: bool) -> tuple[CopyBatch | CopyPortion, Stand, bool]:
        """Return what is to be sent to a copy, how far it is then, and whether it is whole then."""
        kept = self._recent.get(seen.seq + 1) if is_whole and seen.epoch == self._epoch else None
        if kept is not None:
            batch, packed = kept
            request = CopyBatch(self._run_id, self._epoch, list(seen), *batch, packed)
            return request, seen._replace(seq=seen.seq + 1), True
        portion: Portion = portion_after(self._journal, self._run_id, 0 if anew else seen.seq, code=self._lacks_code)
        after = stand_of(self._journal, self._run_id, portion.seq)
        plain = [portion.seq, portion.entries, portion.rows, portion.run, portion.is_last, portion.steps]
        return CopyPortion(self._run_id, self._epoch, list(seen), anew, plain), after, portion.is_last


def opened(answer: Any) -> Any:
    """Return what a keeper has answered with, or raise its error."""
    kind, value = answer
    if kind == "error":
        raise from_record(value)
    return value
