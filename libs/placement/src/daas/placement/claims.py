"""Claims, volumes, classes and attach limits as the log tells them, and which pods on nodes use which claim."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from daas.placement.model import Node
from daas.placement.objects import ObjectKey, ObjectRecord
from daas.placement.reasons import NONE, Reason
from daas.placement.records import PodRecord
from daas.placement.storage import CSINode, PersistentVolume, PersistentVolumeClaim, StorageClass
from daas.placement.volumes import ClaimKey, Needs, choose_volumes, needs_of, node_refusal

CLAIM, VOLUME, CLASS, LIMITS = "PersistentVolumeClaim", "PersistentVolume", "StorageClass", "CSINode"
#: The kinds of objects that are kept here.
STORAGE_KINDS = frozenset({CLAIM, VOLUME, CLASS, LIMITS})
#: The kinds that couplings between pods are made from.
SURROUNDING_KINDS = frozenset({"Namespace", "Service", "ReplicaSet", "StatefulSet", "ReplicationController"})


class Claims:
    """An index over `ClusterState.objects` and over the pods on nodes that have claims; it holds no truth of its own.

    Attributes:
        generation: changes with everything that `needs` depends on.
    """

    def __init__(self, objects: Mapping[ObjectKey, ObjectRecord]) -> None:
        self._objects = objects
        self._by_class: dict[str, dict[str, PersistentVolume]] = {}
        self._users: dict[ClaimKey, dict[str, PodRecord]] = {}
        self._users_on: dict[str, dict[str, PodRecord]] = {}
        self._promised: dict[str, int] = {}
        self._limits: dict[str, dict[str, int]] = {}
        self.generation = 0

    # --- what is kept

    def put(self, before: ObjectRecord | None, after: ObjectRecord | None) -> None:
        """An object of STORAGE_KINDS was added, replaced (both) or removed."""
        self.generation += 1
        for record, kept in ((before, False), (after, True)):
            if record is None:
                continue
            kind, _, name = record.key
            if kind == VOLUME:
                volume: PersistentVolume = record.value.volume
                beside = self._by_class.setdefault(volume.spec.storage_class_name, {})
                if kept:
                    beside[name] = volume
                else:
                    beside.pop(name, None)
            elif kind == LIMITS:
                self._limits.pop(name, None)
                if kept:
                    limits = _limits(record.value.csi_node)
                    if limits:
                        self._limits[name] = limits

    def settle(self, record: PodRecord) -> None:
        """A pod with claims is on a node."""
        self.generation += 1
        for name, _ in record.claims:
            self._users.setdefault((record.namespace, name), {})[record.uid] = record
        self._users_on.setdefault(record.node, {})[record.uid] = record
        for _, volume in record.volumes:
            if volume:
                self._promised[volume] = self._promised.get(volume, 0) + 1

    def leave(self, record: PodRecord) -> None:
        """It leaves; what it was promised is free again."""
        self.generation += 1
        for name, _ in record.claims:
            _forget(self._users, (record.namespace, name), record.uid)
        _forget(self._users_on, record.node, record.uid)
        for _, volume in record.volumes:
            if volume:
                self._promised[volume] -= 1
                if not self._promised[volume]:
                    del self._promised[volume]
        record.volumes = ()

    def lend(self, record: PodRecord, node: Node) -> None:
        """Counts a pod on a node while the rest of its group is being placed."""
        record.volumes = self.choose(record, node)
        record.node = node.metadata.name
        self.settle(record)

    def give_back(self, record: PodRecord) -> None:
        """Undoes `lend`."""
        self.leave(record)
        record.node = ""

    # --- what is asked

    def needs(self, record: PodRecord) -> Needs:
        """What the claims of a pod ask of a node."""
        return needs_of(record.namespace, record.uid, record.claims, _Lookup(self, record))

    def refusal(self, record: PodRecord, node: Node) -> Reason:
        """Why one node can't hold the volumes of a pod; NONE where it can."""
        needs = self.needs(record)
        found = node_refusal(needs, node)
        if found:
            return found
        return NONE if self.has_room(node.metadata.name, needs, record.uid) else Reason.VOLUME_LIMIT

    def choose(self, record: PodRecord, node: Node) -> tuple[tuple[ClaimKey, str], ...]:
        """Which volumes a pod that goes to a node is promised."""
        return choose_volumes(self.needs(record), node) or ()

    def limited(self, drivers: Iterable[str]) -> Iterator[str]:
        """The nodes that say how many volumes of one of these drivers they hold."""
        wanted = set(drivers)
        return (name for name, limits in sorted(self._limits.items()) if not wanted.isdisjoint(limits))

    def has_room(self, node: str, needs: Needs, uid: str) -> bool:
        """Whether a node can hold the pod's volumes beside those that are there."""
        limits = self._limits.get(node)
        if not limits or not needs.attaches:
            return True
        there: dict[str, set[str]] = {}
        for other in self._users_on.get(node, {}).values():
            if other.uid != uid:
                for driver, volume in self.needs(other).attaches:
                    there.setdefault(driver, set()).add(volume)
        asked: dict[str, set[str]] = {}
        for driver, volume in needs.attaches:
            asked.setdefault(driver, set()).add(volume)
        for driver, volumes in asked.items():
            new = volumes - there.get(driver, set())
            if driver in limits and new and len(there.get(driver, ())) + len(new) > limits[driver]:
                return False
        return True

    def object(self, kind: str, namespace: str, name: str) -> Any:
        """The event that last told of an object, or None."""
        record = self._objects.get((kind, namespace, name))
        return None if record is None else record.value

    def users(self, key: ClaimKey) -> Mapping[str, PodRecord]:
        """The pods on nodes that use a claim."""
        return self._users.get(key, {})

    def volumes_of_class(self, name: str) -> Iterable[PersistentVolume]:
        """The volumes of a class."""
        return self._by_class.get(name, {}).values()

    def is_promised(self, volume: str) -> bool:
        """Whether a volume was given to a claim by a placement."""
        return volume in self._promised


class _Lookup:
    """The rules' view, for one pod."""

    def __init__(self, claims: Claims, record: PodRecord) -> None:
        self._claims = claims
        self._uid = record.uid
        self._own = {volume for _, volume in record.volumes}

    def claim(self, key: ClaimKey) -> PersistentVolumeClaim | None:
        event = self._claims.object(CLAIM, *key)
        return None if event is None else event.claim

    def volume(self, name: str) -> PersistentVolume | None:
        event = self._claims.object(VOLUME, "", name)
        return None if event is None else event.volume

    def storage_class(self, name: str) -> StorageClass | None:
        event = self._claims.object(CLASS, "", name)
        return None if event is None else event.storage_class

    def volumes_of_class(self, name: str) -> Iterable[PersistentVolume]:
        return self._claims.volumes_of_class(name)

    def holder(self, key: ClaimKey) -> str:
        return min((r.node for uid, r in self._claims.users(key).items() if uid != self._uid), default="")

    def promised(self, volume: str) -> bool:
        return volume not in self._own and self._claims.is_promised(volume)


def _limits(csi_node: CSINode) -> dict[str, int]:
    return {
        driver.name: driver.allocatable.count
        for driver in csi_node.spec.drivers or ()
        if driver.allocatable is not None and driver.allocatable.count is not None
    }


def _forget(index: dict[Any, dict[str, PodRecord]], key: Any, uid: str) -> None:
    beside = index[key]
    del beside[uid]
    if not beside:
        del index[key]
