"""The server of one optimisation: it carries its optimiser out, in a thread, as a client of its own node.

User code runs here, and only that of this optimisation. What it decides is in the journal; killed, it begins again, and
what is finished answers from there.
"""

from __future__ import annotations

import asyncio
import threading
from typing import Any, Protocol

from dspex_actors.foundation.following import ConfigChanged, follow
from dspex_actors.optimisation.above import WORK, find
from dspex_actors.runs.keeper.workflows import NODES, this_process
from supervisors import ExitReason, GenServer, Stop

#: The setting that says how many runs of an optimisation are under way at a time.
AT_ONCE = "optimisation.at_once"
#: When the node stops, what is under way is paused within so many seconds.
END_SECONDS = 8.0


class _Work(Protocol):
    def run(self) -> None: ...
    def stop(self, why: str) -> None: ...
    def at_once(self, count: int) -> None: ...


def optimisation_name(run_id: str) -> str:
    """Return the registered name of the server of an optimisation."""
    return f"optimise:{run_id}"


class OptimisationWorker(GenServer):
    """Carries one optimisation out. Argument: its id."""

    async def init(self, run_id: str) -> None:
        """Open it, and begin; what cannot be opened here is a failed start."""
        self._run_id = run_id
        self._thread: threading.Thread | None = None
        holder = {**this_process(), NODES: True}
        self._work: _Work = await asyncio.to_thread(find(WORK), str(self.node["data_dir"]), run_id, holder)
        follow(self, AT_ONCE)
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._carry_out, name=optimisation_name(run_id), daemon=True)
        self._thread.start()

    def _carry_out(self) -> None:
        try:
            self._work.run()
        finally:
            self._loop.call_soon_threadsafe(self.send_after, 0.0, "over")

    def handle_info(self, message: Any) -> None:
        """End when all is done; follow the configuration."""
        match message:
            case "over":
                raise Stop("normal")
            case ConfigChanged(path=path, value=int() as count) if path == AT_ONCE:
                self._work.at_once(count)
            case _:
                super().handle_info(message)

    async def terminate(self, reason: ExitReason) -> None:
        """Have its runs paused, where the node is stopped."""
        thread = self._thread
        if thread is not None and thread.is_alive():
            self._work.stop("the node was stopped")
            await asyncio.to_thread(thread.join, END_SECONDS)
