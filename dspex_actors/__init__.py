"""Language-model programs on a supervision tree of actors.

import dspex_actors as dspex

dspex.connect(lm=dspex.LM("openai/gpt-4o-mini"))
triage = dspex.Predict("ticket -> team")
result = dspex.evaluate(triage, "tickets.jsonl", metric=dspex.metrics.exact_match("team"))
"""

from dspex_actors import errors, metrics
from dspex_actors.adapters.chat import ChatAdapter
from dspex_actors.adapters.json import JSONAdapter
from dspex_actors.client.connect import connect
from dspex_actors.client.evaluate import evaluate
from dspex_actors.client.result import EvaluationResult
from dspex_actors.client.system import System, current_system
from dspex_actors.errors import (
    AdapterParseError,
    AuthError,
    CircuitOpen,
    ConfigError,
    ContentBlocked,
    ContextWindowExceeded,
    DeadlineExceeded,
    DspexError,
    InvalidRequest,
    LMError,
    Overloaded,
    QuotaExhausted,
    RateLimited,
    RunFailed,
    RunInterrupted,
    StreamTruncated,
    Timeout,
)
from dspex_actors.example import Example, Prediction
from dspex_actors.lm.base import BaseLM
from dspex_actors.lm.lm import LM
from dspex_actors.programs.chain_of_thought import ChainOfThought
from dspex_actors.programs.module import Module
from dspex_actors.programs.predict import Predict
from dspex_actors.settings import configure, context, settings
from dspex_actors.signatures.fields import InputField, OutputField
from dspex_actors.signatures.signature import Signature
from dspex_actors.teleprompt import BootstrapFewShot, LabeledFewShot

__version__ = "0.1.0"

__all__ = [
    "LM",
    "AdapterParseError",
    "AuthError",
    "BaseLM",
    "BootstrapFewShot",
    "ChainOfThought",
    "ChatAdapter",
    "CircuitOpen",
    "ConfigError",
    "ContentBlocked",
    "ContextWindowExceeded",
    "DeadlineExceeded",
    "DspexError",
    "EvaluationResult",
    "Example",
    "InputField",
    "InvalidRequest",
    "JSONAdapter",
    "LMError",
    "LabeledFewShot",
    "Module",
    "OutputField",
    "Overloaded",
    "Predict",
    "Prediction",
    "QuotaExhausted",
    "RateLimited",
    "RunFailed",
    "RunInterrupted",
    "Signature",
    "StreamTruncated",
    "System",
    "Timeout",
    "configure",
    "connect",
    "context",
    "current_system",
    "errors",
    "evaluate",
    "metrics",
    "settings",
]
