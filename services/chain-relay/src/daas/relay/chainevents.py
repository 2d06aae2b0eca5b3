"""What each event of the Move package means to the relay: keys to trust, anchors to know, facts to publish."""

from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from daas.common import logs, subjects
from daas.common.errors import DecodeError
from daas.common.messages import (
    ChainPolicyChanged,
    ChainSlashed,
    ChainStakeChanged,
    EnclaveRegistered,
    EnclaveRevoked,
    Message,
)
from daas.common.subjects import Subject
from daas.ledger import Anchored, Event, NonceRotated
from daas.ledger import EnclaveRegistered as RegisteredOnChain
from daas.ledger import EnclaveRevoked as RevokedOnChain
from daas.ledger.cluster_events import (
    SealPolicyChanged,
    SealPolicyCreated,
    SealPolicyRotated,
    SealPolicyTransferred,
    Slashed,
    StakeChanged,
)
from daas.ledger.events import MeasurementsChanged
from daas.relay.clusterlog import ClusterLog
from daas.relay.facts import Facts
from daas.relay.metrics import RelayMetrics
from daas.relay.outbox import AnchorRecord, KeyRecord, Outbox

log = logs.get_logger(__name__)

REVOKED = "revoked"
MEASUREMENT_RETIRED = "measurement-retired"

#: What the package's numbers in StakeChanged mean.
_STAKE_CHANGES: Final = {1: "deposited", 2: "withdrawal-requested", 3: "withdrawn", 4: "slashed"}
_POLICY_CHANGES: Final[dict[type[Event], str]] = {
    SealPolicyCreated: "created",
    SealPolicyChanged: "changed",
    SealPolicyTransferred: "transferred",
    SealPolicyRotated: "rotated",
}
_SealPolicyEvent = SealPolicyCreated | SealPolicyChanged | SealPolicyTransferred | SealPolicyRotated

#: A node that lags by more registrations than this is not recognised by its nonce; the ledger refuses then.
_NONCES: Final = 64


@dataclass(frozen=True, slots=True)
class Origin:
    """Where an event stands on the ledger: transaction (base58), number in it, checkpoint, number in that, its time."""

    tx_digest: str
    event_index: int
    checkpoint: int
    place: int
    timestamp_ms: int


