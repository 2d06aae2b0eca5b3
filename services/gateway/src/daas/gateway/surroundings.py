"""Namespaces, services, controllers, groups, storage, budgets: what placement reads besides nodes and pods, watched.

Namespace labels decide what a namespace selector selects, and a namespace's annotation whose stake it is weighed by;
services and controllers decide which pods are spread by default; claims and volumes where pods can go. Their events
carry no version, so each object's newest state is kept here and told only when it changes.
"""

import asyncio
import re
from collections.abc import Callable, Iterator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Final, Literal

import msgspec

from daas.common.errors import DaasError, DecodeError, Unavailable
from daas.kube import Backoff, Deleted, KubeClient, KubeNotFound, ListFinished, ListStarted, Reflector, Upserted
from daas.placement.log import (
    BudgetDeleted,
    BudgetUpserted,
    ControllerDeleted,
    ControllerUpserted,
    CSINodeDeleted,
    CSINodeUpserted,
    NamespaceDeleted,
    NamespaceUpserted,
    PersistentVolumeClaimDeleted,
    PersistentVolumeClaimUpserted,
    PersistentVolumeDeleted,
    PersistentVolumeUpserted,
    PodGroupDeleted,
    PodGroupUpserted,
    ServiceDeleted,
    ServiceUpserted,
    StorageClassDeleted,
    StorageClassUpserted,
    TenantDeleted,
    TenantUpserted,
)
from daas.placement.model import LabelSelector
from daas.placement.storage import CSINode, PersistentVolume, PersistentVolumeClaim, PodDisruptionBudget, StorageClass

Kind = Literal[
    "Namespace",
    "Tenant",
    "Service",
    "ReplicaSet",
    "StatefulSet",
    "ReplicationController",
    "PersistentVolumeClaim",
    "PersistentVolume",
    "StorageClass",
    "CSINode",
    "PodDisruptionBudget",
    "PodGroup/x",
    "PodGroup/v1alpha2",
    "PodGroup/v1beta1",
]
#: On a namespace: the Sui address whose stake it is weighed by. Whoever may write namespaces may say so.
ACCOUNT_ANNOTATION: Final = "k3s-daas.io/account"
_ACCOUNT: Final = re.compile(r"0x[0-9a-f]{64}")
#: Kind, namespace (empty for namespaces), name.
Place = tuple[Kind, str, str]


class _Meta(msgspec.Struct, frozen=True):
    name: str
    namespace: str = ""
    labels: dict[str, str] | None = None
    annotations: dict[str, str] | None = None
    resource_version: str = msgspec.field(default="", name="resourceVersion")


class _Gang(msgspec.Struct, frozen=True):
    min_count: int = msgspec.field(default=1, name="minCount")


class _SchedulingPolicy(msgspec.Struct, frozen=True):
    gang: _Gang | None = None


class _Spec(msgspec.Struct, frozen=True):
    #: A LabelSelector of ReplicaSets and StatefulSets, a map of labels of Services and ReplicationControllers.
    selector: msgspec.Raw = msgspec.Raw(b"null")
    replicas: int | None = None
    #: Of the groups of scheduler-plugins, and of those of Kubernetes.
    min_member: int | None = msgspec.field(default=None, name="minMember")
    scheduling_policy: _SchedulingPolicy | None = msgspec.field(default=None, name="schedulingPolicy")


class Seen(msgspec.Struct, frozen=True):
    """What is read of any of these objects."""

    metadata: _Meta
    spec: _Spec = _Spec()


_LABELS = msgspec.json.Decoder(dict[str, str] | None)
_SELECTOR = msgspec.json.Decoder(LabelSelector | None)


@dataclass(frozen=True, slots=True)
class Followed:
    """One resource: where it is listed, and what its objects are called."""

    kind: Kind
    path: str
    decodes: type[Any] = Seen


SERVED_RETRY_S: Final = 0.5
FOLLOWED: Final = (
    Followed("Namespace", "/api/v1/namespaces"),
    Followed("Service", "/api/v1/services"),
    Followed("ReplicaSet", "/apis/apps/v1/replicasets"),
    Followed("StatefulSet", "/apis/apps/v1/statefulsets"),
    Followed("ReplicationController", "/api/v1/replicationcontrollers"),
    Followed("PersistentVolumeClaim", "/api/v1/persistentvolumeclaims", PersistentVolumeClaim),
    Followed("PersistentVolume", "/api/v1/persistentvolumes", PersistentVolume),
    Followed("StorageClass", "/apis/storage.k8s.io/v1/storageclasses", StorageClass),
    Followed("CSINode", "/apis/storage.k8s.io/v1/csinodes", CSINode),
    Followed("PodDisruptionBudget", "/apis/policy/v1/poddisruptionbudgets", PodDisruptionBudget),
    Followed("PodGroup/x", "/apis/scheduling.x-k8s.io/v1alpha1/podgroups"),
    Followed("PodGroup/v1alpha2", "/apis/scheduling.k8s.io/v1alpha2/podgroups"),
    Followed("PodGroup/v1beta1", "/apis/scheduling.k8s.io/v1beta1/podgroups"),
)


