"""Folds one event after the other into the state; what can't be folded is refused with a reason."""

import re

import msgspec

from daas.common import merkle
from daas.placement import model
from daas.placement.errors import EventError
from daas.placement.kinds import PodKind, PodVersion
from daas.placement.log import (
    BindFailed,
    BudgetDeleted,
    BudgetUpserted,
    ControllerDeleted,
    ControllerUpserted,
    CSINodeDeleted,
    CSINodeUpserted,
    Event,
    NamespaceDeleted,
    NamespaceUpserted,
    NodeDeleted,
    NodeUpserted,
    ObjectEvent,
    PersistentVolumeClaimDeleted,
    PersistentVolumeClaimUpserted,
    PersistentVolumeDeleted,
    PersistentVolumeUpserted,
    PodDeleted,
    PodGroupDeleted,
    PodGroupUpserted,
    PodUpserted,
    PreemptionFailed,
    ResyncFinished,
    ResyncStarted,
    ServiceDeleted,
    ServiceUpserted,
    StakeChanged,
    StorageClassDeleted,
    StorageClassUpserted,
    TenantDeleted,
    TenantUpserted,
)
from daas.placement.model import Node
from daas.placement.objects import MAX_OBJECTS, MAX_STAKES, STAKE, ObjectKey, ObjectRecord
from daas.placement.records import PENDING, NodeRecord, PodRecord, PodState
from daas.placement.resources import allocatable
from daas.placement.state import ClusterState
from daas.placement.volumes import claims_in

#: Twice the largest cluster the engine is measured with.
MAX_NODES = 30_000
MAX_PODS = 300_000
#: Each distinct resource is a column over all nodes.
MAX_RESOURCES = 256
#: A trimmed object past this is not a pod or node that anybody runs.
MAX_OBJECT_BYTES = 256 * 1024

_VERSION = re.compile(r"0|[1-9][0-9]{0,18}", re.ASCII)


def parse_version(text: str, field: str) -> int:
    """A resourceVersion as an integer.

    Raises:
        EventError: `malformed-version`.
    """
    if not _VERSION.fullmatch(text) or int(text) >= 2**63:
        raise EventError(f"{text!r} is not a resource version (a decimal u63)", reason="malformed-version", field=field)
    return int(text)


def fold(state: ClusterState, event: Event | PodVersion, now_ms: int) -> None:
    """Folds one event, as `PodKinds.read` gives it.

    Raises:
        EventError, QuantityError: the event is refused and the state is as before.
    """
    match event:
        case PodVersion():
            _pod_upserted(state, event)
        case PodUpserted():
            _pod_upserted(state, state.kinds.version(event.pod))
        case NodeUpserted():
            _node_upserted(state, event.node)
        case NodeDeleted():
            _node_deleted(state, event)
        case PodDeleted():
            state.bury(event.uid)
            if event.uid in state.pods:
                state.remove_pod(state.pods[event.uid])
        case BindFailed():
            _bind_failed(state, event, now_ms)
        case ResyncStarted():
            state.epoch += 1
            state.resync_id = event.id
        case ResyncFinished():
            _resync_finished(state, event)
        case PreemptionFailed():
            _preemption_failed(state, event, now_ms)
        case (
            NamespaceDeleted()
            | ServiceDeleted()
            | ControllerDeleted()
            | TenantDeleted()
            | PodGroupDeleted()
            | PersistentVolumeClaimDeleted()
            | PersistentVolumeDeleted()
            | StorageClassDeleted()
            | CSINodeDeleted()
            | BudgetDeleted()
        ):
            state.remove_object(object_key(event))
        case StakeChanged():
            _stake_changed(state, event)
        case _:
            _object_upserted(state, event)


