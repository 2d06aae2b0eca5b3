"""What a kubelet does for a pod's Secret volumes and init container, as far as `daas secret unseal` sees it.

Volumes become directories with the kubelet's links; the container's paths are below a directory of the test's own. The
node's keystore and context are files that the caller names: there is no node here.
"""

import base64
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from daas.gateway.webhooks.unseal import CONTAINER
from daas.kube.client import KubeClient


class PodOnNode:
    """One admitted pod.

    Args:
        pod: as admission left it.
        root: an empty directory for its volumes.
    """

    def __init__(self, pod: dict[str, Any], root: Path) -> None:
        self.pod = pod
        self.root = root
        spec = pod["spec"]
        self._volumes = {volume["name"]: volume for volume in spec["volumes"]}
        self._init = next(one for one in spec["initContainers"] if one["name"] == CONTAINER)

    async def mount(self, client: KubeClient, namespace: str) -> None:
        """Fills the Secret volumes from the API server and makes the empty ones."""
        for name, volume in self._volumes.items():
            directory = self.root / "volumes" / name
            directory.mkdir(parents=True, exist_ok=True)
            if "secret" not in volume:
                continue
            path = f"/api/v1/namespaces/{namespace}/secrets/{volume['secret']['secretName']}"
            data = json.loads(await client.request("GET", path))["data"]
            behind = directory / "..2026_01_01"
            behind.mkdir(exist_ok=True)
            (directory / "..data").symlink_to(behind.name)
            for key, value in data.items():
                (behind / key).write_bytes(base64.b64decode(value))
                (directory / key).symlink_to(f"..data/{key}")

    def file(self, volume: str, path: str) -> Path:
        """Where a container of the pod would find a file of a volume."""
        return self.root / "volumes" / volume / path

    def unseal(self, *, namespace: str, node: str, keystore: Path, context: Path) -> subprocess.CompletedProcess[str]:
        """Runs the init container's command with its variables, its mounts being below our directory."""
        mounts = {one["mountPath"]: one["name"] for one in self._init["volumeMounts"]}
        (plan,) = (json.loads(one["value"]) for one in self._init["env"] if one["name"] == "DAAS_UNSEAL_PLAN")
        for step in plan:
            for end in ("from", "to"):
                step[end] = str(self.root / "volumes" / mounts[step[end]])
        assert self._init["command"][0] == "daas"
        return subprocess.run(
            [str(Path(sys.executable).with_name("daas")), *self._init["command"][1:]],
            env={
                "PATH": os.environ["PATH"],
                "DAAS_UNSEAL_PLAN": json.dumps(plan),
                "DAAS_UNSEAL_NAMESPACE": namespace,
                "DAAS_UNSEAL_NODE": node,
                "DAAS_KEYSTORE": str(keystore),
                "DAAS_CONTEXT": str(context),
            },
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
