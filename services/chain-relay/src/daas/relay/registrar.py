"""Registers enclaves: gives out the registry's nonce, checks the document that answers it, and registers its key."""

import base64
import binascii
import time

from daas.attestation import Attestation, AttestationPolicy, Measurement, verify
from daas.common import logs, merkle, subjects
from daas.common.bus import Bus
from daas.common.errors import ConfigurationError, InvalidInput, Refused
from daas.common.messages import EnclaveAttested, EnclaveChallenged, EnclaveRegistered, EnclaveRevoked
from daas.common.service import Event
from daas.ledger import Effects, Ledger, Registry, SignedTransaction
from daas.ledger import EnclaveRegistered as RegisteredOnChain
from daas.relay.outbox import Outbox
from daas.relay.settings import RelaySettings
from daas.relay.transactions import Transactions

log = logs.get_logger(__name__)

KEY_LENGTH = 32


class Registrar:
    """The registry's side of attestation, off chain: what the Move package will check is checked here first."""

    def __init__(
        self, bus: Bus, ledger: Ledger, outbox: Outbox, transactions: Transactions, settings: RelaySettings
    ) -> None:
        self._bus = bus
        self._ledger = ledger
        self._outbox = outbox
        self._transactions = transactions
        self._settings = settings

    async def start(self) -> Registry:
        """Checks that the settings fit the registry, and publishes its challenge.

        Raises:
            ConfigurationError: `development-root` is set though the registry is not simulated, or missing though it is:
                what is simulated is decided on the ledger, never here.
        """
        registry = await self._ledger.registry(self._settings.relay_registry)
        if registry.simulated != (self._settings.relay_development_root is not None):
            verb = "needs" if registry.simulated else "refuses"
            raise ConfigurationError(
                f"the registry was created simulated={registry.simulated}: it {verb} this setting",
                reason="development-root",
                field="relay_development_root",
            )
        await self.challenge(registry)
        return registry

    async def challenge(self, registry: Registry) -> None:
        """Publishes what the next enclave must attest for."""
        await self._bus.publish(
            subjects.ENCLAVE_CHALLENGED,
            EnclaveChallenged(
                chain=registry.chain.hex(),
                registry=registry.address,
                nonce=registry.nonce.hex(),
                sequence=registry.sequence,
                payload_digest=registry.head.hex(),
                simulated=registry.simulated,
            ),
            message_id=f"challenged:{registry.address}:{registry.nonce.hex()}:{registry.sequence}",
        )

    async def attested(self, event: Event[EnclaveAttested]) -> None:
        """Handles one `enclave.attested`.

        Raises:
            InvalidInput, Refused: after the refusal has been published; the message goes to the dead letters.
        """
        try:
            await self._register(event)
        except (InvalidInput, Refused) as error:
            await self._refuse(event, error)
            raise

    async def _register(self, event: Event[EnclaveAttested]) -> None:
        attested = event.body
        try:
            document = base64.b64decode(attested.document, validate=True)
        except binascii.Error:
            raise InvalidInput("the document is not base64", reason="document-base64", field="document") from None
        document_digest = merkle.digest(document)
        key = f"register:{attested.public_key}:{document_digest.hex()}"
        registry = await self._ledger.registry(self._settings.relay_registry)
        if self._outbox.prepared(key) is None:
            attestation = self._verify(document, registry)
            if attestation.public_key is None or attestation.public_key.hex() != attested.public_key:
                raise Refused("the document vouches for another key", reason="public-key", field="public_key")
        effects = await self._transactions.carry_out(key, lambda: self._build(document, registry))
        if effects.failure is not None:
            self._outbox.forget(key)
            await self.challenge(await self._ledger.registry(self._settings.relay_registry))
            raise effects.failure
        await self._registered(event, key, effects)

    def _verify(self, document: bytes, registry: Registry) -> Attestation:
        root = self._settings.relay_development_root
        policy = AttestationPolicy(
            measurements=[Measurement(m.pcr0, m.pcr1, m.pcr2) for m in registry.measurements],
            nonce=registry.nonce,
            user_data=merkle.digest(registry.chain + bytes.fromhex(registry.address[2:]) + registry.policy),
            public_key_length_bytes=KEY_LENGTH,
            development_root_sha256=bytes.fromhex(root) if root else None,
            age_ms_max=registry.limits.document_age_ms,
            clock_skew_ms=registry.limits.future_skew_ms,
        )
        return verify(document, policy, time.time_ns() // 1_000_000)

    async def _build(self, document: bytes, registry: Registry) -> SignedTransaction:
        if not registry.simulated:
            return await self._ledger.build_register(registry.address, document)
        attestation = self._verify(document, registry)
        return await self._ledger.build_register_simulated(
            registry.address,
            public_key=attestation.public_key or b"",
            pcrs=(attestation.pcrs[0], attestation.pcrs[1], attestation.pcrs[2]),
            nonce=registry.nonce,
            document_digest=merkle.digest(document),
        )

    async def _registered(self, event: Event[EnclaveAttested], key: str, effects: Effects) -> None:
        on_chain = effects.only(RegisteredOnChain)
        self._outbox.registered(key, on_chain.public_key.hex(), on_chain.enclave, on_chain.expires_ms)
        await self._bus.publish(
            subjects.ENCLAVE_REGISTERED,
            EnclaveRegistered(
                public_key=on_chain.public_key.hex(),
                enclave=on_chain.enclave,
                registry=on_chain.registry,
                measurement_version=on_chain.measurement_version,
                tx_digest=effects.digest,
                registered_ms=on_chain.registered_ms,
                expires_ms=on_chain.expires_ms,
                simulated=on_chain.simulated,
            ),
            message_id=f"registered:{on_chain.enclave}",
            traceparent=event.traceparent,
        )
        await self.challenge(await self._ledger.registry(self._settings.relay_registry))
        log.info("enclave registered", enclave=on_chain.enclave, simulated=on_chain.simulated)

    async def _refuse(self, event: Event[EnclaveAttested], error: InvalidInput | Refused) -> None:
        attested = event.body
        log.warning("attestation refused", public_key=attested.public_key, reason=error.reason)
        await self._bus.publish(
            subjects.ENCLAVE_REVOKED,
            EnclaveRevoked(
                public_key=attested.public_key,
                enclave=None,
                reason=error.reason,
                message=error.message,
                simulated=attested.simulated,
            ),
            message_id=f"refused-attestation:{event.sequence}",
            traceparent=event.traceparent,
        )
        # Whoever answered an old nonce learns the present one.
        await self.challenge(await self._ledger.registry(self._settings.relay_registry))
