"""What each event of the Move package means to the relay: keys to trust, anchors to know, facts to publish."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from daas.common import logs, subjects
from daas.common.errors import DecodeError
from daas.common.messages import EnclaveRegistered, EnclaveRevoked
from daas.ledger import Anchored, Event, NonceRotated
from daas.ledger import EnclaveRegistered as RegisteredOnChain
from daas.ledger import EnclaveRevoked as RevokedOnChain
from daas.ledger.events import MeasurementsChanged
from daas.relay.facts import Facts
from daas.relay.metrics import RelayMetrics
from daas.relay.outbox import AnchorRecord, KeyRecord, Outbox

log = logs.get_logger(__name__)

REVOKED = "revoked"
MEASUREMENT_RETIRED = "measurement-retired"


@dataclass(frozen=True, slots=True)
class Origin:
    """Where an event stands on the ledger: transaction (base58), number in it, checkpoint and its time."""

    tx_digest: str
    event_index: int
    checkpoint: int
    timestamp_ms: int

    def message_id(self, fact: str) -> str:
        """A message id that says which event it was."""
        return f"{fact}:{self.tx_digest}:{self.event_index}"


class ChainEvents:
    """Takes the events of one registry, in the order of the ledger; taking one again changes nothing.

    Args:
        registry: the cluster's registry; events of others are passed over.
        outbox: keeps keys and anchors.
        facts: publishes.
        rotated: called when the registry has a new nonce.
    """

    def __init__(
        self, registry: str, outbox: Outbox, facts: Facts, metrics: RelayMetrics, rotated: Callable[[], Awaitable[None]]
    ) -> None:
        self._registry = registry
        self._outbox = outbox
        self._facts = facts
        self._metrics = metrics
        self._rotated = rotated
        #: The newest nonce that the ledger is known to have given out; None before the first event about one.
        self.nonce: bytes | None = None
        self._takers: dict[type[Event], Callable[[Any, Origin], Awaitable[None]]] = {
            Anchored: self._anchored,
            RegisteredOnChain: self._enclave_registered,
            RevokedOnChain: self._enclave_revoked,
            MeasurementsChanged: self._measurements_changed,
            NonceRotated: self._nonce_rotated,
        }

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

    async def _nonce_rotated(self, event: NonceRotated, _origin: Origin) -> None:
        self.nonce = event.nonce
        await self._rotated()
