"""OpenTelemetry, where it has a provider: recorded operations and LM calls of this process as spans and metrics.

Spans of LM calls and their attributes have the names of the GenAI conventions (semantic conventions 1.37 and later:
`gen_ai.provider.name` in the place of `gen_ai.system`). All of one correlation id are in one trace; what came from an
operation of another process hangs at its root. Prompts and answers are in no span.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import sys
from collections import OrderedDict
from typing import Any

from dspex_actors.foundation.brief import brief_text
from dspex_actors.foundation.events.event import Event
from dspex_actors.foundation.events.kinds import (
    LMRequested,
    ModuleCompleted,
    ModuleStarted,
    OperationCompleted,
    OperationStarted,
)
from dspex_actors.foundation.events.outlet import open_outlet
from dspex_actors.foundation.events.record import Record

NAME = "dspex_actors"
#: So many operations may be open at once; the oldest is ended where there are more.
MOST_OPEN = 1000
#: The conventions' names of providers, where they are not ours.
_PROVIDERS = {"gemini": "gcp.gemini"}
_SECOND = 1_000_000_000
#: Variables that name providers.
_NAMED = ("OTEL_PYTHON_TRACER_PROVIDER", "OTEL_PYTHON_METER_PROVIDER")


class Exporter:
    """Makes spans and metrics of events.

    Args:
        tracer: of OpenTelemetry's API; None: the process's.
        meter: the same.
    """

    def __init__(self, tracer: Any = None, meter: Any = None) -> None:
        """Find tracer and meter."""
        from opentelemetry import metrics, trace

        self._trace = trace
        self._tracer = tracer or trace.get_tracer(NAME)
        meter = meter or metrics.get_meter(NAME)
        self._duration = meter.create_histogram("gen_ai.client.operation.duration", "s", "GenAI operation duration")
        self._tokens = meter.create_histogram("gen_ai.client.token.usage", "{token}", "tokens used")
        #: Operations that are open, by id.
        self._open: OrderedDict[str, Any] = OrderedDict()

    def take(self, event: Event) -> None:
        """Make of an event what it is there."""
        match event:
            case OperationStarted() | ModuleStarted():
                self._start(event, event.name if isinstance(event, OperationStarted) else event.module)
            case OperationCompleted() | ModuleCompleted():
                span = self._open.pop(event.parent_id or "", None)
                if span is not None:
                    self._end(span, event.error, event.at)
            case LMRequested():
                self._lm_call(event)

    def _start(self, event: Event, name: str) -> None:
        attributes = {"dspex.correlation_id": event.correlation_id or "", "dspex.actor": event.actor or ""}
        self._open[event.id] = self._tracer.start_span(
            brief_text(name), context=self._context(event), attributes=attributes, start_time=_time(event.at)
        )
        if len(self._open) > MOST_OPEN:
            self._open.popitem(last=False)[1].end()

    def _lm_call(self, event: LMRequested) -> None:
        provider, _, model = event.model.partition("/")
        common: dict[str, Any] = {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": _PROVIDERS.get(provider, provider),
            "gen_ai.request.model": model,
        }
        if event.error is not None:
            common["error.type"] = str(event.error.get("type"))
        usage = event.usage or {}
        tokens = {kind: usage[f"{kind}_total"] for kind in ("input", "output") if f"{kind}_total" in usage}
        attributes = common | {f"gen_ai.usage.{kind}_tokens": count for kind, count in tokens.items()}
        if event.finish_reason is not None:
            attributes["gen_ai.response.finish_reasons"] = [event.finish_reason]
        if event.cost is not None:
            attributes["dspex.cost"] = event.cost
        span = self._tracer.start_span(
            f"chat {model}",
            context=self._context(event),
            kind=self._trace.SpanKind.CLIENT,
            attributes=attributes,
            start_time=_time(event.at - event.duration),
        )
        self._end(span, event.error, event.at)
        self._duration.record(event.duration, common)
        for kind, count in tokens.items():
            self._tokens.record(count, common | {"gen_ai.token.type": kind})

    def _end(self, span: Any, error: dict[str, Any] | None, at: float) -> None:
        if error is not None:
            span.set_status(self._trace.StatusCode.ERROR, brief_text(str(error.get("message", "")), 200))
        span.end(_time(at))

    def _context(self, event: Event) -> Any:
        """Return the context of what an event came from: its operation here, or the root of its trace."""
        parent = self._open.get(event.parent_id or "")
        if parent is None:
            digest = hashlib.sha256((event.correlation_id or event.id).encode()).digest()
            root = self._trace.SpanContext(
                trace_id=int.from_bytes(digest[:16], "big"),
                span_id=int.from_bytes(digest[16:24], "big"),
                is_remote=True,
                trace_flags=self._trace.TraceFlags(self._trace.TraceFlags.SAMPLED),
            )
            parent = self._trace.NonRecordingSpan(root)
        return self._trace.set_span_in_context(parent)


class _Outlet:
    """Takes events from the first one on that somebody could see; OpenTelemetry is loaded then, and not before."""

    def __init__(self) -> None:
        self._exporter: Exporter | None = None
        self._is_off = False
        self._has_provider: bool | None = None

    def _is_seen(self) -> bool:
        """Tell whether there may be a provider: the API alone throws spans away, and takes a tenth of a second to load.

        One that a program sets has loaded the API; others are the SDK's, or named in the environment.
        """
        if "opentelemetry.trace" in sys.modules:
            return True
        if self._has_provider is None:
            self._has_provider = any(os.environ.get(name) for name in _NAMED) or (
                importlib.util.find_spec("opentelemetry") is not None
                and importlib.util.find_spec("opentelemetry.sdk") is not None
            )
        return self._has_provider

    def __call__(self, event: Event, record: Record) -> None:
        if self._is_off:
            return
        try:
            if self._exporter is None:
                if not self._is_seen():
                    return
                self._exporter = Exporter()
            self._exporter.take(event)
        except Exception:  # whatever an exporter's provider does: it is not the emitter's trouble
            self._is_off = self._exporter is None


_outlet = _Outlet()
_is_open: list[Any] = []


def open_otel() -> None:
    """Have the events of this process exported from now on; twice is once."""
    if not _is_open:
        _is_open.append(open_outlet(_outlet))


def _time(seconds: float) -> int:
    return int(seconds * _SECOND)
