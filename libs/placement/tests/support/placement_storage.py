"""Claims, volumes and classes as plain documents, and a naive reference of what they ask of nodes."""

import random
from typing import Any

import msgspec

from daas.placement.log import (
    CSINodeUpserted,
    Event,
    PersistentVolumeClaimUpserted,
    PersistentVolumeUpserted,
    StorageClassUpserted,
)
from daas.placement.model import Node
from daas.placement.storage import CSINode, PersistentVolume, PersistentVolumeClaim, StorageClass

Document = dict[str, Any]
SIZES = {"1Gi": 1, "2Gi": 2, "5Gi": 5}
ZONE = "topology.kubernetes.io/zone"


def make_class(name: str, *, mode: str = "WaitForFirstConsumer", provisioner: str = "local", **more: Any) -> Document:
    return {"metadata": {"name": name}, "volumeBindingMode": mode, "provisioner": provisioner, **more}


def make_claim(name: str, storage_class: str | None = "local", *, size: str = "1Gi", **more: Any) -> Document:
    meta: Document = {"name": name, "namespace": more.pop("namespace", "default"), "uid": f"uid-{name}"}
    annotations = {}
    if more.pop("bound", False):
        annotations["pv.kubernetes.io/bind-completed"] = "yes"
    if "selected" in more:
        annotations["volume.kubernetes.io/selected-node"] = more.pop("selected")
    if annotations:
        meta["annotations"] = annotations
    if "owner" in more:
        meta["ownerReferences"] = [{"uid": more.pop("owner"), "controller": True}]
    spec = {"resources": {"requests": {"storage": size}}, "accessModes": more.pop("modes", ["ReadWriteOnce"])}
    if storage_class is not None:
        spec["storageClassName"] = storage_class
    return {"metadata": meta, "spec": {**spec, **more}, "status": {"phase": "Pending"}}


def make_volume(name: str, storage_class: str = "local", *, size: str = "1Gi", **more: Any) -> Document:
    spec: Document = {
        "capacity": {"storage": size},
        "accessModes": more.pop("modes", ["ReadWriteOnce"]),
        "storageClassName": storage_class,
    }
    if "on" in more:
        expression = {"key": "kubernetes.io/hostname", "operator": "In", "values": [more.pop("on")]}
        spec["nodeAffinity"] = {"required": {"nodeSelectorTerms": [{"matchExpressions": [expression]}]}}
    if "claim" in more:
        spec["claimRef"] = {"namespace": "default", "name": more.pop("claim")}
    if "csi" in more:
        spec["csi"] = {"driver": more.pop("csi"), "volumeHandle": name}
    phase = "Bound" if more.pop("bound", False) else "Available"
    meta = {"name": name, "labels": more.pop("labels", {})}
    return {"metadata": meta, "spec": {**spec, **more}, "status": {"phase": phase}}


def make_limits(node: str, **counts: int) -> Document:
    drivers = [{"name": name, "allocatable": {"count": count}} for name, count in counts.items()]
    return {"metadata": {"name": node}, "spec": {"drivers": drivers}}


def told(document: Document) -> Event:
    """The event that tells of a document."""
    if "provisioner" in document:
        return StorageClassUpserted(storage_class=msgspec.convert(document, StorageClass))
    if "drivers" in document.get("spec", {}):
        return CSINodeUpserted(csi_node=msgspec.convert(document, CSINode))
    if "capacity" in document["spec"]:
        return PersistentVolumeUpserted(volume=msgspec.convert(document, PersistentVolume))
    return PersistentVolumeClaimUpserted(claim=msgspec.convert(document, PersistentVolumeClaim))


