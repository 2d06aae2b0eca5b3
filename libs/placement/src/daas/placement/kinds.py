"""What pods of one template have in common, worked out once; each pod adds its name, uid, version, time and node.

A pod in the one encoding that log writers use is recognised by its bytes: what follows the identity of a known kind
needs no decoding. Anything else is decoded in full, with the same outcome, so that nothing depends on what was seen.
"""

import re

import msgspec

from daas.placement import model
from daas.placement.log import Event, PodUpserted, decode_event
from daas.placement.model import Pod
from daas.placement.podclass import PodClass, PodClasses
from daas.placement.profile import Profile, Profiles
from daas.placement.resources import Demand, demand, is_terminal

#: How pods name their group where the API has no field for it: the label of the scheduler-plugins project.
GANG_LABEL = "scheduling.x-k8s.io/pod-group"
#: The preemption policy of pods for which nobody is evicted.
NEVER = "Never"
#: Kinds that are recognised by their bytes, about 2 KB each; past this all are forgotten and met again.
MAX_KINDS = 8192
#: Larger pods are no template of many.
_MAX_TEMPLATE_BYTES = 16 * 1024

# Text that stands in JSON as it is; what is longer or has other characters takes the long way.
_TEXT = rb"[ !#-\[\]-~]"
#: A pod event in its one encoding: identity, labels, time, and the rest around the node's name.
_EVENT = re.compile(
    rb'\{"type":"pod_upserted","pod":\{"metadata":\{"name":"(T{1,253})","namespace":"(T{1,253})","uid":"(T{1,253})",'
    rb'"resourceVersion":"(0|[1-9][0-9]{0,18})"((?:,"labels":\{[^{}]*\})?)((?:,"creationTimestamp":"T{0,64}")?)'
    rb'((?:,"deletionTimestamp":"T{0,64}")?(?:,"ownerReferences":\[[^\[\]]*\])?\},"spec":\{(?:"schedulerName":"T*",)?)'
    rb'(?:"nodeName":"(T{1,253})")?(.*)\}'.replace(b"T", _TEXT),
    re.DOTALL,
)
_PREFIX = b'{"type":"pod_upserted","pod":'
#: Namespace, labels, what stands around the node's name, and whether there is none.
_Key = tuple[bytes, bytes, bytes, bytes, bool]


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


def is_ours(scheduler_name: str, pod: Pod) -> bool:
    """Whether the pod may be decided by us: not ended, not on a node, not being deleted, not gated, and ours."""
    return not (
        is_terminal(pod)
        or pod.spec.node_name
        or pod.metadata.deletion_timestamp
        or pod.spec.scheduling_gates
        or pod.spec.scheduler_name != scheduler_name
    )


class PodKind:
    """All of a pod but what is its own.

    Attributes:
        demand: what each pod takes.
        priority: spec.priority, 0 without.
        placed: whether the pod names a node and has not ended; ours: whether it may be decided by us.
        volumes: spec.volumes.
        gang, nominated: as `gang_of` and `nominated_node` say.
        never: whether nobody is evicted for its pods.
        profile: what it is to other pods, where it is placed or ours; pod_class: what it asks for, where it is ours.
    """

    __slots__ = (
        "demand",
        "gang",
        "labels",
        "namespace",
        "never",
        "nominated",
        "opening",
        "ours",
        "placed",
        "pod_class",
        "priority",
        "profile",
        "rest",
        "volumes",
    )

    def __init__(self, pod: Pod, wanted: Demand, scheduler_name: str, classes: PodClasses, profiles: Profiles) -> None:
        self.demand = wanted
        self.namespace = pod.metadata.namespace
        self.priority = pod.spec.priority or 0
        self.placed = bool(pod.spec.node_name) and not is_terminal(pod)
        self.ours = is_ours(scheduler_name, pod)
        self.gang = gang_of(pod)
        self.volumes = pod.spec.volumes or ()
        self.never = pod.spec.preemption_policy == NEVER
        self.nominated = nominated_node(pod)
        self.profile: Profile | None = profiles.of(pod) if self.placed or self.ours else None
        self.pod_class: PodClass | None = classes.of(pod, wanted) if self.ours else None
        self.labels = self.opening = self.rest = b""

    def recognise(self, labels: bytes, opening: bytes, rest: bytes) -> None:
        """Takes the bytes that its pods are known by: what stands before the time, around the node, and after it."""
        self.labels, self.opening, self.rest = labels, opening, rest

    def encode(self, name: str, uid: str, own: bytes, node: str) -> bytes:
        """The trimmed pod without its version; `own` is its time, or all of it where the kind has no bytes."""
        if not self.opening:
            return own
        identity = f'{{"metadata":{{"name":"{name}","namespace":"{self.namespace}","uid":"{uid}","resourceVersion":"0"'
        at = f'"nodeName":"{node}"'.encode() if node else b""
        return b"".join((identity.encode(), self.labels, own, self.opening, at, self.rest))


