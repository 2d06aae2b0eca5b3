"""Log entries and their events: how the ordered cluster log is written and how the engine reads it, event by event.

One message of the log is one entry. A bad event is refused with a reason and the rest of its entry goes on; an entry
that can't be read has no events and no time. Reading depends on nothing but the bytes.
"""

import re
from typing import Annotated, Literal

import msgspec

from daas.placement.errors import EventError
from daas.placement.model import Labels, LabelSelector, Name, Node, Pod, Text
from daas.placement.storage import (
    CSINode,
    PersistentVolume,
    PersistentVolumeClaim,
    PodDisruptionBudget,
    StorageClass,
)

SCHEMA = 1
#: The micro-batch cap of whoever writes the log; one decision answers one entry.
MAX_EVENTS = 512
MAX_ENTRY_BYTES = 4 * 1024 * 1024
#: A pod nests 13 deep. The JSON decoder's own limit depends on the caller's stack, so ours must come first.
MAX_DEPTH = 64
#: Milliseconds since 1970; above is not a time but a mistake (year 287396).
MAX_TIMESTAMP_MS = 2**53

Timestamp = Annotated[int, msgspec.Meta(ge=0, lt=MAX_TIMESTAMP_MS)]
U64 = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]


class NodeUpserted(msgspec.Struct, frozen=True, kw_only=True, tag="node_upserted"):
    """A node was seen in this version."""

    node: Node


class NodeDeleted(msgspec.Struct, frozen=True, kw_only=True, tag="node_deleted"):
    """A node is gone."""

    name: Name
    uid: Name


class PodUpserted(msgspec.Struct, frozen=True, kw_only=True, tag="pod_upserted"):
    """A pod was seen in this version: one of ours, or any that takes capacity."""

    pod: Pod


class PodDeleted(msgspec.Struct, frozen=True, kw_only=True, tag="pod_deleted"):
    """A pod is gone."""

    uid: Name
    namespace: Name
    name: Name


class BindFailed(msgspec.Struct, frozen=True, kw_only=True, tag="bind_failed"):
    """What decision `sequence` said about this pod could not be carried out."""

    uid: Name
    sequence: U64
    node: Name
    reason: Text


class ResyncStarted(msgspec.Struct, frozen=True, kw_only=True, tag="resync_started"):
    """A full list of nodes and pods follows."""

    id: Name


class ResyncFinished(msgspec.Struct, frozen=True, kw_only=True, tag="resync_finished"):
    """The full list is complete: what it did not name is gone."""

    id: Name


class NamespaceUpserted(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag="namespace_upserted"):
    """A namespace and its labels, which namespace selectors read."""

    name: Name
    labels: Labels | None = None


class NamespaceDeleted(msgspec.Struct, frozen=True, kw_only=True, tag="namespace_deleted"):
    """A namespace is gone."""

    name: Name


class ServiceUpserted(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag="service_upserted"):
    """A service and the labels it selects pods by: its pods are spread by default."""

    namespace: Name
    name: Name
    selector: Labels | None = None


class ServiceDeleted(msgspec.Struct, frozen=True, kw_only=True, tag="service_deleted"):
    """A service is gone."""

    namespace: Name
    name: Name


class ControllerUpserted(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag="controller_upserted"):
    """A ReplicaSet, StatefulSet or ReplicationController: its pods are spread by default."""

    kind: Literal["ReplicaSet", "StatefulSet", "ReplicationController"]
    namespace: Name
    name: Name
    selector: LabelSelector | None = None


class ControllerDeleted(msgspec.Struct, frozen=True, kw_only=True, tag="controller_deleted"):
    """A controller is gone."""

    kind: Literal["ReplicaSet", "StatefulSet", "ReplicationController"]
    namespace: Name
    name: Name


class TenantUpserted(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag="tenant_upserted"):
    """A namespace's stake, which its share of the cluster is weighed by. Whole units, not the ledger's smallest.

    Attributes:
        account: the Sui address that stands for the namespace; its stake, as `stake_changed` tells it, then counts
            instead of `stake`, in equal parts where it stands for several namespaces.
    """

    namespace: Name
    stake: U64
    account: Name = ""


