"""The state as bytes and back: what a new enclave goes on from instead of folding the log from its start.

A snapshot proves nothing by itself: the state root is computed from what it holds and compared with an anchored batch.
"""

from typing import Annotated, NamedTuple

import msgspec

from daas.common import merkle
from daas.placement.batch import DIGEST_LENGTH, PlacementBatch
from daas.placement.errors import EventError, QuantityError, SnapshotError
from daas.placement.fold import (
    MAX_NODES,
    MAX_PODS,
    node_record,
    object_key,
    parse_version,
    shared_name,
)
from daas.placement.known import TOMBSTONES
from daas.placement.log import ObjectEvent
from daas.placement.model import Node
from daas.placement.objects import MAX_OBJECTS, ObjectRecord
from daas.placement.records import PENDING, TAKES_CAPACITY, NodeRecord, Plan, PodRecord, PodState
from daas.placement.state import ClusterState
from daas.placement.volumes import claims_in

FORMAT = 3

_U64 = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
_U32 = Annotated[int, msgspec.Meta(ge=0, lt=2**32)]
_Digest = Annotated[bytes, msgspec.Meta(min_length=DIGEST_LENGTH, max_length=DIGEST_LENGTH)]


class _NodeRow(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    encoded: bytes
    version: _U64
    epoch: _U64


class _PodRow(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    encoded: bytes
    version: _U64
    epoch: _U64
    state: PodState
    node: str
    sequence: _U64
    expires_ms: _U64
    attempts: _U32
    not_before_ms: _U64
    ticket: _U64
    plan: tuple[_U64, str, _U64, tuple[str, ...]] | None = None
    volumes: tuple[tuple[str, str], ...] = ()


class _ObjectRow(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    encoded: bytes
    epoch: _U64


class _Document(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    format: int
    genesis: _Digest
    sequence: _U64
    digest: _Digest
    log_sequence: _U64
    log_root: _Digest
    last_ms: _U64
    epoch: _U64
    resync_id: str
    tickets: _U64
    helped: bool
    tombstone_next: _U32
    tombstones: Annotated[tuple[str, ...], msgspec.Meta(max_length=TOMBSTONES)]
    nodes: Annotated[tuple[_NodeRow, ...], msgspec.Meta(max_length=MAX_NODES)]
    pods: Annotated[tuple[_PodRow, ...], msgspec.Meta(max_length=MAX_PODS)]
    objects: Annotated[tuple[_ObjectRow, ...], msgspec.Meta(max_length=MAX_OBJECTS)]


class SnapshotHead(NamedTuple):
    """Where chain and log stood when the snapshot was taken."""

    sequence: int
    digest: bytes
    log_sequence: int
    log_root: bytes

    def check(self, anchored: PlacementBatch, state_root: bytes) -> None:
        """Asserts that this is the state right after an anchored batch.

        Raises:
            SnapshotError: `snapshot-not-anchored`, naming the field that differs.
        """
        for field, found, expected in (
            ("sequence", self.sequence, anchored.sequence),
            ("digest", self.digest, anchored.digest()),
            ("log_sequence", self.log_sequence, anchored.log_sequence),
            ("log_root", self.log_root, anchored.log_root),
            ("state_root", state_root, anchored.state_root),
        ):
            if found != expected:
                raise SnapshotError(
                    f"the snapshot's {field} is {_shown(found)}, the anchored batch has {_shown(expected)}",
                    reason="snapshot-not-anchored",
                    field=field,
                )


def _shown(value: int | bytes) -> str:
    return value.hex() if isinstance(value, bytes) else str(value)


def write_snapshot(head: SnapshotHead, genesis: bytes, state: ClusterState) -> bytes:
    """The bytes of a state: MessagePack, nodes by name, pods by uid."""
    document = _Document(
        format=FORMAT,
        genesis=genesis,
        sequence=head.sequence,
        digest=head.digest,
        log_sequence=head.log_sequence,
        log_root=head.log_root,
        last_ms=state.last_ms,
        epoch=state.epoch,
        resync_id=state.resync_id,
        tickets=state.tickets,
        helped=state.helped,
        tombstone_next=state.tombstone_next,
        tombstones=tuple(state.tombstone_ring),
        nodes=tuple(_NodeRow(r.encoded, r.version, r.epoch) for _, r in sorted(state.nodes.items())),
        pods=tuple(
            _PodRow(
                r.encoded,
                r.version,
                r.epoch,
                r.state,
                r.node,
                r.sequence,
                r.expires_ms,
                r.attempts,
                r.not_before_ms,
                r.ticket,
                None if r.plan is None else (r.plan.sequence, r.plan.node, r.plan.expires_ms, r.plan.victims),
                tuple((claim, volume) for (_, claim), volume in r.volumes),
            )
            for _, r in sorted(state.pods.items())
        ),
        objects=tuple(_ObjectRow(r.encoded, r.epoch) for _, r in sorted(state.objects.items())),
    )
    return msgspec.msgpack.encode(document)


_DOCUMENT = msgspec.msgpack.Decoder(_Document)
_NODE = msgspec.json.Decoder(Node)
_OBJECT = msgspec.json.Decoder(ObjectEvent)


def read_snapshot(data: bytes, genesis: bytes, state: ClusterState) -> SnapshotHead:
    """Fills an empty state.

    Raises:
        SnapshotError: `malformed-snapshot`, `unknown-snapshot-format` or `other-genesis`.
    """
    try:
        document = _DOCUMENT.decode(data)
        if document.format != FORMAT:
            raise SnapshotError(
                f"snapshot format {document.format} is not known here (expected {FORMAT})",
                reason="unknown-snapshot-format",
            )
        if document.genesis != genesis:
            raise SnapshotError(
                f"the snapshot is of genesis {document.genesis.hex()}, not {genesis.hex()}", reason="other-genesis"
            )
        _fill(state, document)
    except (
        msgspec.ValidationError,
        msgspec.DecodeError,
        UnicodeDecodeError,
        RecursionError,
        EventError,
        QuantityError,
    ) as error:
        raise SnapshotError(f"not a snapshot: {error}", reason="malformed-snapshot") from None
    return SnapshotHead(document.sequence, document.digest, document.log_sequence, document.log_root)


def _require(holds: bool, what: str) -> None:
    if not holds:
        raise SnapshotError(f"not a snapshot: {what}", reason="malformed-snapshot")


def _fill(state: ClusterState, document: _Document) -> None:
    state.last_ms, state.epoch, state.tickets = document.last_ms, document.epoch, document.tickets
    state.resync_id = document.resync_id
    _require(len(set(document.tombstones)) == len(document.tombstones), "a tombstone stands twice")
    for uid in document.tombstones:
        state.bury(uid)
    full = len(document.tombstones) == TOMBSTONES
    _require(
        document.tombstone_next < TOMBSTONES and (full or document.tombstone_next == len(document.tombstones)),
        "the tombstones' position is out of place",
    )
    state.tombstone_next = document.tombstone_next
    for row in document.nodes:
        _add_node(state, row)
    for pod_row in document.pods:
        _add_pod(state, pod_row)
    for object_row in document.objects:
        _add_object(state, object_row)
    state.helped = document.helped


def _add_node(state: ClusterState, row: _NodeRow) -> None:
    node = _NODE.decode(row.encoded)
    record: NodeRecord = node_record(node, row.version)
    _require(record.encoded == row.encoded, f"node {record.name} is not in its one encoding")
    _require(record.name not in state.nodes, f"node {record.name} stands twice")
    state.put_node(record)
    record.epoch = row.epoch


def _add_object(state: ClusterState, row: _ObjectRow) -> None:
    event = _OBJECT.decode(row.encoded)
    record = ObjectRecord(object_key(event), event, row.epoch)
    _require(not type(event).__name__.endswith("Deleted"), "a deletion stands among the objects")
    _require(record.encoded == row.encoded, f"object {record.key} is not in its one encoding")
    _require(record.key not in state.objects, f"object {record.key} stands twice")
    state.put_object(record)


def _add_pod(state: ClusterState, row: _PodRow) -> None:
    seen = state.kinds.read_encoded(row.encoded)
    uid, namespace, name = seen.uid, seen.namespace, seen.name
    _require(seen.encoded == row.encoded, f"pod {uid} is not in its one encoding")
    _require(uid not in state.pods, f"pod {uid} stands twice")
    _require((namespace, name) not in state.pod_names, f"pod {namespace}/{name} stands twice")
    _require((row.state in TAKES_CAPACITY) == bool(row.node), f"pod {uid} is {row.state.name} on {row.node!r}")
    parse_version(str(row.version), "pods")
    kind = state.kinds.of(seen)
    record = PodRecord(uid, kind.namespace, name)
    record.version = row.version
    record.see(kind, seen.own, shared_name(state, seen.node), merkle.digest(row.encoded))
    record.epoch, record.state = row.epoch, row.state
    record.sequence, record.expires_ms = row.sequence, row.expires_ms
    record.attempts, record.not_before_ms, record.ticket = row.attempts, row.not_before_ms, row.ticket
    record.demand, record.priority = kind.demand, kind.priority
    if row.state in PENDING or row.state is PodState.ASSUMED:
        _require(kind.ours, f"pod {uid} is {row.state.name} but not ours to place")
        record.pod_class = kind.pod_class
    if row.state is not PodState.IDLE:
        _require(kind.profile is not None, f"pod {uid} is {row.state.name}, which it can't be")
        record.profile = kind.profile
    record.claims = claims_in(kind.volumes, name)
    record.volumes = tuple(((kind.namespace, claim), volume) for claim, volume in row.volumes)
    state.restore_pod(record, row.node)
    state.hear_nomination(record, kind.nominated)
    if row.plan is not None:
        _require(row.state in PENDING, f"pod {uid} has a plan and is {row.state.name}")
        state.set_plan(record, Plan(*row.plan))
    state.join_gang(record, kind.gang)
