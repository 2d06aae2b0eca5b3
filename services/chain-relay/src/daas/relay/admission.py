"""What the relay checks of a decision before it spends gas: leaves, digest, target, signature, standing of the key."""

import time

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from daas.common import decision as decisions
from daas.common.errors import Refused
from daas.common.messages import PlacementDecided
from daas.relay.outbox import KeyRecord, Outbox


class Duplicate(Refused):
    """The same decision by the same key in a second message: of no effect, and nothing that a standby would send."""


class Admission:
    """Judges decisions one by one; only number and predecessor are left to the line.

    Args:
        registry: object id of the cluster's registry.
        outbox: knows the registered keys.
    """

    def __init__(self, registry: str, outbox: Outbox) -> None:
        self._registry = registry
        self._outbox = outbox
        self._chain = ""
        self.simulated = False

    def learn(self, chain: bytes, *, simulated: bool) -> None:
        """Takes what can never change of the registry: its chain, and whether it is simulated."""
        self._chain = chain.hex()
        self.simulated = simulated

    def check(self, decided: PlacementDecided, now_ms: int | None = None) -> KeyRecord:
        """The registration of the key that signed, once everything that can be checked off the ledger holds.

        Raises:
            Refused: `payload-digest`, `leaf-count`, `decisions-root`, `wrong-registry`, `wrong-chain`,
                `simulated-mismatch`, `bad-signature`, `unregistered-key`, `revoked`, `expired`, ...
        """
        decisions.check_decided(decided)
        self._check_target(decided)
        self._check_signature(decided)
        return self._check_key(decided, time.time_ns() // 1_000_000 if now_ms is None else now_ms)

    def _check_target(self, decided: PlacementDecided) -> None:
        header = decided.header
        if header.registry != self._registry:
            raise Refused(f"signed for registry {header.registry}", reason="wrong-registry", field="header.registry")
        if header.chain != self._chain:
            raise Refused(f"signed for chain {header.chain}", reason="wrong-chain", field="header.chain")
        if decided.simulated != self.simulated:
            raise Refused(
                f"says simulated={decided.simulated}, the registry {self.simulated}",
                reason="simulated-mismatch",
                field="simulated",
            )

    @staticmethod
    def _check_signature(decided: PlacementDecided) -> None:
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

    def _check_key(self, decided: PlacementDecided, now_ms: int) -> KeyRecord:
        key = self._outbox.key(decided.public_key)
        if key is None:
            raise Refused(
                f"no registered enclave has the key {decided.public_key}",
                reason="unregistered-key",
                field="public_key",
            )
        if key.over is not None:
            raise Refused(f"registration {key.enclave} is over: {key.over}", reason=key.over, field="public_key")
        if now_ms >= key.expires_ms:
            raise Refused(
                f"registration {key.enclave} expired at {key.expires_ms}", reason="expired", field="public_key"
            )
        return key
