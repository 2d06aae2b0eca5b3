"""The values that the bus hands out."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Generic, TypeVar

from nats.aio.msg import Msg

from daas.common.envelope import TRACEPARENT
from daas.common.messages import Message

M = TypeVar("M", bound=Message)

#: What a direct get adds to the original's headers.
_TRANSPORT_HEADERS: Final = frozenset(
    {
        "Nats-Stream",
        "Nats-Subject",
        "Nats-Sequence",
        "Nats-Time-Stamp",
        "Nats-Num-Pending",
        "Nats-Last-Sequence",
        "Nats-UpTo-Sequence",
    }
)


@dataclass(frozen=True, slots=True)
class StoredMessage:
    """A message as it stands in a stream.

    Attributes:
        subject: the full NATS subject.
        sequence: its stream sequence.
        headers: as published.
        time_ms: when the stream stored it.
    """

    subject: str
    sequence: int
    data: bytes
    headers: Mapping[str, str]
    time_ms: int


@dataclass(frozen=True, slots=True)
class Event(Generic[M]):
    """What a handler gets.

    Attributes:
        body: the decoded message.
        sequence: its stream sequence.
        time_ms: when the stream stored it.
        deliveries: 1 for the first delivery.
        raw: the body's bytes.
        traceparent: of the message; None where it has none.
    """

    body: M
    sequence: int
    headers: Mapping[str, str]
    time_ms: int
    deliveries: int
    raw: bytes
    traceparent: str | None


def delivered(message: Msg) -> StoredMessage:
    """A message delivered by a consumer, as a value."""
    metadata = message.metadata
    return StoredMessage(
        subject=message.subject,
        sequence=metadata.sequence.stream,
        data=message.data,
        headers=message.headers or {},
        time_ms=round(metadata.timestamp.timestamp() * 1000),
    )


def directly_got(message: Msg) -> StoredMessage:
    """The answer to a direct get, as a value."""
    headers = message.headers or {}
    return StoredMessage(
        subject=headers["Nats-Subject"],
        sequence=int(headers["Nats-Sequence"]),
        data=message.data,
        headers={key: value for key, value in headers.items() if key not in _TRANSPORT_HEADERS},
        time_ms=round(datetime.fromisoformat(headers["Nats-Time-Stamp"]).timestamp() * 1000),
    )


def event(stored: StoredMessage, body: M, deliveries: int) -> Event[M]:
    """The event of a delivered message whose body has been decoded."""
    return Event(
        body=body,
        sequence=stored.sequence,
        headers=stored.headers,
        time_ms=stored.time_ms,
        deliveries=deliveries,
        raw=stored.data,
        traceparent=stored.headers.get(TRACEPARENT),
    )
