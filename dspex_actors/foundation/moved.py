"""Pickles of earlier versions: classes that have moved since are found where they are now.

A journal holds pickles (program and metric of each run, field values that are objects) that name the modules of the
version that wrote them. The tables here say where their contents are today; `loads` reads by them. What moves again
gets another line, and the right sides follow it.
"""

from __future__ import annotations

import importlib
import io
import pickle
from types import MappingProxyType, ModuleType
from typing import Any

from supervisors.wire import pickles

#: Name of a module up to commit 17e5cbe → where its contents are now.
MOVED = MappingProxyType(
    {
        "dspex_actors.evaluate.answer": "dspex_actors.runs.plan.bills",
        "dspex_actors.evaluate.dataset": "dspex_actors.data.dataset",
        "dspex_actors.evaluate.dataset_files": "dspex_actors.data.files",
        "dspex_actors.evaluate.evaluate": "dspex_actors.client.evaluate",
        "dspex_actors.evaluate.evaluator": "dspex_actors.runs.evaluator.actor",
        "dspex_actors.evaluate.hopeless": "dspex_actors.runs.plan.hopeless",
        "dspex_actors.evaluate.identity": "dspex_actors.runs.identity",
        "dspex_actors.evaluate.job": "dspex_actors.runs.spec",
        "dspex_actors.evaluate.lines": "dspex_actors.data.lines",
        "dspex_actors.evaluate.plan": "dspex_actors.runs.plan.plan",
        "dspex_actors.evaluate.plan_types": "dspex_actors.runs.plan.types",
        "dspex_actors.evaluate.progress": "dspex_actors.client.progress",
        "dspex_actors.evaluate.report": "dspex_actors.client.report",
        "dspex_actors.evaluate.result": "dspex_actors.client.result",
        "dspex_actors.evaluate.run_index": "dspex_actors.journal.index",
        "dspex_actors.evaluate.run_inputs": "dspex_actors.client.inputs",
        "dspex_actors.evaluate.runner": "dspex_actors.workers.runner",
        "dspex_actors.evaluate.runs": "dspex_actors.runs.keeper.actor",
        "dspex_actors.evaluate.stop_rule": "dspex_actors.runs.plan.stop_rule",
        "dspex_actors.evaluate.summary": "dspex_actors.journal.summary",
        "dspex_actors.evaluate.windows": "dspex_actors.runs.plan.windows",
        "dspex_actors.evaluate.worker": "dspex_actors.workers.actor",
        "dspex_actors.fields": "dspex_actors.signatures.fields",
        "dspex_actors.foundation.config": "dspex_actors.config",
        "dspex_actors.foundation.fields": "dspex_actors.data.fields",
        "dspex_actors.foundation.journal": "dspex_actors.journal.writer",
        "dspex_actors.foundation.journal_errors": "dspex_actors.journal.errors",
        "dspex_actors.foundation.journal_queries": "dspex_actors.journal.queries",
        "dspex_actors.foundation.journal_reader": "dspex_actors.journal.reader",
        "dspex_actors.foundation.records": "dspex_actors.journal.records",
        "dspex_actors.foundation.schema": "dspex_actors.journal.schema",
        "dspex_actors.foundation.spool": "dspex_actors.data.spool",
        "dspex_actors.foundation.tally": "dspex_actors.journal.tally",
        "dspex_actors.lm.client": "dspex_actors.lm.control.client",
        "dspex_actors.lm.directory": "dspex_actors.lm.worker.directory",
        "dspex_actors.lm.fallback": "dspex_actors.lm.worker.fallback",
        "dspex_actors.lm.http": "dspex_actors.lm.worker.http",
        "dspex_actors.lm.limiter": "dspex_actors.lm.control.budget",
        "dspex_actors.lm.providers": "dspex_actors.lm.wire",
        "dspex_actors.lm.providers.anthropic": "dspex_actors.lm.wire.anthropic",
        "dspex_actors.lm.providers.base": "dspex_actors.lm.wire.base",
        "dspex_actors.lm.providers.cohere": "dspex_actors.lm.wire.cohere",
        "dspex_actors.lm.providers.content": "dspex_actors.lm.wire.content",
        "dspex_actors.lm.providers.failures": "dspex_actors.lm.wire.failures",
        "dspex_actors.lm.providers.gemini": "dspex_actors.lm.wire.gemini",
        "dspex_actors.lm.providers.openai": "dspex_actors.lm.wire.openai",
        "dspex_actors.lm.refusals": "dspex_actors.lm.worker.refusals",
        "dspex_actors.lm.retry": "dspex_actors.lm.worker.retry",
        "dspex_actors.lm.session": "dspex_actors.lm.worker.session",
        "dspex_actors.lm.worker_gate": "dspex_actors.lm.worker.gate",
        "dspex_actors.own_node": "dspex_actors.client.own_node",
        "dspex_actors.program": "dspex_actors.programs.module",
        "dspex_actors.programs.state": "dspex_actors.programs.saving",
        "dspex_actors.signature": "dspex_actors.signatures.signature",
        "dspex_actors.signature_dsl": "dspex_actors.signatures.dsl",
        "dspex_actors.system": "dspex_actors.client.system",
        "dspex_actors.tree_names": "dspex_actors.names",
    }
)

