"""Volumes and disruption budgets of the development API server, whose controllers are simulated."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from daas.devstack.apiserver.development import start
from daas.kube import KubeClient, KubeNotFound, KubeUnavailable, load_configuration

pytestmark = pytest.mark.connected
CLAIMS = "/api/v1/namespaces/default/persistentvolumeclaims"
PODS = "/api/v1/namespaces/default/pods"
BUDGETS = "/apis/policy/v1/namespaces/default/poddisruptionbudgets"


class Api:
    def __init__(self, client: KubeClient) -> None:
        self.client = client

    async def get(self, path: str) -> Any:
        return json.loads(await self.client.request("GET", path))

    async def post(self, path: str, body: dict[str, Any]) -> None:
        await self.client.request("POST", path, body=body)

    async def until(self, path: str, holds: Callable[[Any], bool]) -> Any:
        async with asyncio.timeout(100):
            while True:
                found = await self.get(path)
                if holds(found):
                    return found
                await asyncio.sleep(0.01)

    async def pod_on(self, name: str, node: str, **spec: Any) -> None:
        containers = [{"name": "main", "image": "web"}]
        meta = {"name": name, "labels": {"app": "web"}}
        await self.post(PODS, {"metadata": meta, "spec": {"containers": containers, "nodeName": node, **spec}})

    async def evict(self, name: str) -> None:
        await self.post(f"{PODS}/{name}/eviction", {"metadata": {"name": name}})


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Api]:
    running = await start(tmp_path)
    client = KubeClient(await load_configuration(running.kubeconfig))
    yield Api(client)
    await client.close()
    await running.stop()


def claim(name: str) -> dict[str, Any]:
    requests = {"requests": {"storage": "1Gi"}}
    spec = {"accessModes": ["ReadWriteOnce"], "storageClassName": "local-path", "resources": requests}
    return {"metadata": {"name": name}, "spec": spec}


def local_path() -> dict[str, Any]:
    provisioner = "rancher.io/local-path"
    return {
        "metadata": {"name": "local-path"},
        "provisioner": provisioner,
        "volumeBindingMode": "WaitForFirstConsumer",
    }


async def test_a_claim_that_waits_gets_a_volume_on_the_node_that_is_selected_and_not_before(api: Api) -> None:
    await api.post("/apis/storage.k8s.io/v1/storageclasses", local_path())
    await api.post(CLAIMS, claim("data"))
    assert (await api.get(f"{CLAIMS}/data"))["status"]["phase"] == "Pending"
    annotation = {"metadata": {"annotations": {"volume.kubernetes.io/selected-node": "n1"}}}
    await api.client.request("PATCH", f"{CLAIMS}/data", body=annotation, content_type="application/merge-patch+json")
    bound = await api.until(f"{CLAIMS}/data", lambda found: found["status"]["phase"] == "Bound")
    volume = await api.get(f"/api/v1/persistentvolumes/{bound['spec']['volumeName']}")
    assert volume["metadata"]["annotations"]["k3s-daas.io/simulated"] == "true"
    assert volume["spec"]["claimRef"]["name"] == "data"
    term = volume["spec"]["nodeAffinity"]["required"]["nodeSelectorTerms"][0]
    assert term["matchExpressions"][0]["values"] == ["n1"]


async def test_a_volume_that_is_set_aside_for_a_claim_is_bound_to_it(api: Api) -> None:
    await api.post(CLAIMS, claim("data"))
    reference = {"kind": "PersistentVolumeClaim", "namespace": "default", "name": "data"}
    spec = {"capacity": {"storage": "2Gi"}, "accessModes": ["ReadWriteOnce"], "claimRef": reference}
    await api.post("/api/v1/persistentvolumes", {"metadata": {"name": "v"}, "spec": {**spec, "local": {"path": "/d"}}})
    bound = await api.until(f"{CLAIMS}/data", lambda found: found["status"]["phase"] == "Bound")
    assert bound["spec"]["volumeName"] == "v"


async def test_a_claim_is_made_for_each_ephemeral_volume_and_belongs_to_its_pod(api: Api) -> None:
    template = {"volumeClaimTemplate": {"spec": claim("x")["spec"]}}
    await api.pod_on("p", "n1", volumes=[{"name": "scratch", "ephemeral": template}])
    async with asyncio.timeout(100):
        while True:
            try:
                made = await api.get(f"{CLAIMS}/p-scratch")
                break
            except KubeNotFound:
                await asyncio.sleep(0.01)
    pod = await api.get(f"{PODS}/p")
    assert made["metadata"]["ownerReferences"][0]["uid"] == pod["metadata"]["uid"]


async def test_an_eviction_that_a_budget_forbids_is_refused_and_one_that_it_allows_is_counted(api: Api) -> None:
    for name in ("a", "b", "c"):
        await api.pod_on(name, "n1")
    selector = {"matchLabels": {"app": "web"}}
    await api.post(BUDGETS, {"metadata": {"name": "web"}, "spec": {"minAvailable": 2, "selector": selector}})
    await api.until(f"{BUDGETS}/web", lambda found: found["status"]["disruptionsAllowed"] == 1)
    await api.evict("a")
    with pytest.raises(KubeUnavailable, match="disruption budget"):
        await api.evict("b")
    status = (await api.until(f"{BUDGETS}/web", lambda found: found["status"]["expectedPods"] == 2))["status"]
    assert (status["disruptionsAllowed"], status["currentHealthy"], status["desiredHealthy"]) == (0, 2, 2)
