"""Anchors decisions in order: checks everything itself before it spends gas, and says why where it does not anchor."""

import time

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from daas.common import decision as decisions
from daas.common import logs, subjects
from daas.common.bus import Bus
from daas.common.errors import Conflict, Refused
from daas.common.messages import EnclaveRevoked, PlacementAnchored, PlacementDecided, PlacementRefused
from daas.common.service import Event
from daas.ledger import Anchored, Effects, Ledger, MoveAbortError, SignedBatch
from daas.relay.outbox import AnchorRecord, Outbox
from daas.relay.settings import RelaySettings
from daas.relay.transactions import Transactions

log = logs.get_logger(__name__)

#: Move constants after which a key may sign no longer.
KEY_IS_OVER = {"ERevoked", "EExpired", "EMeasurementRetired"}


class Duplicate(Refused):
    """The same decision by the same key in a second message: of no effect, and nothing that a standby would send."""


class Anchorer:
    """The head of the chain of decisions as this relay knows it, and the way to advance it."""

    def __init__(
        self, bus: Bus, ledger: Ledger, outbox: Outbox, transactions: Transactions, settings: RelaySettings
    ) -> None:
        self._bus = bus
        self._ledger = ledger
        self._outbox = outbox
        self._transactions = transactions
        self._settings = settings
        self._chain = ""
        self._simulated = False
        self.sequence = 0
        self._head = ""

    async def refresh(self) -> None:
        """Reads the head from the ledger, which alone knows it."""
        registry = await self._ledger.registry(self._settings.relay_registry)
        self._chain = registry.chain.hex()
        self._simulated = registry.simulated
        self.sequence, self._head = registry.sequence, registry.head.hex()

    async def decided(self, event: Event[PlacementDecided]) -> None:
        """Handles one `placement.decided`.

        Raises:
            Refused: after the refusal has been published; the message goes to the dead letters.
            Conflict: `predecessor-missing`; the message comes again later.
        """
        try:
            await self._anchor(event)
        except Duplicate:
            raise
        except Refused as error:
            await self._refuse(event, error)
            raise

    async def _anchor(self, event: Event[PlacementDecided]) -> None:
        decided = event.body
        header = decided.header
        decisions.check_decided(decided)
        self._check_target(decided)
        enclave = self._check_signature(decided)
        key = f"anchor:{header.sequence}:{decided.payload_digest}"
        if header.sequence > self.sequence + 1:
            await self.refresh()
        if header.sequence <= self.sequence:
            await self._redundant(event, key)
            return
        if header.sequence > self.sequence + 1:
            raise Conflict(
                f"decision {header.sequence} follows {header.sequence - 1}, the ledger holds {self.sequence}",
                reason="predecessor-missing",
                field="header.sequence",
            )
        if header.previous != self._head:
            raise Refused(
                f"decision {header.sequence} follows {header.previous}, the ledger's head is {self._head}",
                reason="wrong-predecessor",
                field="header.previous",
            )
        await self._execute(event, key, enclave)

    async def _execute(self, event: Event[PlacementDecided], key: str, enclave: str) -> None:
        decided = event.body
        batch = SignedBatch(
            header=decided.header,
            timestamp_ms=decided.timestamp_ms,
            signature=bytes.fromhex(decided.signature),
            enclave=enclave,
        )
        effects = await self._transactions.carry_out(key, lambda: self._ledger.build_anchor(batch))
        await self._settle(event, key, effects)

    async def _settle(self, event: Event[PlacementDecided], key: str, effects: Effects) -> None:
        decided = event.body
        failure = effects.failure
        if failure is not None:
            self._outbox.forget(key)
            await self.refresh()
            if isinstance(failure, MoveAbortError) and failure.name in KEY_IS_OVER:
                await self._key_is_over(decided.public_key, failure)
            if isinstance(failure, MoveAbortError) and failure.name == "ESequenceTaken":
                await self._redundant(event, key)
                return
            raise failure
        anchored = effects.only(Anchored)
        if anchored.payload_digest.hex() != decided.payload_digest:
            raise Refused(
                f"transaction {effects.digest} anchored {anchored.payload_digest.hex()}", reason="ledger-contradicts"
            )
        self.sequence, self._head = anchored.sequence, decided.payload_digest
        await self._publish(event, effects)
        self._outbox.anchored(key, anchored.sequence, _record(event, effects))

    async def _redundant(self, event: Event[PlacementDecided], key: str) -> None:
        """A copy of what is anchored already, or a fork; a crash may also have come before our own fact was out."""
        decided = event.body
        prepared = self._outbox.prepared(key)
        if prepared is not None:
            effects = await self._ledger.transaction(prepared.digest)
            if effects is not None and effects.succeeded:
                await self._publish(event, effects)
                self._outbox.anchored(key, decided.header.sequence, _record(event, effects))
                return
            self._outbox.forget(key)
        known = self._outbox.anchor(decided.header.sequence)
        anchored_digest = known.payload_digest if known else None
        if decided.header.sequence == self.sequence:
            anchored_digest = self._head
        if anchored_digest == decided.payload_digest:
            if known is not None and known.public_key == decided.public_key and known.message != event.sequence:
                raise Duplicate(
                    f"decision {decided.header.sequence} was anchored by message {known.message}", reason="duplicate"
                )
            log.info("redundant copy", sequence=decided.header.sequence, public_key=decided.public_key)
            return
        raise Refused(
            f"decision {decided.header.sequence} is anchored as {anchored_digest or 'another one, before this relay'}",
            reason="sequence-taken",
            field="header.sequence",
        )

    def _check_target(self, decided: PlacementDecided) -> None:
        header = decided.header
        if header.registry != self._settings.relay_registry:
            raise Refused(f"signed for registry {header.registry}", reason="wrong-registry", field="header.registry")
        if header.chain != self._chain:
            raise Refused(f"signed for chain {header.chain}", reason="wrong-chain", field="header.chain")
        if decided.simulated != self._simulated:
            raise Refused(
                f"says simulated={decided.simulated}, the registry {self._simulated}",
                reason="simulated-mismatch",
                field="simulated",
            )

    def _check_signature(self, decided: PlacementDecided) -> str:
        """The Enclave object of the key, once the signature is found good."""
        message = decisions.intent_message(
            decisions.INTENT_PLACEMENT, decided.timestamp_ms, decisions.header_bcs(decided.header)
        )
        try:
            Ed25519PublicKey.from_public_bytes(bytes.fromhex(decided.public_key)).verify(
                bytes.fromhex(decided.signature), message
            )
        except InvalidSignature:
            raise Refused(
                f"not a signature of {decided.public_key} over this batch", reason="bad-signature", field="signature"
            ) from None
        enclave = self._outbox.enclave(decided.public_key)
        if enclave is None:
            raise Refused(
                f"no registered enclave has the key {decided.public_key}",
                reason="unregistered-key",
                field="public_key",
            )
        return enclave

    async def _publish(self, event: Event[PlacementDecided], effects: Effects) -> None:
        decided = event.body
        await self._bus.publish(
            subjects.PLACEMENT_ANCHORED,
            PlacementAnchored(
                sequence=decided.header.sequence,
                payload_digest=decided.payload_digest,
                public_key=decided.public_key,
                decided_sequence=event.sequence,
                tx_digest=effects.digest,
                checkpoint=effects.checkpoint,
                timestamp_ms=effects.timestamp_ms or time.time_ns() // 1_000_000,
                simulated=self._simulated,
            ),
            message_id=f"anchored:{decided.payload_digest}",
            traceparent=event.traceparent,
        )

    async def _refuse(self, event: Event[PlacementDecided], error: Refused) -> None:
        decided = event.body
        log.warning("refused", sequence=decided.header.sequence, reason=error.reason)
        await self._bus.publish(
            subjects.PLACEMENT_REFUSED,
            PlacementRefused(
                sequence=decided.header.sequence,
                payload_digest=decided.payload_digest,
                public_key=decided.public_key,
                decided_sequence=event.sequence,
                reason=error.reason,
                message=error.message,
                code=error.code if isinstance(error, MoveAbortError) else None,
                simulated=self._simulated,
            ),
            message_id=f"refused:{event.sequence}",
            traceparent=event.traceparent,
        )

    async def _key_is_over(self, public_key: str, failure: MoveAbortError) -> None:
        enclave = self._outbox.enclave(public_key)
        self._outbox.revoked(public_key)
        await self._bus.publish(
            subjects.ENCLAVE_REVOKED,
            EnclaveRevoked(
                public_key=public_key,
                enclave=enclave if failure.name == "ERevoked" else None,
                reason=failure.reason,
                message=failure.message,
                simulated=self._simulated,
            ),
            message_id=f"revoked:{public_key}:{enclave}",
        )


def _record(event: Event[PlacementDecided], effects: Effects) -> AnchorRecord:
    return AnchorRecord(event.body.payload_digest, effects.digest, event.body.public_key, event.sequence)
