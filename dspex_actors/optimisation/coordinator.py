"""The coordinator of a node's optimisations: it has a server for each one under way, and brings one back that died.

What is decided is in the journal: an optimisation is paused, cancelled and asked about there, by whoever wants to, and
its server notices. So nothing is lost with the coordinator: one that comes back finds what is to go on.
"""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

from dspex_actors.errors import ConfigError, DspexError, from_record
from dspex_actors.foundation.branches import branch_spec, why_not_started
from dspex_actors.journal.opening import open_reader
from dspex_actors.journal.sameness import OPTIMISE, WORKFLOW, is_nodes_own
from dspex_actors.names import OPTIMISATIONS, OPTIMISERS, RUNS
from dspex_actors.observe.reporting import report_from_actor
from dspex_actors.optimisation.messages import Begin, UnderWay
from dspex_actors.optimisation.worker import OptimisationWorker, optimisation_name
from supervisors import NO_REPLY, Caller, ChildSpec, Down, ExitReason, GenServer, Ref
from supervisors.errors import AlreadyPresent, AlreadyStarted, NoProcess, ServerExited, SupervisorsError

#: One whose server has died more often than this within so many seconds is given up.
MAX_FALLS, FALL_SECONDS = 8, 60.0
#: One that cannot be brought back is tried again after so many seconds each: the keeper of runs may be on its way, too.
AGAIN_SECONDS = (0.5, 1.0, 2.0, 4.0, 8.0)
#: A server that is just ending is waited for so long, and looked for this often, in seconds.
END_SECONDS, LOOK_SECONDS = 15.0, 0.05
#: Where the journal, or its keeper, is away it is looked again after so many seconds what is to go on.
REVIVE_SECONDS = 1.0


def branch() -> ChildSpec:
    """Return the branch of the coordinator and of the servers of optimisations."""
    return branch_spec(OPTIMISERS)


def coordinator_spec() -> ChildSpec:
    """Return the coordinator as a child of that branch."""
    return ChildSpec(OPTIMISATIONS, OptimizationCoordinator, name=OPTIMISATIONS, shutdown=5.0)