class Storage:
    """All documents by name, and what earlier placements settled."""

    def __init__(self) -> None:
        self.classes: dict[str, Document] = {}
        self.claims: dict[str, Document] = {}
        self.volumes: dict[str, Document] = {}
        self.limits: dict[str, dict[str, int]] = {}
        self.place: dict[str, str] = {}
        self.given: dict[str, str] = {}
        self.used: dict[str, list[str]] = {}

    def allows(self, names: list[str], node: Node) -> bool:
        return self.volumes_on(names, node) is not None and self._attachable(names, node)

    def volumes_on(self, names: list[str], node: Node) -> dict[str, str] | None:
        """Claim to the volume made by hand that it gets on this node; None where the node won't do."""
        found: dict[str, str] = {}
        waiting = []
        for name in names:
            claim = self.claims.get(name)
            if claim is None:
                return None
            if "ReadWriteOncePod" in claim["spec"]["accessModes"] and self.used.get(name):
                return None
            bound = claim["spec"].get("volumeName")
            if bound:
                if not self._reachable(self.volumes[bound], node) or not self._same_zone(self.volumes[bound], node):
                    return None
                continue
            if self.classes[claim["spec"]["storageClassName"]]["volumeBindingMode"] == "Immediate":
                return None
            chosen = claim["metadata"].get("annotations", {}).get("volume.kubernetes.io/selected-node")
            chosen = chosen or self.place.get(name)
            if chosen:
                if chosen != node.metadata.name:
                    return None
                continue
            waiting.append(claim)
        waiting.sort(key=lambda c: (SIZES[c["spec"]["resources"]["requests"]["storage"]], c["metadata"]["name"]))
        for claim in waiting:
            name = claim["metadata"]["name"]
            mine = [v for v in self.volumes.values() if v["spec"].get("claimRef", {}).get("name") == name]
            if mine:
                if not self._reachable(mine[0], node):
                    return None
                found[name] = mine[0]["metadata"]["name"]
                continue
            fitting = [
                volume
                for volume in self.volumes.values()
                if self._fits(volume, claim)
                and self._reachable(volume, node)
                and volume["metadata"]["name"] not in {*found.values(), *self.given.values()}
            ]
            if fitting:
                fitting.sort(key=lambda v: (SIZES[v["spec"]["capacity"]["storage"]], v["metadata"]["name"]))
                found[name] = fitting[0]["metadata"]["name"]
                continue
            storage_class = self.classes[claim["spec"]["storageClassName"]]
            if storage_class["provisioner"] == "kubernetes.io/no-provisioner":
                return None
            terms = storage_class.get("allowedTopologies", [])
            labels = node.metadata.labels or {}
            if terms and not any(
                all(labels.get(e["key"]) in e["values"] for e in term["matchLabelExpressions"]) for term in terms
            ):
                return None
        return found

    @staticmethod
    def _fits(volume: Document, claim: Document) -> bool:
        return (
            "claimRef" not in volume["spec"]
            and volume["status"]["phase"] == "Available"
            and volume["spec"]["storageClassName"] == claim["spec"]["storageClassName"]
            and SIZES[volume["spec"]["capacity"]["storage"]] >= SIZES[claim["spec"]["resources"]["requests"]["storage"]]
            and set(claim["spec"]["accessModes"]) <= set(volume["spec"]["accessModes"])
        )

    @staticmethod
    def _reachable(volume: Document, node: Node) -> bool:
        affinity = volume["spec"].get("nodeAffinity")
        if affinity is None:
            return True
        expression = affinity["required"]["nodeSelectorTerms"][0]["matchExpressions"][0]
        return (node.metadata.labels or {}).get(expression["key"]) in expression["values"]

    @staticmethod
    def _same_zone(volume: Document, node: Node) -> bool:
        zone = volume["metadata"]["labels"].get(ZONE)
        labels = node.metadata.labels or {}
        return zone is None or ZONE not in labels or labels[ZONE] in zone.split("__")

    def _attached(self, names: list[str]) -> set[tuple[str, str]]:
        found = set()
        for name in names:
            claim = self.claims[name]
            if claim["spec"].get("volumeName"):
                source = self.volumes[claim["spec"]["volumeName"]]["spec"].get("csi")
                if source:
                    found.add((source["driver"], source["volumeHandle"]))
            else:
                found.add((self.classes[claim["spec"]["storageClassName"]]["provisioner"], f"claim {name}"))
        return found

    def _attachable(self, names: list[str], node: Node) -> bool:
        here = [claim for claim, nodes in self.used.items() if node.metadata.name in nodes]
        there, wanted = self._attached(here), self._attached(names)
        for driver, limit in self.limits.get(node.metadata.name, {}).items():
            new = [one for one in wanted - there if one[0] == driver]
            if new and len(new) + sum(one[0] == driver for one in there) > limit:
                return False
        return True

    def settle(self, names: list[str], node: Node) -> None:
        """A pod with these claims was placed."""
        self.given.update(self.volumes_on(names, node) or {})
        for name in names:
            self.used.setdefault(name, []).append(node.metadata.name)
            if not self.claims[name]["spec"].get("volumeName"):
                self.place.setdefault(name, node.metadata.name)


