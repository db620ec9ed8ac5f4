"""What a dspex node runs under its root: journal and runs, http workers, LM clients, evaluators.

The daemon calls `children` at every start of the node; branches that are not in use cost one process each at most.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from dspex_actors.config.started import is_needed, mark_limited, serves_metrics, write_started
from dspex_actors.embedded.config import EmbeddedConfig
from dspex_actors.errors import ConfigError
from dspex_actors.foundation.branches import branch_spec
from dspex_actors.foundation.checks import is_whole
from dspex_actors.journal.replicas import MOST_REPLICAS, keep_replicas, kept_replicas
from dspex_actors.names import RUNS, WORKERS, worker_count, worker_name
from dspex_actors.observe.branch import branch
from dspex_actors.workers.node import APP as APP_OF_WORKER
from dspex_actors.workers.node import preload
from supervisors import ChildSpec
from supervisors.host.node_config import WORKER

#: Imported by the daemon before it forks anything: children share the memory and start in milliseconds.
PRELOAD = [
    "dspex_actors.runs.keeper.actor",
    "dspex_actors.runs.evaluator.actor",
    "dspex_actors.workers.actor",
    "dspex_actors.workers.evaluate_runner",
    "dspex_actors.workers.infer_runner",
    "dspex_actors.ecosystem.inference.plan",
    "dspex_actors.inference.feeder",
    "dspex_actors.modules.actor",
    "dspex_actors.lm.control.client",
    "dspex_actors.embedded.actor",
    # What users' programs are made of, and runs of other kinds.
    "dspex_actors.metrics",
    "dspex_actors.programs.chain_of_thought",
    "dspex_actors.steps",
    "dspex_actors.programs.react",
    "dspex_actors.programs.refine",
    "dspex_actors.programs.best_of_n",
    "dspex_actors.programs.multi_chain_comparison",
    "dspex_actors.programs.multi_hop",
    "dspex_actors.programs.majority",
    "dspex_actors.programs.multi_modal",
    "dspex_actors.programs.prompt_template",
    "dspex_actors.programs.code_act",
    "dspex_actors.programs.usage",
    "dspex_actors.programs.whole",
    "dspex_actors.streaming",
    "dspex_actors.adapters.json",
    "dspex_actors.adapters.baml",
    "dspex_actors.adapters.two_step",
    "dspex_actors.adapters.xml",
    "dspex_actors.lm.embedder",
    "dspex_actors.cache.configuring",
    "dspex_actors.teleprompt.bootstrap_runner",
    "dspex_actors.types.image",
    "dspex_actors.types.audio",
    "dspex_actors.types.file",
    "dspex_actors.types.document",
    "json_repair",
    "dspex_actors.observe.events.actor",
    "dspex_actors.observe.telemetry.actor",
    "dspex_actors.protection.actor",
    "dspex_actors.protection.handle",
]
APP = "dspex_actors.app:children"


def started_as(role: str, workers: int) -> dict[str, Any]:
    """Return `app` and `preload` of the NodeConfig of a node with this role.

    Args:
        role: full or worker.
        workers: how many http workers it has.
    """
    if role == WORKER:
        return {"app": APP_OF_WORKER, "preload": list(preload(workers))}
    return {"app": APP, "preload": list(PRELOAD)}


@dataclass(frozen=True)
class AppConfig:
    """Settings of a dspex node.

    Args:
        workers: http workers; None: one per core, at least 2.
        replicas: how many nodes of a cluster have each run, where each has its own journal; None: as at the last start
            that said it, else 2.
        embedded: settings of the embedded LM (`EmbeddedConfig`): latency_ms, rpm, faults and so on.
        config_file: the configuration; None: DSPEX_CONFIG, or dspex.toml in the node's working folder.
        given: settings that the command line gave: path → (value, the option).
    """

    workers: int | None = None
    replicas: int | None = None
    embedded: dict[str, Any] = field(default_factory=dict)
    config_file: str | None = None
    given: dict[str, tuple[Any, str]] = field(default_factory=dict)

    def check(self) -> None:
        """Refuse what no node can run with, before one is started.

        Raises:
            ConfigError: names the setting, what is legal and what was given.
        """
        if self.workers is not None and not is_whole(self.workers, 1):
            raise ConfigError(f"workers is 1 or more, or None for one per core; got {self.workers!r}")
        if self.replicas is not None and not (is_whole(self.replicas, 1) and self.replicas <= MOST_REPLICAS):
            raise ConfigError(
                f"replicas is invalid: got {self.replicas!r}, expected 1 to {MOST_REPLICAS}, or None for 2 in a cluster"
            )
        try:
            EmbeddedConfig(**self.embedded)
        except TypeError:
            known = [name for name in EmbeddedConfig.__dataclass_fields__ if name != "host"]
            unknown = [name for name in self.embedded if name not in known] or list(self.embedded)
            raise ConfigError(f"embedded: {', '.join(unknown)} is not usable; there are {', '.join(known)}") from None

    @property
    def worker_count(self) -> int:
        """Return how many http workers there are."""
        return worker_count(self.workers)

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
    write_started(node["data_dir"], settings.config_file, settings.given)
    mark_limited(node["data_dir"], settings.config_file, settings.given)
    if settings.replicas is not None:
        keep_replicas(Path(node["data_dir"]), settings.replicas)
    replicas = settings.replicas or kept_replicas(Path(node["data_dir"]))
    workers = [
        ChildSpec(
            worker_name(n),
            HttpWorker,
            args=(n, settings.embedded, settings.worker_count),
            name=worker_name(n),
            shutdown=5.0,
        )
        for n in range(1, settings.worker_count + 1)
    ]
    return [
        # Before the workers, so that it stops after them: what they have paid last still reaches the journal.
        ChildSpec(RUNS, Runs, args=(settings.worker_count, replicas), name=RUNS, shutdown=10.0),
        branch_spec(WORKERS, workers),
        # The branches of LM clients and of evaluators are started when they are first needed. So they are the first to
        # stop: what evaluators have in hand still reaches the journal.
        *_observers(settings, node["data_dir"]),
    ]


def _observers(settings: AppConfig, data_dir: str) -> list[ChildSpec]:
    """Return the branch of observers where one of them is needed from the start; else it waits for its first use."""
    where = data_dir, settings.config_file, settings.given
    if not is_needed(*where):
        return []
    from dspex_actors.config.actor import config_spec
    from dspex_actors.observe.telemetry.actor import telemetry_spec

    return [branch(config_spec(), *([telemetry_spec()] if serves_metrics(*where) else []))]
