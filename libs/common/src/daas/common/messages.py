"""The bodies of the facts on the bus: frozen structs, JSON, unknown fields ignored, a `schema` number inside.

Bytes are lower-case hex strings; documents and raw log bytes are base64. What a monitor needs to read a message is in
the message. The log entry's own structs live in `daas.placement.log`, since folding them is the engine's business.
"""

from collections.abc import Iterator
from typing import Annotated, Any, TypeVar

import msgspec

from daas.common.errors import DecodeError
from daas.common.fairness import FairnessClaim

Digest = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}$", description="32 bytes, lower-case hex")]
PublicKey = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}$", description="Ed25519 public key, 32 bytes hex")]
Signature = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{128}$", description="Ed25519 signature, 64 bytes hex")]
ObjectId = Annotated[str, msgspec.Meta(pattern=r"^0x[0-9a-f]{64}$", description="Sui object id or address")]
U64 = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
U32 = Annotated[int, msgspec.Meta(ge=0, lt=2**32)]
Text = Annotated[str, msgspec.Meta(max_length=4096)]
Name = Annotated[str, msgspec.Meta(min_length=1, max_length=253)]
Base64 = Annotated[str, msgspec.Meta(max_length=4 * 1024 * 1024)]


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """What every body carries: the number of its schema."""

    schema: int = 1


class Header(msgspec.Struct, frozen=True, kw_only=True):
    """The fields of PlacementBatch, in the order of its BCS encoding."""

    chain: Digest
    registry: ObjectId
    sequence: U64
    previous: Digest
    log_sequence: U64
    log_root: Digest
    policy: Digest
    state_root: Digest
    decisions: Digest
    count: U32
    expires_ms: U64


class DecidedLeaf(msgspec.Struct, frozen=True, kw_only=True):
    """One leaf of a batch: what was decided about one pod. `node` is null where no node would do."""

    pod_uid: Name
    namespace: Name
    name: Name
    resource_version: Text
    node: Name | None
    score: U64
    reasons: U64


class DecidedVictim(msgspec.Struct, frozen=True, kw_only=True):
    """A pod that is evicted to make room for another."""

    uid: Name
    namespace: Name
    name: Name


class DecidedPreemption(msgspec.Struct, frozen=True, kw_only=True):
    """A plan of a batch: which pods leave a node so that a pod that was left without one fits there."""

    pod_uid: Name
    node: Name
    victims: Annotated[tuple[DecidedVictim, ...], msgspec.Meta(max_length=4096)]


class PlacementDecided(Message, frozen=True, kw_only=True):
    """A batch as the enclave signed it.

    Attributes:
        payload_digest: blake2b-256 of the BCS of the header.
        timestamp_ms: the timestamp inside the signed IntentMessage (that of the log entry).
        public_key, signature: Ed25519 over BCS of IntentMessage {1, timestamp_ms, header}.
        simulated: whether the enclave is the development stand-in.
        fairness: what the order of the leaves follows from, signed too; null where there are too many tenants.
    """

    header: Header
    payload_digest: Digest
    timestamp_ms: U64
    public_key: PublicKey
    signature: Signature
    simulated: bool
    leaves: Annotated[tuple[DecidedLeaf, ...], msgspec.Meta(max_length=512)]
    fairness: FairnessClaim | None = None
    preemptions: Annotated[tuple[DecidedPreemption, ...], msgspec.Meta(max_length=512)] = ()


class PlacementReceived(Message, frozen=True, kw_only=True):
    """A receipt: the log up to an entry has arrived inside the enclave, and this is what came of it so far.

    Attributes:
        log_sequence, log_root: the last entry folded, and the hash over all of them.
        sequence, head: number and payload digest of the last decision made up to there; 0 and zeros before the first.
        timestamp_ms: the enclave's clock, held against the hypervisor's.
        public_key, signature: Ed25519 over BCS of IntentMessage {4, timestamp_ms, Receipt}.
    """

    chain: Digest
    registry: ObjectId
    log_sequence: U64
    log_root: Digest
    sequence: U64
    head: Digest
    timestamp_ms: U64
    public_key: PublicKey
    signature: Signature
    simulated: bool


class PlacementAnchored(Message, frozen=True, kw_only=True):
    """A batch that the ledger accepted, with finality.

    Attributes:
        decided_sequence: the PLACEMENT stream sequence of the `placement.decided` message that was anchored.
        tx_digest: Sui transaction digest, base58.
        checkpoint: checkpoint that holds the transaction; null where the node has not said yet.
    """

    sequence: U64
    payload_digest: Digest
    public_key: PublicKey
    decided_sequence: U64
    tx_digest: Name
    checkpoint: U64 | None
    timestamp_ms: U64
    simulated: bool


