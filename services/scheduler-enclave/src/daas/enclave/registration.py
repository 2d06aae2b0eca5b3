"""Getting a key registered: attest to the registry's nonce, again whenever it rotates, and with a new key in time."""

import asyncio
import base64
from typing import Final

import msgspec
from cryptography import x509

from daas.attestation import NsmClient, parse_document
from daas.common import logs, subjects
from daas.common.bus import Bus, StoredMessage
from daas.common.errors import InvalidInput, Refused, Unavailable
from daas.common.facts import fact_of, newest
from daas.common.messages import EnclaveAttested, EnclaveChallenged, EnclaveRegistered, EnclaveRevoked
from daas.enclave.clock import HypervisorClock
from daas.enclave.identity import Identity, user_data
from daas.enclave.keys import Keys
from daas.enclave.outbox import require_registry

log = logs.get_logger(__name__)

FACTS = (subjects.ENCLAVE_CHALLENGED, subjects.ENCLAVE_REGISTERED, subjects.ENCLAVE_REVOKED)
#: Renew when this share of a registration's life is over, so that one failed attempt leaves time for more.
RENEW_AT: Final = 0.66
#: The NSM uses a leaf certificate for hours and replaces it half an hour before its end: by then there is a new one.
LEAF_MARGIN_MS: Final = 10 * 60_000
#: A fresh document may come with a leaf that has minutes left: renewing for its sake has a pace.
LEAF_PACE_MS: Final = 60_000
#: An attestation that nobody answers goes out again: the relay may have been away longer than the document's age.
RETRY_MS: Final = 60_000
REFUSED_RETRY_MS: Final = 10_000
_POLL_S: Final = 0.5