class TenantDeleted(msgspec.Struct, frozen=True, kw_only=True, tag="tenant_deleted"):
    """A namespace has no stake any more; it keeps the floor."""

    namespace: Name


class StakeChanged(msgspec.Struct, frozen=True, kw_only=True, tag="stake_changed"):
    """What an account has at stake on the ledger after a change: absolute, in the ledger's order, from the relay.

    Attributes:
        account: the Sui address.
        bonded_mist, unbonding_mist: what counts, and what is on its way out.
        checkpoint, event_index: where the ledger says so, the event's number in its checkpoint; what is not newer than
            the last one of the account changes nothing.
        timestamp_ms: time of the checkpoint; not interpreted.
    """

    account: Name
    bonded_mist: U64
    unbonding_mist: U64
    checkpoint: U64
    event_index: U64
    timestamp_ms: Timestamp


class PodGroupUpserted(msgspec.Struct, frozen=True, kw_only=True, tag="pod_group_upserted"):
    """A group of pods of which at least so many are placed together, or none."""

    namespace: Name
    name: Name
    min_count: Annotated[int, msgspec.Meta(ge=1, lt=2**31)]


class PodGroupDeleted(msgspec.Struct, frozen=True, kw_only=True, tag="pod_group_deleted"):
    """A group is gone; pods that name it wait."""

    namespace: Name
    name: Name


class PersistentVolumeClaimUpserted(msgspec.Struct, frozen=True, kw_only=True, tag="persistent_volume_claim_upserted"):
    """A claim: where it is bound, or what it waits for."""

    claim: PersistentVolumeClaim


class PersistentVolumeClaimDeleted(msgspec.Struct, frozen=True, kw_only=True, tag="persistent_volume_claim_deleted"):
    """A claim is gone; pods that name it wait."""

    namespace: Name
    name: Name


class PersistentVolumeUpserted(msgspec.Struct, frozen=True, kw_only=True, tag="persistent_volume_upserted"):
    """A volume, and where it can be reached."""

    volume: PersistentVolume


class PersistentVolumeDeleted(msgspec.Struct, frozen=True, kw_only=True, tag="persistent_volume_deleted"):
    """A volume is gone."""

    name: Name


class StorageClassUpserted(msgspec.Struct, frozen=True, kw_only=True, tag="storage_class_upserted"):
    """A storage class: when and where its volumes are made."""

    storage_class: StorageClass


class StorageClassDeleted(msgspec.Struct, frozen=True, kw_only=True, tag="storage_class_deleted"):
    """A storage class is gone."""

    name: Name


class CSINodeUpserted(msgspec.Struct, frozen=True, kw_only=True, tag="csi_node_upserted"):
    """How many volumes of which drivers a node can have."""

    csi_node: CSINode


class CSINodeDeleted(msgspec.Struct, frozen=True, kw_only=True, tag="csi_node_deleted"):
    """Nothing is known of a node's drivers any more."""

    name: Name


class BudgetUpserted(msgspec.Struct, frozen=True, kw_only=True, tag="pdb_upserted"):
    """A PodDisruptionBudget and what it allows now."""

    budget: PodDisruptionBudget


class BudgetDeleted(msgspec.Struct, frozen=True, kw_only=True, tag="pdb_deleted"):
    """A PodDisruptionBudget is gone."""

    namespace: Name
    name: Name


class PreemptionFailed(msgspec.Struct, frozen=True, kw_only=True, tag="preemption_failed"):
    """The victims that decision `sequence` named for this pod could not be evicted."""

    uid: Name
    sequence: U64
    reason: Text


