"""Folds one event after the other into the state; what can't be folded is refused with a reason."""

import re

import msgspec

from daas.common import merkle
from daas.placement import model
from daas.placement.errors import EventError
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
from daas.placement.model import Node, Pod
from daas.placement.objects import MAX_OBJECTS, MAX_STAKES, STAKE, ObjectKey, ObjectRecord
from daas.placement.records import PENDING, NodeRecord, PodRecord, PodState
from daas.placement.resources import allocatable, demand, is_terminal
from daas.placement.state import ClusterState
from daas.placement.volumes import claims_of

#: Twice the largest cluster the engine is measured with.
MAX_NODES = 30_000
MAX_PODS = 300_000
#: Each distinct resource is a column over all nodes.
MAX_RESOURCES = 256
#: A trimmed object past this is not a pod or node that anybody runs.
MAX_OBJECT_BYTES = 256 * 1024

#: How pods name their group where the API has no field for it: the label of the scheduler-plugins project.
GANG_LABEL = "scheduling.x-k8s.io/pod-group"

_VERSION = re.compile(r"0|[1-9][0-9]{0,18}", re.ASCII)


def parse_version(text: str, field: str) -> int:
    """A resourceVersion as an integer.

    Raises:
        EventError: `malformed-version`.
    """
    if not _VERSION.fullmatch(text) or int(text) >= 2**63:
        raise EventError(f"{text!r} is not a resource version (a decimal u63)", reason="malformed-version", field=field)
    return int(text)


def fold(state: ClusterState, event: Event, now_ms: int) -> None:
    """Folds one event.

    Raises:
        EventError, QuantityError: the event is refused and the state is as before.
    """
    match event:
        case NodeUpserted():
            _node_upserted(state, event.node)
        case NodeDeleted():
            _node_deleted(state, event)
        case PodUpserted():
            _pod_upserted(state, event.pod)
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


def _encode(value: Node | Pod) -> bytes:
    meta = msgspec.structs.replace(value.metadata, resource_version="0")
    encoded = model.encode(msgspec.structs.replace(value, metadata=meta))
    if len(encoded) > MAX_OBJECT_BYTES:
        raise EventError(
            f"a trimmed object has at most {MAX_OBJECT_BYTES} bytes, not {len(encoded)}", reason="object-too-large"
        )
    return encoded


def node_record(node: Node, version: int) -> NodeRecord:
    """A record without pods.

    Raises:
        EventError, QuantityError: it is too large, or offers what is no quantity.
    """
    encoded = _encode(node)
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


def _pod_upserted(state: ClusterState, pod: Pod) -> None:
    meta = pod.metadata
    if not meta.namespace:
        raise EventError("a pod has a namespace", reason="missing-namespace", field="pod.metadata.namespace")
    version = parse_version(meta.resource_version, "pod.metadata.resourceVersion")
    if meta.uid in state.tombstones:
        return
    known = state.pods.get(meta.uid)
    if known is not None and (known.namespace, known.name) != (meta.namespace, meta.name):
        raise EventError(
            f"uid {meta.uid} is {known.namespace}/{known.name}, not {meta.namespace}/{meta.name}",
            reason="uid-taken",
            field="pod.metadata.uid",
        )
    if known is not None and version <= known.version:
        if known.epoch != state.epoch:
            state.touch_pod(known)
        return
    namesake = state.pod_names.get((meta.namespace, meta.name))
    if namesake is not None and namesake is not known and version <= namesake.version:
        return
    encoded = _encode(pod)
    wanted = demand(pod)
    if known is None and namesake is None and len(state.pods) >= MAX_PODS:
        raise EventError(f"{MAX_PODS} pods are known already", reason="too-many-pods")
    if namesake is not None and namesake is not known:
        # the API server gives a name out again only after the old pod is gone: its deletion was missed
        state.bury(namesake.uid)
        state.remove_pod(namesake)
    record = known or state.add_pod(meta.uid, meta.namespace, meta.name)
    record.version, record.resource_version = version, meta.resource_version
    record.encoded, record.digest = encoded, merkle.digest(encoded)
    state.touch_pod(record)
    state.set_demand(record, wanted)
    _classify(state, record, pod)


def nominated_node(pod: Pod) -> str:
    """The node whose room is kept for a pod that is on none."""
    gone = is_terminal(pod) or pod.spec.node_name or pod.metadata.deletion_timestamp
    return "" if gone else pod.status.nominated_node_name


def gang_of(pod: Pod) -> str:
    """The name of the pod group that is placed whole or not at all, in the pod's namespace; "" without one."""
    group = pod.spec.scheduling_group
    if group is not None and group.pod_group_name:
        return group.pod_group_name
    return (pod.metadata.labels or {}).get(GANG_LABEL, "")


def is_ours(state: ClusterState, pod: Pod) -> bool:
    """Whether the pod may be decided by us: not ended, not on a node, not being deleted, not gated, and ours."""
    return not (
        is_terminal(pod)
        or pod.spec.node_name
        or pod.metadata.deletion_timestamp
        or pod.spec.scheduling_gates
        or pod.spec.scheduler_name != state.policy.scheduler_name
    )


def _classify(state: ClusterState, record: PodRecord, pod: Pod) -> None:
    """Puts a pod where its new version belongs."""
    if pod.spec.volumes or record.claims:
        state.set_claims(record, claims_of(pod))
    state.nominate(record, nominated_node(pod) or (record.plan.node if record.plan is not None else ""))
    state.join_gang(record, gang_of(pod))
    if pod.spec.node_name and not is_terminal(pod):
        state.bind(record, pod.spec.node_name, state.profiles.of(pod))
        record.priority = pod.spec.priority or 0
        return
    if not is_ours(state, pod):
        state.idle(record)
        record.priority = pod.spec.priority or 0
        return
    priority, pod_class, profile = pod.spec.priority or 0, state.classes.of(pod, record.demand), state.profiles.of(pod)
    unchanged = (priority, pod_class, profile) == (record.priority, record.pod_class, record.profile)
    record.priority, record.pod_class = priority, pod_class
    state.change_profile(record, profile)
    if record.state is PodState.ASSUMED or (record.state in PENDING and unchanged):
        return
    state.activate(record)


def _bind_failed(state: ClusterState, event: BindFailed, now_ms: int) -> None:
    record = state.assumed.get(event.uid)
    if record is not None and (record.sequence, record.node) == (event.sequence, event.node):
        state.release(record, now_ms)


def _preemption_failed(state: ClusterState, event: PreemptionFailed, now_ms: int) -> None:
    record = state.pods.get(event.uid)
    if record is not None and record.plan is not None and record.plan.sequence == event.sequence:
        state.drop_plan(record)
        if record.state is PodState.UNSCHEDULABLE:
            state.retry(record, now_ms)


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