class PlacementRefused(Message, frozen=True, kw_only=True):
    """A batch that was not anchored, and why. `code` is the Move abort code where the ledger itself refused."""

    sequence: U64
    payload_digest: Digest
    public_key: PublicKey
    decided_sequence: U64
    reason: Name
    message: Text
    code: U64 | None = None
    simulated: bool


class BoundPod(msgspec.Struct, frozen=True, kw_only=True):
    """One pod that stands on its node: `index` is its leaf, `created_ms` 0 where that is not known."""

    pod_uid: Name
    namespace: Name
    name: Name
    node: Name
    index: U32
    created_ms: U64
    bound_ms: U64


class PlacementBound(Message, frozen=True, kw_only=True):
    """Pods of one anchored decision that were bound to the nodes it names, within a few milliseconds.

    Each pod of a decision is told of once, however many such facts its pods come in.
    """

    sequence: U64
    payload_digest: Digest
    tx_digest: Name
    decided_ms: U64
    anchored_ms: U64
    simulated: bool
    pods: Annotated[tuple[BoundPod, ...], msgspec.Meta(min_length=1, max_length=512)]

    def each(self) -> Iterator["PodBound"]:
        """What it says about each pod."""
        for pod in self.pods:
            yield PodBound(
                pod_uid=pod.pod_uid,
                namespace=pod.namespace,
                name=pod.name,
                node=pod.node,
                sequence=self.sequence,
                index=pod.index,
                payload_digest=self.payload_digest,
                tx_digest=self.tx_digest,
                created_ms=pod.created_ms,
                decided_ms=self.decided_ms,
                anchored_ms=self.anchored_ms,
                bound_ms=pod.bound_ms,
                simulated=self.simulated,
            )


class PodBound(Message, frozen=True, kw_only=True):
    """One pod of a `PlacementBound`, with what holds for all of them: so it is kept."""

    pod_uid: Name
    namespace: Name
    name: Name
    node: Name
    sequence: U64
    index: U32
    payload_digest: Digest
    tx_digest: Name
    created_ms: U64
    decided_ms: U64
    anchored_ms: U64
    bound_ms: U64
    simulated: bool


class PlacementBindFailed(Message, frozen=True, kw_only=True):
    """A decision that could not be carried out; the log says so too, and the pod is decided again."""

    pod_uid: Name
    namespace: Name
    name: Name
    node: Name
    sequence: U64
    index: U32
    reason: Name
    message: Text
    simulated: bool


class EnclaveChallenged(Message, frozen=True, kw_only=True):
    """What an enclave must attest for: published by the relay at start and whenever the registry's nonce rotates."""

    chain: Digest
    registry: ObjectId
    nonce: Digest
    sequence: U64
    payload_digest: Digest
    simulated: bool


class EnclaveAttested(Message, frozen=True, kw_only=True):
    """An enclave's key with the attestation document that vouches for it.

    Attributes:
        replaces: the key that this enclave signs with until this one is registered. Nobody vouches for it: it says what
            may be ended, never what may sign.
    """

    public_key: PublicKey
    policy: Digest
    document: Base64
    simulated: bool
    replaces: PublicKey | msgspec.UnsetType = msgspec.UNSET


class EnclaveRegistered(Message, frozen=True, kw_only=True):
    """A key that the registry accepted.

    Attributes:
        next_nonce: what the registry's nonce became by it: h(nonce of the document || key).
        document_digest: blake2b-256 of the document, where the ledger noted it (simulated).
    """

    public_key: PublicKey
    enclave: ObjectId
    registry: ObjectId
    measurement_version: U64
    tx_digest: Name
    registered_ms: U64
    expires_ms: U64
    simulated: bool
    # Left out where they are unknown, so that older facts keep their one encoding in files of evidence.
    next_nonce: Digest | msgspec.UnsetType = msgspec.UNSET
    document_digest: Digest | msgspec.UnsetType = msgspec.UNSET


class EnclaveRevoked(Message, frozen=True, kw_only=True):
    """A key that may sign no longer, or that the registry refused (`enclave` is null then), and why."""

    public_key: PublicKey
    enclave: ObjectId | None
    reason: Name
    message: Text
    simulated: bool


class ChainFact(Message, frozen=True, kw_only=True):
    """What every fact from the ledger says of its origin.

    Attributes:
        registry: the cluster's registry.
        tx_digest, event_index: which event of which transaction (base58); facts come in the order of the ledger.
        checkpoint, timestamp_ms: the checkpoint that holds it, and its time.
    """

    registry: ObjectId
    tx_digest: Name
    event_index: U32
    checkpoint: U64
    timestamp_ms: U64
    simulated: bool


class ChainStakeChanged(ChainFact, frozen=True, kw_only=True):
    """An account's stake after a change.

    Attributes:
        account: the Sui address.
        change: `deposited`, `withdrawal-requested`, `withdrawn` or `slashed`.
        amount_mist: by how much.
        bonded_mist, unbonding_mist: what it holds now; only bonded stake counts for anything.
    """

    account: ObjectId
    change: Name
    amount_mist: U64
    bonded_mist: U64
    unbonding_mist: U64


