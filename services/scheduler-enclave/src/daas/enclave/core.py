"""The loop around the engine: fold the log in order, sign what is decided, publish what is due."""

import asyncio
import contextlib
import time
from typing import Any

from daas.common import logs, subjects
from daas.common.bus import Bus, StoredMessage
from daas.common.clusterlog import entry_of
from daas.common.envelope import TRACEPARENT
from daas.common.errors import InvalidInput, NotFound, Refused
from daas.common.facts import fact_of, newest
from daas.common.messages import EnclaveChallenged, PlacementAnchored, PlacementRefused
from daas.enclave import messages as outgoing
from daas.enclave.access import Standing
from daas.enclave.keys import Keys
from daas.enclave.outbox import Fork, Outbox, Role
from daas.enclave.planning import State
from daas.enclave.receipts import Receipts
from daas.enclave.settings import EnclaveSettings
from daas.enclave.signing import Signing
from daas.placement import Applied, FairnessCertificate, Genesis, Scheduler

log = logs.get_logger(__name__)

PLACEMENT_FACTS = (subjects.PLACEMENT_ANCHORED, subjects.PLACEMENT_REFUSED)


def monotonic_ms() -> int:
    """Milliseconds that only measure waiting; no decision depends on them."""
    return time.monotonic_ns() // 1_000_000


