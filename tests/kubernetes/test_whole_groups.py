"""The whole system, through bus, enclave and ledger: a group of pods that kubectl applies is placed whole or waits.

The development API server serves PodGroups; other clusters need the resource of the scheduler-plugins project.
"""

import json
import os
import secrets
import subprocess
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from support.cluster import PodView, create_nodes, node, pod, wait_for_pods
from support.facts import placement_facts

from daas.devstack.kube_apiserver import BINARIES_VARIABLE
from daas.devstack.stack import Stack
from daas.kube.client import KubeClient
from daas.placement import Policy

pytestmark = [
    pytest.mark.connected,
    pytest.mark.skipif(
        bool({"DAAS_KUBECONFIG", BINARIES_VARIABLE} & set(os.environ)),
        reason="PodGroups are served by the development API server",
    ),
]
LABEL = "scheduling.x-k8s.io/pod-group"


@pytest.fixture
async def stack(kubeconfig: Path, tmp_path: Path) -> AsyncIterator[Stack]:
    environment = {"DAAS_GATEWAY_KUBECONFIG": str(kubeconfig)}
    async with Stack(tmp_path / "stack", policy=Policy().digest(), environment=environment) as one:
        yield one


def member(name: str, namespace: str, pool: str) -> dict[str, Any]:
    found = pod(name, namespace, cpu="3", nodeSelector={"pool": pool})
    found["metadata"]["labels"] = {LABEL: "training"}
    return found


def all_say(phrase: str, count: int) -> Callable[[list[PodView]], bool]:
    return lambda seen: len(seen) == count and all(phrase in p.unschedulable and not p.spec.node_name for p in seen)


async def test_a_group_waits_for_its_last_pod_then_for_room_and_is_bound_whole_out_of_one_batch(
    stack: Stack,
    kubeconfig: Path,
    namespace: str,
    kubectl: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    pool = secrets.token_hex(4)

    def apply(*objects: dict[str, Any]) -> None:
        done = kubectl("apply", "-f", "-", stdin="\n".join(map(json.dumps, objects)))
        assert done.returncode == 0, done.stderr

    def made(name: str) -> dict[str, Any]:
        return node(name, cpu="4", labels={"pool": pool})

    async with await KubeClient.connect(kubeconfig) as client:
        await create_nodes(client, [made(f"{pool}-0"), made(f"{pool}-1")])
        group = {
            "apiVersion": "scheduling.x-k8s.io/v1alpha1",
            "kind": "PodGroup",
            "metadata": {"name": "training", "namespace": namespace},
            "spec": {"minMember": 3},
        }
        apply(group, member("worker-0", namespace, pool), member("worker-1", namespace, pool))
        await wait_for_pods(client, namespace, all_say("waits for the rest of its group", 2), timeout_s=90)
        apply(member("worker-2", namespace, pool))
        await wait_for_pods(client, namespace, all_say("not enough of the pod's group fit", 3), timeout_s=90)
        facts = await placement_facts(stack)
        assert not any(leaf.node for decided in facts.decided for leaf in decided.leaves if leaf.namespace == namespace)

        await create_nodes(client, [made(f"{pool}-2")])
        await wait_for_pods(
            client, namespace, lambda seen: len(seen) == 3 and all(p.spec.node_name for p in seen), timeout_s=90
        )
        facts = await placement_facts(stack)
        placed = [
            {leaf.name: leaf.node for leaf in decided.leaves if leaf.node and leaf.namespace == namespace}
            for decided in facts.decided
        ]
        together = [one for one in placed if one]
        assert [sorted(one) for one in together] == [["worker-0", "worker-1", "worker-2"]]
        assert sorted(together[0].values()) == [f"{pool}-{n}" for n in range(3)]
        for n in range(3):
            await client.request("DELETE", f"/api/v1/nodes/{pool}-{n}")
