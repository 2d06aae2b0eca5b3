"""The anchored decisions, newest last: where each one's messages stand in the stream."""

import asyncio
from bisect import bisect_right
from collections.abc import Callable
from contextlib import aclosing
from typing import Final

import msgspec

from daas.common.bus import Bus
from daas.common.errors import InvalidInput, Refused
from daas.common.facts import fact_of
from daas.common.logs import get_logger
from daas.common.messages import PlacementAnchored
from daas.common.subjects import PLACEMENT_ANCHORED, Stream

#: About 20 MB; older decisions are found in the archived evidence.
BATCHES_MAX: Final = 50_000

log = get_logger("api")


class Batch(msgspec.Struct, frozen=True, kw_only=True):
    """One anchored decision.

    Attributes:
        sequence, payload_digest: which decision.
        decided_sequence: stream sequence of its `placement.decided`.
        tx_digest, checkpoint, anchored_ms: its anchor on the ledger.
    """

    sequence: int
    payload_digest: str
    public_key: str
    decided_sequence: int
    tx_digest: str
    checkpoint: int | None
    anchored_ms: int
    simulated: bool


class BatchIndex:
    """Follows `placement.anchored`."""

    def __init__(self) -> None:
        self._by_sequence: dict[int, Batch] = {}
        self._sequences: list[int] = []

    def __len__(self) -> int:
        return len(self._by_sequence)

    def put(self, fact: PlacementAnchored) -> None:
        """Takes an anchor in; the first for a sequence stays, since the ledger accepts one."""
        if fact.sequence in self._by_sequence:
            return
        batch = Batch(
            sequence=fact.sequence,
            payload_digest=fact.payload_digest,
            public_key=fact.public_key,
            decided_sequence=fact.decided_sequence,
            tx_digest=fact.tx_digest,
            checkpoint=fact.checkpoint,
            anchored_ms=fact.timestamp_ms,
            simulated=fact.simulated,
        )
        self._by_sequence[fact.sequence] = batch
        self._sequences.insert(bisect_right(self._sequences, fact.sequence), fact.sequence)
        if len(self._sequences) > BATCHES_MAX:
            del self._by_sequence[self._sequences.pop(0)]

    def get(self, sequence: int) -> Batch | None:
        """The anchored decision of a number."""
        return self._by_sequence.get(sequence)

    def after(self, sequence: int, limit: int) -> list[Batch]:
        """Up to `limit` decisions after a number, in order."""
        start = bisect_right(self._sequences, sequence)
        return [self._by_sequence[one] for one in self._sequences[start : start + limit]]

    async def run(self, bus: Callable[[], Bus]) -> None:
        """Follows for ever."""
        first, _ = await bus().stream_bounds(Stream.PLACEMENT)
        reading = bus().read(Stream.PLACEMENT, start=max(first, 1), subjects=[PLACEMENT_ANCHORED])
        async with aclosing(reading) as messages:
            async for stored in messages:
                try:
                    self.put(fact_of(stored, PLACEMENT_ANCHORED, PlacementAnchored))
                except (InvalidInput, Refused) as error:
                    log.warning("an anchor is not believed", sequence=stored.sequence, error=error)
                await asyncio.sleep(0)
