"""The whole system, through bus, enclave and ledger: a claim that waits for its pod, and a pod that makes room.

Volumes are made here by the development API server's simulated provisioner; nodes without a machine get none from a
real one, so other clusters are left out.
"""

import json
import os
import secrets
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from support.cluster import create_nodes, create_pods, node, pod, wait_for_pods
from support.facts import placement_facts

from daas.devstack.kube_apiserver import BINARIES_VARIABLE
from daas.devstack.stack import Stack
from daas.kube.client import KubeClient
from daas.placement import Policy

pytestmark = [
    pytest.mark.connected,
    pytest.mark.skipif(
        bool({"DAAS_KUBECONFIG", BINARIES_VARIABLE} & set(os.environ)),
        reason="volumes on nodes without machines are simulated",
    ),
]


@pytest.fixture
async def stack(kubeconfig: Path, tmp_path: Path) -> AsyncIterator[Stack]:
    environment = {"DAAS_GATEWAY_KUBECONFIG": str(kubeconfig)}
    async with Stack(tmp_path / "stack", policy=Policy().digest(), environment=environment) as one:
        yield one


async def test_a_claim_is_bound_before_its_pod_and_a_pod_with_more_priority_gets_the_place_of_another(
    stack: Stack, kubeconfig: Path, namespace: str
) -> None:
    label = secrets.token_hex(4)
    selector = {"pool": label}
    name, classes = f"volumes-{label}", f"local-{label}"
    async with await KubeClient.connect(kubeconfig) as client:

        async def post(path: str, body: dict[str, Any]) -> None:
            await client.request("POST", path, body=body)

        await create_nodes(client, [node(name, labels={"pool": label, "kubernetes.io/hostname": name})])
        storage_class = {
            "metadata": {"name": classes},
            "provisioner": "rancher.io/local-path",
            "volumeBindingMode": "WaitForFirstConsumer",
        }
        await post("/apis/storage.k8s.io/v1/storageclasses", storage_class)
        claims = f"/api/v1/namespaces/{namespace}/persistentvolumeclaims"
        requests = {"requests": {"storage": "1Gi"}}
        spec = {"accessModes": ["ReadWriteOnce"], "storageClassName": classes, "resources": requests}
        await post(claims, {"metadata": {"name": "data"}, "spec": spec})
        volumes = [{"name": "data", "persistentVolumeClaim": {"claimName": "data"}}]
        await create_pods(client, [pod("db", namespace, nodeSelector=selector, volumes=volumes)])
        await wait_for_pods(client, namespace, lambda seen: bool(seen and seen[0].spec.node_name), timeout_s=90)
        claim = json.loads(await client.request("GET", f"{claims}/data"))
        assert claim["status"]["phase"] == "Bound"
        assert claim["metadata"]["annotations"]["volume.kubernetes.io/selected-node"] == name

        high = {"metadata": {"name": f"high-{label}"}, "value": 1000}
        await post("/apis/scheduling.k8s.io/v1/priorityclasses", high)
        urgent = pod("urgent", namespace, cpu="12", nodeSelector=selector, priorityClassName=f"high-{label}")
        await create_pods(client, [pod("low", namespace, cpu="12", nodeSelector=selector)])
        await wait_for_pods(
            client, namespace, lambda seen: len(seen) == 2 and all(p.spec.node_name for p in seen), timeout_s=90
        )
        await create_pods(client, [urgent])
        await wait_for_pods(
            client,
            namespace,
            lambda seen: any(p.metadata.name == "urgent" and p.spec.node_name == name for p in seen),
            timeout_s=90,
        )
        facts = await placement_facts(stack)
        plans = [plan for decided in facts.decided for plan in decided.preemptions]
        assert [victim.name for plan in plans for victim in plan.victims] == ["low"]
        await client.request("DELETE", f"/api/v1/nodes/{name}")
