"""The access decision that the enclave signs: what was asked, under which policies, and the answer."""

import msgspec

from daas.common import bcs, merkle
from daas.common.decision import INTENT_ACCESS, intent_message
from daas.policy.evaluator import Answer, Outcome
from daas.policy.policies import PolicySet
from daas.policy.request import AccessRequest

#: How an outcome is written; numbers never change meaning.
_OUTCOMES = {Outcome.PERMITTED: 0, Outcome.NOT_PERMITTED: 1, Outcome.FORBIDDEN: 2, Outcome.FAILED: 3}


class AccessDecision(msgspec.Struct, frozen=True, kw_only=True):
    """The payload under the signature (intent 2).

    Attributes:
        chain: genesis digest of the ledger's chain, 32 bytes. registry: id of our Registry object, 32 bytes.
        policy: digest of the policy set.
        request: digest of the question, its minute included.
        log_sequence: last log entry folded when the stake was read.
        answer: what the policies say.
        expires_ms: the decision says nothing after it.
    """

    chain: bytes
    registry: bytes
    policy: bytes
    request: bytes
    log_sequence: int
    answer: Answer
    expires_ms: int

    def to_bcs(self) -> bytes:
        """The fields in order; the answer as allowed (bool), outcome (u8), policies (vector of strings)."""
        return b"".join(
            (
                bcs.bytes_(self.chain),
                bcs.address(self.registry),
                bcs.bytes_(self.policy),
                bcs.bytes_(self.request),
                bcs.u64(self.log_sequence),
                bcs.boolean(self.answer.allowed),
                bcs.u8(_OUTCOMES[self.answer.outcome]),
                bcs.vector(bcs.string, self.answer.policies),
                bcs.u64(self.expires_ms),
            )
        )

    def digest(self) -> bytes:
        """blake2b-256 of the BCS, 32 bytes."""
        return merkle.digest(self.to_bcs())

    def signed_bytes(self, timestamp_ms: int) -> bytes:
        """BCS of the IntentMessage: what Ed25519 signs and verifies.

        Args:
            timestamp_ms: of the request, so that the bytes depend on nothing else.
        """
        return intent_message(INTENT_ACCESS, timestamp_ms, self.to_bcs())

    def is_about(self, request: AccessRequest, policies: PolicySet) -> bool:
        """Whether this decides that question under these policies."""
        return self.request == request.digest() and self.policy == policies.digest
