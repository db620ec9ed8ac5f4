"""What a node runs that only works (`dspex start --role worker`): http workers, each from the first look at it on.

It has no journal, no keeper of runs and no evaluators: an evaluator of a full node looks its workers up, and gives them
work. This module imports nothing that a call needs, since the daemon imports it: what a worker needs it loads itself.
"""

from __future__ import annotations

import gc
from typing import Any

from dspex_actors.names import worker_count, worker_name
from supervisors import ChildSpec, GenServer

APP = "dspex_actors.workers.node:children"
#: With more workers than these, what they need is loaded once for all of them, before the first is started; with fewer
#: that would only make the node larger as long as nobody uses it.
FEW_WORKERS = 2
_NEEDED = (
    "dspex_actors.workers.actor",
    "dspex_actors.workers.evaluate_runner",
    "dspex_actors.metrics",
    "dspex_actors.programs.chain_of_thought",
    "dspex_actors.adapters.json",
    "json_repair",
)


def preload(workers: int) -> tuple[str, ...]:
    """Return what such a node loads before its first fork.

    Args:
        workers: how many it has.
    """
    return _NEEDED if workers > FEW_WORKERS else ()


def children(config: dict[str, Any], node: dict[str, Any]) -> list[ChildSpec]:
    """Return the workers; the node starts each when somebody looks for its name.

    Args:
        config: `AppConfig.to_dict()`.
        node: what the daemon says of the node.
    """
    return [
        ChildSpec(worker_name(n), NodeWorker, args=(n, config), name=worker_name(n), shutdown=5.0)
        for n in range(1, worker_count(config["workers"]) + 1)
    ]


class NodeWorker(GenServer):
    """What becomes a worker where it starts: there it loads what it needs. Arguments: as of `AwayWorker`."""

    def init(self, number: int, config: dict[str, Any]) -> None:
        """Become a worker."""
        gc.disable()  # what is loaded stays: to look for garbage in it again and again takes a tenth of the time
        from dspex_actors.workers.away import AwayWorker

        gc.enable()
        self.__class__ = AwayWorker  # type: ignore[assignment]
        self.init(number, config)