def random_storage(rng: random.Random, nodes: list[str]) -> tuple[Storage, list[Document]]:
    """Classes, volumes and claims of every kind."""
    storage = Storage()
    zones = [{"matchLabelExpressions": [{"key": ZONE, "values": rng.sample(["a", "b", "c"], rng.randrange(1, 3))}]}]
    for one in (
        make_class("local"),
        make_class("zoned", provisioner="ebs", allowedTopologies=zones),
        make_class("by-hand", provisioner="kubernetes.io/no-provisioner"),
        make_class("now", mode="Immediate"),
    ):
        storage.classes[one["metadata"]["name"]] = one
    for index in range(rng.randrange(2, 10)):
        more: Document = {"on": rng.choice(nodes)} if rng.random() < 0.8 else {}
        if rng.random() < 0.15:
            more["claim"] = f"c{rng.randrange(14)}"
            if any(v["spec"].get("claimRef", {}).get("name") == more["claim"] for v in storage.volumes.values()):
                del more["claim"]
        name, size = f"v{index}", rng.choice(list(SIZES))
        if "claim" in more:
            size, more["modes"] = "5Gi", ["ReadWriteOnce", "ReadWriteOncePod"]
        storage.volumes[name] = make_volume(name, rng.choice(["local", "by-hand"]), size=size, **more)
    for index in range(14):
        name = f"c{index}"
        aside = next((v for v in storage.volumes.values() if v["spec"].get("claimRef", {}).get("name") == name), None)
        storage_class = rng.choice(["local", "zoned", "by-hand", "now", "local"])
        if aside is not None:
            storage_class = aside["spec"]["storageClassName"]
        modes = ["ReadWriteOncePod"] if rng.random() < 0.15 else ["ReadWriteOnce"]
        if aside is None and rng.random() < 0.35:
            volume = f"b{index}"
            labels = {ZONE: rng.choice(["a", "b", "a__c"])} if rng.random() < 0.4 else {}
            where: Document = {"on": rng.choice(nodes)} if rng.random() < 0.4 else {}
            if rng.random() < 0.5:
                where["csi"] = "ebs"
            storage.volumes[volume] = make_volume(volume, storage_class, labels=labels, claim=name, bound=True, **where)
            storage.claims[name] = make_claim(name, storage_class, volumeName=volume, bound=True, modes=modes)
        else:
            more = {"selected": rng.choice(nodes)} if aside is None and rng.random() < 0.1 else {}
            storage.claims[name] = make_claim(name, storage_class, size=rng.choice(list(SIZES)), modes=modes, **more)
    limits = []
    for node in nodes:
        if rng.random() < 0.5:
            storage.limits[node] = {"ebs": rng.randrange(3)}
            limits.append(make_limits(node, **storage.limits[node]))
    documents = [*storage.classes.values(), *storage.volumes.values(), *storage.claims.values(), *limits]
    return storage, documents
