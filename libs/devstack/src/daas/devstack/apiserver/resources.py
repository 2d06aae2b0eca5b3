"""The registry: every resource served, its names, scope, verbs, subresources, selectable fields and type."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from daas.devstack.apiserver.errors import qualified
from daas.devstack.apiserver.schema import Message, message

Object = dict[str, Any]
ALL_VERBS = ("create", "delete", "deletecollection", "get", "list", "patch", "update", "watch")


def dig(obj: Mapping[str, Any], path: str) -> str:
    """The value at a dotted path as a field selector sees it: text, "" for what is absent."""
    value: Any = obj
    for part in path.split("."):
        if not isinstance(value, Mapping):
            return ""
        value = value.get(part)
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


@dataclass(frozen=True)
class Subresource:
    """A path below an object: what it takes and which verbs it has."""

    name: str
    kind: str
    group: str
    version: str
    verbs: tuple[str, ...]


@dataclass(frozen=True)
class Resource:
    """One resource in one version.

    `storage` names the resource whose objects it shows: `events.k8s.io` shows the core events in another form.
    `fields` maps field labels to paths. `type_name` is the message in `schema`.
    """

    group: str
    version: str
    plural: str
    kind: str
    namespaced: bool
    short: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    subresources: tuple[Subresource, ...] = ()
    fields: Mapping[str, str] | None = None
    type_name: str = ""
    storage_key: str = ""
    verbs: tuple[str, ...] = ALL_VERBS
    generation: bool = False  # kinds whose metadata.generation counts spec changes in v1.32
    returns_deleted: bool = False  # kinds whose DELETE answers the object, not a Status
    from_storage: Callable[[Object], Object] | None = None
    to_storage: Callable[[Object], Object] | None = None

    @cached_property
    def group_version(self) -> str:
        """`v1`, or `coordination.k8s.io/v1`."""
        return f"{self.group}/{self.version}" if self.group else self.version

    @cached_property
    def key(self) -> str:
        """What storage files the objects under."""
        return self.storage_key or qualified(self.plural, self.group)

    @cached_property
    def schema(self) -> Message:
        """The type."""
        return message(self.type_name or self.kind)

    @cached_property
    def selectable(self) -> Mapping[str, str]:
        """Field labels and the paths they read."""
        own = {"metadata.name": "metadata.name"} | dict(self.fields or {})
        return own | {"metadata.namespace": "metadata.namespace"} if self.namespaced else own

    @cached_property
    def prefix(self) -> bytes:
        """What turns a stored body, which begins with `{`, into an object with kind and apiVersion."""
        return f'{{"kind":"{self.kind}","apiVersion":"{self.group_version}",'.encode()

    @cached_property
    def qualified(self) -> str:
        """`pods`, or `leases.coordination.k8s.io`."""
        return qualified(self.plural, self.group)

    def unsupported_field(self, label: str) -> str:
        """How the real server refuses a field label of this resource."""
        if self.fields is not None:
            return f"field label not supported: {label}"
        return f'"{label}" is not a known field selector: only "metadata.name", "metadata.namespace"'

    def subresource(self, name: str) -> Subresource | None:
        """The subresource of that name."""
        return next((one for one in self.subresources if one.name == name), None)


def _sub(name: str, kind: str, *verbs: str, group: str = "", version: str = "v1") -> Subresource:
    return Subresource(name, kind, group, version, verbs or ("get", "patch", "update"))


def _same(*paths: str) -> dict[str, str]:
    return {path: path for path in paths}


def event_from_core(core: Object) -> Object:
    """A stored core/v1 Event as events.k8s.io/v1 shows it."""
    names = {
        "involvedObject": "regarding",
        "message": "note",
        "source": "deprecatedSource",
        "firstTimestamp": "deprecatedFirstTimestamp",
        "lastTimestamp": "deprecatedLastTimestamp",
        "count": "deprecatedCount",
        "reportingComponent": "reportingController",
    }
    return {names.get(name, name): value for name, value in core.items()}


def event_to_core(event: Object) -> Object:
    """An events.k8s.io/v1 Event in the form that is stored."""
    names = {
        "regarding": "involvedObject",
        "note": "message",
        "deprecatedSource": "source",
        "deprecatedFirstTimestamp": "firstTimestamp",
        "deprecatedLastTimestamp": "lastTimestamp",
        "deprecatedCount": "count",
        "reportingController": "reportingComponent",
    }
    return {names.get(name, name): value for name, value in event.items()}


_REFERENCE = ("kind", "namespace", "name", "uid", "apiVersion", "resourceVersion", "fieldPath")
_EVENT_FIELDS = _same(*(f"involvedObject.{one}" for one in _REFERENCE), "reason", "reportingComponent", "type") | {
    "source": "source.component",
}
_EVENTS_FIELDS = {f"regarding.{one}": f"involvedObject.{one}" for one in _REFERENCE} | {
    "reason": "reason",
    "reportingController": "reportingComponent",
    "type": "type",
}
_POD_FIELDS = _same(
    *("spec.nodeName", "spec.restartPolicy", "spec.schedulerName", "spec.serviceAccountName", "spec.hostNetwork"),
    *("status.phase", "status.podIP", "status.nominatedNodeName"),
)
_CREATE = ("create",)
_SCALE = _sub("scale", "Scale", group="autoscaling")

RESOURCES: tuple[Resource, ...] = (
    Resource("", "v1", "configmaps", "ConfigMap", namespaced=True, short=("cm",)),
    Resource("", "v1", "events", "Event", namespaced=True, short=("ev",), fields=_EVENT_FIELDS),
    Resource(
        *("", "v1", "namespaces", "Namespace"),
        namespaced=False,
        short=("ns",),
        subresources=(_sub("finalize", "Namespace", "update"), _sub("status", "Namespace")),
        fields=_same("status.phase"),
        verbs=tuple(verb for verb in ALL_VERBS if verb != "deletecollection"),
    ),
    Resource(
        *("", "v1", "nodes", "Node"),
        namespaced=False,
        short=("no",),
        subresources=(_sub("status", "Node"),),
        fields=_same("spec.unschedulable"),
    ),
    Resource(
        *("", "v1", "persistentvolumeclaims", "PersistentVolumeClaim"),
        namespaced=True,
        short=("pvc",),
        subresources=(_sub("status", "PersistentVolumeClaim"),),
        returns_deleted=True,
    ),
    Resource(
        *("", "v1", "persistentvolumes", "PersistentVolume"),
        namespaced=False,
        short=("pv",),
        subresources=(_sub("status", "PersistentVolume"),),
        returns_deleted=True,
    ),
    Resource(
        *("", "v1", "pods", "Pod"),
        namespaced=True,
        short=("po",),
        categories=("all",),
        subresources=(
            _sub("binding", "Binding", "create"),
            _sub("ephemeralcontainers", "Pod"),
            _sub("eviction", "Eviction", "create", group="policy"),
            _sub("status", "Pod"),
        ),
        fields=_POD_FIELDS,
        returns_deleted=True,
    ),
    Resource("", "v1", "bindings", "Binding", namespaced=True, verbs=_CREATE),
    Resource("", "v1", "secrets", "Secret", namespaced=True, fields=_same("type")),
    Resource("", "v1", "serviceaccounts", "ServiceAccount", namespaced=True, short=("sa",), returns_deleted=True),
    Resource(
        *("", "v1", "services", "Service"),
        namespaced=True,
        short=("svc",),
        categories=("all",),
        subresources=(_sub("status", "Service"),),
        fields=_same("spec.clusterIP", "spec.type"),
        returns_deleted=True,
    ),
    Resource(
        *("admissionregistration.k8s.io", "v1", "mutatingwebhookconfigurations", "MutatingWebhookConfiguration"),
        namespaced=False,
        categories=("api-extensions",),
        generation=True,
    ),
    Resource(
        *("admissionregistration.k8s.io", "v1", "validatingadmissionpolicies", "ValidatingAdmissionPolicy"),
        namespaced=False,
        categories=("api-extensions",),
        subresources=(_sub("status", "ValidatingAdmissionPolicy", group="admissionregistration.k8s.io"),),
        generation=True,
    ),
    Resource(
        *(
            "admissionregistration.k8s.io",
            "v1",
            "validatingadmissionpolicybindings",
            "ValidatingAdmissionPolicyBinding",
        ),
        namespaced=False,
        categories=("api-extensions",),
        generation=True,
    ),
    Resource(
        *("admissionregistration.k8s.io", "v1", "validatingwebhookconfigurations", "ValidatingWebhookConfiguration"),
        namespaced=False,
        categories=("api-extensions",),
        generation=True,
    ),
    Resource(
        *("apps", "v1", "deployments", "Deployment"),
        namespaced=True,
        short=("deploy",),
        categories=("all",),
        subresources=(_SCALE, _sub("status", "Deployment", group="apps")),
        generation=True,
    ),
    Resource(
        *("apps", "v1", "replicasets", "ReplicaSet"),
        namespaced=True,
        short=("rs",),
        categories=("all",),
        subresources=(_SCALE, _sub("status", "ReplicaSet", group="apps")),
        generation=True,
    ),
    Resource("authentication.k8s.io", "v1", "selfsubjectreviews", "SelfSubjectReview", namespaced=False, verbs=_CREATE),
    Resource("authentication.k8s.io", "v1", "tokenreviews", "TokenReview", namespaced=False, verbs=_CREATE),
    Resource(
        *("authorization.k8s.io", "v1", "selfsubjectaccessreviews", "SelfSubjectAccessReview"),
        namespaced=False,
        verbs=_CREATE,
    ),
    Resource(
        *("authorization.k8s.io", "v1", "selfsubjectrulesreviews", "SelfSubjectRulesReview"),
        namespaced=False,
        verbs=_CREATE,
    ),
    Resource(
        "authorization.k8s.io", "v1", "subjectaccessreviews", "SubjectAccessReview", namespaced=False, verbs=_CREATE
    ),
    Resource(
        *("batch", "v1", "jobs", "Job"),
        namespaced=True,
        categories=("all",),
        subresources=(_sub("status", "Job", group="batch"),),
        generation=True,
    ),
    Resource("coordination.k8s.io", "v1", "leases", "Lease", namespaced=True),
    Resource(
        *("events.k8s.io", "v1", "events", "Event"),
        namespaced=True,
        short=("ev",),
        fields=_EVENTS_FIELDS,
        type_name="EventsEvent",
        storage_key="events",
        from_storage=event_from_core,
        to_storage=event_to_core,
    ),
    Resource(
        *("policy", "v1", "poddisruptionbudgets", "PodDisruptionBudget"),
        namespaced=True,
        short=("pdb",),
        subresources=(_sub("status", "PodDisruptionBudget", group="policy"),),
        generation=True,
    ),
    Resource("rbac.authorization.k8s.io", "v1", "clusterrolebindings", "ClusterRoleBinding", namespaced=False),
    Resource("rbac.authorization.k8s.io", "v1", "clusterroles", "ClusterRole", namespaced=False),
    Resource("rbac.authorization.k8s.io", "v1", "rolebindings", "RoleBinding", namespaced=True),
    Resource("rbac.authorization.k8s.io", "v1", "roles", "Role", namespaced=True),
    Resource("scheduling.k8s.io", "v1", "priorityclasses", "PriorityClass", namespaced=False, short=("pc",)),
    Resource(
        *("scheduling.k8s.io", "v1alpha2", "podgroups", "PodGroup"),
        namespaced=True,
        subresources=(_sub("status", "PodGroup", group="scheduling.k8s.io", version="v1alpha2"),),
        generation=True,
    ),
    Resource(
        *("scheduling.k8s.io", "v1beta1", "podgroups", "PodGroup"),
        namespaced=True,
        subresources=(_sub("status", "PodGroup", group="scheduling.k8s.io", version="v1beta1"),),
        storage_key="podgroups.scheduling.k8s.io",
        generation=True,
    ),
    Resource(
        *("scheduling.x-k8s.io", "v1alpha1", "podgroups", "PodGroup"),
        namespaced=True,
        short=("pg", "pgs"),
        subresources=(_sub("status", "PodGroup", group="scheduling.x-k8s.io", version="v1alpha1"),),
        type_name="PluginsPodGroup",
        generation=True,
    ),
    Resource("storage.k8s.io", "v1", "csinodes", "CSINode", namespaced=False, returns_deleted=True),
    Resource(
        *("storage.k8s.io", "v1", "storageclasses", "StorageClass"),
        namespaced=False,
        short=("sc",),
        returns_deleted=True,
    ),
)

BY_PATH: Mapping[tuple[str, str, str], Resource] = {(r.group, r.version, r.plural): r for r in RESOURCES}
BY_KEY: Mapping[str, Resource] = {r.key: r for r in RESOURCES if not r.storage_key and "get" in r.verbs}
GROUP_VERSIONS: tuple[tuple[str, str], ...] = tuple(dict.fromkeys((r.group, r.version) for r in RESOURCES))


def find(group: str, version: str, plural: str) -> Resource | None:
    """The resource at a path, None if this server does not serve it."""
    return BY_PATH.get((group, version, plural))