def object_key(event: ObjectEvent) -> ObjectKey:
    """What the event is about."""
    match event:
        case PersistentVolumeClaimUpserted():
            meta = event.claim.metadata
            return "PersistentVolumeClaim", meta.namespace, meta.name
        case PersistentVolumeClaimDeleted():
            return "PersistentVolumeClaim", event.namespace, event.name
        case PersistentVolumeUpserted():
            return "PersistentVolume", "", event.volume.metadata.name
        case PersistentVolumeDeleted():
            return "PersistentVolume", "", event.name
        case StorageClassUpserted():
            return "StorageClass", "", event.storage_class.metadata.name
        case StorageClassDeleted():
            return "StorageClass", "", event.name
        case CSINodeUpserted():
            return "CSINode", "", event.csi_node.metadata.name
        case CSINodeDeleted():
            return "CSINode", "", event.name
        case BudgetUpserted():
            return "PodDisruptionBudget", event.budget.metadata.namespace, event.budget.metadata.name
        case BudgetDeleted():
            return "PodDisruptionBudget", event.namespace, event.name
        case NamespaceUpserted() | NamespaceDeleted():
            return "Namespace", "", event.name
        case ServiceUpserted() | ServiceDeleted():
            return "Service", event.namespace, event.name
        case ControllerUpserted() | ControllerDeleted():
            return event.kind, event.namespace, event.name
        case PodGroupUpserted() | PodGroupDeleted():
            return "PodGroup", event.namespace, event.name
        case TenantUpserted() | TenantDeleted():
            return "Tenant", "", event.namespace
        case StakeChanged():
            return STAKE, "", event.account


def _object_upserted(state: ClusterState, event: ObjectEvent) -> None:
    key = object_key(event)
    if any("\0" in part for part in key):
        raise EventError("a name holds a zero byte", reason="malformed-name")
    if key not in state.objects and len(state.objects) >= MAX_OBJECTS:
        raise EventError(f"{MAX_OBJECTS} objects are known already", reason="too-many-objects")
    record = ObjectRecord(key, event, state.epoch)
    if len(record.encoded) > MAX_OBJECT_BYTES:
        raise EventError(f"an object has at most {MAX_OBJECT_BYTES} bytes", reason="object-too-large")
    state.put_object(record)


def _stake_changed(state: ClusterState, event: StakeChanged) -> None:
    """Keeps what is newer; where there are too many accounts, those with the least bonded are forgotten first."""
    known = state.objects.get(object_key(event))
    if known is not None and (event.checkpoint, event.event_index) <= (known.value.checkpoint, known.value.event_index):
        return
    _object_upserted(state, event)
    if known is None:
        stakes = [(r.value.bonded_mist, r.value.checkpoint, key) for key, r in state.objects.items() if key[0] == STAKE]
        if len(stakes) > MAX_STAKES:
            state.remove_object(min(stakes)[2])


def _check_size(encoded: bytes) -> None:
    if len(encoded) > MAX_OBJECT_BYTES:
        raise EventError(
            f"a trimmed object has at most {MAX_OBJECT_BYTES} bytes, not {len(encoded)}", reason="object-too-large"
        )


def node_record(node: Node, version: int) -> NodeRecord:
    """A record without pods.

    Raises:
        EventError, QuantityError: it is too large, or offers what is no quantity.
    """
    meta = msgspec.structs.replace(node.metadata, resource_version="0")
    encoded = model.encode(msgspec.structs.replace(node, metadata=meta))
    _check_size(encoded)
    return NodeRecord(node, version, encoded, merkle.digest(encoded), dict(allocatable(node)))


def _node_upserted(state: ClusterState, node: Node) -> None:
    meta = node.metadata
    version = parse_version(meta.resource_version, "node.metadata.resourceVersion")
    if meta.uid in state.tombstones:
        return
    known = state.nodes.get(meta.name)
    if known is not None and version <= known.version:
        if known.uid == meta.uid:
            state.touch_node(known, known.version)
        return
    record = node_record(node, version)
    if known is None and len(state.nodes) >= MAX_NODES:
        raise EventError(f"{MAX_NODES} nodes are known already", reason="too-many-nodes")
    new = [name for name in record.capacity if name not in state.resource_names]
    if len(state.resource_names) + len(new) > MAX_RESOURCES:
        raise EventError(f"{MAX_RESOURCES} resources are known already", reason="too-many-resources")
    if known is not None and known.digest == record.digest:
        state.touch_node(known, version)
        return
    if known is not None and known.uid != meta.uid:
        state.bury(known.uid)
    state.put_node(record)


def _node_deleted(state: ClusterState, event: NodeDeleted) -> None:
    state.bury(event.uid)
    known = state.nodes.get(event.name)
    if known is not None and known.uid == event.uid:
        state.remove_node(known)


