"""Facts that are read from a stream instead of delivered to a handler: judged by the same rules."""

import contextlib
from typing import TypeVar

from daas.common import envelope
from daas.common.bus import Bus, StoredMessage
from daas.common.errors import InvalidInput, Refused
from daas.common.messages import Message, decode
from daas.common.subjects import Subject

M = TypeVar("M", bound=Message)


def fact_of(stored: StoredMessage, subject: Subject, body: type[M]) -> M:
    """The body of a stored message.

    Raises:
        InvalidInput: its envelope or body is malformed, or it is oversized.
        Refused: `forged`: its source may not publish on this subject.
    """
    envelope.check(subject, stored.headers, len(stored.data))
    return decode(stored.data, body)


async def newest(bus: Bus, subject: Subject, body: type[M]) -> tuple[M, int] | None:
    """The newest good fact on a subject with its stream sequence; bad ones on top of it are passed over."""
    assert subject.stream is not None
    last = await bus.last(subject)
    if last is None:
        return None
    try:
        return fact_of(last, subject, body), last.sequence
    except (InvalidInput, Refused):
        found: tuple[M, int] | None = None
    async for stored in bus.read(subject.stream, subjects=[subject]):
        with contextlib.suppress(InvalidInput, Refused):
            found = fact_of(stored, subject, body), stored.sequence
        if stored.sequence >= last.sequence:
            break
    return found
