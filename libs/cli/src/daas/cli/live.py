"""The cluster as its API server tells it right now, in the form that plans are checked against; and evictions."""

import asyncio
import time
from typing import Any, Final
from urllib.parse import quote

import msgspec

from daas.common.errors import Conflict, NotFound, Refused, Unavailable
from daas.kube import KubeClient
from daas.kube.errors import KubeUnavailable
from daas.placement.allocation import Cluster, Running
from daas.placement.balance import Budget, PastMove, RebalancePolicy, Situation
from daas.placement.balance.situation import owner_of
from daas.placement.model import Node, Pod

ENDED: Final = frozenset({"Succeeded", "Failed"})
POLL_S: Final = 0.3


class _Nodes(msgspec.Struct):
    items: list[Node]


class _Pods(msgspec.Struct):
    items: list[Pod]


class _BudgetMeta(msgspec.Struct):
    namespace: str
    name: str


class _BudgetObject(msgspec.Struct):
    metadata: _BudgetMeta
    spec: dict[str, Any] = {}
    status: dict[str, Any] = {}


class _Budgets(msgspec.Struct):
    items: list[_BudgetObject]


async def pods_of(client: KubeClient, namespace: str = "") -> list[Pod]:
    """Every pod, of one namespace or of all."""
    where = f"/api/v1/namespaces/{quote(namespace)}/pods" if namespace else "/api/v1/pods"
    return msgspec.json.decode(await client.request("GET", where), type=_Pods).items


async def cluster_now(client: KubeClient) -> Cluster:
    """Nodes and pods as they are."""
    nodes = msgspec.json.decode(await client.request("GET", "/api/v1/nodes"), type=_Nodes).items
    pods = [pod for pod in await pods_of(client) if pod.status is None or pod.status.phase not in ENDED]
    return Cluster.of(
        nodes,
        [Running(node=pod.spec.node_name, pod=pod) for pod in pods if pod.spec.node_name],
        [pod for pod in pods if not pod.spec.node_name],
    )


async def budgets_now(client: KubeClient) -> tuple[Budget, ...]:
    """The PodDisruptionBudgets with what they allow now; none where the API server knows no such thing."""
    try:
        raw = await client.request("GET", "/apis/policy/v1/poddisruptionbudgets")
    except NotFound:
        return ()
    found = [
        Budget(
            namespace=one.metadata.namespace,
            name=one.metadata.name,
            selector=one.spec.get("selector"),
            disruptions_allowed=int(one.status.get("disruptionsAllowed", 0)),
        )
        for one in msgspec.json.decode(raw, type=_Budgets).items
    ]
    converted = msgspec.convert(msgspec.to_builtins(found), tuple[Budget, ...])
    return tuple(sorted(converted, key=lambda budget: (budget.namespace, budget.name)))


async def situation_now(client: KubeClient, policy: RebalancePolicy, past: tuple[PastMove, ...]) -> Situation:
    """What a step is checked against right before it is made."""
    return Situation(
        cluster=await cluster_now(client),
        policy=policy,
        budgets=await budgets_now(client),
        past=past,
        now_ms=time.time_ns() // 1_000_000,
    )


async def evict(client: KubeClient, pod: Pod, *, patience_s: float) -> None:
    """Evicts exactly this pod; waits while a disruption budget says "not now".

    Raises:
        Refused: `eviction-budget`: no budget let it go in time.
        DaasError: as the API server refuses.
    """
    meta = pod.metadata
    path = f"/api/v1/namespaces/{quote(meta.namespace)}/pods/{quote(meta.name)}/eviction"
    body = {
        "apiVersion": "policy/v1",
        "kind": "Eviction",
        "metadata": {"name": meta.name, "namespace": meta.namespace},
        "deleteOptions": {"preconditions": {"uid": meta.uid}},
    }
    deadline = time.monotonic() + patience_s
    while True:
        try:
            await client.request("POST", path, body=body)
        except KubeUnavailable as error:
            if error.retry_after_s is None and "429" not in error.message and "budget" not in error.message:
                raise
            if time.monotonic() > deadline:
                raise Refused(f"not evicted: {error.message}", reason="eviction-budget") from None
            await asyncio.sleep(min(error.retry_after_s or POLL_S, 5.0))
        else:
            return


async def successor(client: KubeClient, pod: Pod, before: frozenset[str], *, patience_s: float) -> Pod:
    """The pod that its owner made in its stead, once it is placed and the evicted one is gone.

    Args:
        client: the API server.
        pod: that was evicted.
        before: uids of the owner's pods before the eviction.
        patience_s: how long to wait.

    Raises:
        Unavailable: `no-successor`: it took longer.
    """
    owner, deadline = owner_of(pod), time.monotonic() + patience_s
    while True:
        seen = await pods_of(client, pod.metadata.namespace)
        gone = all(one.metadata.uid != pod.metadata.uid for one in seen)
        for one in seen:
            if gone and owner_of(one) == owner and one.metadata.uid not in before and one.spec.node_name:
                return one
        if time.monotonic() > deadline:
            raise Unavailable(
                f"{owner} has no placed successor of {pod.metadata.name} after {patience_s} s", reason="no-successor"
            )
        await asyncio.sleep(POLL_S)


def find(cluster: Cluster, uid: str) -> Pod:
    """A running pod.

    Raises:
        Conflict: `unknown-pod`.
    """
    for running in cluster.running:
        if running.pod.metadata.uid == uid:
            return running.pod
    raise Conflict(f"pod {uid} runs no more", reason="unknown-pod", field="move")
