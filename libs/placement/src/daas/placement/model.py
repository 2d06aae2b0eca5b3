"""The fields of Kubernetes Nodes and Pods that scheduling reads, as frozen structs; all other fields are ignored.

Field names on the wire are the API's own camelCase names. Encoding one of these structs is the trimming: what is not
here never enters the log. Source of the shapes: the Kubernetes core/v1 API.
"""

from typing import Annotated

import msgspec

#: An object name, uid or resourceVersion; the API's own limit for names is 253.
Name = Annotated[str, msgspec.Meta(min_length=1, max_length=253)]
Text = Annotated[str, msgspec.Meta(max_length=4096)]
#: Weights of preferred terms: 1..100 in the API.
Weight = Annotated[int, msgspec.Meta(ge=0, le=100)]
#: Kubernetes priorities are int32.
Priority = Annotated[int, msgspec.Meta(ge=-(2**31), lt=2**31)]
Port = Annotated[int, msgspec.Meta(ge=0, le=65535)]
Quantity = Annotated[str, msgspec.Meta(max_length=64)]
Labels = Annotated[dict[str, str], msgspec.Meta(max_length=1024)]
ResourceList = Annotated[dict[str, Quantity], msgspec.Meta(max_length=128)]


class Model(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """Base of the trimmed API structs: camelCase names, defaults left out."""


class OwnerReference(Model, frozen=True, kw_only=True):
    """metadata.ownerReferences[]: who made the object."""

    kind: Text = ""
    name: Text = ""
    controller: bool | None = None


class ObjectMeta(Model, frozen=True, kw_only=True):
    """metadata: identity, version and labels."""

    name: Name
    namespace: Annotated[str, msgspec.Meta(max_length=253)] = ""
    uid: Name
    resource_version: Name
    labels: Labels | None = None
    creation_timestamp: Text | None = None
    deletion_timestamp: Text | None = None
    owner_references: Annotated[tuple[OwnerReference, ...], msgspec.Meta(max_length=64)] | None = None


class Taint(Model, frozen=True, kw_only=True):
    """spec.taints[] of a node."""

    key: Text
    value: Text = ""
    effect: Text


class NodeSpec(Model, frozen=True, kw_only=True):
    """spec of a node."""

    unschedulable: bool = False
    taints: Annotated[tuple[Taint, ...], msgspec.Meta(max_length=256)] | None = None


class ContainerImage(Model, frozen=True, kw_only=True):
    """status.images[] of a node: an image it holds already, under all its names."""

    names: Annotated[tuple[Text, ...], msgspec.Meta(max_length=64)] | None = None
    size_bytes: Annotated[int, msgspec.Meta(ge=0, lt=2**48)] = 0


class NodeStatus(Model, frozen=True, kw_only=True):
    """status of a node: what pods may use, and which images are there."""

    allocatable: ResourceList | None = None
    images: Annotated[tuple[ContainerImage, ...], msgspec.Meta(max_length=1024)] | None = None


class Node(Model, frozen=True, kw_only=True):
    """A node, trimmed."""

    metadata: ObjectMeta
    spec: NodeSpec = NodeSpec()
    status: NodeStatus = NodeStatus()


class Requirements(Model, frozen=True, kw_only=True):
    """resources of a container or pod; the scheduler reads requests only."""

    requests: ResourceList | None = None


class ContainerPort(Model, frozen=True, kw_only=True):
    """ports[] of a container."""

    container_port: Port = 0
    host_port: Port = 0
    protocol: Text = ""
    host_ip: Text = msgspec.field(name="hostIP", default="")


class RestartRule(Model, frozen=True, kw_only=True):
    """restartPolicyRules[] of a container: only what is done."""

    action: Text = ""


class Container(Model, frozen=True, kw_only=True):
    """A container or init container; restartPolicy Always makes an init container a sidecar."""

    name: Text = ""
    image: Text = ""
    resources: Requirements = Requirements()
    ports: Annotated[tuple[ContainerPort, ...], msgspec.Meta(max_length=1024)] | None = None
    restart_policy: Text | None = None
    restart_policy_rules: Annotated[tuple[RestartRule, ...], msgspec.Meta(max_length=64)] | None = None


class Toleration(Model, frozen=True, kw_only=True):
    """spec.tolerations[]; an empty operator means Equal, an empty effect means every effect."""

    key: Text = ""
    operator: Text = ""
    value: Text = ""
    effect: Text = ""


class NodeSelectorRequirement(Model, frozen=True, kw_only=True):
    """One expression over a node's labels or fields."""

    key: Text
    operator: Text
    values: Annotated[tuple[Text, ...], msgspec.Meta(max_length=8192)] | None = None


class NodeSelectorTerm(Model, frozen=True, kw_only=True):
    """Expressions that must all hold; a term without any matches nothing."""

    match_expressions: Annotated[tuple[NodeSelectorRequirement, ...], msgspec.Meta(max_length=256)] | None = None
    match_fields: Annotated[tuple[NodeSelectorRequirement, ...], msgspec.Meta(max_length=256)] | None = None


class NodeSelector(Model, frozen=True, kw_only=True):
    """Terms of which one must hold."""

    node_selector_terms: Annotated[tuple[NodeSelectorTerm, ...], msgspec.Meta(max_length=256)] = ()


class PreferredSchedulingTerm(Model, frozen=True, kw_only=True):
    """A term that adds its weight to a node's score."""

    weight: Weight
    preference: NodeSelectorTerm


class NodeAffinity(Model, frozen=True, kw_only=True):
    """affinity.nodeAffinity."""

    required: NodeSelector | None = msgspec.field(name="requiredDuringSchedulingIgnoredDuringExecution", default=None)
    preferred: Annotated[tuple[PreferredSchedulingTerm, ...], msgspec.Meta(max_length=256)] | None = msgspec.field(
        name="preferredDuringSchedulingIgnoredDuringExecution", default=None
    )


class LabelSelectorRequirement(Model, frozen=True, kw_only=True):
    """matchExpressions[] of a label selector."""

    key: Text
    operator: Text
    values: Annotated[tuple[Text, ...], msgspec.Meta(max_length=1024)] | None = None


class LabelSelector(Model, frozen=True, kw_only=True):
    """A selector over labels: all of it must hold; an empty one selects everything."""

    match_labels: Labels | None = None
    match_expressions: Annotated[tuple[LabelSelectorRequirement, ...], msgspec.Meta(max_length=256)] | None = None


class PodAffinityTerm(Model, frozen=True, kw_only=True):
    """A term of pod affinity or anti-affinity."""

    label_selector: LabelSelector | None = None
    namespaces: Annotated[tuple[Text, ...], msgspec.Meta(max_length=256)] | None = None
    namespace_selector: LabelSelector | None = None
    topology_key: Text = ""
    match_label_keys: Annotated[tuple[Text, ...], msgspec.Meta(max_length=64)] | None = None
    mismatch_label_keys: Annotated[tuple[Text, ...], msgspec.Meta(max_length=64)] | None = None


class WeightedPodAffinityTerm(Model, frozen=True, kw_only=True):
    """A preferred term of pod affinity or anti-affinity."""

    weight: Weight = 0
    pod_affinity_term: PodAffinityTerm = PodAffinityTerm()


class PodAffinity(Model, frozen=True, kw_only=True):
    """affinity.podAffinity or affinity.podAntiAffinity."""

    required: Annotated[tuple[PodAffinityTerm, ...], msgspec.Meta(max_length=64)] | None = msgspec.field(
        name="requiredDuringSchedulingIgnoredDuringExecution", default=None
    )
    preferred: Annotated[tuple[WeightedPodAffinityTerm, ...], msgspec.Meta(max_length=64)] | None = msgspec.field(
        name="preferredDuringSchedulingIgnoredDuringExecution", default=None
    )


class Affinity(Model, frozen=True, kw_only=True):
    """spec.affinity."""

    node_affinity: NodeAffinity | None = None
    pod_affinity: PodAffinity | None = None
    pod_anti_affinity: PodAffinity | None = None


class TopologySpreadConstraint(Model, frozen=True, kw_only=True):
    """spec.topologySpreadConstraints[]."""

    topology_key: Text = ""
    max_skew: Annotated[int, msgspec.Meta(ge=0, lt=2**31)] = 1
    when_unsatisfiable: Text = "DoNotSchedule"
    label_selector: LabelSelector | None = None
    min_domains: Annotated[int, msgspec.Meta(ge=0, lt=2**31)] | None = None
    match_label_keys: Annotated[tuple[Text, ...], msgspec.Meta(max_length=64)] | None = None
    node_affinity_policy: Text = "Honor"
    node_taints_policy: Text = "Ignore"


class Anything(Model, frozen=True, kw_only=True):
    """An object of which only the presence matters."""


class ClaimSource(Model, frozen=True, kw_only=True):
    """persistentVolumeClaim of a volume."""

    claim_name: Annotated[str, msgspec.Meta(max_length=253)] = ""


class InTreeDisks(Model, frozen=True, kw_only=True):
    """The sources of disks that are older than CSI: nodes limit those by rules that are not decided here."""

    gce_persistent_disk: Anything | None = msgspec.field(name="gcePersistentDisk", default=None)
    aws_elastic_block_store: Anything | None = msgspec.field(name="awsElasticBlockStore", default=None)
    azure_disk: Anything | None = msgspec.field(name="azureDisk", default=None)
    cinder: Anything | None = None
    vsphere_volume: Anything | None = msgspec.field(name="vsphereVolume", default=None)
    portworx_volume: Anything | None = msgspec.field(name="portworxVolume", default=None)

    @property
    def in_tree(self) -> bool:
        """Whether it is one of them."""
        disks = (self.gce_persistent_disk, self.aws_elastic_block_store, self.azure_disk, self.cinder)
        return any(source is not None for source in (*disks, self.vsphere_volume, self.portworx_volume))


class Volume(InTreeDisks, frozen=True, kw_only=True):
    """spec.volumes[]: only the sources that bear on placement."""

    name: Text = ""
    persistent_volume_claim: ClaimSource | None = None
    ephemeral: Anything | None = None
    iscsi: Anything | None = None
    rbd: Anything | None = None


class SchedulingGate(Model, frozen=True, kw_only=True):
    """spec.schedulingGates[]."""

    name: Text = ""


class SchedulingGroup(Model, frozen=True, kw_only=True):
    """spec.schedulingGroup: the group that the pod is placed with."""

    pod_group_name: Annotated[str, msgspec.Meta(max_length=253)] = ""


class PodSpec(Model, frozen=True, kw_only=True):
    """spec of a pod: what bears on where it may run and what it takes."""

    scheduler_name: Text = ""
    node_name: Annotated[str, msgspec.Meta(max_length=253)] = ""
    priority: Priority | None = None
    preemption_policy: Text = "PreemptLowerPriority"
    containers: Annotated[tuple[Container, ...], msgspec.Meta(max_length=1024)] = ()
    init_containers: Annotated[tuple[Container, ...], msgspec.Meta(max_length=1024)] | None = None
    overhead: ResourceList | None = None
    resources: Requirements | None = None
    node_selector: Labels | None = None
    affinity: Affinity | None = None
    tolerations: Annotated[tuple[Toleration, ...], msgspec.Meta(max_length=1024)] | None = None
    topology_spread_constraints: Annotated[tuple[TopologySpreadConstraint, ...], msgspec.Meta(max_length=64)] | None = (
        None
    )
    scheduling_gates: Annotated[tuple[SchedulingGate, ...], msgspec.Meta(max_length=64)] | None = None
    volumes: Annotated[tuple[Volume, ...], msgspec.Meta(max_length=1024)] | None = None
    resource_claims: Annotated[tuple[Anything, ...], msgspec.Meta(max_length=64)] | None = None
    host_network: bool = False
    host_users: bool | None = None
    scheduling_group: SchedulingGroup | None = None
    workload_ref: Anything | None = None


class ContainerStatus(Model, frozen=True, kw_only=True):
    """status.containerStatuses[]: what a running container has, which a resize may not have reached yet."""

    name: Text = ""
    allocated_resources: ResourceList | None = None
    resources: Requirements | None = None


class PodCondition(Model, frozen=True, kw_only=True):
    """status.conditions[]: only what says that a resize can't be done."""

    type: Text = ""
    status: Text = ""
    reason: Text = ""


ContainerStatuses = Annotated[tuple[ContainerStatus, ...], msgspec.Meta(max_length=1024)]


class PodStatus(Model, frozen=True, kw_only=True):
    """status of a pod: whether it still runs, what it has, and the node it was promised by preemption."""

    phase: Text = ""
    start_time: Text | None = None
    nominated_node_name: Annotated[str, msgspec.Meta(max_length=253)] = ""
    container_statuses: ContainerStatuses | None = None
    init_container_statuses: ContainerStatuses | None = None
    conditions: Annotated[tuple[PodCondition, ...], msgspec.Meta(max_length=64)] | None = None


class Pod(Model, frozen=True, kw_only=True):
    """A pod, trimmed."""

    metadata: ObjectMeta
    spec: PodSpec = PodSpec()
    status: PodStatus = PodStatus()


def encode(value: Model) -> bytes:
    """JSON with sorted map keys: equal objects give equal bytes."""
    return msgspec.json.encode(value, order="deterministic")