def _versionless(found: Any) -> Any:
    """A storage object as the log has it."""
    return msgspec.structs.replace(found, metadata=msgspec.structs.replace(found.metadata, resource_version=""))


def tenant_of(seen: Seen) -> TenantUpserted | None:
    """Whose stake a namespace is weighed by; None where it names nobody.

    Raises:
        DecodeError: `account`.
    """
    account = (seen.metadata.annotations or {}).get(ACCOUNT_ANNOTATION, "")
    if not account:
        return None
    if not _ACCOUNT.fullmatch(account):
        raise DecodeError(
            f"namespace {seen.metadata.name}: {account!r} is not a Sui address (0x and 64 small hex digits)",
            reason="account",
            field=ACCOUNT_ANNOTATION,
        )
    return TenantUpserted(namespace=seen.metadata.name, stake=0, account=account)


def storage_event_of(found: Any) -> msgspec.Struct:
    """The event that tells of a claim, volume, storage class, CSI node or budget."""
    match _versionless(found):
        case PersistentVolumeClaim() as claim:
            return PersistentVolumeClaimUpserted(claim=claim)
        case PersistentVolume() as volume:
            return PersistentVolumeUpserted(volume=volume)
        case StorageClass() as storage_class:
            return StorageClassUpserted(storage_class=storage_class)
        case CSINode() as csi_node:
            return CSINodeUpserted(csi_node=csi_node)
        case other:
            return BudgetUpserted(budget=other)


def group_of(seen: Seen) -> PodGroupUpserted:
    """How many pods of a group are placed together; a group without a gang's policy places each by itself."""
    policy, least = seen.spec.scheduling_policy, seen.spec.min_member
    if least is None:
        least = policy.gang.min_count if policy is not None and policy.gang is not None else 1
    return PodGroupUpserted(namespace=seen.metadata.namespace, name=seen.metadata.name, min_count=max(least, 1))


def event_of(kind: Kind, seen: Any) -> msgspec.Struct | None:
    """The event that tells of an object; None for one that placement has no use for.

    Raises:
        DecodeError: `selector` or `account`.
    """
    if not isinstance(seen, Seen):
        return storage_event_of(seen)
    meta, raw = seen.metadata, seen.spec.selector
    if kind.startswith("PodGroup"):
        return group_of(seen)
    if kind == "Tenant":
        return tenant_of(seen)
    if kind == "Namespace":
        return NamespaceUpserted(name=meta.name, labels=meta.labels)
    try:
        if kind == "Service":
            labels = _LABELS.decode(raw)
            return ServiceUpserted(namespace=meta.namespace, name=meta.name, selector=labels) if labels else None
        if kind == "ReplicationController":
            labels = _LABELS.decode(raw)
            selector = LabelSelector(match_labels=labels) if labels else None
        else:
            selector = _SELECTOR.decode(raw)
    except msgspec.MsgspecError as error:
        where = f"{kind} {meta.namespace}/{meta.name}"
        raise DecodeError(f"{where}: {error}", reason="selector", field="spec.selector") from None
    if seen.spec.replicas == 0:
        return None  # old ReplicaSets of a Deployment: they have no pods to spread
    return ControllerUpserted(kind=_controller(kind), namespace=meta.namespace, name=meta.name, selector=selector)


_CLUSTER_WIDE: Final[dict[str, Callable[..., msgspec.Struct]]] = {
    "PersistentVolume": PersistentVolumeDeleted,
    "StorageClass": StorageClassDeleted,
    "CSINode": CSINodeDeleted,
}
_NAMESPACED: Final[dict[str, Callable[..., msgspec.Struct]]] = {
    "PersistentVolumeClaim": PersistentVolumeClaimDeleted,
    "PodDisruptionBudget": BudgetDeleted,
    "PodGroup/x": PodGroupDeleted,
    "PodGroup/v1alpha2": PodGroupDeleted,
    "PodGroup/v1beta1": PodGroupDeleted,
}


def deletion_of(place: Place) -> msgspec.Struct:
    """The event that tells that an object is gone."""
    kind, namespace, name = place
    if kind == "Namespace":
        return NamespaceDeleted(name=name)
    if kind == "Service":
        return ServiceDeleted(namespace=namespace, name=name)
    if kind == "Tenant":
        return TenantDeleted(namespace=name)
    if kind in _CLUSTER_WIDE:
        return _CLUSTER_WIDE[kind](name=name)
    if kind in _NAMESPACED:
        return _NAMESPACED[kind](namespace=namespace, name=name)
    return ControllerDeleted(kind=_controller(kind), namespace=namespace, name=name)


