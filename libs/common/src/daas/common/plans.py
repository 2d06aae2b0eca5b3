"""Requests for plans over the whole cluster, and the facts of what was planned, signed, with their certificates.

What is asked for and what the certificates say are values of `daas.placement` (allocation, balance) as JSON; this
module knows only how they travel and which bytes are signed.
"""

from typing import Annotated, Any, Final

import msgspec

from daas.common import bcs, merkle
from daas.common.decision import INTENT_REBALANCE, intent_message
from daas.common.messages import U64, Base64, Digest, Message, Name, ObjectId, PublicKey, Signature

ALLOCATION: Final = "allocation"
REBALANCE: Final = "rebalance"
MAX_PAST_MOVES: Final = 4096
_DOMAIN: Final = "k3s-daas/plan/1"


class AllocationPlan(Message, frozen=True, kw_only=True):
    """`allocation.plan`: where would the pending pods best go, and how much better could anything be?

    Attributes:
        objective: fields of `daas.placement.allocation.Objective`.
    """

    request_id: Name
    objective: dict[str, int]


class RebalancePlan(Message, frozen=True, kw_only=True):
    """`rebalance.plan`: which pods should move where?

    Attributes:
        policy: fields of `daas.placement.balance.RebalancePolicy`.
        past: `PastMove` of the same package: what the log does not tell. Disruption budgets it does tell.
    """

    request_id: Name
    policy: dict[str, Any]
    past: Annotated[tuple[Any, ...], msgspec.Meta(max_length=MAX_PAST_MOVES)] = ()


class Basis(msgspec.Struct, frozen=True, kw_only=True):
    """The committed state that a plan was made from: the log up to an entry, and what it leads to.

    Attributes:
        policy: digest of the placement policy. sequence, digest: of the last decision at that moment.
        log_sequence, log_root: the last entry folded. state_root: of the state after it.
    """

    chain: Digest
    registry: ObjectId
    policy: Digest
    sequence: U64
    digest: Digest
    log_sequence: U64
    log_root: Digest
    state_root: Digest

    def to_bcs(self) -> bytes:
        """The fields in order."""
        return b"".join(
            (
                bcs.bytes_(bytes.fromhex(self.chain)),
                bcs.address(bytes.fromhex(self.registry[2:])),
                bcs.bytes_(bytes.fromhex(self.policy)),
                bcs.u64(self.sequence),
                bcs.bytes_(bytes.fromhex(self.digest)),
                bcs.u64(self.log_sequence),
                bcs.bytes_(bytes.fromhex(self.log_root)),
                bcs.bytes_(bytes.fromhex(self.state_root)),
            )
        )


class Planned(Message, frozen=True, kw_only=True):
    """`allocation.planned` and `rebalance.planned`.

    Attributes:
        kind: `allocation` or `rebalance`.
        asked: the request's fields, as they were taken: objective, or policy and past moves.
        certificate: base64 of the deflated BCS of the allocation's certificate, or of the BCS of the rebalance plan.
        certificate_digest: blake2b-256 over the certificate's BCS.
        method: how it was found; nothing rests on it.
        timestamp_ms: of the last log entry folded; inside the signed IntentMessage.
        public_key, signature: Ed25519 over BCS of IntentMessage {3, timestamp_ms, `signed_payload`}.
    """

    request_id: Name
    kind: Name
    basis: Basis
    asked: dict[str, Any]
    certificate: Base64
    certificate_digest: Digest
    method: Name
    timestamp_ms: U64
    public_key: PublicKey
    signature: Signature
    simulated: bool

    def signed_bytes(self) -> bytes:
        """What Ed25519 signs and verifies."""
        return intent_message(
            INTENT_REBALANCE,
            self.timestamp_ms,
            signed_payload(self.kind, self.basis, bytes.fromhex(self.certificate_digest)),
        )

    def digest(self) -> bytes:
        """blake2b-256 over the signed payload, 32 bytes: the plan's name."""
        return merkle.digest(signed_payload(self.kind, self.basis, bytes.fromhex(self.certificate_digest)))


def signed_payload(kind: str, basis: Basis, certificate: bytes) -> bytes:
    """BCS of {domain, kind, basis, digest of the certificate}; the certificate names its whole input by digest."""
    return bcs.string(_DOMAIN) + bcs.string(kind) + basis.to_bcs() + bcs.bytes_(certificate)
