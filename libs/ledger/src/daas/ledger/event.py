"""What every event of a transaction has in common."""

import msgspec


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """Anything that a transaction emitted."""


class UnknownEvent(Event, frozen=True, kw_only=True):
    """An event of another package, or of a newer version of ours: its type and its BCS, unread."""

    event_type: str
    contents: bytes