def _controller(kind: Kind) -> Literal["ReplicaSet", "StatefulSet", "ReplicationController"]:
    """A kind that is one of these three: all others were told apart before."""
    assert kind in {"ReplicaSet", "StatefulSet", "ReplicationController"}, kind
    return kind


class Surroundings:
    """Follows every resource that the API server serves.

    Args:
        client: the API server.
        changed: told of each event, with its place.
        listed: told whenever a resource has been listed in full.
        on_refused: told about objects that can't be read: they are not told of.
    """

    def __init__(
        self,
        client: KubeClient,
        *,
        changed: Callable[[Place, msgspec.Struct], Any],
        listed: Callable[[Kind], None],
        on_refused: Callable[[DecodeError], None],
        watch_timeout_s: int,
        backoff: Callable[[], Backoff],
    ) -> None:
        self._client = client
        self._changed = changed
        self._listed = listed
        self._on_refused = on_refused
        self._known: dict[Place, msgspec.Struct] = {}
        self._claim_news = asyncio.Event()
        self._reflectors = {
            one.kind: Reflector(
                client,
                one.path,
                one.decodes,
                watch_timeout_s=watch_timeout_s,
                backoff=backoff(),
                on_refused=on_refused,
            )
            for one in FOLLOWED
        }

    def events(self) -> Iterator[tuple[Place, msgspec.Struct]]:
        """Everything known, for a full list."""
        yield from self._known.items()

    def known(self, kind: Kind, namespace: str, name: str) -> Any:
        """The event that last told of an object; None where there is none."""
        return self._known.get((kind, namespace, name))

    def all_of(self, kind: Kind) -> list[Any]:
        """The events that tell of all objects of a kind, by name."""
        return [event for place, event in sorted(self._known.items()) if place[0] == kind]

    async def claim_change(self) -> None:
        """Waits until something is told of any claim or volume."""
        await self._claim_news.wait()

    def check(self) -> None:
        """Raises Unavailable where a resource is out of step."""
        for kind, reflector in self._reflectors.items():
            if reflector.problem is not None and not isinstance(reflector.problem, KubeNotFound):
                raise Unavailable(f"{kind}: {reflector.problem.message}", reason=reflector.problem.reason)

    async def follow(self, one: Followed) -> None:
        """Follows one resource for ever. What an API server does not serve counts as listed, and as empty."""
        kinds = {one.kind, "Tenant"} if one.kind == "Namespace" else {one.kind}
        if not await self._served(one):
            self._listed(one.kind)
            await asyncio.Event().wait()  # an API server that learns it later is another one: we restart with it
        named: set[Place] | None = None
        async with aclosing(self._reflectors[one.kind].changes()) as changes:
            async for change in changes:
                match change:
                    case ListStarted():
                        named = set()
                    case Upserted(seen):
                        place = self._place(one.kind, seen)
                        if named is not None:
                            named.add(place)
                        for kind in sorted(kinds):
                            await self._upsert(self._place(kind, seen), seen)
                    case Deleted(seen):
                        for kind in sorted(kinds):
                            await self._drop(self._place(kind, seen))
                    case ListFinished():
                        kept = {(kind, *place[1:]) for kind in kinds for place in named or ()}
                        gone = [p for p in self._known if p[0] in kinds and p not in kept]
                        for place in gone:
                            await self._drop(place)
                        named = None
                        self._listed(one.kind)

    @staticmethod
    def _place(kind: Any, seen: Any) -> Place:
        return kind, getattr(seen.metadata, "namespace", ""), seen.metadata.name

    async def _upsert(self, place: Place, seen: Any) -> None:
        try:
            event = event_of(place[0], seen)
        except DecodeError as error:
            self._on_refused(error)
            event = None
        if event is None:
            await self._drop(place)
        elif self._known.get(place) != event:
            self._known[place] = event
            self._announce(place)
            await self._changed(place, event)

    async def _drop(self, place: Place) -> None:
        if self._known.pop(place, None) is not None:
            self._announce(place)
            await self._changed(place, self._namesake(place) or deletion_of(place))

    def _namesake(self, place: Place) -> msgspec.Struct | None:
        """A group of that name that another API still has, or another version of this one: it counts from now on."""
        kinds = [one.kind for one in FOLLOWED if one.kind.startswith("PodGroup") and place[0].startswith("PodGroup")]
        found = (self._known.get((kind, *place[1:])) for kind in kinds)
        return next((event for event in found if event is not None), None)

    def _announce(self, place: Place) -> None:
        if place[0] in {"PersistentVolumeClaim", "PersistentVolume"}:
            self._claim_news.set()
            self._claim_news = asyncio.Event()

    async def _served(self, one: Followed) -> bool:
        """Whether the API server has this resource at all; asked until it says so."""
        while True:
            try:
                await self._client.request("GET", one.path, query={"limit": 1})
            except KubeNotFound:
                return False
            except DaasError:
                await asyncio.sleep(SERVED_RETRY_S)  # the reflectors of nodes and pods tell what is wrong
            else:
                return True
