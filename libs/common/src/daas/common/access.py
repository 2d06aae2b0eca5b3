"""Questions about access, their answers, and the fact of what was decided: between gateway, enclave and storage."""

from typing import Annotated

import msgspec

from daas.common.messages import U64, Digest, Message, Name, ObjectId, PublicKey, Signature

#: Group names of one user; a Kubernetes user is in a handful.
MAX_GROUPS = 256
#: Decisions of one fact: 256 stay below 256 KiB.
MAX_RECORDS = 256
Part = Annotated[str, msgspec.Meta(max_length=253)]
UrlPath = Annotated[str, msgspec.Meta(max_length=1024)]


class ResourceRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be done to what; empty text where the request names none. `path` for URLs outside the resource API."""

    verb: Part
    path: UrlPath = ""
    group: Part = ""
    version: Part = ""
    resource: Part = ""
    subresource: Part = ""
    namespace: Part = ""
    name: Part = ""


class Question(Message, frozen=True, kw_only=True):
    """`policy.evaluate`: may this user do this?

    Attributes:
        request_id: comes back in the answer.
        stake_mist, stake_version: bonded stake, and the stream sequence of the fact that said so.
        time_ms: the gateway's clock.
    """

    request_id: Name
    user: Annotated[str, msgspec.Meta(max_length=1024)]
    groups: Annotated[tuple[str, ...], msgspec.Meta(max_length=MAX_GROUPS)]
    stake_mist: U64
    stake_version: U64
    request: ResourceRequest
    time_ms: U64


class AccessRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One signed decision, with the question in full: what a verifier needs beside the policy texts.

    Attributes:
        account: the Sui address that asked. stake_sui: whole SUI that the question said it has bonded.
        stake_version: CHAIN stream sequence of the fact that said so.
        timestamp_ms: of the question; inside the signed IntentMessage.
        path: of a URL outside the resource API; then group, resource, subresource and namespace are empty.
        log_sequence: last log entry that the enclave had folded.
        outcome: `permitted`, `not-permitted`, `forbidden` or `failed`.
        policies: ids of the deciding policies, sorted.
        signature: Ed25519 over BCS of IntentMessage {2, timestamp_ms, AccessDecision}.
    """

    account: ObjectId
    stake_sui: U64
    stake_version: U64
    verb: Name
    path: UrlPath = ""
    group: Part
    resource: Part
    subresource: Part
    namespace: Part
    timestamp_ms: U64
    log_sequence: U64
    allowed: bool
    outcome: Name
    policies: Annotated[tuple[Name, ...], msgspec.Meta(max_length=512)]
    expires_ms: U64
    signature: Signature


class PolicyDecided(Message, frozen=True, kw_only=True):
    """`policy.decided`: access decisions since the last such fact, in the order in which they were made.

    Attributes:
        policy, policy_version: digest and version of the policy set.
        public_key: that signed each of them.
    """

    chain: Digest
    registry: ObjectId
    policy: Digest
    policy_version: U64
    public_key: PublicKey
    simulated: bool
    decisions: Annotated[tuple[AccessRecord, ...], msgspec.Meta(min_length=1, max_length=MAX_RECORDS)]


class Verdict(Message, frozen=True, kw_only=True):
    """The answer: denied with a reason, or nothing against it.

    Attributes:
        policy: digest of the policy set that was asked, hex.
        decision: digest of the signed decision that the fact `policy.decided` will hold, hex.
        proof: that decision alone, signed, in the form of the fact. Without it the answer is nobody's word.
    """

    request_id: Name
    denied: bool
    reason: Annotated[str, msgspec.Meta(max_length=1024)] = ""
    policy: str = ""
    decision: str = ""
    proof: PolicyDecided | None = None
