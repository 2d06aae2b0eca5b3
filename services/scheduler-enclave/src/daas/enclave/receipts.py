"""Receipts for arrivals: signed acknowledgements that the log up to an entry is inside, and what it has led to.

One receipt covers everything before it, since it names the hash over the whole log. So whoever keeps back a decision,
or a pod that is in the log, does it against the enclave's own word. Receipts are no part of the state machine: how
many there are depends on the pace, what each says only on the log, its time and key apart.
"""

import asyncio
import contextlib
from collections.abc import Callable

from daas.common import subjects
from daas.common.bus import Bus
from daas.common.decision import INTENT_RECEIPT, intent_message
from daas.common.messages import PlacementReceived
from daas.common.receipt import receipt_bcs
from daas.enclave.identity import Identity
from daas.enclave.signing import Signing
from daas.placement import Genesis

#: Number and digest of the last decision, number of the last entry, log root.
Position = tuple[int, bytes, int, bytes]


class Receipts:
    """Signs the newest position of the log, at a pace.

    Args:
        bus: where receipts go.
        signing: hands out the key.
        genesis: chain and registry.
        every_entries: entries after which a receipt is due at once.
        every_ms: how long an entry waits at most.
    """

    def __init__(self, bus: Bus, signing: Signing, genesis: Genesis, *, every_entries: int, every_ms: int) -> None:
        self._bus = bus
        self._signing = signing
        self._genesis = genesis
        self._every_entries = every_entries
        self._every_s = every_ms / 1000
        self._position: Position | None = None
        self._receipted = 0
        self._due = asyncio.Event()

    def folded(self, position: Position) -> None:
        """Takes the position after an entry."""
        self._position = position
        if position[2] - self._receipted >= self._every_entries:
            self._due.set()

    async def publish(self, may: Callable[[], bool], *, simulated: bool) -> None:
        """Publishes receipts for ever.

        Args:
            may: whether this instance gives receipts now.
            simulated: what they say of themselves.
        """
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._due.wait(), timeout=self._every_s)
            self._due.clear()
            position, identity = self._position, self._signing.key()
            if position is None or position[2] <= self._receipted or identity is None or not may():
                continue
            receipt = sign(identity, self._genesis, position, self._signing.now_ms(), simulated=simulated)
            await self._bus.publish(
                subjects.PLACEMENT_RECEIVED, receipt, message_id=f"received:{position[2]}:{identity.public_key}"
            )
            self._receipted = position[2]


def sign(
    identity: Identity, genesis: Genesis, position: Position, now_ms: int, *, simulated: bool
) -> PlacementReceived:
    """The receipt for a position."""
    sequence, digest, log_sequence, log_root = position
    payload = receipt_bcs(
        chain=genesis.chain,
        registry=genesis.registry,
        log_sequence=log_sequence,
        log_root=log_root,
        sequence=sequence,
        head=digest,
    )
    return PlacementReceived(
        chain=genesis.chain.hex(),
        registry="0x" + genesis.registry.hex(),
        log_sequence=log_sequence,
        log_root=log_root.hex(),
        sequence=sequence,
        head=digest.hex(),
        timestamp_ms=now_ms,
        public_key=identity.public_key,
        signature=identity.sign(intent_message(INTENT_RECEIPT, now_ms, payload)).hex(),
        simulated=simulated,
    )
