"""Nodes and pods for tests: made in bulk through the API server, counted, and waited for."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

import msgspec

from daas.kube import KubeRefused
from daas.kube.client import KubeClient

CONCURRENCY = 32
#: A controller makes the account of a new namespace.
ACCOUNT_TIMEOUT_S = 60.0
POLL_S = 0.1


class _Meta(msgspec.Struct):
    name: str
    uid: str
    annotations: dict[str, str] = {}


class _Condition(msgspec.Struct):
    type: str
    status: str
    reason: str = ""
    message: str = ""


class _Status(msgspec.Struct):
    conditions: list[_Condition] = []


class _Spec(msgspec.Struct):
    node_name: str = msgspec.field(name="nodeName", default="")


class PodView(msgspec.Struct):
    """The fields of a pod that the tests look at."""

    metadata: _Meta
    spec: _Spec
    status: _Status = msgspec.field(default_factory=_Status)

    @property
    def unschedulable(self) -> str:
        """What the PodScheduled=False condition says; empty where there is none."""
        for condition in self.status.conditions:
            if condition.type == "PodScheduled" and condition.status == "False":
                return condition.message
        return ""


class _PodList(msgspec.Struct):
    items: list[PodView]


def node(
    name: str, *, cpu: str = "16", memory: str = "64Gi", pods: int = 250, labels: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """A ready node."""
    resources = {"cpu": cpu, "memory": memory, "ephemeral-storage": "100Gi", "pods": str(pods)}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name, **(labels or {})}},
        "status": {
            "capacity": resources,
            "allocatable": resources,
            "conditions": [{"type": "Ready", "status": "True"}],
        },
    }


def pod(name: str, namespace: str, *, cpu: str = "100m", memory: str = "64Mi", **spec: Any) -> dict[str, Any]:
    """A pod for our scheduler."""
    requests = {"cpu": cpu, "memory": memory}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "schedulerName": "k3s-daas",
            "containers": [{"name": "c", "image": "registry.example/c:1", "resources": {"requests": requests}}],
            **spec,
        },
    }


async def create_nodes(client: KubeClient, nodes: list[dict[str, Any]]) -> None:
    """Creates nodes, many at once."""
    await _each(nodes, lambda body: client.request("POST", "/api/v1/nodes", body=body))


async def create_namespace(client: KubeClient, name: str) -> None:
    """Creates a namespace."""
    body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
    await client.request("POST", "/api/v1/namespaces", body=body)


async def create_pods(client: KubeClient, pods: list[dict[str, Any]]) -> None:
    """Creates pods, many at once; waits where a new namespace has no account yet, as every controller does."""

    async def create(body: dict[str, Any]) -> None:
        path = f"/api/v1/namespaces/{body['metadata']['namespace']}/pods"
        async with asyncio.timeout(ACCOUNT_TIMEOUT_S):
            while True:
                try:
                    await client.request("POST", path, body=body)
                except KubeRefused as refused:
                    if "serviceaccount" not in str(refused):
                        raise
                    await asyncio.sleep(0.1)
                else:
                    return

    await _each(pods, create)


async def _each(bodies: list[dict[str, Any]], send: Callable[[dict[str, Any]], Any]) -> None:
    slots = asyncio.Semaphore(CONCURRENCY)

    async def one(body: dict[str, Any]) -> None:
        async with slots:
            await send(body)

    await asyncio.gather(*(one(body) for body in bodies))


async def list_pods(client: KubeClient, namespace: str) -> list[PodView]:
    """Every pod of a namespace."""
    raw = await client.request("GET", f"/api/v1/namespaces/{namespace}/pods")
    return msgspec.json.decode(raw, type=_PodList).items


async def wait_for_pods(
    client: KubeClient, namespace: str, done: Callable[[list[PodView]], bool], *, timeout_s: float
) -> list[PodView]:
    """Polls until `done` holds of the namespace's pods.

    Raises:
        AssertionError: it never held; says how far it came.
    """
    deadline = time.monotonic() + timeout_s
    async for pods in _polled(client, namespace):
        if done(pods):
            return pods
        if time.monotonic() > deadline:
            bound = sum(1 for p in pods if p.spec.node_name)
            raise AssertionError(f"after {timeout_s} s {bound} of {len(pods)} pods in {namespace} are bound")
    raise AssertionError("unreachable")


async def _polled(client: KubeClient, namespace: str) -> AsyncIterator[list[PodView]]:
    while True:
        yield await list_pods(client, namespace)
        await asyncio.sleep(POLL_S)
