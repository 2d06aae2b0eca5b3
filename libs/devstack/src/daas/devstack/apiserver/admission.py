"""The admission step of the request path: plugins that may change or refuse what is about to be stored."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from daas.devstack.apiserver.access import User
from daas.devstack.apiserver.errors import Cause, forbidden, not_found
from daas.devstack.apiserver.resources import BY_KEY, Resource
from daas.devstack.apiserver.storage import Storage

Object = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Operation:
    """What admission is asked about: CREATE, UPDATE, DELETE; `subresource` as in `binding`; `old` for updates.

    `options` are the Create-, Update- or DeleteOptions; what plugins have to tell the client and the audit log goes
    into `warnings` and `annotations`.
    """

    verb: str
    resource: Resource
    subresource: str
    namespace: str
    name: str
    user: User
    dry_run: bool
    old: Object | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    annotations: dict[str, str] = field(default_factory=dict)


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


class MutatingPhase(Protocol):
    """Changes objects on their way in."""

    def picked(self, operation: Operation, obj: Object | None) -> Sequence[object]:
        """Who will be asked."""
        ...

    async def mutate(self, operation: Operation, obj: Object | None) -> Object | None:
        """The object as it goes on; None stays None (deletes). Raises ApiError to refuse."""
        ...


class ValidatingPhase(Protocol):
    """Refuses objects in their final form."""

    async def validate(self, operation: Operation, obj: Object | None) -> None:
        """Raises ApiError to refuse."""
        ...


class Chain:
    """Plugins in order, then webhooks; later, when defaults and names stand, policies and validating webhooks.

    The first refusal ends it.
    """

    def __init__(
        self,
        plugins: Sequence[AdmissionPlugin],
        mutating: MutatingPhase | None = None,
        validating: Sequence[ValidatingPhase] = (),
    ) -> None:
        self._plugins = tuple(plugins)
        self._mutating = mutating
        self._validating = tuple(validating)

    def asks_webhooks(self, operation: Operation, obj: Object) -> bool:
        """Whether a mutating webhook will see this object."""
        return self._mutating is not None and bool(self._mutating.picked(operation, obj))

    async def mutate(self, operation: Operation, obj: Object) -> Object:
        """Ask each plugin, then the mutating webhooks; the object as they leave it. Raises ApiError."""
        for plugin in self._plugins:
            await plugin.admit(operation, obj)
        if self._mutating is None:
            return obj
        changed = await self._mutating.mutate(operation, obj)
        assert changed is not None
        return changed

    async def validate(self, operation: Operation, obj: Object) -> None:
        """Ask who only says yes or no. Raises ApiError."""
        for phase in self._validating:
            await phase.validate(operation, obj)

    async def admit_delete(self, operation: Operation) -> None:
        """Ask everyone about a deletion: there is an old object only. Raises ApiError."""
        for plugin in self._plugins:
            await plugin.admit(operation, operation.old or {})
        if self._mutating is not None:
            await self._mutating.mutate(operation, None)
        for phase in self._validating:
            await phase.validate(operation, None)
