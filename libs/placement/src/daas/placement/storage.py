"""Claims, volumes, storage classes, attach limits and disruption budgets: the fields that placement reads, as structs.

Like `daas.placement.model`: camelCase on the wire, everything else ignored, encoding is the trimming. Versions are read
for watches, and left out of the log, which is told of an object only when one of the other fields has changed. Sources
of the shapes: the Kubernetes core/v1, storage.k8s.io/v1 and policy/v1 APIs.
"""

from typing import Annotated

import msgspec

from daas.placement.model import InTreeDisks, Labels, LabelSelector, Model, Name, NodeSelector, Quantity, Text

READ_WRITE_ONCE_POD = "ReadWriteOncePod"
WAIT_FOR_FIRST_CONSUMER = "WaitForFirstConsumer"
#: The provisioner of classes whose volumes are made by hand.
NO_PROVISIONER = "kubernetes.io/no-provisioner"
#: What the binder writes on a claim so that its volume is made where the pod goes.
SELECTED_NODE = "volume.kubernetes.io/selected-node"
BIND_COMPLETED = "pv.kubernetes.io/bind-completed"

AccessModes = Annotated[tuple[Text, ...], msgspec.Meta(max_length=16)]
Space = Annotated[str, msgspec.Meta(max_length=253)]


class OwnerUid(Model, frozen=True, kw_only=True):
    """metadata.ownerReferences[] of a claim: the pod that an ephemeral volume is made for."""

    uid: Text = ""
    controller: bool | None = None


class ClaimAnnotations(Model, frozen=True, kw_only=True):
    """The annotations of a claim that say how far its binding has come."""

    selected_node: Space = msgspec.field(name=SELECTED_NODE, default="")
    bind_completed: Text | None = msgspec.field(name=BIND_COMPLETED, default=None)


class ClaimMeta(Model, frozen=True, kw_only=True):
    """metadata of a claim."""

    name: Name
    namespace: Name
    uid: Text = ""
    resource_version: Text = ""
    annotations: ClaimAnnotations | None = None
    deletion_timestamp: Text | None = None
    owner_references: Annotated[tuple[OwnerUid, ...], msgspec.Meta(max_length=64)] | None = None


class Amounts(Model, frozen=True, kw_only=True):
    """A resource list of which only the storage matters."""

    storage: Quantity = "0"


class StorageRequirements(Model, frozen=True, kw_only=True):
    """spec.resources of a claim."""

    requests: Amounts | None = None


class ClaimSpec(Model, frozen=True, kw_only=True):
    """spec of a claim."""

    storage_class_name: Space | None = None
    volume_name: Space = ""
    volume_mode: Text = "Filesystem"
    access_modes: AccessModes | None = None
    resources: StorageRequirements | None = None
    selector: LabelSelector | None = None


class Phase(Model, frozen=True, kw_only=True):
    """status of a claim or volume."""

    phase: Text = ""


class PersistentVolumeClaim(Model, frozen=True, kw_only=True):
    """A claim, trimmed."""

    metadata: ClaimMeta
    spec: ClaimSpec = ClaimSpec()
    status: Phase = Phase()

    @property
    def bound(self) -> bool:
        """Whether claim and volume know each other."""
        annotations = self.metadata.annotations
        return bool(self.spec.volume_name) and annotations is not None and annotations.bind_completed is not None

    @property
    def selected_node(self) -> str:
        """The node that its volume is being made for, or ""."""
        return self.metadata.annotations.selected_node if self.metadata.annotations else ""


class ObjectName(Model, frozen=True, kw_only=True):
    """metadata of a cluster-wide object."""

    name: Name
    resource_version: Text = ""
    labels: Labels | None = None
    deletion_timestamp: Text | None = None


class ClaimReference(Model, frozen=True, kw_only=True):
    """spec.claimRef of a volume: whom it belongs to."""

    namespace: Space = ""
    name: Space = ""
    uid: Text = ""


class VolumeNodeAffinity(Model, frozen=True, kw_only=True):
    """spec.nodeAffinity of a volume: where it can be reached."""

    required: NodeSelector | None = None


class CsiSource(Model, frozen=True, kw_only=True):
    """spec.csi of a volume."""

    driver: Text = ""
    volume_handle: Text = ""


class VolumeSpec(InTreeDisks, frozen=True, kw_only=True):
    """spec of a volume."""

    capacity: Amounts | None = None
    access_modes: AccessModes | None = None
    claim_ref: ClaimReference | None = None
    storage_class_name: Space = ""
    volume_mode: Text = "Filesystem"
    node_affinity: VolumeNodeAffinity | None = None
    csi: CsiSource | None = None


class PersistentVolume(Model, frozen=True, kw_only=True):
    """A volume, trimmed."""

    metadata: ObjectName
    spec: VolumeSpec = VolumeSpec()
    status: Phase = Phase()


class TopologyExpression(Model, frozen=True, kw_only=True):
    """One label and the values it may have."""

    key: Text
    values: Annotated[tuple[Text, ...], msgspec.Meta(max_length=1024)] = ()


class TopologyTerm(Model, frozen=True, kw_only=True):
    """allowedTopologies[]: expressions that must all hold."""

    match_label_expressions: Annotated[tuple[TopologyExpression, ...], msgspec.Meta(max_length=64)] | None = None


class StorageClass(Model, frozen=True, kw_only=True):
    """A storage class, trimmed."""

    metadata: ObjectName
    provisioner: Text = ""
    volume_binding_mode: Text = "Immediate"
    allowed_topologies: Annotated[tuple[TopologyTerm, ...], msgspec.Meta(max_length=64)] | None = None


class DriverLimit(Model, frozen=True, kw_only=True):
    """spec.drivers[].allocatable: how many volumes of the driver a node can have."""

    count: Annotated[int, msgspec.Meta(ge=0, lt=2**31)] | None = None


class NodeDriver(Model, frozen=True, kw_only=True):
    """spec.drivers[] of a CSINode."""

    name: Text
    allocatable: DriverLimit | None = None


class NodeDrivers(Model, frozen=True, kw_only=True):
    """spec of a CSINode."""

    drivers: Annotated[tuple[NodeDriver, ...], msgspec.Meta(max_length=256)] | None = None


class CSINode(Model, frozen=True, kw_only=True):
    """The storage drivers of a node, trimmed; its name is the node's."""

    metadata: ObjectName
    spec: NodeDrivers = NodeDrivers()


class BudgetMeta(Model, frozen=True, kw_only=True):
    """metadata of a budget."""

    name: Name
    namespace: Name
    resource_version: Text = ""


class BudgetSpec(Model, frozen=True, kw_only=True):
    """spec of a budget."""

    selector: LabelSelector | None = None


class BudgetStatus(Model, frozen=True, kw_only=True):
    """status of a budget: what it allows now, and the pods whose eviction it has counted already."""

    disruptions_allowed: Annotated[int, msgspec.Meta(ge=-(2**31), lt=2**31)] = 0
    disrupted_pods: Annotated[dict[str, Text], msgspec.Meta(max_length=2000)] | None = None


class PodDisruptionBudget(Model, frozen=True, kw_only=True):
    """A disruption budget, trimmed."""

    metadata: BudgetMeta
    spec: BudgetSpec = BudgetSpec()
    status: BudgetStatus = BudgetStatus()
