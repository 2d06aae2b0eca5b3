"""Where evidence, audit logs and public metadata stand in etcd, and the small records there.

Keys, below `/daas/v1/<cluster>/`; numbers have 20 digits so that they sort:

    evidence/<sequence>                              manifest of the bundle of a batch
    snapshots/<sequence>                             manifest of the scheduler's state after a batch
    parts/<digest>/<index>                           zlib-compressed bytes of what has this digest, <= 1 MiB each
    pods/<namespace>/<name>/<uid>/<sequence>         where a decision about a pod stands: its leaf, and the node
    bound/<namespace>/<name>/<uid>/<sequence>        the fact that it was bound
    bind-failed/<namespace>/<name>/<uid>/<sequence>  the fact that it could not be
    attestations/<public key>/<stream sequence>      the fact with the attestation document
    registrations/<public key>/<stream sequence>     the fact of the registration
    revocations/<public key>/<stream sequence>       the fact of the revocation, or of the refused registration
    access/<stream sequence>                         the fact of signed access decisions
    plans/<allocation|rebalance>/<stream sequence>   the fact of a signed plan
    refusals/<batch>/<stream sequence>               the fact that a batch was not anchored
    receipts/<log sequence>                          the enclave's receipt for the log up to there
    secrets/<fact>/<stream sequence>                 that a Secret was sealed, opened or denied; never what is in it
    audit/<ms of its last event>/<digest>            manifest of a batch of audit events, with a summary of them
    latest                                           number of the newest stored batch
    metadata/<kind>/<namespace or ->/<name>          a public object as it is now, or that it is gone (see `metadata`)
    policies/<policy object>                         the newest change of a Seal policy
    walrus/<blob id>                                 a blob that is to live on, until when it does, and who needs it

A manifest is written after its parts, patches and index entries, so whoever sees it can read all of it. `latest` only
grows; metadata, policies and walrus only move to a newer version. Parts and index entries (`pods`) may be written
again, as they were, where their manifest was lost; everything else is written if absent and never again.
Where bytes are kept in Walrus their manifest names the quilt patches that hold them, each with its digest.
"""

from typing import Annotated, Final, Literal

import msgspec

from daas.common.errors import DecodeError
from daas.common.messages import U32, U64, Digest, Header, Name
from daas.common.subjects import prefix

_ROOT: Final = "/daas/v1"


class Keys:
    """The keys of one cluster, or what they start with.

    Raises:
        InvalidInput: `cluster-name`.
    """

    def __init__(self, cluster: str) -> None:
        prefix(cluster)
        self.root = f"{_ROOT}/{cluster}/"

    @property
    def latest(self) -> str:
        """The number of the newest stored batch."""
        return f"{self.root}latest"

    def evidence(self, sequence: int) -> str:
        """Manifest of a bundle."""
        return f"{self.root}evidence/{sequence:020d}"

    def snapshots(self) -> str:
        """What all snapshots start with."""
        return f"{self.root}snapshots/"

    def snapshot(self, sequence: int) -> str:
        """Manifest of a snapshot."""
        return f"{self.snapshots()}{sequence:020d}"

    def part(self, digest: str, index: int) -> str:
        """A part of the bytes with a digest."""
        return f"{self.root}parts/{digest}/{index:06d}"

    def pod(self, namespace: str, name: str) -> str:
        """What all decisions about a pod start with."""
        return f"{self.root}pods/{namespace}/{name}/"

    def pod_decision(self, namespace: str, name: str, uid: str, sequence: int) -> str:
        """One decision about a pod."""
        return f"{self.pod(namespace, name)}{uid}/{sequence:020d}"

    def bound(self, namespace: str, name: str, uid: str, sequence: int) -> str:
        """The fact of a bind."""
        return f"{self.root}bound/{namespace}/{name}/{uid}/{sequence:020d}"

    def bind_failed(self, namespace: str, name: str, uid: str, sequence: int) -> str:
        """The fact of a failed bind."""
        return f"{self.root}bind-failed/{namespace}/{name}/{uid}/{sequence:020d}"

    def attestations(self, public_key: str) -> str:
        """What all attestation documents of a key start with."""
        return f"{self.root}attestations/{public_key}/"

    def registrations(self, public_key: str) -> str:
        """What all registrations of a key start with."""
        return f"{self.root}registrations/{public_key}/"

    def revocations(self, public_key: str) -> str:
        """What all revocations of a key start with."""
        return f"{self.root}revocations/{public_key}/"

    def secret_fact(self, fact: str, sequence: int) -> str:
        """What happened to a sealed Secret; `fact` is `sealed`, `opened` or `denied`."""
        return f"{self.root}secrets/{fact}/{sequence:020d}"

    def audits(self) -> str:
        """What all manifests of audit events start with."""
        return f"{self.root}audit/"

    def audit(self, last_ms: int, digest: str) -> str:
        """Manifest of a batch of audit events."""
        return f"{self.audits()}{last_ms:020d}/{digest}"

    def metadata_of(self, kind: str) -> str:
        """What all public objects of a kind start with."""
        return f"{self.root}metadata/{kind}/"

    def metadata(self, kind: str, namespace: str, name: str) -> str:
        """A public object."""
        return f"{self.metadata_of(kind)}{namespace or '-'}/{name}"

    def policy(self, policy: str) -> str:
        """The newest change of a policy."""
        return f"{self.root}policies/{policy}"

    def holdings(self) -> str:
        """What all blobs in Walrus start with."""
        return f"{self.root}walrus/"

    def holding(self, blob_id: str) -> str:
        """A blob in Walrus."""
        return f"{self.holdings()}{blob_id}"

    def refusals(self, sequence: int) -> str:
        """What all refusals of batches with a number start with."""
        return f"{self.root}refusals/{sequence:020d}/"

    def access_facts(self) -> str:
        """What all facts of access decisions start with."""
        return f"{self.root}access/"

    def access(self, stream_sequence: int) -> str:
        """A fact of access decisions, by its place in the POLICY stream."""
        return f"{self.access_facts()}{stream_sequence:020d}"

    def plans(self, kind: str) -> str:
        """What all plans of a kind start with."""
        return f"{self.root}plans/{kind}/"

    def plan(self, kind: str, stream_sequence: int) -> str:
        """The fact of a plan, by its place in the PLAN stream."""
        return f"{self.plans(kind)}{stream_sequence:020d}"

    def receipt(self, log_sequence: int) -> str:
        """The receipt for the log up to an entry."""
        return f"{self.root}receipts/{log_sequence:020d}"