class Core:
    """One enclave's life: restore, fold, decide, publish, follow the anchors.

    Args:
        bus: the connection to the log and the facts.
        keys: tell this instance's anchors from those of others.
        signing: says which key may sign, and whether any may.
        genesis: what the chain of decisions starts from.
        settings: snapshot and takeover settings.
    """

    def __init__(self, bus: Bus, keys: Keys, signing: Signing, genesis: Genesis, settings: EnclaveSettings) -> None:
        self._bus = bus
        self._keys = keys
        self._signing = signing
        self._genesis = genesis
        self._settings = settings
        self._scheduler = Scheduler(genesis)
        self._snapshots: dict[int, bytes] = {}
        self._traces: dict[int, str | None] = {}
        self._fairness: dict[int, FairnessCertificate] = {}
        self._wake = asyncio.Event()
        self._room = asyncio.Event()
        self._simulated = False
        self._log_sequence = 0
        self._quiet_until = 0
        self._anchored_at_start = 0
        self._receipts = Receipts(
            bus, signing, genesis, every_entries=settings.enclave_receipt_entries, every_ms=settings.enclave_receipt_ms
        )
        self.outbox = Outbox(
            keys.is_own,
            takeover_ms=settings.enclave_takeover_ms,
            republish_ms=settings.enclave_republish_ms,
        )

    def status(self) -> dict[str, Any]:
        """Where this instance stands."""
        return {
            "role": self.outbox.role.value,
            "anchored": self.outbox.head,
            "unanchored": len(self.outbox),
            "log_sequence": self._log_sequence,
            "nodes": self._scheduler.nodes,
            "pending": self._scheduler.pending,
        }

    @property
    def standing(self) -> Standing:
        """What other decisions than placements are made for."""
        return Standing(self._genesis.chain, self._genesis.registry, self._log_sequence, self._simulated)

    def state(self) -> State:
        """The state now, for whoever computes on it elsewhere."""
        return State(self._genesis, self._scheduler.head, self._scheduler.snapshot(), self._simulated)

    async def start(self, challenge: EnclaveChallenged) -> int:
        """Restores the newest snapshot that is not past the anchored head; returns where to follow PLACEMENT from.

        A snapshot needs no signature: folding on from it must lead to the head that the ledger holds, or this instance
        stops (`fork`).
        """
        self._simulated = challenge.simulated
        head, digest, follow_from = challenge.sequence, challenge.payload_digest, 1
        found = await newest(self._bus, subjects.PLACEMENT_ANCHORED, PlacementAnchored)
        if found is not None:
            anchored, stream_sequence = found
            follow_from = stream_sequence + 1
            if anchored.sequence > head:
                head, digest = anchored.sequence, anchored.payload_digest
        self.outbox.start(head, bytes.fromhex(digest))
        for name in sorted(await self._bus.list_objects(subjects.SNAPSHOT_BUCKET), reverse=True):
            if int(name) > head:
                continue
            try:
                restored = Scheduler.restore(self._genesis, await self._bus.get_object(subjects.SNAPSHOT_BUCKET, name))
            except (InvalidInput, Refused, NotFound) as error:
                log.warning("snapshot refused", snapshot=name, reason=error.reason)
                continue
            if restored.head.sequence == int(name):
                self._scheduler = restored
                break
        _, self._quiet_until = await self._bus.stream_bounds(subjects.Stream.LOG)
        restored_head = self._scheduler.head
        self._log_sequence = restored_head.log_sequence
        if restored_head.sequence == head and restored_head.digest.hex() != digest:
            raise Fork(f"the snapshot at {head} is not what the ledger anchored", reason="fork", field="snapshot")
        self._anchored_at_start = head
        self._require_whole_log()
        log.info("starting", anchored=head, snapshot=restored_head.sequence, log_sequence=restored_head.log_sequence)
        return follow_from

    def _require_whole_log(self) -> None:
        """What was anchored before the start must follow from what was in the log before the start.

        Raises:
            Fork: `log-lost`: the log has been wiped, cut or put back to an older state.
        """
        sequence = self._scheduler.position[0]
        if self.caught_up and sequence < self._anchored_at_start:
            raise Fork(
                f"the log up to entry {self._log_sequence} leads to decision {sequence}, the ledger holds "
                f"{self._anchored_at_start}: part of the log is lost. Restore stream LOG, or begin a new registry "
                "(docs/recovery.md)",
                reason="log-lost",
                field="log_sequence",
            )

    @property
    def caught_up(self) -> bool:
        """Whether everything that was in the log at the start has been folded."""
        return self._log_sequence >= self._quiet_until

    async def fold(self) -> None:
        """Folds the log for ever; waits while too many decisions are un-anchored."""
        async for entry in self._bus.read(subjects.Stream.LOG, start=self._log_sequence + 1):
            while self.outbox.full:
                self._room.clear()
                await self._room.wait()
            await self._fold(entry)
            await asyncio.sleep(0)

    async def _fold(self, entry: StoredMessage) -> None:
        data, refusal = entry_of(entry)
        applied = self._scheduler.apply(entry.sequence, data)
        self._log_sequence = entry.sequence
        self._receipts.folded(self._scheduler.position)
        if entry.sequence == self._quiet_until:
            self._require_whole_log()
        await self._report(entry, applied, refusal)
        if applied.decision is None:
            return
        sequence = applied.decision.batch.sequence
        self.outbox.decided(applied.decision, monotonic_ms())
        if sequence > self.outbox.head:
            self._traces[sequence] = entry.headers.get(TRACEPARENT)
        if sequence > self.outbox.head and applied.fairness is not None:
            self._fairness[sequence] = applied.fairness
        if sequence > self.outbox.head and sequence % self._settings.enclave_snapshot_every == 0:
            self._snapshots[sequence] = self._scheduler.snapshot()
        self._wake.set()

    async def _report(self, entry: StoredMessage, applied: Applied, refusal: InvalidInput | Refused | None) -> None:
        """Dead-letters what the fold refused; entries from before the start were reported when they came."""
        if entry.sequence <= self._quiet_until or self.outbox.role is not Role.ACTIVE:
            return
        if refusal is not None:
            await self._bus.dead_letter(entry, refusal)
        elif applied.refused:
            first = applied.refused[0]
            where = f"events[{first.index}]" if first.index >= 0 else None
            more = f" (and {len(applied.refused) - 1} more events)" if len(applied.refused) > 1 else ""
            await self._bus.dead_letter(entry, InvalidInput(first.message + more, reason=first.reason, field=where))

    async def publish(self) -> None:
        """Publishes what is due, for ever, once the key is registered and the log has been caught up with."""
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), timeout=0.1)
            self._wake.clear()
            if not self.caught_up:
                continue
            identity = self._signing.key()
            if identity is None:
                continue
            for due in self.outbox.due(monotonic_ms()):
                fairness = self._fairness.get(due.decision.batch.sequence)
                message = outgoing.decided(due.decision, fairness, identity, simulated=self._simulated)
                message_id = f"decided:{message.payload_digest}:{identity.public_key}:{due.attempt}"
                await self._bus.publish(
                    subjects.PLACEMENT_DECIDED,
                    message,
                    message_id=message_id,
                    traceparent=self._traces.get(message.header.sequence),
                )

    async def acknowledge(self) -> None:
        """Publishes receipts for ever, while this instance is the active one."""
        await self._receipts.publish(
            lambda: self.caught_up and self.outbox.role is Role.ACTIVE, simulated=self._simulated
        )

    async def follow(self, start: int) -> None:
        """Follows anchors and refusals from a PLACEMENT stream sequence on, for ever."""
        async for stored in self._bus.read(subjects.Stream.PLACEMENT, start=start, subjects=PLACEMENT_FACTS):
            try:
                if stored.subject.endswith(subjects.PLACEMENT_ANCHORED.name):
                    await self._anchored(fact_of(stored, subjects.PLACEMENT_ANCHORED, PlacementAnchored))
                else:
                    self._refused(fact_of(stored, subjects.PLACEMENT_REFUSED, PlacementRefused))
            except (InvalidInput, Refused) as error:
                await self._bus.dead_letter(stored, error)

    async def _anchored(self, anchored: PlacementAnchored) -> None:
        before = self.outbox.role
        self.outbox.anchored(anchored.sequence, bytes.fromhex(anchored.payload_digest), anchored.public_key)
        if self.outbox.role is not before:
            log.info("role changed", role=self.outbox.role.value, sequence=anchored.sequence)
        for sequence in [n for n in self._fairness if n <= self.outbox.head]:
            del self._fairness[sequence]
        for sequence in [n for n in self._traces if n <= self.outbox.head]:
            del self._traces[sequence]
        self._room.set()
        await self._keep_snapshots()

    def _refused(self, refused: PlacementRefused) -> None:
        if self._keys.is_own(refused.public_key):
            log.warning("decision refused", sequence=refused.sequence, reason=refused.reason)

    async def _keep_snapshots(self) -> None:
        for sequence in [n for n in self._snapshots if n <= self.outbox.head]:
            snapshot = self._snapshots.pop(sequence)
            if self.outbox.role is Role.ACTIVE:
                await self._bus.put_object(subjects.SNAPSHOT_BUCKET, f"{sequence:020d}", snapshot)
                names = sorted(await self._bus.list_objects(subjects.SNAPSHOT_BUCKET))
                for name in names[: -self._settings.enclave_snapshots_kept]:
                    await self._bus.delete_object(subjects.SNAPSHOT_BUCKET, name)