class ChainPolicyChanged(ChainFact, frozen=True, kw_only=True):
    """A Seal policy came to be, or is another one now.

    Attributes:
        policy: the policy object.
        change: what happened to it, e.g. `created`, `changed`.
    """

    policy: ObjectId
    change: Name


class ChainSlashed(ChainFact, frozen=True, kw_only=True):
    """An account lost stake for misbehaviour; a `chain.stake_changed` says what is left.

    Attributes:
        reporter: who proved it.
        reporter_mist, treasury_mist: where the amount went.
    """

    account: ObjectId
    reporter: ObjectId
    amount_mist: U64
    reporter_mist: U64
    treasury_mist: U64


class MetadataChanged(Message, frozen=True, kw_only=True):
    """A public object of the cluster as it is now, or that it is gone.

    Attributes:
        kind: `Namespace`, `Service`, `ConfigMap` or `Node`.
        namespace: empty for objects that have none.
        resource_version: the API server's, as a number: of two facts about one object the higher one holds.
        object: its public part, Kubernetes-shaped; null where it is gone or withheld.
        withheld: why it is not told (a machine-readable reason).
        withheld_at: where in it the cause lies.
        listed: instead of an object, with name `*`: everything of this kind (`namespace/name`) that there was at this
            version; what else was known of it is gone.
    """

    kind: Name
    namespace: Annotated[str, msgspec.Meta(max_length=253)]
    name: Name
    uid: Text
    resource_version: U64
    deleted: bool = False
    object: Any = None
    withheld: Name | None = None
    withheld_at: Text | None = None
    listed: Annotated[tuple[Text, ...], msgspec.Meta(max_length=20_000)] | None = None


class AuditRecorded(Message, frozen=True, kw_only=True):
    """A batch of audit events as the API server told them, without what is not for the public.

    Attributes:
        events: `audit.k8s.io/v1` Events.
        stripped: how many of them had more than metadata that was cut away.
    """

    events: tuple[Any, ...]
    stripped: int


class ChainBalanceLow(Message, frozen=True, kw_only=True):
    """The account that pays for anchors runs out of money: without it nothing is anchored, and so nothing is bound.

    Attributes:
        account: the Sui address.
        source: what pays: `coins` or `address-balance`.
        balance_mist, threshold_mist: what it has, and below what this is said; once each time it falls below.
        timestamp_ms: when the relay looked.
    """

    registry: ObjectId
    account: ObjectId
    source: Name
    balance_mist: U64
    threshold_mist: U64
    timestamp_ms: U64
    simulated: bool


class StorageStored(Message, frozen=True, kw_only=True):
    """Something durable, and where.

    Attributes:
        kind: `evidence`, `snapshot`, `attestation`, ...
        key: the etcd key or Walrus blob id.
        revision: etcd revision, where it is one.
        digest: blake2b-256 of the stored bytes.
        blob, patch: Walrus's ids of the quilt and of the (first) patch that holds them; null where they are not there.
    """

    kind: Name
    key: Text
    revision: U64 | None
    size: U64
    digest: Digest
    sequence: U64 | None
    simulated: bool
    blob: Name | None = None
    patch: Name | None = None


class DeadLetter(Message, frozen=True, kw_only=True):
    """A message nobody can take: the original bytes and headers, and why.

    Attributes:
        body: the original bytes, base64, cut at 3 MiB (`truncated` says so); empty where they hold a secret.
        digest: blake2b-256 of bytes that are not told.
        stream_sequence: where the original stands in its stream; null for core messages.
    """

    subject: Text
    stream: Text
    stream_sequence: U64 | None
    service: Name
    reason: Name
    message: Text
    field: Text | None = None
    deliveries: U64 = 1
    headers: dict[str, str]
    body: Base64
    truncated: bool = False
    digest: Digest | None = None


M = TypeVar("M", bound=Message)


def encode(message: Message) -> bytes:
    """JSON in field order: equal values give equal bytes."""
    return msgspec.json.encode(message)


def decode(data: bytes, kind: type[M]) -> M:
    """The message, or a DecodeError that names the field.

    Raises:
        DecodeError: `malformed-message` for bad JSON or a field of the wrong type, `unknown-schema` for another number.
    """
    try:
        message = msgspec.json.decode(data, type=kind)
    except (msgspec.ValidationError, msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        text = str(error)
        where = text.rpartition(" - at `")[2].rstrip("`") if " - at `" in text else None
        raise DecodeError(f"{kind.__name__}: {text}", reason="malformed-message", field=where) from None
    if message.schema != 1:
        raise DecodeError(
            f"{kind.__name__}: schema {message.schema} is not known here (expected 1)",
            reason="unknown-schema",
            field="$.schema",
        )
    return message
