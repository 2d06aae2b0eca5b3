"""The checks a stranger makes on one batch, each by itself: no check relies on another having passed."""

from dataclasses import dataclass
from functools import cached_property
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from daas.attestation import parse_document
from daas.common import merkle
from daas.common.decision import INTENT_PLACEMENT, committed, header_bcs, intent_message, leaf_bcs, payload_digest
from daas.common.errors import Refused
from daas.common.messages import DecidedLeaf, Header, PlacementDecided
from daas.evidence import vouching
from daas.evidence.bundle import Case, EvidenceBundle, RawEntry, Segment, describe, segment_of
from daas.evidence.report import Check, failed, passed
from daas.evidence.trust import Trust
from daas.evidence.vouching import Vouched

ZERO_DIGEST: Final = merkle.EMPTY_ROOT.hex()


@dataclass(frozen=True)
class PodName:
    """A pod as people name it; `uid` narrows it down to one life of that name."""

    namespace: str
    name: str
    uid: str | None = None

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True)
class Examined:
    """What the checks look at.

    Attributes:
        case: the evidence.
        defects: what is wrong with the file it came in.
        trust: what the verifier pinned.
        now_ms: the verifier's clock.
        sequence: the batch that was asked for, None for whichever the evidence holds.
        pod: the pod that was asked for, None for the batch alone.
    """

    case: Case
    defects: tuple[str, ...]
    trust: Trust
    now_ms: int
    sequence: int | None = None
    pod: PodName | None = None

    @property
    def bundle(self) -> EvidenceBundle:
        """The bundle in question."""
        return self.case.bundle

    @cached_property
    def decided(self) -> PlacementDecided:
        """Its decided message; raises DecodeError where that can't be read."""
        return self.bundle.decision()

    @property
    def vouched(self) -> Vouched:
        """The key that signed, and what speaks for it."""
        return Vouched(
            document=self.bundle.document,
            public_key=self.decided.public_key,
            registered=self.bundle.registered,
            used_ms=self.bundle.anchored.timestamp_ms,
            trust=self.trust,
            now_ms=self.now_ms,
        )


def evidence(examined: Examined) -> Check:
    """The evidence is what was asked for, whole and unaltered, and of this cluster, registry and chain."""
    name, trust, header = "evidence", examined.trust, examined.decided.header
    wrong = list(examined.defects)
    for what, found, expected in (
        ("cluster", examined.bundle.cluster, trust.cluster),
        ("chain", header.chain, trust.chain.hex()),
        ("registry", header.registry, "0x" + trust.registry.hex()),
        ("batch", header.sequence, header.sequence if examined.sequence is None else examined.sequence),
        ("batch of the anchored fact", examined.bundle.anchored.sequence, header.sequence),
        ("digest of the anchored fact", examined.bundle.anchored.payload_digest, payload_digest(header).hex()),
        ("key of the anchored fact", examined.bundle.anchored.public_key, examined.decided.public_key),
    ):
        if found != expected:
            wrong.append(f"{what} is {describe(found)}, expected {describe(expected)}")
    if wrong:
        return failed(name, "; ".join(wrong))
    return passed(
        name,
        "the evidence is unaltered and belongs to this cluster, chain and registry",
        cluster=trust.cluster,
        chain=header.chain,
        registry=header.registry,
        batches=len(examined.case.segments) + 1,
    )


def header(examined: Examined) -> Check:
    """The digest that everything names is the hash of the header's BCS."""
    name, said = "header digest", examined.decided.payload_digest
    computed = payload_digest(examined.decided.header).hex()
    if computed != said:
        return failed(name, f"the header hashes to {describe(computed)}, the message says {describe(said)}")
    size = len(header_bcs(examined.decided.header))
    return passed(name, f"blake2b-256 over the {size} bytes of the header is {describe(said)}", payload_digest=said)


def signature(examined: Examined) -> Check:
    """The key signed IntentMessage{1, timestamp, header}."""
    name, decided = "signature", examined.decided
    message = intent_message(INTENT_PLACEMENT, decided.timestamp_ms, header_bcs(decided.header))
    try:
        key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(decided.public_key))
        key.verify(bytes.fromhex(decided.signature), message)
    except (InvalidSignature, ValueError):
        return failed(name, f"key {describe(decided.public_key)} did not sign this header at {decided.timestamp_ms} ms")
    return passed(
        name,
        f"Ed25519 by key {describe(decided.public_key)} over the {len(message)} bytes of the IntentMessage",
        public_key=decided.public_key,
        timestamp_ms=decided.timestamp_ms,
    )


def simulated(examined: Examined) -> Check:
    """Every part says the same about being a stand-in, and so does the pinned root."""
    name, bundle = "simulation mark", examined.bundle
    marks = {
        "decision": examined.decided.simulated,
        "anchor": bundle.anchored.simulated,
        "registration": bundle.registered.simulated,
    }
    expected = examined.trust.simulated
    others = [part for part, mark in marks.items() if mark != expected]
    word = "simulated" if expected else "real hardware"
    if others:
        return failed(name, f"the pinned root says {word}, but not so: {', '.join(others)}")
    return passed(name, f"decision, anchor, registration and pinned root all say: {word}", simulated=expected)


def attestation(examined: Examined) -> Check:
    """The document is authentic under the pinned root, and vouches for the key that signed."""
    return vouching.attestation(examined.vouched)


def measurements(examined: Examined) -> Check:
    """PCR0-2 are those of one allowed image."""
    return vouching.measurements(parse_document(examined.bundle.document), examined.trust)


