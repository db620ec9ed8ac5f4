"""The common language of a run's parts: kinds of runs, and what a worker has to know of a run."""

from __future__ import annotations

import importlib
from dataclasses import dataclass, field
from typing import Any

from dspex_actors.foundation import moved
from dspex_actors.foundation.carried import refuse_keys
from supervisors.wire import pickles

#: A new evaluator waits for the calls that its dead predecessor had in flight at most so long, in seconds; what takes
#: longer is asked again.
INHERIT_SECONDS = 20.0
#: How long one example may take where the run says nothing else, in seconds: no run waits for ever.
EXAMPLE_SECONDS = 3600.0


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of run.

    Args:
        name: evaluate, bootstrap; infer is what an ecosystem does, module what the module manager does.
        runner: where the class is that does its examples, as `module:class`: only workers import it.
    """

    name: str
    runner: str

    def open_runner(self) -> Any:
        """Return that class; only in a worker."""
        module, _, name = self.runner.partition(":")
        return getattr(importlib.import_module(module), name)


#: All kinds of runs by name.
KINDS = {
    kind.name: kind
    for kind in (
        Kind("evaluate", "dspex_actors.workers.evaluate_runner:EvaluateRunner"),
        Kind("infer", "dspex_actors.workers.infer_runner:InferRunner"),
        Kind("module", "dspex_actors.modules.program:ModuleRunner"),
        Kind("bootstrap", "dspex_actors.teleprompt.bootstrap_runner:BootstrapRunner"),
    )
}


@dataclass(frozen=True)
class Job:
    """A run's code and settings, sent once per worker and run.

    Args:
        run_id: the run.
        kind: one of `KINDS`.
        program: the program, pickled; user code by value.
        metric: the metric, pickled; of an inference what checks its outputs, empty where the processor does that.
        lm: the LM's settings for programs that have none of their own; None: none.
        options: settings of the kind.
    """

    run_id: str
    kind: str
    program: bytes
    metric: bytes
    lm: dict[str, Any] | None = None
    options: dict[str, Any] = field(default_factory=dict)


def dump_code(value: Any) -> bytes:
    """Pickle a program or a metric; what is not in an installed package goes by value.

    Raises:
        ConfigError: a key would go along.
        Exception: it cannot be pickled.
    """
    data = pickles.dumps(value)
    refuse_keys(data, value)
    return data


def load_code(data: bytes) -> Any:
    """Open `dump_code`'s bytes; only in a worker, where user code runs."""
    return moved.loads(data)
