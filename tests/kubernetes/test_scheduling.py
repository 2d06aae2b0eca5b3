"""The whole system schedules on a cluster: schedulerName, binding with proof, unschedulable pods. Runs on any cluster.

Nodes and pods are the tests' own: pods ask for a label that only those nodes have, and tolerate what a real cluster's
controllers say of nodes without a kubelet.
"""

import asyncio
import secrets
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
from support.cluster import create_nodes, create_pods, list_pods, node, pod, wait_for_pods
from support.facts import placement_facts

from daas.devstack.stack import Stack
from daas.kube.client import KubeClient
from daas.placement import Policy

pytestmark = pytest.mark.connected

POOL = "k3s-daas.example/pool"


@dataclass
class Ours:
    """A running system, the cluster it schedules on, and the label of this test's nodes."""

    stack: Stack
    client: KubeClient
    pool: str

    async def nodes(self, count: int) -> None:
        """Nodes of this test."""
        await create_nodes(self.client, [node(f"{self.pool}-{n}", labels={POOL: self.pool}) for n in range(count)])

    def pod(self, name: str, namespace: str, **spec: Any) -> dict[str, Any]:
        """A pod that only this test's nodes take."""
        everything = [{"operator": "Exists"}]
        return pod(name, namespace, nodeSelector={POOL: self.pool}, tolerations=everything, **spec)


@pytest.fixture
async def ours(kubeconfig: Path, tmp_path: Path) -> AsyncIterator[Ours]:
    environment = {"DAAS_GATEWAY_KUBECONFIG": str(kubeconfig)}
    stack = Stack(tmp_path / "stack", policy=Policy().digest(), environment=environment)
    async with stack, await KubeClient.connect(kubeconfig) as client:
        found = Ours(stack, client, f"pool-{secrets.token_hex(4)}")
        yield found
        selector = {"labelSelector": f"{POOL}={found.pool}"}
        await client.request("DELETE", "/api/v1/nodes", query=selector, timeout_s=300)  # thousands


async def test_pods_that_name_the_scheduler_are_bound_with_their_proof_and_others_are_left_alone(
    ours: Ours, namespace: str
) -> None:
    await ours.nodes(5)
    mine = [ours.pod(f"mine-{n}", namespace) for n in range(40)]
    giant = ours.pod("giant", namespace, cpu="500")
    foreign = ours.pod("foreign", namespace, schedulerName="nobody-schedules")
    await create_pods(ours.client, [*mine, giant, foreign])
    await wait_for_pods(
        ours.client,
        namespace,
        lambda seen: sum(bool(p.spec.node_name) for p in seen) == 40 and any(p.unschedulable for p in seen),
        timeout_s=120,
    )
    final = {p.metadata.name: p for p in await list_pods(ours.client, namespace)}
    for name, one in final.items():
        if name.startswith("mine"):
            assert one.spec.node_name.startswith(ours.pool)
            assert one.metadata.annotations["k3s-daas.io/proof"].count("/") == 1
            assert one.metadata.annotations["k3s-daas.io/simulated"] == "true"
    assert "cpu" in final["giant"].unschedulable
    assert not final["foreign"].spec.node_name
    assert not final["foreign"].unschedulable


async def _scale(ours: Ours, namespace: str, *, nodes: int, pods: int) -> dict[str, float]:
    """Creates nodes and pods, waits until all are bound; returns seconds and the gateway's resident MB."""
    loop = asyncio.get_running_loop()
    await ours.nodes(nodes)
    started = loop.time()
    for first in range(0, pods, 2_000):
        await create_pods(
            ours.client, [ours.pod(f"pod-{n}", namespace) for n in range(first, min(pods, first + 2_000))]
        )
    await wait_for_pods(
        ours.client,
        namespace,
        lambda seen: len(seen) == pods and all(p.spec.node_name for p in seen),
        timeout_s=120 + pods / 20,
    )
    took = loop.time() - started
    rss = psutil.Process(ours.stack.pids()["gateway"]).memory_info().rss / 2**20
    final = await list_pods(ours.client, namespace)
    used = Counter(p.spec.node_name for p in final)
    assert max(used.values()) <= 160, "a node of 16 cores took more than 160 pods of a tenth"
    uids = {p.metadata.uid for p in final}
    facts = await placement_facts(ours.stack, bound=len(uids))
    assert uids <= {bound.pod_uid for bound in facts.bound}
    assert len(facts.bound) == len({bound.pod_uid for bound in facts.bound})
    return {"seconds": took, "pods_per_s": pods / took, "gateway_mb": rss}


@pytest.mark.timeout(300)
async def test_fifty_nodes_and_five_hundred_pods(ours: Ours, namespace: str) -> None:
    await _scale(ours, namespace, nodes=50, pods=500)


@pytest.mark.soak
@pytest.mark.timeout(1800)
async def test_five_thousand_nodes_and_ten_thousand_pods(ours: Ours, namespace: str) -> None:
    figures = await _scale(ours, namespace, nodes=5_000, pods=10_000)
    print({name: round(value, 1) for name, value in figures.items()})
    assert figures["gateway_mb"] < 300
