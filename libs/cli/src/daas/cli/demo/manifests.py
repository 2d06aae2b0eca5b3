"""The demo's objects as manifest files, which kubectl (or the Kubernetes client, where kubectl is missing) creates."""

import asyncio
import shutil
from importlib import resources
from pathlib import Path
from typing import Any

import msgspec
import yaml

from daas.common.errors import Unavailable
from daas.kube.client import KubeClient

NAMESPACE = "demo"
SCHEDULER = "k3s-daas"
KUBECTL_TIMEOUT_S = 60.0


class Workload(msgspec.Struct, frozen=True):
    """One group of equal pods; `why` says what it shows."""

    name: str
    count: int
    why: str
    spec: dict[str, Any]


def load_workloads() -> tuple[Workload, ...]:
    """The groups of workloads.yaml."""
    text = resources.files(__package__).joinpath("workloads.yaml").read_text(encoding="utf-8")
    return msgspec.convert(yaml.safe_load(text), type=tuple[Workload, ...])


def write_manifests(directory: Path) -> list[Path]:
    """Writes nodes, namespace and one file for each workload; returns the files in the order of creation."""
    directory.mkdir(parents=True, exist_ok=True)
    nodes = directory / "00-nodes.yaml"
    nodes.write_text(resources.files(__package__).joinpath("nodes.yaml").read_text(encoding="utf-8"), encoding="utf-8")
    namespace = directory / "01-namespace.yaml"
    namespace.write_text(f"apiVersion: v1\nkind: Namespace\nmetadata:\n  name: {NAMESPACE}\n", encoding="utf-8")
    files = [nodes, namespace]
    for number, workload in enumerate(load_workloads(), start=2):
        path = directory / f"{number:02d}-{workload.name}.yaml"
        pods = (_pod(workload, index) for index in range(workload.count))
        path.write_text(f"# {workload.why}\n" + yaml.safe_dump_all(pods, sort_keys=False), encoding="utf-8")
        files.append(path)
    return files


def _pod(workload: Workload, index: int) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": f"{workload.name}-{index}",
            "namespace": NAMESPACE,
            "labels": {"app.kubernetes.io/name": workload.name},
        },
        "spec": {"schedulerName": SCHEDULER, **workload.spec},
    }


async def create(kubeconfig: str, files: list[Path]) -> str:
    """Creates what the files say, in order; returns the name of the tool that did it.

    Raises:
        Unavailable: `kubectl-failed`, with what it printed.
    """
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        await _create_with_client(Path(kubeconfig), files)
        return "the kubernetes client (kubectl is not installed)"
    for path in files:
        arguments = ("--kubeconfig", kubeconfig, "create", "--validate=false", "-f", str(path))
        process = await asyncio.create_subprocess_exec(
            kubectl, *arguments, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
        )
        try:
            async with asyncio.timeout(KUBECTL_TIMEOUT_S):
                output, _ = await process.communicate()
        except TimeoutError:
            process.kill()
            raise Unavailable(f"kubectl create -f {path.name} took too long", reason="kubectl-failed") from None
        if process.returncode != 0:
            raise Unavailable(f"kubectl create -f {path.name}: {output.decode().strip()}", reason="kubectl-failed")
    return "kubectl"


async def _create_with_client(kubeconfig: Path, files: list[Path]) -> None:
    paths = {"Node": "/api/v1/nodes", "Namespace": "/api/v1/namespaces", "Pod": f"/api/v1/namespaces/{NAMESPACE}/pods"}
    async with await KubeClient.connect(kubeconfig) as client:
        for path in files:
            for manifest in yaml.safe_load_all(await asyncio.to_thread(path.read_text)):
                await client.request("POST", paths[manifest["kind"]], body=manifest)
