"""Runs whose node has died: they are looked for, and gone on with by one of the nodes that have all of them."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

from dspex_actors.errors import ConfigError, DspexError
from dspex_actors.journal.base import JournalBase
from dspex_actors.journal.copies import Leased, leased_runs, set_aside
from dspex_actors.journal.errors import Fenced, JournalError
from dspex_actors.journal.family import rest_of
from dspex_actors.journal.records import RunRow
from dspex_actors.journal.sameness import is_nodes_own
from dspex_actors.runs.datasets.store import Copies
from dspex_actors.runs.messages import Note
from dspex_actors.runs.standby.claiming import Claiming
from dspex_actors.runs.standby.claims import lease_of, may_claim
from dspex_actors.runs.standby.led import Led
from supervisors import GenServer
from supervisors.cluster.leases.messages import LEASES, Read
from supervisors.cluster.membership.messages import Member
from supervisors.errors import LeaseHeld, SupervisorsError

#: Runs that nobody seems to coordinate are looked for this often, in seconds.
LOOK_SECONDS = 1.0
#: A run that nobody has a lease of, though its node is up, may be taken after so many seconds.
FREE_SECONDS = 6.0
#: A copy that is in sync no more, of a run that nobody coordinates, is set aside after so many seconds.
ASIDE_SECONDS = 20.0


class Looking:
    """Goes on with runs that nobody coordinates, for the keeper of runs of one node.

    Args:
        keeper: the keeper.
        journal: its journal.
        led: the runs that the node coordinates.
        claiming: claims a run.
        members: returns the members of the cluster, by uid.
        complete: brings the copy of a run to its end, given who has all of it; whether that was possible.
        go_on: has a run that was claimed go on here.
    """

    def __init__(
        self,
        keeper: GenServer,
        journal: JournalBase,
        led: Led,
        claiming: Claiming,
        members: Callable[[], Mapping[str, Member]],
        complete: Callable[[str, list[str] | None], Awaitable[bool]],
        go_on: Callable[[RunRow], Awaitable[object]],
    ) -> None:
        """Know of no run yet."""
        self._keeper, self._journal, self._led, self._claiming = keeper, journal, led, claiming
        self._members, self._complete, self._go_on = members, complete, go_on
        self._copies = Copies(Path(keeper.node["data_dir"]))
        #: Run → since when nobody is known to have its lease; and what was said of why it does not go on.
        self._free_since: dict[str, float] = {}
        self._said: dict[str, str] = {}

    async def keep_looking(self) -> None:
        """Look for what there is to go on with, as long as the keeper lives."""
        while True:
            try:
                for run in leased_runs(self._journal):
                    if run.run_id not in self._led:
                        try:
                            await self._look_at(run)
                        except DspexError as error:  # of this one; the others need not wait for it
                            self._keeper.log.info("a run is looked at later", run=run.run_id, why=error.message)
            except (DspexError, SupervisorsError) as error:
                self._keeper.log.info("runs of other nodes are looked at later", why=error.message)
            await asyncio.sleep(LOOK_SECONDS)

    async def _look_at(self, leased: Leased) -> None:
        """Go on with a run that nobody coordinates, if this node may."""
        run_id, now, me = leased.run_id, time.monotonic(), self._journal.owner
        owner = self._members().get(leased.owner)
        is_gone = leased.owner == me or owner is None or not owner.is_up
        since = self._free_since.setdefault(run_id, now)
        if self._claiming.lock(run_id).locked():
            return
        if not is_gone and now < since + FREE_SECONDS:
            return
        lease = await self._claiming.leases.get(lease_of(run_id))
        if lease.holder:
            self._free_since[run_id] = now
            self._take_back(run_id)
            return
        agreed, version = await self._keeper.call(LEASES, Read(lease_of(run_id)), timeout=5.0)
        if may_claim(me, agreed, version, 1, leased.owner):
            await self._take(run_id, leased.owner)
            return
        is_complete = await self._complete(run_id, agreed if version else None)
        if not is_complete and now > since + ASIDE_SECONDS:
            set_aside(self._journal, run_id, "it went on at another node, and its copy here is not in sync")

    async def _take(self, run_id: str, owner: str) -> None:
        row = self._journal.get_run(run_id)
        if row is None or not await self._has_examples(row):
            return
        async with self._claiming.lock(run_id):
            if run_id in self._led:
                return
            try:
                _, row = await self._claiming.claim(run_id, 0.0)
            except (ConfigError, Fenced, LeaseHeld):
                return  # another node has it
        self._free_since.pop(run_id, None)
        if owner != self._journal.owner:
            members = self._members()
            name = members[owner].name if owner in members else owner
            self._keeper.log.warning("a run is taken over from a node that is down", run=run_id, node=name)
        for one in [row, *rest_of(self._journal, row)]:  # of parts those that are under way here still
            if one.state == "running":
                self._keeper.spawn(self._have_go_on(one.run_id))

    async def _has_examples(self, row: RunRow) -> bool:
        """Whether the dataset of a run can be read here; an optimisation has its own in its row."""
        if is_nodes_own(row.spec):
            return True
        try:
            await asyncio.to_thread(self._copies.open, row.spec.dataset)
        except (DspexError, OSError) as error:
            self._free_since[row.run_id] = time.monotonic()
            if self._said.get(row.run_id) != str(error):
                self._said[row.run_id] = str(error)
                told = "a run is not taken over: its dataset is not here"
                self._keeper.log.warning(told, run=row.run_id, why=str(error))
                trouble = (
                    f"nobody goes on with it: node {self._keeper.node['name']} may, but has not its dataset: {error}"
                )
                note = {"in_flight": 0, "waiting": 0, "workers": 0, "trouble": trouble}
                self._keeper.cast(self._keeper.ref, Note(row.run_id, note))  # whoever follows it is told
            return False
        self._take_back(row.run_id)
        return True

    def _take_back(self, run_id: str) -> None:
        """Have nobody be told any more that nobody goes on with a run: somebody does, or will."""
        if self._said.pop(run_id, None) is not None:
            self._keeper.cast(self._keeper.ref, Note(run_id, {}))

    async def _have_go_on(self, run_id: str) -> None:
        """Have a run go on that was claimed; it is this node's by now, so nobody else looks for it."""
        while run_id in self._led:
            try:
                row = self._journal.get_run(run_id)
                if row is not None and row.state == "running":  # nobody has paused it meanwhile
                    with contextlib.suppress(ConfigError, Fenced):  # it is written down why; another node has it
                        await self._go_on(row)
                return
            except (JournalError, SupervisorsError) as error:  # the tree may be just coming back, too
                self._keeper.log.warning("a run that was taken over goes on later", run=run_id, why=error.message)
            await asyncio.sleep(LOOK_SECONDS)