def binding(examined: Examined) -> Check:
    """The document was made for this chain, registry and policy, and the batch follows that policy."""
    policy = examined.trust.policy.digest().hex()
    if examined.decided.header.policy != policy:
        return failed(
            "binding",
            f"the batch follows policy {describe(examined.decided.header.policy)}, expected {describe(policy)}",
        )
    return vouching.binding(examined.vouched)


def hash_chain(examined: Examined) -> Check:
    """Every batch of the evidence names its predecessor, and folds exactly the log entries in between."""
    name, entries, size = "hash chain", 0, 0
    case = examined.case
    before = case.start
    for segment in (*case.segments, segment_of(case.bundle)):
        current = segment.header
        _follows(current, before)
        root = _fold(segment, before)
        if root != current.log_root:
            raise Refused(
                f"the log entries up to {current.log_sequence} hash to {describe(root)}, "
                f"batch {current.sequence} says {describe(current.log_root)}",
                reason="hash-chain",
            )
        entries += len(segment.log)
        size += sum(len(entry.data) for entry in segment.log)
        before = current
    if case.bundle.previous != (case.segments[-1].header if case.segments else case.start):
        raise Refused("the bundle's predecessor is another batch than the one before it", reason="hash-chain")
    last = examined.decided.header
    return passed(
        name,
        f"batch {last.sequence} names batch {last.sequence - 1} as predecessor, and its log root covers "
        f"{entries} entries ({size} bytes) up to {last.log_sequence}"
        if last.sequence > 1
        else f"batch 1 begins the chain, and its log root covers {entries} entries ({size} bytes)",
        previous=last.previous,
        log_root=last.log_root,
        log_sequence=last.log_sequence,
        entries=entries,
        log_bytes=size,
    )


def _follows(current: Header, previous: Header | None) -> None:
    if previous is None:
        if current.sequence != 1 or current.previous != ZERO_DIGEST:
            raise Refused(f"batch {current.sequence} comes without its predecessor's header", reason="hash-chain")
        return
    digest = payload_digest(previous).hex()
    if digest != current.previous:
        raise Refused(
            f"batch {current.sequence} names {describe(current.previous)} as predecessor, "
            f"the header before it hashes to {describe(digest)}",
            reason="hash-chain",
        )
    if current.sequence != previous.sequence + 1 or current.log_sequence <= previous.log_sequence:
        raise Refused(
            f"batch {current.sequence} at log entry {current.log_sequence} after batch {previous.sequence} at "
            f"{previous.log_sequence}",
            reason="hash-chain",
        )
    if (current.chain, current.registry) != (previous.chain, previous.registry):
        raise Refused(f"batch {current.sequence} is of another chain or registry", reason="hash-chain")


def _fold(segment: Segment, before: Header | None) -> str:
    root, at = (bytes.fromhex(before.log_root), before.log_sequence) if before else (merkle.EMPTY_ROOT, 0)
    for entry in segment.log:
        root = _next_root(root, at, entry)
        at = entry.sequence
    if at != segment.header.log_sequence:
        raise Refused(
            f"the log entries end at {at}, batch {segment.header.sequence} folded up to {segment.header.log_sequence}",
            reason="hash-chain",
        )
    return root.hex()


def _next_root(root: bytes, at: int, entry: RawEntry) -> bytes:
    if entry.sequence != at + 1:
        raise Refused(f"log entry {at + 1} is missing: {entry.sequence} follows {at}", reason="hash-chain")
    return merkle.digest(root + entry.data)


def leaves(examined: Examined) -> Check:
    """The leaves hash to the root that was signed, and their count was signed too."""
    name, decided = "leaves", examined.decided
    found = committed(decided)
    if decided.header.count != len(found):
        return failed(name, f"the header commits to {decided.header.count} leaves, {len(found)} are there")
    root = merkle.root(found).hex()
    if root != decided.header.decisions:
        return failed(
            name, f"the leaves hash to {describe(root)}, the header commits to {describe(decided.header.decisions)}"
        )
    return passed(name, f"the Merkle root over all {len(found)} leaves is the one signed", root=root)


def inclusion(examined: Examined) -> Check:
    """The pod's leaf stands in the batch, by its Merkle path."""
    name, decided = "inclusion", examined.decided
    assert examined.pod is not None
    index, leaf = find_leaf(decided, examined.pod)
    tree = merkle.MerkleTree(committed(decided))
    path = tree.proof(index)
    root = bytes.fromhex(decided.header.decisions)
    if not merkle.verify(root, leaf_bcs(leaf), index, decided.header.count, path):
        return failed(name, f"leaf {index} with its path of {len(path)} hashes does not lead to the signed root")
    where = f"to node {leaf.node}" if leaf.node else "to no node"
    return passed(
        name,
        f"leaf {index} of {decided.header.count} places {examined.pod} {where}; its path of {len(path)} hashes "
        "leads to the signed root",
        index=index,
        node=leaf.node,
        pod_uid=leaf.pod_uid,
        score=leaf.score,
        resource_version=leaf.resource_version,
    )


def find_leaf(decided: PlacementDecided, pod: PodName) -> tuple[int, DecidedLeaf]:
    """Where a pod stands among the leaves.

    Raises:
        Refused: `pod-not-in-batch`.
    """
    for index, leaf in enumerate(decided.leaves):
        if (leaf.namespace, leaf.name) == (pod.namespace, pod.name) and pod.uid in (None, leaf.pod_uid):
            return index, leaf
    raise Refused(f"batch {decided.header.sequence} decides nothing about pod {pod}", reason="pod-not-in-batch")
