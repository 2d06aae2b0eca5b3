"""The evidence of one batch, and the file in which it travels: JSON that describes itself, one encoding per value.

A bundle holds what the enclave saw (the raw log entries), what it said (the raw decided message), why its key counts
(attestation document, registration) and where the chain of batches put it (anchor, the header before). A file holds
one bundle and, from a snapshot or the first batch on, just what a stranger needs to replay up to it.
"""

import base64
import binascii
from collections.abc import Sequence
from typing import Annotated, Any, Final, Literal, TypeVar

import msgspec

from daas.common import merkle
from daas.common.errors import DecodeError
from daas.common.messages import (
    Digest,
    EnclaveRegistered,
    Header,
    Name,
    PlacementAnchored,
    PlacementDecided,
    decode,
)
from daas.evidence.anchors import LedgerTransaction

VERSION: Final = 1
FILE_FORMAT: Final = "k3s-daas.io/evidence"
#: A file with a snapshot of 5,000 nodes and a few hundred batches is tens of MiB; what is larger is not read.
MAX_FILE_BYTES: Final = 256 * 1024 * 1024
#: Log entries between two batches, and batches of one file.
MAX_ENTRIES: Final = 1_000_000
MAX_BUNDLES: Final = 100_000

SequenceNumber = Annotated[int, msgspec.Meta(ge=1, le=2**63 - 1)]
Raw = Annotated[bytes, msgspec.Meta(max_length=MAX_FILE_BYTES)]
T = TypeVar("T")


class RawEntry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One message of the cluster log: its number and exact bytes (base64 in JSON)."""

    sequence: SequenceNumber
    data: Raw


class EvidenceBundle(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything about one batch.

    Attributes:
        cluster: the cluster's name on the bus.
        decided: exact bytes of the `placement.decided` message that was anchored.
        previous: header of the batch before, None for the first; its digest is what the header names as `previous`.
        log: entries (previous.log_sequence, header.log_sequence], exact bytes, in order.
        document: the attestation document that vouches for the signing key.
        registered: the fact of the key's registration.
        anchored: the fact of the anchor, with the transaction's digest.
        snapshot: number of the newest batch with a stored snapshot before this one, 0 for none: where a replay may
            start. A hint: nothing rests on it.
    """

    version: Literal[1] = VERSION
    cluster: Name
    decided: Raw
    previous: Header | None
    log: Annotated[tuple[RawEntry, ...], msgspec.Meta(max_length=MAX_ENTRIES)]
    document: Raw
    registered: EnclaveRegistered
    anchored: PlacementAnchored
    snapshot: Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)] = 0

    def decision(self) -> PlacementDecided:
        """The decided message.

        Raises:
            DecodeError: its bytes are no such message.
        """
        return decode(self.decided, PlacementDecided)