#: Module and name of what did not go where the rest of its module went → module and name now.
MOVED_NAMES = MappingProxyType(
    {
        ("dspex_actors.evaluate.dataset", "ListDataset"): ("dspex_actors.data.memory", "ListDataset"),
        ("dspex_actors.evaluate.dataset", "OnceDataset"): ("dspex_actors.data.memory", "OnceDataset"),
        ("dspex_actors.evaluate.dataset", "SpoolDataset"): ("dspex_actors.data.spool", "SpoolDataset"),
        ("dspex_actors.evaluate.dataset", "from_descriptor"): ("dspex_actors.data.opening", "from_descriptor"),
        ("dspex_actors.evaluate.dataset", "open_dataset"): ("dspex_actors.data.opening", "open_dataset"),
        ("dspex_actors.evaluate.runner", "EvaluateRunner"): ("dspex_actors.workers.evaluate_runner", "EvaluateRunner"),
        ("dspex_actors.evaluate.runner", "Metric"): ("dspex_actors.workers.calling", "Metric"),
        ("dspex_actors.evaluate.runner", "fields_of"): ("dspex_actors.workers.calling", "fields_of"),
        ("dspex_actors.evaluate.runner", "maybe"): ("dspex_actors.workers.calling", "maybe"),
        ("dspex_actors.lm.wire", "RawReply"): ("dspex_actors.lm.wire.exchange", "RawReply"),
        ("dspex_actors.lm.wire", "WireReply"): ("dspex_actors.lm.wire.exchange", "WireReply"),
        ("dspex_actors.lm.wire", "WireRequest"): ("dspex_actors.lm.wire.exchange", "WireRequest"),
        ("dspex_actors.system", "connect"): ("dspex_actors.client.connect", "connect"),
    }
)


def loads(data: bytes) -> Any:
    """Open a pickle of this version or of an earlier one; only where user code may run."""
    return _Unpickler(io.BytesIO(data)).load()


class _Unpickler(pickle.Unpickler):
    def persistent_load(self, name: Any) -> Any:
        return pickles.named_class(name)

    def find_class(self, module: str, name: str) -> Any:
        if name == "subimport" and module.startswith("cloudpickle."):
            return _imported  # a module that user code refers to is in the pickle as an argument of this function
        return super().find_class(*MOVED_NAMES.get((module, name), (MOVED.get(module, module), name)))


def _imported(name: str) -> ModuleType:
    return importlib.import_module(MOVED.get(name, name))
