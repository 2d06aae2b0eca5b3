"""The admission step of the request path: plugins that may change or refuse what is about to be stored."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from daas.devstack.apiserver.access import User
from daas.devstack.apiserver.errors import Cause, forbidden, not_found
from daas.devstack.apiserver.resources import BY_KEY, Resource
from daas.devstack.apiserver.storage import Storage

Object = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Operation:
    """What admission is asked about: CREATE, UPDATE, DELETE; `subresource` as in `binding`; `old` for updates."""

    verb: str
    resource: Resource
    subresource: str
    namespace: str
    name: str
    user: User
    dry_run: bool
    old: Object | None = None


class AdmissionPlugin(Protocol):
    """One plugin. It may change `obj` in place. Raises ApiError to refuse."""

    async def admit(self, operation: Operation, obj: Object) -> None:
        """Look at, change or refuse `obj`."""
        ...


class NamespaceLifecycle:
    """Nothing is created in a namespace that is missing or terminating; the system's namespaces stay."""

    PROTECTED = frozenset({"default", "kube-system", "kube-public"})

    def __init__(self, storage: Storage) -> None:
        self._storage = storage

    async def admit(self, operation: Operation, obj: Object) -> None:
        """Refuse with 404 or 403."""
        resource = operation.resource
        if operation.verb == "DELETE":
            if resource.key == "namespaces" and operation.name in self.PROTECTED:
                raise forbidden("namespaces", "", operation.name, "this namespace may not be deleted")
            return
        if operation.verb != "CREATE" or not resource.namespaced:
            return
        record = self._storage.get(BY_KEY["namespaces"], "", operation.namespace)
        if record is None:
            raise not_found("namespaces", "", operation.namespace)
        if record.fields.get("status.phase") == "Terminating" and not operation.subresource:
            why = f"unable to create new content in namespace {operation.namespace} because it is being terminated"
            text = f"namespace {operation.namespace} is being terminated"
            cause = Cause("NamespaceTerminating", text, "metadata.namespace")
            name = obj["metadata"].get("name", "")
            raise forbidden(resource.plural, resource.group, name, why, [cause])


class Priority:
    """Pods get the number and the preemption policy of their priority class, or of the default one."""

    SYSTEM = {"system-cluster-critical": 2_000_000_000, "system-node-critical": 2_000_001_000}  # noqa: RUF012 - constant

    def __init__(self, storage: Storage) -> None:
        self._storage = storage

    async def admit(self, operation: Operation, obj: Object) -> None:
        """Set spec.priority and spec.preemptionPolicy, or refuse an unknown class."""
        if operation.resource.key != "pods" or operation.subresource or operation.verb != "CREATE":
            return
        classes = BY_KEY["priorityclasses.scheduling.k8s.io"]
        spec = obj["spec"]
        name = spec.get("priorityClassName", "")
        value, policy = 0, "PreemptLowerPriority"
        if name:
            record = self._storage.get(classes, "", name)
            if record is not None:
                found = record.object()
                value, policy = found.get("value", 0), found.get("preemptionPolicy", policy)
            elif name in self.SYSTEM:
                value = self.SYSTEM[name]
            else:
                why = f"no PriorityClass with name {name} was found"
                raise forbidden("pods", "", obj["metadata"].get("name", ""), why)
        elif self._storage.count(classes):
            for record in self._storage.records(classes, None):
                found = record.object()
                if found.get("globalDefault"):
                    value, policy = found.get("value", 0), found.get("preemptionPolicy", policy)
                    spec["priorityClassName"] = record.name
        if spec.get("priority", value) != value:
            why = f"the integer value of priority ({spec['priority']}) must not be provided in pod spec; "
            why += f"priority admission controller computed {value} from the given PriorityClass name"
            raise forbidden("pods", "", obj["metadata"].get("name", ""), why)
        spec["priority"] = value
        spec.setdefault("preemptionPolicy", policy)


class DefaultTolerationSeconds:
    """Pods tolerate a node that is not ready or unreachable for five minutes."""

    async def admit(self, operation: Operation, obj: Object) -> None:
        """Append the two tolerations unless the pod has its own."""
        if operation.resource.key != "pods" or operation.subresource or operation.verb != "CREATE":
            return
        tolerations = obj["spec"].setdefault("tolerations", [])
        for key in ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"):
            if not any(
                one.get("key") in (key, None, "") and one.get("effect") in ("NoExecute", None, "")
                for one in tolerations
            ):
                tolerations.append({"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300})


class Chain:
    """Plugins in order; the first refusal ends it."""

    def __init__(self, plugins: Sequence[AdmissionPlugin]) -> None:
        self._plugins = tuple(plugins)

    async def admit(self, operation: Operation, obj: Object) -> None:
        """Ask each plugin."""
        for plugin in self._plugins:
            await plugin.admit(operation, obj)