ObjectEvent = (
    NamespaceUpserted
    | NamespaceDeleted
    | ServiceUpserted
    | ServiceDeleted
    | ControllerUpserted
    | ControllerDeleted
    | TenantUpserted
    | TenantDeleted
    | StakeChanged
    | PodGroupUpserted
    | PodGroupDeleted
    | PersistentVolumeClaimUpserted
    | PersistentVolumeClaimDeleted
    | PersistentVolumeUpserted
    | PersistentVolumeDeleted
    | StorageClassUpserted
    | StorageClassDeleted
    | CSINodeUpserted
    | CSINodeDeleted
    | BudgetUpserted
    | BudgetDeleted
)
Event = (
    NodeUpserted
    | NodeDeleted
    | PodUpserted
    | PodDeleted
    | BindFailed
    | PreemptionFailed
    | ResyncStarted
    | ResyncFinished
    | ObjectEvent
)


class LogEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One message of the log. Without events it is a tick: it only carries time.

    Attributes:
        timestamp_ms: the writer's clock, milliseconds since 1970; the only time the engine knows.
        source: who wrote it; not interpreted.
    """

    schema: int = SCHEMA
    timestamp_ms: Timestamp
    source: Text
    events: Annotated[tuple[Event, ...], msgspec.Meta(max_length=MAX_EVENTS)] = ()


class RawEntry(msgspec.Struct, frozen=True, kw_only=True):
    """An entry whose events are not decoded yet."""

    schema: int
    timestamp_ms: Timestamp
    source: Text = ""
    events: Annotated[tuple[msgspec.Raw, ...], msgspec.Meta(max_length=MAX_EVENTS)] = ()


class RefusedEvent(msgspec.Struct, frozen=True, kw_only=True):
    """An event that was not folded. `index` is its place in the entry, -1 for the entry as a whole."""

    index: int
    reason: str
    message: str


_ENTRY = msgspec.json.Decoder(RawEntry)
_EVENT = msgspec.json.Decoder(Event)
_STRINGS = re.compile(rb'"(?:[^"\\]|\\.)*"', re.DOTALL)
_NOT_BRACKETS = bytes(byte for byte in range(256) if byte not in b"[]{}")
_FAILURES = (msgspec.ValidationError, msgspec.DecodeError, UnicodeDecodeError, RecursionError)


def encode_entry(entry: LogEntry) -> bytes:
    """The bytes of an entry, with map keys sorted."""
    return msgspec.json.encode(entry, order="deterministic")


def _too_deep(data: bytes) -> bool:
    """Whether brackets nest deeper than MAX_DEPTH or don't pair up, by peeling the innermost pairs off."""
    brackets = data.translate(None, _NOT_BRACKETS)
    for _ in range(MAX_DEPTH):
        if not brackets:
            return False
        brackets = brackets.replace(b"{}", b"").replace(b"[]", b"")
    return bool(brackets)


def decode_entry(data: bytes) -> RawEntry:
    """The entry with its events still raw.

    Raises:
        EventError: `entry-too-large`, `entry-too-deep`, `malformed-entry` or `unknown-schema`.
    """
    if len(data) > MAX_ENTRY_BYTES:
        raise EventError(f"an entry has at most {MAX_ENTRY_BYTES} bytes, not {len(data)}", reason="entry-too-large")
    if _too_deep(data) and _too_deep(_STRINGS.sub(b"", data)):
        raise EventError(f"an entry nests at most {MAX_DEPTH} deep, with paired brackets", reason="entry-too-deep")
    try:
        entry = _ENTRY.decode(data)
    except _FAILURES as error:
        raise EventError(f"not a log entry: {error}", reason="malformed-entry") from None
    if entry.schema != SCHEMA:
        raise EventError(
            f"schema {entry.schema} is not known here (expected {SCHEMA})", reason="unknown-schema", field="$.schema"
        )
    return entry


def decode_event(raw: msgspec.Raw) -> Event:
    """One event.

    Raises:
        EventError: `malformed-event`.
    """
    try:
        event: Event = _EVENT.decode(raw)
    except _FAILURES as error:
        raise EventError(f"not an event: {error}", reason="malformed-event") from None
    return event