class ChainEvents:
    """Takes the events of one registry, in the order of the ledger; taking one again changes nothing.

    Args:
        registry: the cluster's registry; events of others are passed over.
        outbox: keeps keys and anchors.
        facts: publishes.
        cluster_log: takes what the enclave must know of stakes.
        rotated: called when the registry has a new nonce.
    """

    def __init__(
        self,
        registry: str,
        outbox: Outbox,
        facts: Facts,
        cluster_log: ClusterLog,
        *,
        metrics: RelayMetrics,
        rotated: Callable[[], Awaitable[None]],
    ) -> None:
        self._registry = registry
        self._outbox = outbox
        self._facts = facts
        self._log = cluster_log
        self._metrics = metrics
        self._rotated = rotated
        self._nonces: deque[bytes] = deque(maxlen=_NONCES)
        #: The last rotation: its transaction, and the nonce since then.
        self._rotation: tuple[str, bytes] | None = None
        self._takers: dict[type[Event], Callable[[Any, Origin], Awaitable[None]]] = {
            Anchored: self._anchored,
            RegisteredOnChain: self._enclave_registered,
            RevokedOnChain: self._enclave_revoked,
            MeasurementsChanged: self._measurements_changed,
            NonceRotated: self._nonce_rotated,
            StakeChanged: self._stake_changed,
            Slashed: self._slashed,
            **dict.fromkeys(_POLICY_CHANGES, self._policy_changed),
        }

    def is_past(self, nonce: bytes) -> bool:
        """Whether the ledger is known to have given out another nonce since."""
        return nonce in self._nonces and nonce != self._nonces[-1]

    async def take(self, event: Event, origin: Origin) -> None:
        """Takes one event.

        Raises:
            DecodeError: `anchor-missing`: the node has left an anchor out.
            Unavailable: its fact could not be published; take it again.
        """
        taker = self._takers.get(type(event))
        if taker is None or getattr(event, "registry", None) != self._registry:
            return
        await taker(event, origin)
        self._metrics.events.labels(type(event).__name__).inc()

    async def _anchored(self, event: Anchored, origin: Origin) -> None:
        known = self._outbox.newest_anchor()
        if known is None and event.sequence > 1:
            log.info("begins in the middle of the chain of batches", sequence=event.sequence)
        elif event.sequence > (known.sequence if known else 0) + 1:
            raise DecodeError(
                f"checkpoint {origin.checkpoint} anchors {event.sequence}, the last one was "
                f"{known.sequence if known else 0}: the node leaves anchors out",
                reason="anchor-missing",
            )
        record = AnchorRecord(
            sequence=event.sequence,
            payload_digest=event.payload_digest.hex(),
            public_key=event.public_key.hex(),
            tx_digest=origin.tx_digest,
            checkpoint=origin.checkpoint,
            timestamp_ms=origin.timestamp_ms,
            message=None,
        )
        self._outbox.anchored(None, [record])

    async def _enclave_registered(self, event: RegisteredOnChain, origin: Origin) -> None:
        self._outbox.registered(
            KeyRecord(
                enclave=event.enclave,
                public_key=event.public_key.hex(),
                measurement_version=event.measurement_version,
                registered_ms=event.registered_ms,
                expires_ms=event.expires_ms,
            )
        )
        rotation = self._rotation
        await self._facts.publish(
            subjects.ENCLAVE_REGISTERED,
            EnclaveRegistered(
                public_key=event.public_key.hex(),
                enclave=event.enclave,
                registry=event.registry,
                measurement_version=event.measurement_version,
                tx_digest=origin.tx_digest,
                registered_ms=event.registered_ms,
                expires_ms=event.expires_ms,
                simulated=event.simulated,
                # The package rotates the nonce right before it says whom it registered.
                next_nonce=rotation[1].hex() if rotation and rotation[0] == origin.tx_digest else msgspec.UNSET,
                document_digest=event.document_digest.hex() or msgspec.UNSET,
            ),
            message_id=f"registered:{event.enclave}",
            time_ms=origin.timestamp_ms,
        )
        log.info("enclave registered", enclave=event.enclave, simulated=event.simulated)

    async def _enclave_revoked(self, event: RevokedOnChain, origin: Origin) -> None:
        self._outbox.end(event.enclave, REVOKED)
        fact = EnclaveRevoked(
            public_key=event.public_key.hex(),
            enclave=event.enclave,
            reason=REVOKED,
            message="the ledger has revoked this registration",
            simulated=event.simulated,
        )
        await self._over(event.enclave, fact, origin)

    async def _measurements_changed(self, event: MeasurementsChanged, origin: Origin) -> None:
        if event.allowed:
            return
        for key in self._outbox.current_keys():
            if key.measurement_version != event.version:
                continue
            fact = EnclaveRevoked(
                public_key=key.public_key,
                enclave=key.enclave,
                reason=MEASUREMENT_RETIRED,
                message=f"enclave image {event.version} is allowed no more",
                simulated=event.simulated,
            )
            # The fact before the record: taken again after a crash, the key is still found here.
            await self._over(key.enclave, fact, origin)
            self._outbox.end(key.enclave, MEASUREMENT_RETIRED)

    async def _over(self, enclave: str, fact: EnclaveRevoked, origin: Origin) -> None:
        await self._facts.publish(
            subjects.ENCLAVE_REVOKED, fact, message_id=f"revoked:{enclave}", time_ms=origin.timestamp_ms
        )
        log.warning("enclave may sign no longer", enclave=enclave, reason=fact.reason)

    async def _nonce_rotated(self, event: NonceRotated, origin: Origin) -> None:
        self._rotation = (origin.tx_digest, event.nonce)
        if event.nonce not in self._nonces:
            self._nonces.append(event.nonce)
        await self._rotated()

    async def _stake_changed(self, event: StakeChanged, origin: Origin) -> None:
        fact = ChainStakeChanged(
            registry=event.registry,
            tx_digest=origin.tx_digest,
            event_index=origin.event_index,
            checkpoint=origin.checkpoint,
            timestamp_ms=origin.timestamp_ms,
            simulated=event.simulated,
            account=event.account,
            change=_STAKE_CHANGES.get(event.reason, f"reason-{event.reason}"),
            amount_mist=event.amount_mist,
            bonded_mist=event.bonded_mist,
            unbonding_mist=event.unbonding_mist,
        )
        # The entry before the fact: whoever finds the fact knows that the entry is in the log.
        if not self._is_out(subjects.CHAIN_STAKE_CHANGED, origin):
            await self._log.stake_changed(fact, place=origin.place)
        await self._publish(subjects.CHAIN_STAKE_CHANGED, fact, origin)

    async def _slashed(self, event: Slashed, origin: Origin) -> None:
        fact = ChainSlashed(
            registry=event.registry,
            tx_digest=origin.tx_digest,
            event_index=origin.event_index,
            checkpoint=origin.checkpoint,
            timestamp_ms=origin.timestamp_ms,
            simulated=event.simulated,
            account=event.account,
            reporter=event.reporter,
            amount_mist=event.amount_mist,
            reporter_mist=event.reporter_mist,
            treasury_mist=event.treasury_mist,
        )
        await self._publish(subjects.CHAIN_SLASHED, fact, origin)

    async def _policy_changed(self, event: _SealPolicyEvent, origin: Origin) -> None:
        fact = ChainPolicyChanged(
            registry=event.registry,
            tx_digest=origin.tx_digest,
            event_index=origin.event_index,
            checkpoint=origin.checkpoint,
            timestamp_ms=origin.timestamp_ms,
            simulated=event.simulated,
            policy=event.policy,
            change=_POLICY_CHANGES[type(event)],
        )
        await self._publish(subjects.CHAIN_POLICY_CHANGED, fact, origin)

    async def _publish(self, subject: Subject, fact: Message, origin: Origin) -> None:
        await self._facts.publish(subject, fact, message_id=_message_id(subject, origin), time_ms=origin.timestamp_ms)

    def _is_out(self, subject: Subject, origin: Origin) -> bool:
        return self._facts.is_published(_message_id(subject, origin))


def _message_id(subject: Subject, origin: Origin) -> str:
    return f"{subject.name}:{origin.tx_digest}:{origin.event_index}"
