"""The enclave's own desk for access decisions behind a key of the test's choosing, and the fact that registers it."""

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from daas.common.access import Question, Verdict
from daas.common.bus import Bus, Event
from daas.common.messages import EnclaveRegistered
from daas.common.subjects import ENCLAVE_REGISTERED
from daas.enclave.access import AccessDesk, Standing
from daas.enclave.identity import Identity
from daas.policy import Evaluator, load_folder

REGISTRY = "0x" + "11" * 32


class SeededIdentity(Identity):
    """An identity whose key the test knows, instead of one that only an enclave does."""

    def __init__(self, seed: bytes) -> None:
        self._key = Ed25519PrivateKey.from_private_bytes(seed)
        self.public_bytes = self._key.public_key().public_bytes_raw()
        self.public_key = self.public_bytes.hex()


class AccessSigner:
    """Answers questions by the built-in policies, signed."""

    def __init__(self, seed: bytes, registry: str = REGISTRY) -> None:
        self.identity = SeededIdentity(seed)
        self._standing = Standing(bytes(32), bytes.fromhex(registry[2:]), 1, True)
        self._desk = AccessDesk(Evaluator(load_folder()), lambda: self.identity)

    def answer(self, question: Question) -> Verdict:
        return self._desk.answer(question, self._standing)

    async def on_question(self, event: Event[Question]) -> Verdict:
        return self.answer(event.body)

    def registered(self, enclave: str, *, expires_ms: int = 2**52, registry: str = REGISTRY) -> EnclaveRegistered:
        return EnclaveRegistered(
            public_key=self.identity.public_key,
            enclave=enclave,
            registry=registry,
            measurement_version=1,
            tx_digest="t",
            registered_ms=1,
            expires_ms=expires_ms,
            simulated=True,
        )

    async def register(self, relay: Bus, enclave: str) -> None:
        await relay.publish(ENCLAVE_REGISTERED, self.registered(enclave), message_id=f"registered:{enclave}")