class PatchRef(msgspec.Struct, frozen=True, kw_only=True):
    """A piece of stored bytes in Walrus.

    Attributes:
        quilt, patch: the quilt's blob id, and the patch in it.
        digest, size: blake2b-256 and number of its bytes, as they were sent.
    """

    quilt: Name
    patch: Name
    digest: Digest
    size: U64


class AuditSummary(msgspec.Struct, frozen=True, kw_only=True):
    """What a batch of audit events is about, so that a search reads only those that can hold an answer.

    Attributes:
        first_ms, last_ms: times of its first and last event.
        count: its events.
        users, resources, verdicts: what occurs in it; null where there are too many to name.
    """

    first_ms: U64
    last_ms: U64
    count: U64
    users: tuple[str, ...] | None
    resources: tuple[str, ...] | None
    verdicts: tuple[str, ...]


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """How stored bytes are put together again.

    Attributes:
        digest: blake2b-256 of the bytes, before compression.
        size: their number.
        parts: keys `parts/<digest>/<0..parts-1>`; concatenated and inflated they are the bytes.
        patches: where its compressed bytes are in Walrus, in order; empty where they are only here.
        header: of the batch, for a bundle; so that its successor needs nothing else of it.
        audit: for a batch of audit events.
    """

    version: Literal[1] = 1
    digest: Digest
    size: U64
    parts: Annotated[int, msgspec.Meta(ge=0, le=4096)]
    compression: Literal["zlib"] = "zlib"
    patches: Annotated[tuple[PatchRef, ...], msgspec.Meta(max_length=4096)] = ()
    header: Header | None = None
    audit: AuditSummary | None = None


class PodDecision(msgspec.Struct, frozen=True, kw_only=True):
    """Where one decision about a pod stands. `node` is null where no node would do."""

    namespace: Name
    name: Name
    uid: Name
    sequence: U64
    index: U32
    node: str | None
    payload_digest: Digest


def decode_manifest(data: bytes) -> Manifest:
    """The manifest.

    Raises:
        DecodeError: `stored-malformed`.
    """
    try:
        return msgspec.json.decode(data, type=Manifest)
    except (msgspec.ValidationError, msgspec.DecodeError, UnicodeDecodeError) as error:
        raise DecodeError(f"a manifest in etcd: {error}", reason="stored-malformed") from None


def decode_pod_decision(data: bytes) -> PodDecision:
    """The index entry.

    Raises:
        DecodeError: `stored-malformed`.
    """
    try:
        return msgspec.json.decode(data, type=PodDecision)
    except (msgspec.ValidationError, msgspec.DecodeError, UnicodeDecodeError) as error:
        raise DecodeError(f"a pod's index entry in etcd: {error}", reason="stored-malformed") from None
