"""Registers enclaves: gives out the registry's nonce, checks the document that answers it, and registers its key."""

import base64
import binascii
import time
from collections.abc import Callable

import msgspec

from daas.attestation import POLICY_REGISTER, Attestation, AttestationPolicy, Measurement, policy_register, verify
from daas.common import logs, merkle, subjects
from daas.common.bus import Bus
from daas.common.errors import ConfigurationError, Conflict, InvalidInput, Refused
from daas.common.messages import EnclaveAttested, EnclaveChallenged, EnclaveRevoked
from daas.common.service import Event
from daas.ledger import EnclaveRegistered as RegisteredOnChain
from daas.ledger import Ledger, Registry, SignedTransaction
from daas.relay.outbox import Outbox
from daas.relay.retirement import Retirement
from daas.relay.settings import RelaySettings
from daas.relay.transactions import Rejected, Transactions

log = logs.get_logger(__name__)

KEY_LENGTH = 32


class Registrar:
    """The registry's side of attestation, off chain: what the Move package will check is checked here first.

    The fact that a key is registered comes from the ledger's own event, whoever made the transaction.

    Args:
        is_past: whether the ledger's events have shown a newer nonce than the given one.
        retirement: is told of keys that are replaced.
    """

    def __init__(
        self,
        bus: Bus,
        ledger: Ledger,
        outbox: Outbox,
        transactions: Transactions,
        *,
        settings: RelaySettings,
        is_past: Callable[[bytes], bool],
        retirement: Retirement,
    ) -> None:
        self._bus = bus
        self._ledger = ledger
        self._outbox = outbox
        self._transactions = transactions
        self._settings = settings
        self._is_past = is_past
        self._retirement = retirement

    async def start(self) -> Registry:
        """Checks that the settings fit the registry, and publishes its challenge.

        Raises:
            ConfigurationError: `development-root` is set though the registry is not simulated, or missing though it is:
                what is simulated is decided on the ledger, never here.
        """
        registry = await self._registry()
        if registry.simulated != (self._settings.relay_development_root is not None):
            verb = "needs" if registry.simulated else "refuses"
            raise ConfigurationError(
                f"the registry was created simulated={registry.simulated}: it {verb} this setting",
                reason="development-root",
                field="relay_development_root",
            )
        await self._publish_challenge(registry)
        return registry

    async def challenge(self) -> None:
        """Publishes what the next enclave must attest for.

        Raises:
            Conflict: `ledger-lags`.
        """
        await self._publish_challenge(await self._registry())

    async def _registry(self) -> Registry:
        registry = await self._ledger.registry(self._settings.relay_registry)
        if self._is_past(registry.nonce):
            raise Conflict("the node shows the registry as it was before its last rotation", reason="ledger-lags")
        return registry

    async def _publish_challenge(self, registry: Registry) -> None:
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
            Conflict: `ledger-lags`: the node answers from an older checkpoint than the one that is known.
        """
        try:
            await self._register(event.body)
        except (InvalidInput, Refused) as error:
            await self._refuse(event, error)
            raise

    async def _register(self, attested: EnclaveAttested) -> None:
        try:
            document = base64.b64decode(attested.document, validate=True)
        except binascii.Error:
            raise InvalidInput("the document is not base64", reason="document-base64", field="document") from None
        key = f"register:{attested.public_key}:{merkle.digest(document).hex()}"
        registry = await self._registry()
        if self._outbox.prepared(key) is None:
            attestation = self._verify(document, registry)
            if attestation.public_key is None or attestation.public_key.hex() != attested.public_key:
                raise Refused("the document vouches for another key", reason="public-key", field="public_key")
        try:
            effects = await self._transactions.carry_out(key, lambda: self._build(document, registry))
        except Rejected as error:
            raise Refused(error.message, reason=error.reason) from None
        if effects.failure is not None:
            self._outbox.forget(key)
            raise effects.failure
        # The transaction stays written down: the same message, delivered again, finds it and is done.
        self._outbox.settle(key)
        if attested.replaces is not msgspec.UNSET:
            self._retirement.replaced(attested.replaces, attested.public_key)
        log.info("enclave is being registered", enclave=effects.only(RegisteredOnChain).enclave)

    def _verify(self, document: bytes, registry: Registry) -> Attestation:
        root = self._settings.relay_development_root
        policy = AttestationPolicy(
            measurements=[Measurement(m.pcr0, m.pcr1, m.pcr2) for m in registry.measurements],
            nonce=registry.nonce,
            user_data=merkle.digest(registry.chain + bytes.fromhex(registry.address[2:]) + registry.policy),
            public_key_length_bytes=KEY_LENGTH,
            pcrs={POLICY_REGISTER: [policy_register(registry.policy)]},
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

    async def _refuse(self, event: Event[EnclaveAttested], error: InvalidInput | Refused) -> None:
        attested = event.body
        log.warning("attestation refused", public_key=attested.public_key, reason=error.reason)
        await self._bus.publish(
            subjects.ENCLAVE_REVOKED,
            EnclaveRevoked(
                public_key=attested.public_key,
                enclave=None,
                reason=error.reason,
                message=error.message[:4096],
                simulated=attested.simulated,
            ),
            message_id=f"refused-attestation:{event.sequence}",
            traceparent=event.traceparent,
        )
        # Whoever answered an old nonce learns the present one.
        await self.challenge()
