"""A worker of a node that has no keeper of runs, no journal and no configuration from the start."""

from __future__ import annotations

from typing import Any

from dspex_actors.config.started import is_needed, mark_limited, write_started
from dspex_actors.names import worker_count
from dspex_actors.observe.branch import ensure
from dspex_actors.runs.keeper.telling import tell_cluster
from dspex_actors.workers.actor import HttpWorker
from dspex_actors.workers.payments import Payments
from supervisors.errors import SupervisorsError


class NoBooks(Payments):
    """Sums that nobody keeps: what runs have asked comes with their results, and nothing else is asked here."""

    def _tell_soon(self) -> None:
        self._sums.take()


class AwayWorker(HttpWorker):
    """An http worker. Arguments: its number on the node, from 1; `AppConfig.to_dict()`."""

    BOOKS, MEASURES = NoBooks, False

    def init(self, number: int, config: dict[str, Any]) -> None:  # type: ignore[override]
        """Do what the start of a full node does, and begin; the first one tells the cluster what is in work."""
        given = self.node["data_dir"], config["config_file"], config["given"]
        write_started(*given)
        mark_limited(*given)
        count = worker_count(config["workers"])
        super().init(number, config["embedded"], count)
        if is_needed(*given):
            self.spawn(self._configure())
        if number == 1:
            self.spawn(tell_cluster(self, count, lambda: 0, self._in_hand))

    def _in_hand(self) -> int:
        return sum(task.active + len(task.queue) for task in self._runs.values())

    async def _configure(self) -> None:
        from dspex_actors.config.actor import config_spec  # most have no settings of their own, and it is large

        try:
            await ensure(self, config_spec())
        except SupervisorsError as error:
            self.log.error("the settings of this node are not known to its workers", error=str(error))
