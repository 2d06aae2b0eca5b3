"""Simulated stand-in for the volume controller and K3s's local-path provisioner: it makes volumes that hold nothing.

A claim of a class that waits for its first consumer gets a volume on the node that its annotation
`volume.kubernetes.io/selected-node` names, never before; a volume whose claimRef names a claim is bound to it; claims
of generic ephemeral volumes are made for their pods. Every volume made here says that it is simulated.
"""

import uuid
from typing import Any

from daas.devstack.apiserver.followers import Follower
from daas.devstack.apiserver.resources import BY_KEY, Object
from daas.devstack.apiserver.storage import Event, Storage
from daas.devstack.apiserver.writes import now

#: What K3s calls the provisioner of its default class.
PROVISIONER = "rancher.io/local-path"
SELECTED_NODE = "volume.kubernetes.io/selected-node"
BIND_COMPLETED = "pv.kubernetes.io/bind-completed"
_CLAIMS, _VOLUMES, _PODS = BY_KEY["persistentvolumeclaims"], BY_KEY["persistentvolumes"], BY_KEY["pods"]
_EPHEMERAL = b'"ephemeral"'
_CLASSES = BY_KEY["storageclasses.storage.k8s.io"]


class SimulatedStorage(Follower):
    """Makes and binds volumes."""

    def __init__(self, storage: Storage) -> None:
        super().__init__(storage, (_CLAIMS, _VOLUMES, _CLASSES, _PODS))

        #: Pods with ephemeral volumes; None until the first look, when the subscriptions stand.
        self._ephemeral: set[tuple[str, str]] | None = None

    def cares(self, event: Event) -> bool:
        """Claims, volumes, classes, and those few pods that bring volumes of their own."""
        if event.resource != _PODS.key:
            return True
        if _EPHEMERAL not in event.record.raw:
            return False
        if self._ephemeral is not None:
            self._ephemeral.add((event.record.namespace, event.record.name))
        return True

    def settle(self) -> None:
        """Claims for ephemeral volumes, then volumes for claims."""
        if self._ephemeral is None:
            pods = self._storage.records(_PODS, None)
            self._ephemeral = {(one.namespace, one.name) for one in pods if _EPHEMERAL in one.raw}
        for where in sorted(self._ephemeral):
            record = self._storage.get(_PODS, *where)
            if record is None:
                self._ephemeral.discard(where)
            else:
                self._claim_for(record.object())
        volumes = {r.name: r.object() for r in self._storage.records(_VOLUMES, None)}
        for record in list(self._storage.records(_CLAIMS, None)):
            claim = record.object()
            if not claim["spec"].get("volumeName") and not claim["metadata"].get("deletionTimestamp"):
                self._bind(claim, volumes)

    def _claim_for(self, pod: Object) -> None:
        meta = pod["metadata"]
        for volume in pod["spec"].get("volumes") or ():
            template = (volume.get("ephemeral") or {}).get("volumeClaimTemplate")
            name = f"{meta['name']}-{volume['name']}"
            if template is None or self._storage.get(_CLAIMS, meta["namespace"], name) is not None:
                continue
            owner = {"apiVersion": "v1", "kind": "Pod", "name": meta["name"], "uid": meta["uid"], "controller": True}
            self._storage.create(
                _CLAIMS,
                {
                    "metadata": {
                        "name": name,
                        "namespace": meta["namespace"],
                        "uid": str(uuid.uuid4()),
                        "creationTimestamp": now(),
                        "ownerReferences": [owner],
                    },
                    "spec": {"volumeMode": "Filesystem", **template["spec"]},
                    "status": {"phase": "Pending"},
                },
            )

    def _bind(self, claim: Object, volumes: dict[str, Object]) -> None:
        meta = claim["metadata"]
        mine = next((one for one in volumes.values() if _is_for(one, meta)), None)
        if mine is None:
            mine = self._made(claim)
            if mine is None:
                return
            volumes[mine["metadata"]["name"]] = mine
        reference = {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "namespace": meta["namespace"],
            "name": meta["name"],
            "uid": meta["uid"],
        }
        mine["spec"]["claimRef"] = reference
        mine["status"] = {"phase": "Bound"}
        self._storage.update(_VOLUMES, mine)
        marks = {BIND_COMPLETED: "yes", "pv.kubernetes.io/bound-by-controller": "yes"}
        meta["annotations"] = (meta.get("annotations") or {}) | marks
        claim["spec"]["volumeName"] = mine["metadata"]["name"]
        claim["status"] = {
            "phase": "Bound",
            "accessModes": claim["spec"].get("accessModes") or [],
            "capacity": mine["spec"].get("capacity") or {},
        }
        self._storage.update(_CLAIMS, claim)

    def _made(self, claim: Object) -> Object | None:
        """A new volume, where the claim's class is ours and its node is chosen."""
        found = self._storage.get(_CLASSES, "", claim["spec"].get("storageClassName") or "")
        node = (claim["metadata"].get("annotations") or {}).get(SELECTED_NODE)
        if found is None or not node or found.object().get("provisioner") != PROVISIONER:
            return None
        name = f"pvc-{claim['metadata']['uid']}"
        term: dict[str, Any] = {
            "matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "In", "values": [node]}]
        }
        volume = {
            "metadata": {
                "name": name,
                "uid": str(uuid.uuid4()),
                "creationTimestamp": now(),
                "annotations": {"pv.kubernetes.io/provisioned-by": PROVISIONER, "k3s-daas.io/simulated": "true"},
            },
            "spec": {
                "accessModes": claim["spec"].get("accessModes") or [],
                "capacity": ((claim["spec"].get("resources") or {}).get("requests")) or {},
                "hostPath": {"path": f"/var/lib/rancher/k3s/storage/{name}", "type": "DirectoryOrCreate"},
                "nodeAffinity": {"required": {"nodeSelectorTerms": [term]}},
                "persistentVolumeReclaimPolicy": "Delete",
                "storageClassName": claim["spec"]["storageClassName"],
                "volumeMode": "Filesystem",
            },
            "status": {"phase": "Pending"},
        }
        return self._storage.create(_VOLUMES, volume).object()


def _is_for(volume: Object, meta: Object) -> bool:
    reference = volume["spec"].get("claimRef") or {}
    where = reference.get("namespace"), reference.get("name")
    return where == (meta["namespace"], meta["name"]) and reference.get("uid", meta["uid"]) == meta["uid"]
