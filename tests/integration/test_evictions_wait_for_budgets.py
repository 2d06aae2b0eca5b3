"""An eviction that a disruption budget forbids (429) is tried again until the budget allows it, or patience ends."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from support.cluster import create_namespace, create_nodes, create_pods, node, pod

from daas.cli import live
from daas.common.errors import Refused
from daas.devstack.process import Process
from daas.kube import KubeClient
from daas.placement.model import Pod

pytestmark = [pytest.mark.connected, pytest.mark.timeout(300)]

WORK = "work"


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[KubeClient]:
    """An API server where a budget leaves nothing of the two pods on one node."""
    argv = ["python", "-m", "daas.devstack.apiserver", "--state", str(tmp_path)]
    server = Process("apiserver", argv, log_path=tmp_path / "apiserver.log")
    ready = await server.start()
    async with await KubeClient.connect(Path(ready["kubeconfig"])) as made:
        await create_nodes(made, [node("a")])
        await create_namespace(made, WORK)
        await create_pods(made, [pod("one", WORK, nodeName="a"), pod("two", WORK, nodeName="a")])
        budget = {
            "apiVersion": "policy/v1",
            "kind": "PodDisruptionBudget",
            "metadata": {"name": "two-at-least"},
            "spec": {"selector": {}, "minAvailable": 2},
        }
        await made.request("POST", f"/apis/policy/v1/namespaces/{WORK}/poddisruptionbudgets", body=budget)
        yield made
    await server.terminate()


async def named(client: KubeClient, name: str) -> Pod | None:
    return next((one for one in await live.pods_of(client, WORK) if one.metadata.name == name), None)


async def test_without_room_in_the_budget_the_pod_stays_and_the_reason_is_the_budgets(client: KubeClient) -> None:
    one = await named(client, "one")
    assert one is not None
    with pytest.raises(Refused) as refused:
        await live.evict(client, one, patience_s=0.5)
    assert refused.value.reason == "eviction-budget"
    assert "disruption budget" in refused.value.message
    assert await named(client, "one") is not None


async def test_as_soon_as_another_pod_makes_room_the_waiting_eviction_goes_through(client: KubeClient) -> None:
    one = await named(client, "one")
    assert one is not None
    evicting = asyncio.create_task(live.evict(client, one, patience_s=60))
    refused = asyncio.create_task(live.evict(client, one, patience_s=0.1))
    with pytest.raises(Refused, match="disruption budget"):
        await refused
    assert not evicting.done()
    await create_pods(client, [pod("three", WORK, nodeName="a")])
    await asyncio.wait_for(evicting, 60)
    gone = await named(client, "one")
    assert gone is None or gone.metadata.deletion_timestamp
