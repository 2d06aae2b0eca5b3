"""Getting this enclave's key registered: attest to the registry's nonce, again whenever it rotates, and in time."""

import asyncio
import base64
import time
from collections.abc import Callable

from daas.attestation import NsmClient
from daas.common import logs, subjects
from daas.common.bus import Bus, StoredMessage
from daas.common.errors import InvalidInput, Refused
from daas.common.facts import fact_of, newest
from daas.common.messages import EnclaveAttested, EnclaveChallenged, EnclaveRegistered, EnclaveRevoked
from daas.enclave.identity import Identity, user_data
from daas.enclave.outbox import require_registry

log = logs.get_logger(__name__)

FACTS = (subjects.ENCLAVE_CHALLENGED, subjects.ENCLAVE_REGISTERED, subjects.ENCLAVE_REVOKED)
#: Renew when this share of a registration's life is over, so that one failed attempt leaves time for more.
RENEW_AT = 0.66


class Registration:
    """Follows the ENCLAVE stream and keeps this enclave registered.

    Attributes:
        current: the registration in force, or None.
    """

    def __init__(self, bus: Bus, nsm: NsmClient, identity: Identity, policy: bytes, clock: Callable[[], float]) -> None:
        self._bus = bus
        self._nsm = nsm
        self._identity = identity
        self._policy = policy
        self._clock = clock
        self._challenge: EnclaveChallenged | None = None
        self.current: EnclaveRegistered | None = None
        self.registered = asyncio.Event()

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
            if self._challenge is not None:
                require_registry(self._challenge.registry, fact.registry)
            self._challenge = fact
            if self.current is None:
                await self._attest(fact)
        elif fact.public_key != self._identity.public_key:
            return
        elif isinstance(fact, EnclaveRegistered):
            self.current = fact
            self.registered.set()
            log.info("registered", enclave=fact.enclave, simulated=fact.simulated)
        else:
            self._withdrawn(fact)

    def _withdrawn(self, revoked: EnclaveRevoked) -> None:
        self.current = None
        self.registered.clear()
        log.warning("not registered", reason=revoked.reason, message=revoked.message)
        if revoked.enclave is not None:
            raise Refused(f"this key was revoked: {revoked.message}", reason="revoked", field="public_key")

    async def _attest(self, challenge: EnclaveChallenged) -> None:
        document = self._nsm.attestation(
            user_data=user_data(bytes.fromhex(challenge.chain), bytes.fromhex(challenge.registry[2:]), self._policy),
            nonce=bytes.fromhex(challenge.nonce),
            public_key=self._identity.public_bytes,
        )
        await self._bus.publish(
            subjects.ENCLAVE_ATTESTED,
            EnclaveAttested(
                public_key=self._identity.public_key,
                policy=self._policy.hex(),
                document=base64.b64encode(document).decode(),
                simulated=challenge.simulated,
            ),
            message_id=f"attested:{self._identity.public_key}:{challenge.nonce}",
        )
        log.info("attested", public_key=self._identity.public_key, nonce=challenge.nonce, simulated=challenge.simulated)

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(1.0)
            current, challenge = self.current, self._challenge
            if current is None or challenge is None:
                continue
            life_ms = current.expires_ms - current.registered_ms
            if self._clock() * 1000 < current.registered_ms + life_ms * RENEW_AT:
                continue
            newest, _ = await self.first_challenge()
            await self._attest(newest)
            await asyncio.sleep(60.0)


def wall_clock() -> float:
    """Seconds since the epoch; only for the renewal of a registration, never for a decision."""
    return time.time()