def _pod_upserted(state: ClusterState, seen: PodVersion) -> None:
    name, namespace, uid = seen.name, seen.namespace, seen.uid
    if not namespace:
        raise EventError("a pod has a namespace", reason="missing-namespace", field="pod.metadata.namespace")
    version = seen.number
    if not 0 <= version < 2**63:
        version = parse_version(seen.version, "pod.metadata.resourceVersion")
    if uid in state.tombstones:
        return
    known = state.pods.get(uid)
    if known is not None:
        if (known.namespace, known.name) != (namespace, name):
            raise EventError(
                f"uid {uid} is {known.namespace}/{known.name}, not {namespace}/{name}",
                reason="uid-taken",
                field="pod.metadata.uid",
            )
        if version <= known.version:
            if known.epoch != state.epoch:
                state.touch_pod(known)
            return
    namesake = state.pod_names.get((namespace, name))
    if namesake is not None and namesake is not known and version <= namesake.version:
        return
    _check_size(seen.encoded)
    kind = seen.kind or state.kinds.of(seen)
    if known is None and namesake is None and len(state.pods) >= MAX_PODS:
        raise EventError(f"{MAX_PODS} pods are known already", reason="too-many-pods")
    if namesake is not None and namesake is not known:
        # the API server gives a name out again only after the old pod is gone: its deletion was missed
        state.bury(namesake.uid)
        state.remove_pod(namesake)
    record = known or state.add_pod(uid, kind.namespace, name)
    record.version = version
    record.see(kind, seen.own, shared_name(state, seen.node), merkle.digest(seen.encoded))
    state.touch_pod(record)
    state.set_demand(record, kind.demand)
    _classify(state, record, kind)


def shared_name(state: ClusterState, node: str) -> str:
    """A node's name, as the one string that all pods on it share where it is known."""
    known = state.nodes.get(node) if node else None
    return node if known is None else known.name


def _classify(state: ClusterState, record: PodRecord, kind: PodKind) -> None:
    """Puts a pod where its new version belongs."""
    if kind.volumes or record.claims:
        state.set_claims(record, claims_in(kind.volumes, record.name))
    state.hear_nomination(record, kind.nominated)
    state.join_gang(record, kind.gang)
    if kind.placed:
        assert kind.profile is not None, "a placed pod has a profile"
        state.set_priority(record, kind.priority)
        state.bind(record, record.named, kind.profile)
        return
    if not kind.ours:
        state.idle(record)
        state.set_priority(record, kind.priority)
        return
    assert kind.profile is not None, "a pod of ours has a profile"
    unchanged = (kind.priority, kind.pod_class, kind.profile) == (record.priority, record.pod_class, record.profile)
    state.set_priority(record, kind.priority)
    record.pod_class = kind.pod_class
    state.change_profile(record, kind.profile)
    if record.state is PodState.ASSUMED or (record.state in PENDING and unchanged):
        return
    state.activate(record)


def _bind_failed(state: ClusterState, event: BindFailed, now_ms: int) -> None:
    record = state.assumed.get(event.uid)
    if record is not None and (record.sequence, record.node) == (event.sequence, event.node):
        state.release(record, now_ms)


def _preemption_failed(state: ClusterState, event: PreemptionFailed, now_ms: int) -> None:
    record = state.pods.get(event.uid)
    if record is None or record.plan is None or record.plan.sequence != event.sequence:
        return
    mates = state.gangs[record.namespace, record.gang].values() if record.gang else (record,)
    for mate in sorted(mates, key=lambda one: one.uid):
        if mate.plan is not None and mate.plan.sequence == event.sequence:  # a group's plan fails as a whole
            state.drop_plan(mate)
            if mate.state is PodState.UNSCHEDULABLE:
                state.retry(mate, now_ms)


def _resync_finished(state: ClusterState, event: ResyncFinished) -> None:
    if event.id != state.resync_id:
        raise EventError(
            f"resync {event.id!r} ends, but {state.resync_id!r} is running", reason="resync-unknown", field="id"
        )
    state.resync_id = ""
    for node in [node for node in state.nodes.values() if node.epoch != state.epoch]:
        state.remove_node(node)
    for pod in [pod for pod in state.pods.values() if pod.epoch != state.epoch]:
        state.remove_pod(pod)
    for key in [key for key, record in state.objects.items() if record.epoch != state.epoch and key[0] != STAKE]:
        state.remove_object(key)
    state.helped = True
