"""Following a run: at the node of this connection, and where that one is gone at another one that has it.

What a client needs of another node is its address, which is in the data folder of its own (the membership keeps it
there), and the key, which all of them share. So nothing is asked of the cluster before it is needed.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dspex_actors.client.looking import COME_BACK_SECONDS, PATIENCE_SECONDS, POLL_LAST, look, wait_for_end
from dspex_actors.errors import ConfigError, DspexError, RunInterrupted, from_record
from dspex_actors.foundation.home import HOME
from dspex_actors.journal.errors import JournalError
from dspex_actors.journal.opening import place_of
from dspex_actors.journal.reader import JournalReader
from dspex_actors.names import RUNS, run_command
from supervisors import Node
from supervisors.cluster.handle import others_of, where_else
from supervisors.cluster.membership.messages import Member
from supervisors.errors import CallTimeout, NodeDown, SupervisorsError

#: Another node takes a run over within 15 s; so long one that has it is looked for.
FIND_SECONDS = 25.0
#: Of several copies of a run one that has ended well is the newest, and one that is paused the oldest.
_RANKS = {"finished": 3, "failed": 2, "cancelled": 2, "running": 1}


class Following:
    """Looks at a run, wherever it goes on.

    Args:
        run_id: the run.
        ask: asks the keeper of runs of this connection's node.
        data_dir: of that node.
        journal: of that node.
        patience: for how many seconds a node that has the run is looked for each time.
    """

    def __init__(
        self,
        run_id: str,
        ask: Callable[..., Any],
        data_dir: Path,
        journal: JournalReader,
        patience: float = FIND_SECONDS,
    ) -> None:
        """Begin at one's own node."""
        self._patience = patience
        self._run_id, self._ask, self._data_dir, self._journal = run_id, ask, data_dir, journal
        self._node: Node | None = None
        self._member: Member | None = None

    @property
    def away(self) -> Member | None:
        """The other node where the run is followed; None: it is that of this connection."""
        return self._member

    def look(self) -> dict[str, Any]:
        """Return the run's summary and note.

        Raises:
            RunInterrupted: the node went away, and no other one has the run.
        """
        if self._node is None:
            try:
                return look(self._run_id, self._ask, self._data_dir, self._journal)
            except RunInterrupted:
                return self._elsewhere()
        asked = time.monotonic()
        while True:
            try:
                return _progress(self._node, self._run_id, COME_BACK_SECONDS)
            except (SupervisorsError, JournalError) as error:
                patience = PATIENCE_SECONDS if isinstance(error, CallTimeout | JournalError) else COME_BACK_SECONDS
                if isinstance(error, NodeDown) or time.monotonic() - asked > patience:
                    self.close()
                    return self._elsewhere()
            except ConfigError:  # it is not there any more
                self.close()
                return self._elsewhere()
            time.sleep(POLL_LAST)

    def wait(self, seconds: float) -> None:
        """Return when the run has ended, after so many seconds at the latest."""
        wait_for_end([self._run_id], self._ask if self._node is None else self._ask_there, seconds)

    def _ask_there(self, *request: Any, timeout: float) -> Any:
        assert self._node is not None
        return _asked(self._node, request, timeout)

    def _elsewhere(self) -> dict[str, Any]:
        """Find a node of the cluster that has the run; return what it says of it.

        Raises:
            RunInterrupted: none has it.
        """
        until = time.monotonic() + self._patience
        while True:
            is_sure = True
            best: tuple[tuple[int, int], Node, Member, dict[str, Any]] | None = None
            for member in others_of(self._data_dir):
                try:
                    node = Node.attach(self._data_dir, HOME, at=member.address)
                except SupervisorsError as error:
                    is_sure = is_sure and "Connection refused" in str(error)
                    continue
                try:
                    found = _progress(node, self._run_id, COME_BACK_SECONDS)
                except ConfigError:  # it has no such run
                    node.close()
                    continue
                except (SupervisorsError, DspexError):
                    node.close()
                    is_sure = False
                    continue
                # Several may have it, and not each copy is kept up to date.
                rank = _RANKS.get(found["summary"]["state"], 0), int(found["summary"]["done"])
                if best is not None and rank <= best[0]:
                    node.close()
                    continue
                if best is not None:
                    best[1].close()
                best = rank, node, member, found
            if best is not None:
                _, self._node, self._member, found = best
                return found
            if is_sure or time.monotonic() > until:
                raise self.interrupted()
            time.sleep(POLL_LAST)

    def interrupted(self) -> RunInterrupted:
        """Return the error that says that the node is gone, and what to do."""
        return RunInterrupted(
            f"the node went away; what was answered is safe. Resume with `{run_command('resume', self._run_id)}` "
            f"or system.resume({self._run_id!r}){where_else(self._data_dir)}",
            run_id=self._run_id,
        )

    def results(self, *, with_parts: bool = False) -> JournalReader:
        """Return who reads the run, which has ended: one's own journal, or a copy of what another node has in its own.

        Args:
            with_parts: with the runs that belong to it, in figures.

        Raises:
            RunInterrupted: that node went away, too.
        """
        if self._node is None or self._member is None or place_of(self._data_dir) is not None:
            return self._journal
        from dspex_actors.client.fetching import fetched

        try:
            return fetched(self._run_id, self._fetch, with_parts=with_parts)
        except (SupervisorsError, JournalError) as error:
            there = f"{self._member.name} ({self._member.address})"
            raise RunInterrupted(
                f"the node went away, and the results of run {self._run_id} cannot be had from {there}: {error}; "
                f"`{run_command('show', self._run_id)}` shows them on that host",
                run_id=self._run_id,
            ) from None

    def _fetch(self, request: Any) -> list[Any]:
        assert self._node is not None
        told: list[Any] = _asked(self._node, request, PATIENCE_SECONDS)
        return told

    def close(self) -> None:
        """Leave the other node."""
        node, self._node, self._member = self._node, None, None
        if node is not None:
            node.close()


def _progress(node: Node, run_id: str, timeout: float) -> dict[str, Any]:
    found: dict[str, Any] = _asked(node, ("progress", run_id), timeout)
    return found


def _asked(node: Node, request: Any, timeout: float) -> Any:
    kind, value = node.call(RUNS, request, timeout)
    if kind == "error":
        raise from_record(value)
    return value
