"""A new policy needs a new registry: when the operator changes over no pod moves or is lost, and both chains verify."""

import asyncio
import json
import os
import shutil
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from support.cluster import PodView, create_namespace, create_nodes, create_pods, list_pods, node, pod, wait_for_pods
from support.facts import bus_of, kube_of, running

from daas.common import messages, subjects
from daas.common.messages import PlacementAnchored
from daas.devstack.etcd import EtcdServer
from daas.devstack.stack import Stack
from daas.etcd import EtcdClient
from daas.evidence import EvidenceStore
from daas.kube import KubeClient
from daas.ledger import Ledger
from daas.policy import BUILTIN

pytestmark = [pytest.mark.soak, pytest.mark.connected, pytest.mark.timeout(900)]

NAMESPACE = "policy"
PATIENCE_S = 120.0
#: What an operator adds to the policies that come along.
RULE = """
@id("namespaces-take-a-guardians-stake")
forbid (principal is K3s::Address, action, resource is K3s::Resource)
when { resource.resource == "namespaces" }
unless { principal in K3s::Tier::"guardian" };
"""


async def daas(context: Path, *arguments: str, keystore: Path | None = None) -> dict[str, Any]:
    """A command's JSON."""
    environment = {**os.environ, "DAAS_CONTEXT": str(context)}
    if keystore is not None:
        environment["DAAS_KEYSTORE"] = str(keystore)
    argv = [sys.executable, "-m", "daas.cli", *arguments, "-o", "json"]
    process = await asyncio.create_subprocess_exec(*argv, env=environment, stdout=asyncio.subprocess.PIPE)
    output, _ = await process.communicate()
    assert output, f"`daas {' '.join(arguments)}` printed nothing"
    return dict(json.loads(output))


async def bound(client: KubeClient, count: int) -> dict[str, PodView]:
    await wait_for_pods(
        client,
        NAMESPACE,
        lambda seen: len(seen) == count and all(p.spec.node_name for p in seen),
        timeout_s=PATIENCE_S,
    )
    return {one.metadata.name: one for one in await list_pods(client, NAMESPACE)}


async def archived(stack: Stack) -> int:
    """Waits until the evidence of every anchored batch is stored; how many there are."""
    async with bus_of(stack) as bus:
        anchored = await bus.last(subjects.PLACEMENT_ANCHORED)
    assert anchored is not None
    head = messages.decode(anchored.data, PlacementAnchored).sequence
    async with EtcdClient([stack.etcd.endpoint]) as etcd:
        store, deadline = EvidenceStore(etcd, stack.cluster), time.monotonic() + PATIENCE_S
        while await store.latest() < head:
            assert time.monotonic() < deadline, f"evidence up to {await store.latest()} of {head}"
            await asyncio.sleep(0.1)
    return head


async def verified(context: Path) -> int:
    found = await daas(context, "verify", "all")
    assert found["ok"], [report["failed"] for report in found["reports"] if report["failed"]]
    return len(found["reports"])


def changed_policies(folder: Path) -> Path:
    shutil.copytree(BUILTIN, folder)
    with (folder / "base.cedar").open("a", encoding="utf-8") as file:
        file.write(RULE)
    return folder


async def change_over(stack: Stack, policy: str) -> str:
    """What the operator does while gateway, relay and enclave stand still; the new registry."""
    context, keystore = stack.context_path, stack.state_dir / "operator.key"
    pcrs = stack.ready("nsm", "pcrs")
    image = [argument for n in range(3) for argument in (f"--pcr{n}", pcrs[str(n)])]
    made = await daas(context, "chain", "create-registry", *image, "--policy", policy, "--yes", keystore=keystore)
    # The old chain is closed: its keys can anchor nothing any more, whoever has them.
    await daas(context, "enclave", "retire", "1", "--yes", keystore=keystore)
    return str(made["registry"])


async def test_after_a_change_of_policy_pods_run_on_waiting_ones_are_placed_and_both_chains_verify(
    tmp_path: Path,
) -> None:
    state, aside, folder = tmp_path / "state", tmp_path / "aside", changed_policies(tmp_path / "policies")
    async with running(state) as stack, kube_of(stack) as client:
        await create_nodes(client, [node(f"node-{n}", cpu="4") for n in range(3)])
        await create_namespace(client, NAMESPACE)
        await create_pods(client, [pod(f"old-{n}", NAMESPACE, cpu="500m") for n in range(12)])
        before = await bound(client, 12)
        head = await archived(stack)
        assert await verified(stack.context_path) >= head
        for name in ("gateway", "enclave", "relay", "storage"):
            await stack.processes[name].terminate()
        await create_pods(client, [pod(f"new-{n}", NAMESPACE, cpu="500m") for n in range(6)])
        policy = await daas(stack.context_path, "policy", "check", str(folder))
        registry = await change_over(stack, policy["registry_policy"])
        assert stack.deployment is not None
        old, deployment = (
            json.loads(stack.context_path.read_text()),
            json.loads((state / "deployment.json").read_text()),
        )

    # The bus, the evidence and what services keep belong to the old registry; API server and ledger stay.
    for name in ("nats", "etcd", "relay", "enclave", "gateway", "storage"):
        if (state / name).exists():
            shutil.move(state / name, aside / name)
    (state / "deployment.json").write_text(json.dumps(deployment | {"registry": registry}))

    async with (
        running(state, DAAS_ENCLAVE_POLICIES=str(folder)) as stack,
        kube_of(stack) as client,
        EtcdServer(aside / "etcd") as etcd,
    ):
        after = await bound(client, 18)
        assert {n: (p.metadata.uid, p.spec.node_name) for n, p in after.items() if n in before} == {
            n: (p.metadata.uid, p.spec.node_name) for n, p in before.items()
        }
        # 4 CPUs a node, half a CPU a pod: whoever had forgotten the old ones would have put too many on a node.
        assert max(Counter(p.spec.node_name for p in after.values()).values()) <= 8
        assert await archived(stack) >= 1
        new = json.loads(stack.context_path.read_text()) | {"policy": {"access": policy["digest"]}}
        stack.context_path.write_text(json.dumps(new))
        assert await verified(stack.context_path) >= 1

        here = {field: new[field] for field in ("ledger_url", "walrus_aggregators", "kubeconfig", "services")}
        before_context = tmp_path / "old-context.json"
        before_context.write_text(json.dumps(old | here | {"etcd_endpoints": [etcd.endpoint]}))
        assert await verified(before_context) >= head
        async with await Ledger.connect(new["ledger_url"], package=new["package"]) as ledger:
            closed = await ledger.registry(old["registry"])
        assert (closed.sequence, closed.measurements) == (head, ())
        assert old["registry"] != new["registry"]
