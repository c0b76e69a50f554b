"""Spans of requests, noted by OpenTelemetry's SDK and exported by a thread of its own, to a collector or into a file.

Made in each worker after the fork: the exporting thread and its lock do not survive one. Everything beside the address
is OpenTelemetry's own, by its own variables: OTEL_SERVICE_NAME, OTEL_TRACES_SAMPLER, OTEL_EXPORTER_OTLP_HEADERS,
OTEL_BSP_SCHEDULE_DELAY and so on.
"""

import os
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path

import requests
from opentelemetry import propagate, trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter, SpanExporter

from data_exchange_center.settings import Settings
from online.tracing import NO_TRACER, NoTracer

SERVICE = "recsys_pipeline"  # by which collectors list the spans, unless OTEL_SERVICE_NAME says otherwise
TRACES_PATH = "/v1/traces"  # at the endpoint, as the OTLP standard has it
Attribute = str | int | float


class OpenTelemetrySpan:
    """A span of a request or of a call in it."""

    def __init__(self, span: trace.Span) -> None:
        """Takes a span that has begun."""
        self._span = span

    def within(self, ends: bool = True) -> AbstractContextManager[object]:
        """See online/tracing.py."""
        return trace.use_span(self._span, end_on_exit=ends, record_exception=False)

    @property
    def trace_id(self) -> str:
        """The trace's id, as collectors show it."""
        return trace.format_trace_id(self._span.get_span_context().trace_id)

    def note(self, attributes: Mapping[str, Attribute]) -> None:
        """Adds what became of the request."""
        for name, value in attributes.items():
            self._span.set_attribute(name, value)

    def failed(self) -> None:
        """Marks the span as failed."""
        self._span.set_status(trace.StatusCode.ERROR)


class OpenTelemetryTracer:
    """Notes the requests of one process and the calls within them; what runs in the background is in no trace."""

    def __init__(self, exporters: list[SpanExporter]) -> None:
        """Starts a thread for each exporter. Whoever ends before the process does calls `close`."""
        own_name = {} if "OTEL_SERVICE_NAME" in os.environ else {SERVICE_NAME: SERVICE}
        # The provider is not made OpenTelemetry's global one: libraries that look for that, as Elasticsearch's client
        # does, would note the calls of readiness probes and background threads as traces of their own.
        self._provider = TracerProvider(resource=Resource.create(own_name))
        for exporter in exporters:
            self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer(__name__)

    @classmethod
    def of(cls, settings: Settings) -> "OpenTelemetryTracer":
        """The tracer that the settings ask for."""
        exporters: list[SpanExporter] = []
        if settings.otel_exporter_otlp_endpoint:
            exporters.append(collector_exporter(settings.otel_exporter_otlp_endpoint))
        if settings.trace_file:
            exporters.append(file_exporter(settings.folder(settings.trace_file)))
        return cls(exporters)

    def begin_request(self, name: str, headers: Mapping[str, str]) -> OpenTelemetrySpan:
        """The root of a request's spans, or the child of a caller's who sent `traceparent`.

        Args:
            name: of the request, method and path.
            headers: of the request.
        """
        parent = propagate.extract({key.lower(): value for key, value in headers.items()})
        return OpenTelemetrySpan(self._tracer.start_span(name, parent, trace.SpanKind.SERVER))

    def begin(self, service: str) -> OpenTelemetrySpan | NoTracer:
        """See online/tracing.py. A call that belongs to no request is not noted."""
        if not trace.get_current_span().get_span_context().is_valid:
            return NO_TRACER
        attributes = {"peer.service": service}
        return OpenTelemetrySpan(self._tracer.start_span(service, kind=trace.SpanKind.CLIENT, attributes=attributes))

    def headers(self) -> dict[str, str]:
        """See online/tracing.py."""
        carrier: dict[str, str] = {}
        propagate.inject(carrier)
        return carrier

    def close(self) -> None:
        """Exports what waits, and ends the threads; at the end of a process this happens by itself."""
        self._provider.shutdown()


def collector_exporter(endpoint: str) -> OTLPSpanExporter:
    """Sends spans to a collector; no proxy of the environment has a say in how a configured host is reached."""
    session = requests.Session()
    session.trust_env = False
    return OTLPSpanExporter(endpoint.rstrip("/") + TRACES_PATH, session=session)


def file_exporter(file: Path) -> ConsoleSpanExporter:
    """Appends spans to a file as lines of JSON; several workers may write to the same one.

    Each line is one write to a file that is open for appending, so that no two of them mix.
    """
    file.parent.mkdir(parents=True, exist_ok=True)

    def line(span: ReadableSpan) -> str:
        return span.to_json(indent=None) + "\n"

    return ConsoleSpanExporter(out=file.open("a", encoding="utf-8", buffering=1), formatter=line)
