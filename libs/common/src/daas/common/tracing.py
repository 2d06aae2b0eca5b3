"""Spans for OpenTelemetry, off by default. The trace itself is the `traceparent` header, which every message carries.

`span` is called wherever something is worth seeing. Without `configure` it does nothing, and nothing of OpenTelemetry
is imported; with it, spans go to an OTLP/HTTP collector in the background, bounded, dropped where it can't keep up.
The enclave makes no spans: it hands the header of the log entry on to its decision, so its time shows as the gap.
"""

from contextlib import AbstractContextManager, nullcontext
from contextvars import Token
from enum import Enum
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final

from daas.common import envelope
from daas.common.envelope import Trace
from daas.common.errors import ConfigurationError, DaasError
from daas.common.subjects import Service

if TYPE_CHECKING:
    pass

#: What an attribute may be.
Value = str | int | bool
#: At a stop the collector gets this long for what is left.
_FLUSH_MS: Final = 3_000
#: One export attempt; the queue behind it holds 2,048 spans.
_EXPORT_S: Final = 5
_OFF: Final[nullcontext[None]] = nullcontext()


class Kind(Enum):
    """A span's part in a message's way; names as OpenTelemetry has them."""

    INTERNAL = "INTERNAL"
    PRODUCER = "PRODUCER"
    CONSUMER = "CONSUMER"
    CLIENT = "CLIENT"


class _Tracer:
    def __init__(self, service: Service, cluster: str, url: str, ratio: float) -> None:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415 - where used
        from opentelemetry.sdk.resources import Resource  # noqa: PLC0415 - only where tracing is on
        from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415 - only where tracing is on
        from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415 - only where tracing is on
        from opentelemetry.sdk.trace.sampling import TraceIdRatioBased  # noqa: PLC0415 - only where tracing is on

        resource = Resource.create({"service.name": service.value, "service.namespace": f"daas.{cluster}"})
        # By the trace's id and nothing else: all services keep or drop the same traces.
        self.provider: TracerProvider = TracerProvider(resource=resource, sampler=TraceIdRatioBased(ratio))
        exporter = OTLPSpanExporter(endpoint=url, timeout=_EXPORT_S)
        self.provider.add_span_processor(BatchSpanProcessor(exporter, schedule_delay_millis=1_000))
        self.tracer = self.provider.get_tracer("daas")


_tracer: _Tracer | None = None


def configure(service: Service, cluster: str, url: str, ratio: float = 1.0) -> None:
    """Turns tracing on for this process; in the enclave it stays off.

    Args:
        service: whose spans these are.
        cluster: its cluster.
        url: where an OTLP/HTTP collector takes traces, e.g. `http://collector:4318/v1/traces`.
        ratio: which share of all traces is kept, 0 to 1.

    Raises:
        ConfigurationError: `tracing-missing` where OpenTelemetry is not installed.
    """
    global _tracer  # noqa: PLW0603 - one process is one service
    if service is Service.ENCLAVE:
        return  # it talks to the bus and to nobody else, and has no OpenTelemetry in its image
    try:
        _tracer = _Tracer(service, cluster, url, ratio)
    except ImportError as error:
        raise ConfigurationError(
            f"tracing needs the extra `tracing` of k3s-daas-common: {error}", reason="tracing-missing"
        ) from None


def shut_down() -> None:
    """Sends what is left, for a bounded time, and turns tracing off. Blocks."""
    global _tracer  # noqa: PLW0603 - one process is one service
    if _tracer is not None:
        _tracer.provider.force_flush(_FLUSH_MS)
        _tracer.provider.shutdown()
        _tracer = None


def span(
    name: str, *, kind: Kind = Kind.INTERNAL, parent: str | None = None, **attributes: Value
) -> AbstractContextManager[Trace | None]:
    """A span around a block of code.

    Args:
        name: what is done, and no names of objects: those are attributes.
        kind: its part in a message's way.
        parent: a traceparent header; by default the span that is running here, else a new trace.
        attributes: what it is about; an underscore stands for a dot.

    Returns:
        A context manager that gives the span's place in the trace; None while tracing is off.
    """
    if _tracer is None:
        return _OFF
    return _Span(_tracer, name, kind, parent, attributes)


class _Span:
    def __init__(
        self, tracer: _Tracer, name: str, kind: Kind, parent: str | None, attributes: dict[str, Value]
    ) -> None:
        self._tracer, self._name, self._kind, self._parent = tracer, name, kind, parent
        self._attributes = {key.replace("_", "."): value for key, value in attributes.items()}
        self._token: Token[Trace | None] | None = None
        self._span: Any = None

    def __enter__(self) -> Trace:
        from opentelemetry import trace as otel  # noqa: PLC0415 - only where tracing is on

        parent = envelope.parse_traceparent(self._parent) or envelope.current_trace.get()
        context = otel.set_span_in_context(otel.INVALID_SPAN)
        if parent is not None:
            place = otel.SpanContext(
                int(parent.trace_id, 16), int(parent.span_id, 16), is_remote=True, trace_flags=otel.TraceFlags(1)
            )
            context = otel.set_span_in_context(otel.NonRecordingSpan(place))
        self._span = self._tracer.tracer.start_span(
            self._name, context=context, kind=otel.SpanKind[self._kind.value], attributes=self._attributes
        )
        found = self._span.get_span_context()
        mine = Trace(f"{found.trace_id:032x}", f"{found.span_id:016x}")
        self._token = envelope.current_trace.set(mine)
        return mine

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        from opentelemetry.trace import Status, StatusCode  # noqa: PLC0415 - only where tracing is on

        if self._token is not None:
            envelope.current_trace.reset(self._token)
        if error is not None:
            reason = error.reason if isinstance(error, DaasError) else type(error).__name__
            self._span.set_status(Status(StatusCode.ERROR, reason))
        self._span.end()
