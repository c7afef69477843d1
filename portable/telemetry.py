"""OpenTelemetry, when `opentelemetry-api` is installed and the application has set a provider; otherwise nothing.

One span an operation, named and attributed by the semantic conventions for messaging and databases
(https://opentelemetry.io/docs/specs/semconv/); a counter `portable.operations` and a histogram
`portable.operation.duration` in seconds for each resource. The context of a sender travels in its messages'
attributes as W3C Trace Context (https://www.w3.org/TR/trace-context/), so that whoever handles them joins its trace.
Keys, bodies and values are never recorded.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from opentelemetry import metrics, trace
    from opentelemetry.context import Context

    from portable.hooks import Hook, Running

__all__ = ["TRACE_ATTRIBUTES", "handling", "hooks", "injected"]

TRACE_ATTRIBUTES = frozenset({"traceparent", "tracestate", "baggage"})
"""The message attributes that carry a trace."""

_MESSAGING = {"queue", "subscription", "topic", "stream"}
_PRODUCES = {"send", "send_many", "publish", "publish_many", "append", "append_many"}
_CONSUMES = {"receive", "poll", "read"}


def hooks() -> tuple[Hook, ...]:
    """Give the hook that observes every operation, or nothing where the application has set no provider.

    An application that wants telemetry has imported the API itself, so nothing is imported on its behalf.
    """
    if "opentelemetry.trace" not in sys.modules and "opentelemetry.metrics" not in sys.modules:
        return ()
    from opentelemetry import metrics, trace  # noqa: PLC0415 (imported by the application already)

    set_trace = not isinstance(trace.get_tracer_provider(), (trace.ProxyTracerProvider, trace.NoOpTracerProvider))
    meters = metrics.get_meter_provider()
    set_metrics = not isinstance(meters, metrics.NoOpMeterProvider) and not type(meters).__name__.startswith("_Proxy")
    if not set_trace and not set_metrics:
        return ()
    return (Telemetry(trace.get_tracer("portable"), metrics.get_meter("portable")),)


class Telemetry:
    """The hook: a span, a count and a duration for every operation."""

    def __init__(self, tracer: trace.Tracer, meter: metrics.Meter) -> None:
        self._tracer = tracer
        self._count = meter.create_counter("portable.operations", unit="{operation}", description="Operations done.")
        self._duration = meter.create_histogram(
            "portable.operation.duration", unit="s", description="How long operations took."
        )

    def begin(self, resource: str, kind: str, provider: str, operation: str) -> Running:
        """Start the span of an operation, and make it the current one."""
        from opentelemetry import context, trace  # noqa: PLC0415 (imported by the application already)

        attributes = _attributes(resource, kind, provider, operation)
        span = self._tracer.start_span(f"{operation} {resource}", kind=_span_kind(operation), attributes=attributes)
        return _Observed(self, span, context.attach(trace.set_span_in_context(span)), attributes)

    def note(self, attributes: Mapping[str, str], seconds: float) -> None:
        """Count an operation that ended."""
        self._count.add(1, attributes)
        self._duration.record(seconds, attributes)


class _Observed:
    delay = 0.0

    def __init__(self, telemetry: Telemetry, span: trace.Span, token: Any, attributes: dict[str, str]) -> None:
        self._telemetry = telemetry
        self._span = span
        self._token = token
        self._attributes = attributes
        self._started = time.perf_counter()

    def end(self, error: BaseException | None) -> None:
        from opentelemetry import context  # noqa: PLC0415 (imported by the application already)

        context.detach(self._token)
        if error is not None:
            self._attributes["error.type"] = type(error).__qualname__
            _fail(self._span, error)
        self._span.end()
        self._telemetry.note(self._attributes, time.perf_counter() - self._started)


def _attributes(resource: str, kind: str, provider: str, operation: str) -> dict[str, str]:
    own = {"portable.resource": resource, "portable.kind": kind}
    if kind in _MESSAGING:
        return {
            "messaging.system": provider,
            "messaging.destination.name": resource,
            "messaging.operation.name": operation,
            **own,
        }
    if kind == "bucket":
        return {"portable.provider": provider, "portable.operation": operation, **own}
    return {"db.system.name": provider, "db.collection.name": resource, "db.operation.name": operation, **own}


def _span_kind(operation: str) -> trace.SpanKind:
    from opentelemetry.trace import SpanKind  # noqa: PLC0415 (imported by the application already)

    if operation in _PRODUCES:
        return SpanKind.PRODUCER
    return SpanKind.CONSUMER if operation in _CONSUMES else SpanKind.CLIENT


def _fail(span: trace.Span, error: BaseException) -> None:
    from opentelemetry.trace import Status, StatusCode  # noqa: PLC0415 (imported by the application already)

    # The class alone: a message may quote what the application stores.
    span.set_attribute("error.type", type(error).__qualname__)
    span.set_status(Status(StatusCode.ERROR, type(error).__qualname__))


def injected(attributes: Mapping[str, str] | None) -> dict[str, str]:
    """Give message attributes with the current trace added; what is there already stays."""
    from opentelemetry import propagate  # noqa: PLC0415 (imported by the application already)

    carrier: dict[str, str] = {}
    propagate.inject(carrier)
    return {**carrier, **(attributes or {})}


@contextlib.contextmanager
def handling(resource: str, provider: str, attributes: Mapping[str, str]) -> Iterator[None]:
    """Run the block, which handles one message, in a span that continues the trace of its sender."""
    from opentelemetry import propagate, trace  # noqa: PLC0415 (imported by the application already)

    sender: Context = propagate.extract({name: attributes[name] for name in TRACE_ATTRIBUTES if name in attributes})
    tracer = trace.get_tracer("portable")
    with tracer.start_as_current_span(
        f"process {resource}",
        context=sender,
        kind=trace.SpanKind.CONSUMER,
        attributes=_attributes(resource, "queue", provider, "process"),
        record_exception=False,
        set_status_on_exception=False,
    ) as span:
        try:
            yield
        except BaseException as error:
            _fail(span, error)
            raise