class Registration:
    """Follows the ENCLAVE stream and keeps this enclave registered.

    Args:
        keys: made and replaced here.
        policy: digest of the policy that documents vouch for, 32 bytes.
        clock: judges expiry and renewal.
    """

    def __init__(self, bus: Bus, nsm: NsmClient, keys: Keys, policy: bytes, clock: HypervisorClock) -> None:
        self._bus = bus
        self._nsm = nsm
        self._keys = keys
        self._policy = policy
        self._clock = clock
        self._challenge: EnclaveChallenged | None = None
        self._answered: str | None = None
        self._attested_ms = 0
        self._attempts = 0
        self._leaf_not_after_ms = 0

    def require(self) -> Identity:
        """The key that may sign now.

        Raises:
            Unavailable: `not-registered` or `registration-expired`.
        """
        active = self._keys.active
        if active is None:
            raise Unavailable("the registry has not accepted this enclave's key yet", reason="not-registered")
        if self._clock.now_ms() >= active.fact.expires_ms:
            raise Unavailable(
                f"registration {active.fact.enclave} expired at {active.fact.expires_ms}",
                reason="registration-expired",
            )
        return active.identity

    async def first_challenge(self) -> tuple[EnclaveChallenged, int]:
        """Waits for the relay's challenge; returns it with its stream sequence."""
        while True:
            found = await newest(self._bus, subjects.ENCLAVE_CHALLENGED, EnclaveChallenged)
            if found is not None:
                return found
            log.info("waiting for the registry's challenge")
            await asyncio.sleep(0.2)

    async def follow(self, start: int) -> None:
        """Reacts to challenges, registrations and revocations from a stream sequence on, for ever."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._renew())
            async for stored in self._bus.read(subjects.Stream.ENCLAVE, start=start, subjects=FACTS):
                try:
                    fact = self._decode(stored)
                except (InvalidInput, Refused) as error:
                    await self._bus.dead_letter(stored, error)
                else:
                    await self._fact(fact)

    def _decode(self, stored: StoredMessage) -> EnclaveChallenged | EnclaveRegistered | EnclaveRevoked:
        name = stored.subject.removeprefix(subjects.prefix(self._bus.cluster) + ".")
        if name == subjects.ENCLAVE_CHALLENGED.name:
            return fact_of(stored, subjects.ENCLAVE_CHALLENGED, EnclaveChallenged)
        if name == subjects.ENCLAVE_REGISTERED.name:
            return fact_of(stored, subjects.ENCLAVE_REGISTERED, EnclaveRegistered)
        return fact_of(stored, subjects.ENCLAVE_REVOKED, EnclaveRevoked)

    async def _fact(self, fact: EnclaveChallenged | EnclaveRegistered | EnclaveRevoked) -> None:
        if isinstance(fact, EnclaveChallenged):
            await self._challenged(fact)
        elif not self._keys.is_own(fact.public_key):
            return
        elif isinstance(fact, EnclaveRegistered):
            if self._keys.registered(fact, self._leaf_not_after_ms):
                log.info("registered", enclave=fact.enclave, public_key=fact.public_key, simulated=fact.simulated)
        else:
            self._withdrawn(fact)

    async def _challenged(self, challenge: EnclaveChallenged) -> None:
        if self._challenge is not None:
            require_registry(self._challenge.registry, challenge.registry)
        self._challenge = challenge
        if self._keys.active is None and self._keys.candidate is None:
            self._keys.make()
        if self._keys.candidate is not None and self._answered != challenge.nonce:
            await self._attest(challenge, self._keys.candidate)

    def _withdrawn(self, fact: EnclaveRevoked) -> None:
        """A refused document is answered again later; a revocation of the key that signs ends this enclave.

        Raises:
            Refused: `revoked`. A new life starts with new entropy, a new key and a new document.
        """
        log.warning("not registered", public_key=fact.public_key, reason=fact.reason, message=fact.message)
        candidate, active = self._keys.candidate, self._keys.active
        if candidate is not None and candidate.public_key == fact.public_key:
            self._attested_ms = self._clock.now_ms() - RETRY_MS + REFUSED_RETRY_MS
        if active is None or active.identity.public_key != fact.public_key:
            return
        self._keys.active = None
        if fact.enclave is not None:
            raise Refused(f"this key was revoked: {fact.message}", reason="revoked", field="public_key")
        # Its time is over by the ledger's clock: the same as if no renewal had come in time.

    async def _attest(self, challenge: EnclaveChallenged, identity: Identity) -> None:
        document = self._nsm.attestation(
            user_data=user_data(bytes.fromhex(challenge.chain), bytes.fromhex(challenge.registry[2:]), self._policy),
            nonce=bytes.fromhex(challenge.nonce),
            public_key=identity.public_bytes,
        )
        self._leaf_not_after_ms = leaf_not_after_ms(document)
        self._answered, self._attested_ms = challenge.nonce, self._clock.now_ms()
        self._attempts += 1
        active = self._keys.active
        await self._bus.publish(
            subjects.ENCLAVE_ATTESTED,
            EnclaveAttested(
                public_key=identity.public_key,
                policy=self._policy.hex(),
                document=base64.b64encode(document).decode(),
                simulated=challenge.simulated,
                replaces=msgspec.UNSET if active is None else active.identity.public_key,
            ),
            message_id=f"attested:{identity.public_key}:{challenge.nonce}:{self._attempts}",
        )
        log.info("attested", public_key=identity.public_key, nonce=challenge.nonce, simulated=challenge.simulated)

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(_POLL_S)
            if self._challenge is None or not self._due():
                continue
            challenge, _ = await self.first_challenge()
            identity = self._keys.candidate if self._keys.candidate is not None else self._keys.make()
            await self._attest(challenge, identity)

    def _due(self) -> bool:
        """Whether to attest now: nothing is registered or about to be, or what is will not last."""
        now_ms = self._clock.now_ms()
        if self._keys.candidate is not None:
            return now_ms >= self._attested_ms + RETRY_MS
        return now_ms >= self.renew_ms

    @property
    def renew_ms(self) -> int:
        """When the next key is made; 0 for now."""
        active = self._keys.active
        if active is None:
            return 0
        fact = active.fact
        by_registration = fact.registered_ms + int((fact.expires_ms - fact.registered_ms) * RENEW_AT)
        by_leaf = max(active.leaf_not_after_ms - LEAF_MARGIN_MS, fact.registered_ms + LEAF_PACE_MS)
        return min(by_registration, by_leaf)


def leaf_not_after_ms(document: bytes) -> int:
    """When the certificate ends that signed a document of our own NSM, milliseconds since the epoch."""
    leaf = x509.load_der_x509_certificate(parse_document(document).certificate)
    return int(leaf.not_valid_after_utc.timestamp() * 1000)