class OptimizationCoordinator(GenServer):
    """Keeps the optimisations of a node going. It takes what stands in `messages`.

    The journal is read in threads: a server that is slow, or away, holds up nobody who asks meanwhile.
    """

    def init(self) -> None:
        """Go on with what was under way when a coordinator before this one died."""
        report_from_actor(self)
        self._journal = open_reader(Path(self.node["data_dir"]))
        self._watched: dict[Ref, str] = {}
        self._falls: dict[str, list[float]] = {}
        self.send_after(0.0, "revive")

    def handle_call(self, request: Any, caller: Caller) -> Any:
        """Answer one request; an error of ours travels as its record."""
        match request:
            case Begin(run_id):
                self.spawn(self._answer(run_id, caller))
                return NO_REPLY
            case UnderWay():
                return "ok", sorted(self._watched.values())
        return "error", ConfigError(f"optimisations do not know the request {request!r:.200}").to_record()

    async def handle_info(self, message: Any) -> None:
        """Begin with what is to go on, also when the keeper has taken it over; bring a server back that died."""
        match message:
            case "revive":
                self.spawn(self._revive())  # the keeper may take its time, and others ask meanwhile
            case Down(ref=Ref() as ref, reason=reason):
                run_id = self._watched.pop(ref, None)
                if run_id is not None:
                    self.spawn(self._after_end(run_id, reason))
            case _:
                super().handle_info(message)

    async def _revive(self) -> None:
        """Go on with what is this node's, of a journal that others may have, too."""
        try:
            owner = await self._owner()
            rows = await asyncio.to_thread(self._journal.list_runs, state="running", kind=OPTIMISE)
        except (DspexError, SupervisorsError):
            self.send_after(REVIVE_SECONDS, "revive")
            return
        going_on = set(self._watched.values())
        for row in rows:
            if is_nodes_own(row.spec) and row.owner in ("", owner) and row.run_id not in going_on:
                self.spawn(self._bring_back(row.run_id))

    async def _owner(self) -> str:
        """Return what this node is called in the journal.

        Raises:
            SupervisorsError: the keeper of runs is away.
            DspexError: what it says in place of an answer.
        """
        kind, owner = await self.call(RUNS, ("owner",))
        if kind == "error":
            raise from_record(owner)
        return str(owner)

    async def _answer(self, run_id: str, caller: Caller) -> None:
        try:
            await self._begin(run_id)
        except DspexError as error:
            self.reply(caller, ("error", error.to_record()))
        except Exception as error:
            self.log.exception("an optimisation did not begin", run_id=run_id)
            what = f"optimisation {run_id} did not begin: {type(error).__name__}: {error}; see `dspex logs`"
            self.reply(caller, ("error", DspexError(what).to_record()))
        else:
            self.reply(caller, ("ok", None))

    async def _begin(self, run_id: str) -> None:
        """Have a server for an optimisation, a new one where that of before is just ending."""
        spec = ChildSpec(
            optimisation_name(run_id),
            OptimisationWorker,
            args=(run_id,),
            restart="temporary",
            name=optimisation_name(run_id),
            shutdown=10.0,
        )
        until = time.monotonic() + END_SECONDS
        while True:
            try:
                ref = await self.start_child(OPTIMISERS, spec)
            except AlreadyStarted as error:
                ref = error.ref
                found = await asyncio.to_thread(self._journal.standing, run_id)
                if found is None or found[0] != "running":  # it was paused, and its server is about to end
                    if time.monotonic() > until:
                        raise ConfigError(f"optimisation {run_id} is just being paused: try again") from None
                    await asyncio.sleep(LOOK_SECONDS)
                    continue
            except (AlreadyPresent, NoProcess, ServerExited) as error:
                if time.monotonic() > until:
                    raise ConfigError(f"optimisation {run_id} cannot begin: {error}") from None
                await asyncio.sleep(LOOK_SECONDS)
                continue
            except SupervisorsError as error:
                raise ConfigError(f"optimisation {run_id} cannot begin: {why_not_started(error)}") from None
            if ref is not None and ref not in self._watched:
                self._watched[ref] = run_id
                self.monitor(ref)
            return

    async def _after_end(self, run_id: str, reason: ExitReason) -> None:
        """Bring a server back that died while its optimisation was under way."""
        if not await self._goes_on(run_id):
            self._falls.pop(run_id, None)
            return
        now = time.monotonic()
        falls = [*(at for at in self._falls.get(run_id, ()) if now - at < FALL_SECONDS), now]
        self._falls[run_id] = falls
        if len(falls) > MAX_FALLS:
            del self._falls[run_id]
            await self._give_up(run_id, f"its server died {len(falls)} times in {FALL_SECONDS:g} s, last of: {reason}")
            return
        await self._bring_back(run_id)

    async def _goes_on(self, run_id: str) -> bool:
        """Tell whether an optimisation is to go on here; where journal or keeper are away nobody has said otherwise."""
        try:
            row = await asyncio.to_thread(self._journal.get_run, run_id, code=False)
            if row is None or row.state != "running":
                return False
            return row.owner in ("", await self._owner())
        except (DspexError, SupervisorsError):
            return True

    async def _bring_back(self, run_id: str) -> None:
        for pause in (*AGAIN_SECONDS, None):
            try:
                await self._begin(run_id)
                return
            except DspexError as error:
                why = error.message
            if not await self._goes_on(run_id):
                return
            if pause is None:
                await self._give_up(run_id, why)
            else:
                await asyncio.sleep(pause)

    async def _give_up(self, run_id: str, why: str) -> None:
        self.log.error("an optimisation is given up", run_id=run_id, why=why)
        try:
            kind, refused = await self.call(RUNS, (WORKFLOW, "give up", run_id, why), timeout=60.0)
        except SupervisorsError as error:
            kind, refused = "error", {"message": str(error)}
        if kind == "error":
            self.log.error("that cannot be written down; it is tried again", run_id=run_id, why=refused.get("message"))
            self.send_after(REVIVE_SECONDS, "revive")
