"""The places of the node's own parts among the services. A part that runs is found there; nobody has to register it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from dspex_actors.foundation.following import CONFIG
from dspex_actors.lm.control.spending_messages import SPENDING
from dspex_actors.lm.lm import LM
from dspex_actors.names import (
    CACHE,
    CLIENTS,
    ECOSYSTEMS,
    EVALUATORS,
    MODULES,
    OPTIMISATIONS,
    OPTIMISERS,
    PROTECTION,
    RUNS,
    TELEMETRY,
    WORKERS,
)
from dspex_actors.observe.events.messages import EVENTS

#: What a deployment can be asked for.
PREDICTION, STREAMING, EMBEDDING = "prediction", "streaming", "embedding"


@dataclass(frozen=True, slots=True)
class Place:
    """Where a part of the node is listed that has a registered name of its own.

    Args:
        name: its registered name.
        namespace: of its entry.
        called: its name there.
        metadata: of its entry.
    """

    name: str
    namespace: str
    called: str
    metadata: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Branch:
    """Where the children of a branch are listed, each by its id.

    Args:
        name: the branch's registered name.
        namespace: of their entries.
        prefix: of the ids of those that are meant; it is left out in their names.
        metadata: of their entries.
        is_nested: its children are supervisors, and theirs are meant, each as `group:id`; an id that begins with ":"
            is nobody's to ask.
    """

    name: str
    namespace: str
    prefix: str = ""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    is_nested: bool = False

    def key(self, child: str, group: str | None = None) -> tuple[str, str]:
        """Return namespace and name of a child, and of what group of a nested branch it is."""
        if group is None:
            return self.namespace, child.removeprefix(self.prefix)
        # What keeps answers is looked for among caches, wherever it is.
        return (CACHE, group) if child == CACHE else (self.namespace, f"{group}:{child}")


PLACES = (
    Place(RUNS, "node", "runs", {"what": "keeps runs and the journal"}),
    Place(CONFIG, "node", "config", {"what": "keeps the configuration", "health": True}),
    Place(EVENTS, "node", "events", {"what": "keeps events"}),
    Place(TELEMETRY, "node", "telemetry", {"what": "sums up what is measured"}),
    Place(PROTECTION, "node", "protection", {"what": "owns protected keys"}),
    Place(SPENDING, "node", "spending", {"what": "keeps limits of money"}),
    Place(MODULES, "modules", "manager", {"what": "serves programs"}),
    Place(OPTIMISATIONS, "optimisation", "coordinator", {"what": "keeps optimisations"}),
)
BRANCHES = (
    Branch(WORKERS, "workers", metadata={"what": "runs programs and LM calls"}),
    Branch(CLIENTS, "lm", "client:", {"what": "LM provider"}),
    Branch(EVALUATORS, "evaluators", "run:", {"what": "evaluates a run"}),
    Branch(OPTIMISERS, "optimisers", "optimise:", metadata={"what": "optimisation worker"}),
    Branch(ECOSYSTEMS, "ecosystems", metadata={"what": "member of an ecosystem"}, is_nested=True),
)


def capabilities_of(lm: type[LM] | LM = LM) -> list[str]:
    """Return what the deployments of a kind of LM can be asked for, here and now."""
    ways = {PREDICTION: "acall", STREAMING: "stream", EMBEDDING: "embed"}
    return [name for name, method in ways.items() if hasattr(lm, method)]
