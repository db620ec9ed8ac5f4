"""Language-model programs on a supervision tree of actors.

import dspex_actors as dspex

dspex.connect(lm=dspex.LM("openai/gpt-4o-mini"))
triage = dspex.Predict("ticket -> team")
result = dspex.evaluate(triage, "tickets.jsonl", metric=dspex.metrics.exact_match("team"))
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from dspex_actors import errors
from dspex_actors.errors import (
    AdapterParseError,
    AllStrategiesFailed,
    AuthError,
    BudgetExceeded,
    CircuitOpen,
    ConfigError,
    ContentBlocked,
    ContextWindowExceeded,
    DeadlineExceeded,
    DspexError,
    InvalidInputs,
    InvalidOutputs,
    InvalidRequest,
    LMError,
    MemberAway,
    Overloaded,
    QuotaExhausted,
    RateLimited,
    RunFailed,
    RunInterrupted,
    StreamTruncated,
    Timeout,
    TransformationFailed,
    WorkflowError,
)
from dspex_actors.settings import configure, context, settings

if TYPE_CHECKING:
    from dspex_actors import metrics, steps, streaming, testing
    from dspex_actors.adapters.baml import BAMLAdapter
    from dspex_actors.adapters.base import Adapter
    from dspex_actors.adapters.chat import ChatAdapter
    from dspex_actors.adapters.json import JSONAdapter
    from dspex_actors.adapters.two_step import TwoStepAdapter
    from dspex_actors.adapters.xml import XMLAdapter
    from dspex_actors.cache.configuring import configure_cache
    from dspex_actors.client.connect import connect
    from dspex_actors.client.evaluate import evaluate
    from dspex_actors.client.inference import InferenceStream, stream_inference
    from dspex_actors.client.lm_client import Client
    from dspex_actors.client.result import EvaluationResult
    from dspex_actors.client.system import System, current_system
    from dspex_actors.client.via import via
    from dspex_actors.ecosystem.handle import EcosystemHandle
    from dspex_actors.ecosystem.inference.alerts import Alert
    from dspex_actors.ecosystem.inference.handle import InferenceEcosystem
    from dspex_actors.ecosystem.inside import ecosystem_of
    from dspex_actors.ecosystem.member import Member
    from dspex_actors.example import Example, Prediction
    from dspex_actors.foundation import telemetry
    from dspex_actors.foundation.callbacks import BaseCallback
    from dspex_actors.foundation.events.event import Event
    from dspex_actors.foundation.following import ConfigChanged, follow
    from dspex_actors.foundation.operation import correlation_id, operation
    from dspex_actors.lm import content
    from dspex_actors.lm.base import BaseLM
    from dspex_actors.lm.embedder import Embedder
    from dspex_actors.lm.history import inspect_history
    from dspex_actors.lm.lm import LM
    from dspex_actors.lm.reply import LMReply
    from dspex_actors.programs.best_of_n import BestOfN
    from dspex_actors.programs.chain_of_thought import ChainOfThought
    from dspex_actors.programs.code_act import CodeAct
    from dspex_actors.programs.knn import KNN
    from dspex_actors.programs.majority import majority
    from dspex_actors.programs.module import Module
    from dspex_actors.programs.multi_chain_comparison import MultiChainComparison
    from dspex_actors.programs.multi_hop import MultiHopQA
    from dspex_actors.programs.multi_modal import MultiModal
    from dspex_actors.programs.parallel import Parallel
    from dspex_actors.programs.predict import Predict
    from dspex_actors.programs.program_of_thought import ProgramOfThought
    from dspex_actors.programs.prompt_template import PromptTemplate
    from dspex_actors.programs.react import ReAct
    from dspex_actors.programs.refine import Refine
    from dspex_actors.programs.streaming.streamify import streamify
    from dspex_actors.programs.usage import track_usage
    from dspex_actors.programs.whole import load
    from dspex_actors.protection.handle import aexecute_protected, configure_protection, execute_protected
    from dspex_actors.sandbox.errors import CodeExecutionError, CodeInterpreterError
    from dspex_actors.sandbox.interpreter import CodeInterpreter, FinalOutput, PythonInterpreter
    from dspex_actors.signatures.fields import InputField, OutputField
    from dspex_actors.signatures.signature import Signature
    from dspex_actors.teleprompt import (
        COPRO,
        GEPA,
        SIMBA,
        AdaptiveOptimizer,
        BootstrapFewShot,
        BootstrapFewShotWithRandomSearch,
        BootstrapFinetune,
        DistributedBootstrap,
        Ensemble,
        KNNFewShot,
        LabeledFewShot,
        MIPROv2,
        optimize,
    )
    from dspex_actors.types.audio import Audio
    from dspex_actors.types.base import Type
    from dspex_actors.types.code import Code
    from dspex_actors.types.document import Document
    from dspex_actors.types.file import File
    from dspex_actors.types.history import History
    from dspex_actors.types.image import Image
    from dspex_actors.types.reasoning import Reasoning
    from dspex_actors.types.tool import Tool
    from dspex_actors.types.tool_calls import ToolCallResults, ToolCalls
    from dspex_actors.workflow.core import Branches, Step
    from dspex_actors.workflow.fallback import Outcome, aexecute_with_fallback, execute_with_fallback
    from dspex_actors.workflow.predict import predict_steps
    from dspex_actors.workflow.records import WorkflowResult
    from dspex_actors.workflow.stale import aexecute_module_with_cache_fallback, execute_module_with_cache_fallback
    from dspex_actors.workflow.workflow import Workflow

__version__ = "0.1.0"

__all__ = [
    "COPRO",
    "GEPA",
    "KNN",
    "LM",
    "SIMBA",
    "Adapter",
    "AdapterParseError",
    "AdaptiveOptimizer",
    "Alert",
    "AllStrategiesFailed",
    "Audio",
    "AuthError",
    "BAMLAdapter",
    "BaseCallback",
    "BaseLM",
    "BestOfN",
    "BootstrapFewShot",
    "BootstrapFewShotWithRandomSearch",
    "BootstrapFinetune",
    "Branches",
    "BudgetExceeded",
    "ChainOfThought",
    "ChatAdapter",
    "CircuitOpen",
    "Client",
    "Code",
    "CodeAct",
    "CodeExecutionError",
    "CodeInterpreter",
    "CodeInterpreterError",
    "ConfigChanged",
    "ConfigError",
    "ContentBlocked",
    "ContextWindowExceeded",
    "DeadlineExceeded",
    "DistributedBootstrap",
    "Document",
    "DspexError",
    "EcosystemHandle",
    "Embedder",
    "Ensemble",
    "EvaluationResult",
    "Event",
    "Example",
    "File",
    "FinalOutput",
    "History",
    "Image",
    "InferenceEcosystem",
    "InferenceStream",
    "InputField",
    "InvalidInputs",
    "InvalidOutputs",
    "InvalidRequest",
    "JSONAdapter",
    "KNNFewShot",
    "LMError",
    "LMReply",
    "LabeledFewShot",
    "MIPROv2",
    "Member",
    "MemberAway",
    "Module",
    "MultiChainComparison",
    "MultiHopQA",
    "MultiModal",
    "Outcome",
    "OutputField",
    "Overloaded",
    "Parallel",
    "Predict",
    "Prediction",
    "ProgramOfThought",
    "PromptTemplate",
    "PythonInterpreter",
    "QuotaExhausted",
    "RateLimited",
    "ReAct",
    "Reasoning",
    "Refine",
    "RunFailed",
    "RunInterrupted",
    "Signature",
    "Step",
    "StreamTruncated",
    "System",
    "Timeout",
    "Tool",
    "ToolCallResults",
    "ToolCalls",
    "TransformationFailed",
    "TwoStepAdapter",
    "Type",
    "Workflow",
    "WorkflowError",
    "WorkflowResult",
    "XMLAdapter",
    "aexecute_module_with_cache_fallback",
    "aexecute_protected",
    "aexecute_with_fallback",
    "configure",
    "configure_cache",
    "configure_protection",
    "connect",
    "content",
    "context",
    "correlation_id",
    "current_system",
    "ecosystem_of",
    "errors",
    "evaluate",
    "execute_module_with_cache_fallback",
    "execute_protected",
    "execute_with_fallback",
    "follow",
    "inspect_history",
    "load",
    "majority",
    "metrics",
    "operation",
    "optimize",
    "predict_steps",
    "settings",
    "steps",
    "stream_inference",
    "streamify",
    "streaming",
    "telemetry",
    "testing",
    "track_usage",
    "via",
]

#: Where the rest is: each part is imported at its first use.
_LATER = {
    "BaseCallback": "foundation.callbacks",
    "BestOfN": "programs.best_of_n",
    "KNN": "programs.knn",
    "MultiChainComparison": "programs.multi_chain_comparison",
    "MultiHopQA": "programs.multi_hop",
    "Parallel": "programs.parallel",
    "ReAct": "programs.react",
    "Refine": "programs.refine",
    "load": "programs.whole",
    "majority": "programs.majority",
    "Ensemble": "teleprompt",
    "KNNFewShot": "teleprompt",
    "Adapter": "adapters.base",
    "Alert": "ecosystem.inference.alerts",
    "Audio": "types.audio",
    "BaseLM": "lm.base",
    "LMReply": "lm.reply",
    "BootstrapFewShot": "teleprompt",
    "BootstrapFinetune": "teleprompt",
    "BootstrapFewShotWithRandomSearch": "teleprompt",
    "COPRO": "teleprompt",
    "GEPA": "teleprompt",
    "DistributedBootstrap": "teleprompt",
    "SIMBA": "teleprompt",
    "AdaptiveOptimizer": "teleprompt",
    "Branches": "workflow.core",
    "ChainOfThought": "programs.chain_of_thought",
    "ChatAdapter": "adapters.chat",
    "Client": "client.lm_client",
    "Code": "types.code",
    "ConfigChanged": "foundation.following",
    "Document": "types.document",
    "EcosystemHandle": "ecosystem.handle",
    "Embedder": "lm.embedder",
    "EvaluationResult": "client.result",
    "Event": "foundation.events.event",
    "Example": "example",
    "File": "types.file",
    "History": "types.history",
    "Image": "types.image",
    "InferenceEcosystem": "ecosystem.inference.handle",
    "InputField": "signatures.fields",
    "JSONAdapter": "adapters.json",
    "LM": "lm.lm",
    "LabeledFewShot": "teleprompt",
    "MIPROv2": "teleprompt",
    "Member": "ecosystem.member",
    "Module": "programs.module",
    "Outcome": "workflow.fallback",
    "OutputField": "signatures.fields",
    "Predict": "programs.predict",
    "Prediction": "example",
    "PromptTemplate": "programs.prompt_template",
    "Reasoning": "types.reasoning",
    "Signature": "signatures.signature",
    "Step": "workflow.core",
    "System": "client.system",
    "Tool": "types.tool",
    "ToolCallResults": "types.tool_calls",
    "ToolCalls": "types.tool_calls",
    "Type": "types.base",
    "Workflow": "workflow.workflow",
    "WorkflowResult": "workflow.records",
    "aexecute_module_with_cache_fallback": "workflow.stale",
    "aexecute_protected": "protection.handle",
    "aexecute_with_fallback": "workflow.fallback",
    "configure_cache": "cache.configuring",
    "configure_protection": "protection.handle",
    "connect": "client.connect",
    "correlation_id": "foundation.operation",
    "current_system": "client.system",
    "ecosystem_of": "ecosystem.inside",
    "evaluate": "client.evaluate",
    "InferenceStream": "client.inference",
    "stream_inference": "client.inference",
    "execute_module_with_cache_fallback": "workflow.stale",
    "execute_protected": "protection.handle",
    "execute_with_fallback": "workflow.fallback",
    "follow": "foundation.following",
    "inspect_history": "lm.history",
    "operation": "foundation.operation",
    "optimize": "teleprompt",
    "predict_steps": "workflow.predict",
    "track_usage": "programs.usage",
    "streamify": "programs.streaming.streamify",
    "via": "client.via",
    "CodeAct": "programs.code_act",
    "ProgramOfThought": "programs.program_of_thought",
    "PythonInterpreter": "sandbox.interpreter",
    "FinalOutput": "sandbox.interpreter",
    "CodeInterpreter": "sandbox.interpreter",
    "CodeExecutionError": "sandbox.errors",
    "CodeInterpreterError": "sandbox.errors",
    "BAMLAdapter": "adapters.baml",
    "TwoStepAdapter": "adapters.two_step",
    "XMLAdapter": "adapters.xml",
    "MultiModal": "programs.multi_modal",
}

#: Where those of them are that are modules.
_MODULES = {
    "content": "lm.content",
    "metrics": "metrics",
    "steps": "steps",
    "streaming": "streaming",
    "telemetry": "foundation.telemetry",
    "testing": "testing",
}


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


if not TYPE_CHECKING:  # else a type checker would take every name to be there

    def __getattr__(name: str) -> Any:
        """Import a part at its first use."""
        if name in _MODULES:
            found = import_module(f"{__name__}.{_MODULES[name]}")
        elif name in _LATER:
            found = getattr(import_module(f"{__name__}.{_LATER[name]}"), name)
        else:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        globals()[name] = found
        return found
