"""The envelope of every message: CloudEvents 1.0 in NATS headers, the W3C trace context, and the message id.

Sources: CloudEvents 1.0 NATS protocol binding (attributes as `ce-*` headers), W3C Trace Context level 1.
"""

import re
import secrets
import time
from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from daas.common.errors import InvalidInput, Refused
from daas.common.subjects import MAX_MESSAGE_BYTES, Service, Subject

SPEC_VERSION: Final = "1.0"
CE_ID: Final = "ce-id"
CE_TYPE: Final = "ce-type"
CE_SOURCE: Final = "ce-source"
CE_TIME: Final = "ce-time"
CE_SPEC_VERSION: Final = "ce-specversion"
TRACEPARENT: Final = "traceparent"
MESSAGE_ID: Final = "Nats-Msg-Id"
CONTENT_TYPE: Final = "content-type"

#: Printable ASCII without spaces: it travels in a header line and is kept by the server for the duplicate window.
_MESSAGE_ID = re.compile(r"[!-~]{1,256}")
_TRACEPARENT = re.compile(r"00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})")
_NO_TRACE: Final = "0" * 32
_NO_SPAN: Final = "0" * 16


@dataclass(frozen=True, slots=True)
class Trace:
    """Where in a trace we are: `trace_id` 16 bytes hex, `span_id` 8 bytes hex."""

    trace_id: str
    span_id: str

    @property
    def traceparent(self) -> str:
        """The header value, sampled."""
        return f"00-{self.trace_id}-{self.span_id}-01"

    def child(self) -> "Trace":
        """The next span of the same trace."""
        return Trace(self.trace_id, secrets.token_hex(8))


#: The trace that the running handler works in; what it publishes and logs carries it on.
current_trace: ContextVar[Trace | None] = ContextVar("daas_current_trace", default=None)


def new_trace() -> Trace:
    """A new trace with random ids."""
    return Trace(secrets.token_hex(16), secrets.token_hex(8))


def parse_traceparent(value: str | None) -> Trace | None:
    """The trace of a header; None where it is absent or malformed (then the receiver starts a new one, says W3C)."""
    match = _TRACEPARENT.fullmatch(value or "")
    if match is None or match[1] == _NO_TRACE or match[2] == _NO_SPAN:
        return None
    return Trace(match[1], match[2])


def trace_for(traceparent: str | None) -> Trace:
    """The trace to send under: that of the argument, else a child of the running handler's, else a new one."""
    given = parse_traceparent(traceparent)
    if given is not None:
        return given
    running = current_trace.get()
    return running.child() if running is not None else new_trace()


def now_ms() -> int:
    """Wall-clock time in milliseconds since the epoch."""
    return time.time_ns() // 1_000_000


def rfc3339(time_ms: int) -> str:
    """`2026-01-02T03:04:05.678Z`."""
    return datetime.fromtimestamp(time_ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def seal(
    service: Service, event_type: str, message_id: str, *, time_ms: int | None = None, traceparent: str | None = None
) -> dict[str, str]:
    """The headers of a message to send.

    Raises:
        InvalidInput: `message-id` when it is not 1..256 printable ASCII characters without spaces.
    """
    if not _MESSAGE_ID.fullmatch(message_id):
        raise InvalidInput(
            f"a message id has 1..256 printable ASCII characters without spaces, not {message_id[:64]!r}",
            reason="message-id",
            field=MESSAGE_ID,
        )
    return {
        CE_SPEC_VERSION: SPEC_VERSION,
        CE_ID: message_id,
        CE_TYPE: event_type,
        CE_SOURCE: service.value,
        CE_TIME: rfc3339(now_ms() if time_ms is None else time_ms),
        CONTENT_TYPE: "application/json",
        TRACEPARENT: trace_for(traceparent).traceparent,
        MESSAGE_ID: message_id,
    }


def check(subject: Subject, headers: Mapping[str, str], size_bytes: int) -> None:
    """Judges the envelope of a received message before its body is looked at.

    Raises:
        InvalidInput: `oversize`, `malformed-envelope` (an attribute is missing or of another version), `wrong-type`.
        Refused: `forged` when the source may not publish on this subject.
    """
    if size_bytes > MAX_MESSAGE_BYTES:
        raise InvalidInput(
            f"{size_bytes} bytes on {subject.name}, at most {MAX_MESSAGE_BYTES} are allowed", reason="oversize"
        )
    for name in (CE_SPEC_VERSION, CE_ID, CE_TYPE, CE_SOURCE):
        if not headers.get(name):
            raise InvalidInput(f"{subject.name}: the header {name} is missing", reason="malformed-envelope", field=name)
    if headers[CE_SPEC_VERSION] != SPEC_VERSION:
        raise InvalidInput(
            f"{subject.name}: CloudEvents {headers[CE_SPEC_VERSION][:16]!r} is not {SPEC_VERSION}",
            reason="malformed-envelope",
            field=CE_SPEC_VERSION,
        )
    if headers[CE_TYPE] != subject.event_type:
        raise InvalidInput(
            f"{subject.name}: expected type {subject.event_type}, got {headers[CE_TYPE][:128]!r}",
            reason="wrong-type",
            field=CE_TYPE,
        )
    if headers[CE_SOURCE] not in {publisher.value for publisher in subject.publishers}:
        raise Refused(f"{headers[CE_SOURCE][:64]!r} may not publish {subject.name}", reason="forged", field=CE_SOURCE)
