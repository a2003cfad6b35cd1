"""One trace from the request through the queue to Triton, by W3C Trace Context.

Spans are exported if the environment configures OpenTelemetry (``OTEL_EXPORTER_OTLP_ENDPOINT``).
Without it, the trace of the caller is still passed on to Triton.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from opentelemetry import propagate, trace
from opentelemetry.trace import Span, SpanKind

from pipeline.errors import InputError

OTLP_ENDPOINT_VARIABLE = "OTEL_EXPORTER_OTLP_ENDPOINT"
TRACEPARENT = "traceparent"


def set_up_tracing(environment: Mapping[str, str]) -> None:
    """Export the spans of this process if the environment names an endpoint.

    Raises ``InputError`` without OpenTelemetry's SDK.
    """
    if not environment.get(OTLP_ENDPOINT_VARIABLE):
        return
    if importlib.util.find_spec("opentelemetry.sdk") is None:
        raise InputError(
            OTLP_ENDPOINT_VARIABLE, "needs OpenTelemetry's SDK: pip install 'triton-video[tracing]'"
        )
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    provider = TracerProvider(resource=Resource.create({"service.name": "triton-video"}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)


@contextmanager
def span(
    name: str, parent: Mapping[str, str], kind: SpanKind = SpanKind.INTERNAL
) -> Iterator[Span]:
    """Open a span below that of ``parent``: the headers of a request, or those of `carrier`."""
    context = propagate.extract(parent)
    with trace.get_tracer("triton-video").start_as_current_span(name, context, kind) as current:
        yield current


def carrier() -> dict[str, str]:
    """Return the headers that name the current span; none without a span."""
    headers: dict[str, str] = {}
    propagate.inject(headers)
    return headers
