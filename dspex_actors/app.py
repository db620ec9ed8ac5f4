"""What a dspex node runs under its root: journal and runs, http workers, LM clients, evaluators.

The daemon calls `children` at every start of the node; branches that are not in use cost one process each at most.
"""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass, field
from typing import Any

from dspex_actors.embedded.config import EmbeddedConfig
from dspex_actors.errors import ConfigError
from dspex_actors.foundation.checks import is_whole
from dspex_actors.names import CLIENTS, EVALUATORS, RUNS, WORKERS, worker_name
from supervisors import ChildSpec, SupervisorSpec

#: Imported by the daemon before it forks anything: children share the memory and start in milliseconds.
PRELOAD = [
    "dspex_actors.runs.keeper.actor",
    "dspex_actors.runs.evaluator.actor",
    "dspex_actors.workers.actor",
    "dspex_actors.workers.evaluate_runner",
    "dspex_actors.lm.control.client",
    "dspex_actors.embedded.actor",
]
APP = "dspex_actors.app:children"


@dataclass(frozen=True)
class AppConfig:
    """Settings of a dspex node.

    Args:
        workers: http workers; None: one per core, at least 2.
        embedded: settings of the embedded LM (`EmbeddedConfig`): latency_ms, rpm, faults and so on.
    """

    workers: int | None = None
    embedded: dict[str, Any] = field(default_factory=dict)

    def check(self) -> None:
        """Refuse what no node can run with, before one is started.

        Raises:
            ConfigError: names the setting, what is legal and what was given.
        """
        if self.workers is not None and not is_whole(self.workers, 1):
            raise ConfigError(f"workers is 1 or more, or None for one per core; got {self.workers!r}")
        try:
            EmbeddedConfig(**self.embedded)
        except TypeError:
            known = [name for name in EmbeddedConfig.__dataclass_fields__ if name != "host"]
            unknown = [name for name in self.embedded if name not in known] or list(self.embedded)
            raise ConfigError(f"embedded: {', '.join(unknown)} is not usable; there are {', '.join(known)}") from None

    @property
    def worker_count(self) -> int:
        """Return how many http workers there are."""
        return self.workers or max(2, os.cpu_count() or 1)

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain data."""
        return asdict(self)


def children(config: dict[str, Any], node: dict[str, Any]) -> list[ChildSpec]:
    """Return the children of the root, in start order.

    Args:
        config: `AppConfig.to_dict()`.
        node: what the daemon says of the node.
    """
    from dspex_actors.runs.keeper.actor import Runs
    from dspex_actors.workers.actor import HttpWorker

    settings = AppConfig(**config)
    workers = [
        ChildSpec(worker_name(n), HttpWorker, args=(n, settings.embedded), name=worker_name(n), shutdown=5.0)
        for n in range(1, settings.worker_count + 1)
    ]
    return [
        ChildSpec(CLIENTS, _branch(CLIENTS)),
        ChildSpec(WORKERS, _branch(WORKERS, *workers)),
        ChildSpec(RUNS, Runs, args=(settings.worker_count,), name=RUNS, shutdown=10.0),
        # Last to start and first to stop: what evaluators have in hand still reaches the journal.
        ChildSpec(EVALUATORS, _branch(EVALUATORS)),
    ]


def _branch(name: str, *children: ChildSpec) -> SupervisorSpec:
    """Return a branch whose children may fall often before it gives up: each fall costs little here."""
    return SupervisorSpec(children, name=name, intensity=30, period=10.0)
