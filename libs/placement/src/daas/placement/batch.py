"""What the enclave signs: PlacementBatch, its leaves and the IntentMessage, as BCS, with their digests."""

from collections.abc import Iterable

import msgspec

from daas.common import bcs, merkle
from daas.common.errors import DecodeError

#: The first byte of everything that is signed about placements.
INTENT_PLACEMENT = 1
DIGEST_LENGTH = 32
#: Behind the empty uid, what a leaf is that is not about a placement.
LEAF_PREEMPTION = 1
#: Pods in one batch: what one entry can bring.
MAX_LEAVES = 512


class Leaf(msgspec.Struct, frozen=True, kw_only=True):
    """What was decided about one pod.

    Attributes:
        resource_version: the version of the pod that was decided on.
        node: where it goes; None where no node would do.
        score: weighted total of the chosen node; 0 without a node.
        reasons: bitmap of `daas.placement.reasons`.
    """

    pod_uid: str
    namespace: str
    name: str
    resource_version: str
    node: str | None
    score: int
    reasons: int

    def to_bcs(self) -> bytes:
        """The bytes under the leaf hash."""
        string = bcs.string
        return b"".join(
            (
                string(self.pod_uid),
                string(self.namespace),
                string(self.name),
                string(self.resource_version),
                b"\x00" if self.node is None else b"\x01" + string(self.node),
                bcs.u64(self.score),
                bcs.u64(self.reasons),
            )
        )

    @classmethod
    def from_bcs(cls, data: bytes) -> "Leaf":
        """The leaf of these bytes.

        Raises:
            DecodeError: `bcs-*` where they are not one leaf exactly.
        """
        reader = bcs.Reader(data)
        leaf = cls(
            pod_uid=reader.string(),
            namespace=reader.string(),
            name=reader.string(),
            resource_version=reader.string(),
            node=reader.option(reader.string),
            score=reader.u64(),
            reasons=reader.u64(),
        )
        reader.end()
        return leaf


class Victim(msgspec.Struct, frozen=True, kw_only=True):
    """A pod that is evicted to make room."""

    uid: str
    namespace: str
    name: str


class Preemption(msgspec.Struct, frozen=True, kw_only=True):
    """A plan: which pods leave a node so that a pod that was left without one fits there.

    It stands among the leaves, behind those of pods. Its first bytes can't be those of a pod's leaf: no uid is empty.

    Attributes:
        pod_uid: the pod that room is made for; its own leaf in the same batch names no node.
        victims: in the order of their eviction, least important last.
    """

    pod_uid: str
    node: str
    victims: tuple[Victim, ...]

    def to_bcs(self) -> bytes:
        """The bytes under the leaf hash."""
        return b"".join(
            (
                bcs.string(""),
                bcs.u8(LEAF_PREEMPTION),
                bcs.string(self.pod_uid),
                bcs.string(self.node),
                bcs.vector(_victim, self.victims),
            )
        )


def _victim(victim: Victim) -> bytes:
    return bcs.string(victim.uid) + bcs.string(victim.namespace) + bcs.string(victim.name)


def decisions_root(leaves: Iterable[Leaf], preemptions: Iterable[Preemption] = ()) -> bytes:
    """The Merkle root that a batch commits to."""
    return merkle.root([*(leaf.to_bcs() for leaf in leaves), *(plan.to_bcs() for plan in preemptions)])


class PlacementBatch(msgspec.Struct, frozen=True, kw_only=True):
    """The header of one decision, in the order of its BCS encoding. Digests have 32 bytes.

    Attributes:
        chain: genesis digest of the chain that anchors it.
        registry: id of our Registry object.
        sequence: the predecessor's + 1, from 1.
        previous: digest of the predecessor; 32 zero bytes at 1.
        log_sequence, log_root: the last log entry folded, and the running hash of all of them.
        policy: digest of `Policy`.
        state_root: Merkle root of the engine's state after the batch.
        decisions: Merkle root of the leaves, then the preemptions; `count` says how many they are together.
        expires_ms: placements not bound by then lapse.
    """

    chain: bytes
    registry: bytes
    sequence: int
    previous: bytes
    log_sequence: int
    log_root: bytes
    policy: bytes
    state_root: bytes
    decisions: bytes
    count: int
    expires_ms: int

    def to_bcs(self) -> bytes:
        """The bytes that are hashed, signed and rebuilt on chain."""
        return b"".join(
            (
                bcs.bytes_(self.chain),
                bcs.address(self.registry),
                bcs.u64(self.sequence),
                bcs.bytes_(self.previous),
                bcs.u64(self.log_sequence),
                bcs.bytes_(self.log_root),
                bcs.bytes_(self.policy),
                bcs.bytes_(self.state_root),
                bcs.bytes_(self.decisions),
                bcs.u32(self.count),
                bcs.u64(self.expires_ms),
            )
        )

    @classmethod
    def from_bcs(cls, data: bytes) -> "PlacementBatch":
        """The batch of these bytes.

        Raises:
            DecodeError: `bcs-*` where they are not one batch exactly, `digest-length` for a digest of another length.
        """
        reader = bcs.Reader(data)
        batch = cls(
            chain=_digest(reader, "chain"),
            registry=reader.address(),
            sequence=reader.u64(),
            previous=_digest(reader, "previous"),
            log_sequence=reader.u64(),
            log_root=_digest(reader, "log_root"),
            policy=_digest(reader, "policy"),
            state_root=_digest(reader, "state_root"),
            decisions=_digest(reader, "decisions"),
            count=reader.u32(),
            expires_ms=reader.u64(),
        )
        reader.end()
        return batch

    def digest(self) -> bytes:
        """blake2b-256 of the BCS: what the successor names as `previous`."""
        return merkle.digest(self.to_bcs())


def _digest(reader: bcs.Reader, field: str) -> bytes:
    value = reader.bytes_()
    if len(value) != DIGEST_LENGTH:
        raise DecodeError(f"{field} has {DIGEST_LENGTH} bytes, not {len(value)}", reason="digest-length", field=field)
    return value


def intent_message(intent: int, timestamp_ms: int, payload: bytes) -> bytes:
    """BCS of the Nautilus IntentMessage {intent u8, timestamp_ms u64, payload}: the bytes under the signature.

    Args:
        intent: INTENT_PLACEMENT for batches.
        timestamp_ms: that of the log entry which was answered.
        payload: BCS of the payload; it stands inline, without a length.
    """
    return bcs.u8(intent) + bcs.u64(timestamp_ms) + payload


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """One decision: the signed header, the leaves and plans under it, and the time inside the IntentMessage."""

    batch: PlacementBatch
    leaves: tuple[Leaf, ...]
    timestamp_ms: int
    preemptions: tuple[Preemption, ...] = ()
