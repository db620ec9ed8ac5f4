"""OpenTelemetry: what is recorded becomes spans with the names of the GenAI conventions; without it nothing happens."""

import subprocess
import sys

import pytest
from opentelemetry import trace

from dspex_actors.foundation.events.kinds import (
    LMRequested,
    ModuleCompleted,
    ModuleStarted,
    OperationCompleted,
    OperationStarted,
)
from dspex_actors.observe.telemetry import otel


class Span(trace.NonRecordingSpan):
    def __init__(self, number, name, context, kind, attributes, start_time):
        parent = trace.get_current_span(context).get_span_context()
        super().__init__(trace.SpanContext(parent.trace_id, number, is_remote=False))
        self.name, self.kind, self.attributes, self.start = name, kind, attributes, start_time
        self.parent, self.status, self.ended = parent, None, None

    def set_status(self, status, description=None):
        self.status = (status, description)

    def end(self, end_time=None):
        self.ended = end_time


class Tracer:
    def __init__(self):
        self.spans = []

    def start_span(self, name, context=None, kind=trace.SpanKind.INTERNAL, attributes=None, start_time=None):
        self.spans.append(Span(len(self.spans) + 1, name, context, kind, attributes, start_time))
        return self.spans[-1]


class Meter:
    def __init__(self):
        self.recorded = []

    def create_histogram(self, name, unit, description):
        self._names = [*getattr(self, "_names", ()), name]
        meter = self

        class Histogram:
            def record(self, value, attributes):
                meter.recorded.append((name, value, attributes.get("gen_ai.token.type")))

        return Histogram()


@pytest.fixture
def exporter():
    return otel.Exporter(Tracer(), Meter())


def test_a_call_inside_a_program_inside_an_operation_is_three_spans_of_one_trace(exporter):
    of = {"correlation_id": "c-1"}
    for event in (
        OperationStarted(id="op", name="answer", at=100.0, **of),
        ModuleStarted(id="mod", parent_id="op", module="Triage", at=100.5, **of),
        LMRequested(
            parent_id="mod", model="gemini/flash", duration=1.5, at=102.0, finish_reason="stop", cost=0.25,
            usage={"input_total": 7, "output_total": 3, "estimated": False}, **of,
        ),
        ModuleCompleted(parent_id="mod", module="Triage", duration=2.0, at=102.5, **of),
        OperationCompleted(
            parent_id="op", name="answer", duration=3.0, at=103.0, error={"type": "E", "message": "m"}, **of,
        ),
    ):  # fmt: skip
        exporter.take(event)
    operation, module, call = exporter._tracer.spans
    assert [span.name for span in (operation, module, call)] == ["answer", "Triage", "chat flash"]
    assert (module.parent.span_id, call.parent.span_id) == (1, 2)
    assert len({span.get_span_context().trace_id for span in (operation, module, call)}) == 1
    assert call.kind == trace.SpanKind.CLIENT
    assert call.attributes == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "gcp.gemini",
        "gen_ai.request.model": "flash",
        "gen_ai.usage.input_tokens": 7,
        "gen_ai.usage.output_tokens": 3,
        "gen_ai.response.finish_reasons": ["stop"],
        "dspex.cost": 0.25,
    }
    assert (call.start, call.ended) == (100_500_000_000, 102_000_000_000)
    assert (operation.status, module.status) == ((trace.StatusCode.ERROR, "m"), None)
    assert operation.ended == 103_000_000_000
    assert not exporter._open


def test_a_call_without_its_operation_here_is_in_the_trace_of_its_correlation_id(exporter):
    exporter.take(LMRequested(model="openai/x", duration=0.1, correlation_id="c-1", parent_id="elsewhere"))
    exporter.take(OperationStarted(id="op", name="answer", correlation_id="c-1"))
    exporter.take(OperationStarted(id="other", name="answer", correlation_id="c-2"))
    call, same, other = (span.get_span_context().trace_id for span in exporter._tracer.spans)
    assert call == same != other


def test_calls_are_measured_by_the_names_of_the_conventions(exporter):
    meter = Meter()
    exporter = otel.Exporter(Tracer(), meter)
    exporter.take(LMRequested(model="openai/x", duration=0.5, usage={"input_total": 7, "output_total": 3}))
    exporter.take(LMRequested(model="openai/x", duration=0.7, error={"type": "Timeout", "message": "m"}))
    assert meter.recorded == [
        ("gen_ai.client.operation.duration", 0.5, None),
        ("gen_ai.client.token.usage", 7, "input"),
        ("gen_ai.client.token.usage", 3, "output"),
        ("gen_ai.client.operation.duration", 0.7, None),
    ]
    assert exporter._tracer.spans[1].attributes["error.type"] == "Timeout"


def test_operations_that_never_end_are_bounded(exporter, monkeypatch):
    monkeypatch.setattr(otel, "MOST_OPEN", 3)
    for number in range(10):
        exporter.take(OperationStarted(id=str(number), name="n"))
    assert list(exporter._open) == ["7", "8", "9"]


def test_a_provider_that_raises_is_not_the_emitters_trouble(monkeypatch):
    outlet = otel._Outlet()
    outlet._exporter = otel.Exporter(Tracer(), Meter())
    monkeypatch.setattr(outlet._exporter, "_tracer", None)
    outlet(OperationStarted(id="op", name="answer"), None)


@pytest.mark.soak
def test_nothing_of_it_is_imported_before_something_is_recorded_nor_where_nobody_could_see_it():
    script = """
import os, sys, importlib.util
import dspex_actors.observe.reporting
from dspex_actors.foundation.events.kinds import OperationStarted
from dspex_actors.foundation.events.outlet import emit
from dspex_actors.observe.telemetry import otel
otel.open_otel()
loaded = lambda: [name for name in sys.modules if name.startswith("opentelemetry.")]
assert not loaded(), loaded()
find, has_sdk = importlib.util.find_spec, False
importlib.util.find_spec = lambda name: find(name) if name != "opentelemetry.sdk" or not has_sdk else True
emit(OperationStarted(name="a"))  # the API is there, and neither the SDK nor a provider
assert not loaded(), loaded()
match sys.argv[1]:
    case "program":
        from opentelemetry import trace
    case "environment":
        os.environ["OTEL_PYTHON_TRACER_PROVIDER"], otel._outlet._has_provider = "mine", None
    case "sdk":
        has_sdk, otel._outlet._has_provider = True, None
emit(OperationStarted(name="a"))
assert (otel._outlet._exporter is not None) == bool(loaded()) == (sys.argv[1] != "nobody")
"""
    for provider in ("nobody", "program", "sdk"):
        subprocess.run([sys.executable, "-c", script, provider], check=True)
    # One that the environment names and that is not there is nobody's trouble.
    subprocess.run([sys.executable, "-c", script.rsplit("assert", 1)[0], "environment"], check=True)


def test_keys_are_not_in_spans(exporter):
    key = "sk-abcdefghijklmnopqrstuvwxyz0123456789"
    exporter.take(OperationStarted(id="o-1", name=f"with {key}", correlation_id="c"))
    error = {"type": "ValueError", "message": f"refused {key}"}
    exporter.take(OperationCompleted(parent_id="o-1", correlation_id="c", name="x", duration=1.0, error=error))
    assert key not in str([(span.name, span.status) for span in exporter._tracer.spans])
