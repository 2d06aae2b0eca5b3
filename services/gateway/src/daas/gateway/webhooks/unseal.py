"""Pods that mount sealed Secrets: the init container that opens them into memory before anything else starts.

For every volume that is a sealed Secret, the Secret itself moves to a volume of its own that only the init container
`k3s-daas-unseal` mounts, and the volume keeps its name as a tmpfs into which that container writes the opened values.
The pod's own containers are not changed. Applied to its own result this changes nothing.

What can't be done is refused, since ciphertext in place of a password fails later and without a reason: a sealed Secret
in an environment variable, in a projected volume, or as an image pull secret (the kubelet reads those itself).
"""

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from daas.common.errors import Refused

Object = dict[str, Any]

CONTAINER: Final = "k3s-daas-unseal"
PLAN: Final = "DAAS_UNSEAL_PLAN"
NODE_VOLUME: Final = "k3s-daas-node"
SEALED_PREFIX: Final = "k3s-daas-sealed-"
#: Where things are inside the init container.
SEALED_ROOT: Final = "/k3s-daas/sealed"
OPENED_ROOT: Final = "/k3s-daas/opened"
NODE_ROOT: Final = "/k3s-daas/node"
#: A Secret has at most 1 MiB; a tmpfs counts against the pod's memory.
TMPFS_LIMIT: Final = "2Mi"
_DEFAULT_MODE: Final = 0o644


@dataclass(frozen=True, slots=True)
class UnsealContainer:
    """How the init container is made.

    Attributes:
        image: one that has the `daas` command.
        node_directory: directory on every node with `context.json` and `node.keystore`, readable by root alone.
    """

    image: str
    node_directory: str


def secret_names(pod: Object) -> set[str]:
    """The Secrets that a pod names anywhere, our own volumes included."""
    spec = pod.get("spec") or {}
    names = {name for _, name in _volume_secrets(spec)}
    names |= {name for _, name in _unreachable(spec)}
    return names


def inject(pod: Object, sealed: set[str], container: UnsealContainer) -> list[Object]:
    """The JSON patch that lets a pod read sealed Secrets.

    Args:
        pod: as the API server has it.
        sealed: which of `secret_names` are sealed.
        container: how the init container is made.

    Raises:
        Refused: `sealed-secret-use`: a use that can't be served.
    """
    spec = pod.get("spec") or {}
    for where, name in _unreachable(spec):
        if name in sealed:
            raise Refused(f"{where} uses the sealed Secret {name}: mount it as a volume of its own instead",
                          reason="sealed-secret-use", field="spec")  # fmt: skip
    volumes: list[Object] = copy.deepcopy(spec.get("volumes") or [])
    wanted = [v for v in volumes if _secret_of(v) in sealed and not str(v.get("name")).startswith(SEALED_PREFIX)]
    if not wanted:
        return []
    inits: list[Object] = copy.deepcopy(spec.get("initContainers") or [])
    ours = next((one for one in inits if one.get("name") == CONTAINER), None)
    if ours is None:
        ours = _container(container)
        inits.insert(0, ours)
        directory = {"path": container.node_directory, "type": "Directory"}
        volumes.append({"name": NODE_VOLUME, "hostPath": directory})
    (setting,) = (one for one in ours["env"] if one["name"] == PLAN)
    plan: list[Object] = msgspec.json.decode(setting["value"])
    for volume in wanted:
        source = volume.pop("secret")
        number = len(plan)
        aside = {"secretName": source["secretName"], "defaultMode": 0o400}
        if "optional" in source:
            aside["optional"] = source["optional"]
        volumes.append({"name": f"{SEALED_PREFIX}{number}", "secret": aside})
        volume["emptyDir"] = {"medium": "Memory", "sizeLimit": TMPFS_LIMIT}
        ours["volumeMounts"] += [
            {"name": f"{SEALED_PREFIX}{number}", "mountPath": f"{SEALED_ROOT}/{number}", "readOnly": True},
            {"name": volume["name"], "mountPath": f"{OPENED_ROOT}/{number}"},
        ]
        step = {"secret": source["secretName"], "from": f"{SEALED_ROOT}/{number}", "to": f"{OPENED_ROOT}/{number}"}
        step["mode"] = source.get("defaultMode", _DEFAULT_MODE)
        if source.get("items"):
            step["items"] = source["items"]
        if source.get("optional"):
            step["optional"] = True
        plan.append(step)
    setting["value"] = msgspec.json.encode(plan).decode()
    return [
        {"op": "add", "path": "/spec/volumes", "value": volumes},
        {"op": "add", "path": "/spec/initContainers", "value": inits},
    ]


def _container(settings: UnsealContainer) -> Object:
    """Root, since the node's keystore is root's, with no capability and nowhere to write but the opened volumes."""
    return {
        "name": CONTAINER,
        "image": settings.image,
        "command": ["daas", "secret", "unseal"],
        "env": [
            {"name": PLAN, "value": "[]"},
            {"name": "DAAS_UNSEAL_NAMESPACE", "valueFrom": {"fieldRef": {"fieldPath": "metadata.namespace"}}},
            {"name": "DAAS_UNSEAL_NODE", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}},
            {"name": "DAAS_CONTEXT", "value": f"{NODE_ROOT}/context.json"},
            {"name": "DAAS_KEYSTORE", "value": f"{NODE_ROOT}/node.keystore"},
        ],
        # Where a Secret does not open, `kubectl describe pod` shows why.
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": [{"name": NODE_VOLUME, "mountPath": NODE_ROOT, "readOnly": True}],
        "resources": {"requests": {"cpu": "10m", "memory": "96Mi"}, "limits": {"memory": "192Mi"}},
        "securityContext": {
            "runAsUser": 0,
            "runAsNonRoot": False,
            "readOnlyRootFilesystem": True,
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
        },
    }


def _secret_of(volume: Object) -> str | None:
    return (volume.get("secret") or {}).get("secretName")


def _volume_secrets(spec: Object) -> Iterator[tuple[str, str]]:
    for volume in spec.get("volumes") or []:
        name = _secret_of(volume)
        if name is not None:
            yield f"volume {volume.get('name')}", name


def _unreachable(spec: Object) -> Iterator[tuple[str, str]]:
    """Uses of Secrets that an init container can't stand in for, each with where it is."""
    for volume in spec.get("volumes") or []:
        for source in (volume.get("projected") or {}).get("sources") or []:
            if "secret" in source:
                yield f"the projected volume {volume.get('name')}", str(source["secret"].get("name"))
    for one in spec.get("imagePullSecrets") or []:
        yield "imagePullSecrets", str(one.get("name"))
    for container in [*(spec.get("initContainers") or []), *(spec.get("containers") or [])]:
        where = f"container {container.get('name')}"
        for source in container.get("envFrom") or []:
            if "secretRef" in source:
                yield f"{where} (envFrom)", str(source["secretRef"].get("name"))
        for variable in container.get("env") or []:
            reference = (variable.get("valueFrom") or {}).get("secretKeyRef")
            if reference:
                yield f"{where} (env {variable.get('name')})", str(reference.get("name"))