class PodVersion:
    """A pod as an event tells of it.

    Attributes:
        node: spec.nodeName; encoded: the trimmed pod without its version.
        own: what the kind's bytes lack of it; see `PodKind.encode`.
        number: the version, where it is known to be one.
        pod: where the kind is not known yet, the pod itself; kind: where it is.
    """

    __slots__ = ("encoded", "key", "kind", "name", "namespace", "node", "number", "own", "pod", "uid", "version")

    def __init__(self, name: str, namespace: str, uid: str, version: str, node: str) -> None:
        self.name = name
        self.namespace = namespace
        self.uid = uid
        self.version = version
        self.node = node
        self.number = -1
        self.encoded = b""
        self.own = b""
        self.kind: PodKind | None = None
        self.pod: Pod | None = None
        self.key: _Key | None = None


class PodKinds:
    """Reads pods and remembers their kinds.

    Args:
        scheduler_name: what pods of ours name.
    """

    def __init__(self, scheduler_name: str) -> None:
        self._scheduler_name = scheduler_name
        self._known: dict[_Key, PodKind] = {}
        self.classes = PodClasses()
        self.profiles = Profiles()

    def read(self, raw: bytes) -> PodVersion | Event:
        """An event; pods as versions.

        Raises:
            EventError: `malformed-event`.
        """
        match = _EVENT.fullmatch(raw)
        if match is None:
            event = decode_event(msgspec.Raw(raw))
            return self.version(event.pod) if isinstance(event, PodUpserted) else event
        name, namespace, uid, version, labels, time, opening, node, rest = match.groups()
        key = (namespace, labels, opening, rest, node is None)
        kind = self._known.get(key)
        pod: Pod | None = None
        if kind is None:
            event = decode_event(msgspec.Raw(raw))
            assert isinstance(event, PodUpserted), "the tag says so"
            if msgspec.json.encode(event, order="deterministic") != raw or len(raw) > _MAX_TEMPLATE_BYTES:
                return self.version(event.pod)
            pod = event.pod
        seen = PodVersion(
            name.decode(),
            namespace.decode() if kind is None else kind.namespace,
            uid.decode(),
            version.decode(),
            "" if node is None else node.decode(),
        )
        start, end = match.span(4)
        seen.encoded = b"".join((raw[len(_PREFIX) : start], b"0", raw[end:-1]))
        seen.number = int(version)
        seen.own, seen.kind, seen.pod, seen.key = time, kind, pod, key
        return seen

    def read_encoded(self, encoded: bytes) -> PodVersion:
        """A pod from its encoding without a version.

        Raises:
            EventError: `malformed-event`.
        """
        seen = self.read(b"".join((_PREFIX, encoded, b"}")))
        assert isinstance(seen, PodVersion), "the tag says so"
        return seen

    def version(self, pod: Pod) -> PodVersion:
        """A pod in any encoding."""
        meta = pod.metadata
        seen = PodVersion(meta.name, meta.namespace, meta.uid, meta.resource_version, pod.spec.node_name)
        meta = msgspec.structs.replace(meta, resource_version="0")
        seen.encoded = seen.own = model.encode(msgspec.structs.replace(pod, metadata=meta))
        seen.pod = pod
        return seen

    def of(self, seen: PodVersion) -> PodKind:
        """The kind of a pod.

        Raises:
            QuantityError: it asks for what is no quantity.
        """
        if seen.kind is None:
            pod, key = seen.pod, seen.key
            assert pod is not None, "a pod without a kind is there itself"
            seen.kind = PodKind(pod, demand(pod), self._scheduler_name, self.classes, self.profiles)
            if key is not None:
                seen.kind.recognise(*key[1:4])
                if len(self._known) >= MAX_KINDS:
                    self._known.clear()
                self._known[key] = seen.kind
        return seen.kind