class Snapshot(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The scheduler's state after a batch, to be held against that batch's state root."""

    sequence: SequenceNumber
    data: Raw


class Segment(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a replay needs of a batch on the way: its header, signing time, and the log entries it folded.

    Needs no signature of its own: the successor's header names its digest, and so on up to the signed one.
    """

    header: Header
    timestamp_ms: Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
    log: Annotated[tuple[RawEntry, ...], msgspec.Meta(max_length=MAX_ENTRIES)]


class Record(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the ledger said to whoever made the file, and the scheduling rules of the cluster.

    Both are claims. The rules are held to the digest that was signed; what the ledger said is held to everything else
    in the file, and counts as checked only when a ledger says it again.

    Attributes:
        chain: genesis digest of the chain that was asked.
        policy: fields of the scheduling policy.
        transactions: those of the registration and of the anchor.
    """

    chain: Digest
    policy: dict[str, Any]
    transactions: Annotated[tuple[LedgerTransaction, ...], msgspec.Meta(max_length=4)]


class Case(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a file holds: the bundle in question, and what a replay goes through before it.

    Attributes:
        start: header of the batch before the first segment, which the snapshot is held against; None where the first
            segment, or the bundle, is batch 1.
        snapshot: the scheduler's state after that batch; None at batch 1, or where no replay is possible (and the
            replay check will say so).
        segments: the batches between, in order.
        record: what the ledger said when the file was made; None where it was not asked.
    """

    start: Header | None
    snapshot: Snapshot | None
    segments: Annotated[tuple[Segment, ...], msgspec.Meta(max_length=MAX_BUNDLES)]
    bundle: EvidenceBundle
    record: Record | None = None


def segment_of(bundle: EvidenceBundle) -> Segment:
    """What a replay needs of a bundle.

    Raises:
        DecodeError: the decided message is none.
    """
    decided = bundle.decision()
    return Segment(header=decided.header, timestamp_ms=decided.timestamp_ms, log=bundle.log)


def case_of(bundles: Sequence[EvidenceBundle], snapshot: Snapshot | None) -> Case:
    """The case of the last of consecutive bundles.

    Args:
        bundles: at least one.
        snapshot: the state before the first of them.

    Raises:
        DecodeError: a decided message is none.
    """
    *earlier, bundle = bundles
    return Case(
        start=bundles[0].previous,
        snapshot=snapshot,
        segments=tuple(segment_of(each) for each in earlier),
        bundle=bundle,
    )


class _File(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    format: Literal["k3s-daas.io/evidence"]
    version: Literal[1]
    digest: Digest
    content: msgspec.Raw


class DecodedFile(msgspec.Struct, frozen=True):
    """A file that could be read, and what is wrong with it as a file (empty where nothing is).

    A file whose bytes were tampered with is still looked into, so that the checks say what the tampering changed.
    """

    case: Case
    defects: tuple[str, ...]
    digest: str


def encode_bundle(bundle: EvidenceBundle) -> bytes:
    """Canonical JSON of a bundle: equal bundles give equal bytes."""
    return msgspec.json.encode(bundle)


def decode_bundle(data: bytes) -> EvidenceBundle:
    """The bundle, from canonical JSON only.

    Raises:
        DecodeError: `evidence-malformed`, or `evidence-not-canonical` for another encoding of the same value.
    """
    bundle = _decode(data, EvidenceBundle)
    if msgspec.json.encode(bundle) != data:
        raise DecodeError("the bundle is not in its canonical encoding", reason="evidence-not-canonical")
    return bundle


def encode_file(case: Case) -> bytes:
    """The file of a case: `{format, version, digest, content}`, the digest being blake2b-256 of the content's bytes."""
    content = msgspec.json.encode(case)
    return msgspec.json.encode(
        _File(
            format=FILE_FORMAT,
            version=VERSION,
            digest=merkle.digest(content).hex(),
            content=msgspec.Raw(content),
        )
    )


def decode_file(data: bytes) -> DecodedFile:
    """The case in a file.

    Raises:
        DecodeError: `evidence-malformed`: it is not such a file at all.
    """
    if len(data) > MAX_FILE_BYTES:
        raise DecodeError(
            f"a file of {len(data)} bytes; evidence has at most {MAX_FILE_BYTES}", reason="evidence-malformed"
        )
    file = _decode(data, _File)
    content = bytes(file.content)
    case = _decode(content, Case)
    defects = []
    digest = merkle.digest(content).hex()
    if digest != file.digest:
        defects.append(f"the content hashes to {digest}, the file says {file.digest}")
    if encode_file(case) != data and not defects:
        defects.append("the file is not in its canonical encoding")
    return DecodedFile(case, tuple(defects), digest)


def _decode(data: bytes, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.ValidationError, msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        text = str(error)
        where = text.rpartition(" - at `")[2].rstrip("`") if " - at `" in text else None
        raise DecodeError(f"{kind.__name__.strip('_')}: {text}", reason="evidence-malformed", field=where) from None


def document_bytes(text: str) -> bytes:
    """The bytes of a base64 document as messages carry it.

    Raises:
        DecodeError: `document-base64`.
    """
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise DecodeError("the document is not base64", reason="document-base64", field="document") from None


def describe(value: Any) -> str:
    """A digest or id short enough for a sentence."""
    text = value.hex() if isinstance(value, bytes) else str(value)
    return f"{text[:12]}…" if len(text) > 20 else text
