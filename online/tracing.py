"""Traces: what a request waited for, and when, as spans under one root that OpenTelemetry's tools show.

Off unless OTEL_EXPORTER_OTLP_ENDPOINT or TRACE_FILE is set. Then online/opentelemetry_tracer.py notes the spans, the
only importer of OpenTelemetry's spans and exporters: without these settings a server carries nothing of them.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol

from data_exchange_center.settings import Settings

Headers = Callable[[], dict[str, str]]  # those that tell a service which span its call belongs to; none without traces


class Span(Protocol):
    """A call's time, from its beginning to the end of the last block within it."""

    def within(self, ends: bool = True) -> AbstractContextManager[object]:
        """Stands around work of the call: calls that begin in the block belong to it.

        Args:
            ends: whether the call ends with the block. An exception that leaves the block marks it as failed.
        """


class Tracer(Protocol):
    """Notes calls as spans of the present request."""

    def begin(self, service: str) -> Span:
        """Begins a call to a service, as part of what the present thread is within."""

    def headers(self) -> dict[str, str]:
        """What a call hands on, so that the service's own spans belong to the present one (W3C's `traceparent`)."""


class NoTracer:
    """Notes nothing; its one span is every span."""

    def begin(self, service: str) -> "NoTracer":
        """The span that nobody sees."""
        return self

    def within(self, ends: bool = True) -> AbstractContextManager[None]:
        """A block around which nothing happens."""
        return _NOTHING

    def headers(self) -> dict[str, str]:
        """None."""
        return {}


_NOTHING = nullcontext()
NO_TRACER = NoTracer()


def are_traced(settings: Settings) -> bool:
    """Whether the settings ask for traces."""
    return bool(settings.otel_exporter_otlp_endpoint or settings.trace_file)
