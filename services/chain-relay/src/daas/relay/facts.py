"""Facts that are published once, whatever was published before a crash and however long ago that was."""

import contextlib

from daas.common.bus import Bus
from daas.common.errors import NotFound
from daas.common.messages import Message
from daas.common.subjects import Stream, Subject

_MESSAGE_ID = "Nats-Msg-Id"


class Facts:
    """Publishes each message id once.

    The bus forgets message ids after its duplicate window. What was published after the last position that the cursor
    was stored with is read back at the start, and not published again.

    Args:
        bus: the relay's connection.
    """

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._published: set[str] = set()
        self.positions: dict[str, int] = {}

    async def read_back(self, positions: dict[str, int]) -> None:
        """Learns what stands in the streams of chain facts after the given sequences."""
        self.positions = dict(positions)
        for stream in (Stream.ENCLAVE, Stream.CHAIN):
            await self._read_back(stream, positions.get(stream.value, 0) + 1)

    async def _read_back(self, stream: Stream, start: int) -> None:
        try:
            first, last = await self._bus.stream_bounds(stream)
        except NotFound:
            return
        if last < max(first, start):
            return
        async with contextlib.aclosing(self._bus.read(stream, start=max(first, start))) as messages:
            async for stored in messages:
                self._published.add(stored.headers.get(_MESSAGE_ID, ""))
                if stored.sequence >= last:
                    return

    def forget(self) -> None:
        """Says that whatever comes now is newer than all that was read back."""
        self._published.clear()

    def is_published(self, message_id: str) -> bool:
        """Whether the fact was read back from its stream."""
        return message_id in self._published

    async def publish(self, subject: Subject, body: Message, *, message_id: str, time_ms: int) -> bool:
        """Publishes a fact unless it stands in its stream; returns whether it was published.

        Raises:
            Unavailable: it is not known to be stored: publish it again.
        """
        if message_id in self._published:
            return False
        assert subject.stream is not None
        sequence = await self._bus.publish(subject, body, message_id=message_id, time_ms=time_ms)
        self.positions[subject.stream.value] = max(self.positions.get(subject.stream.value, 0), sequence)
        return True
