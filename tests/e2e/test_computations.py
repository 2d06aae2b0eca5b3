"""Explanations, allocations and moves from the command line against the whole system, each checked from evidence."""

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest
from support.cluster import create_namespace, create_nodes, create_pods, list_pods, node, pod, wait_for_pods
from support.command import daas_here
from support.facts import kube_of, running

from daas.devstack.stack import Stack
from daas.kube import KubeClient

pytestmark = [pytest.mark.connected, pytest.mark.timeout(290)]

WORK = "work"


async def daas(stack: Stack, *arguments: str) -> tuple[int, str]:
    return await daas_here(stack.context_path, *arguments)


def owned(name: str, owner: str, **spec: Any) -> dict[str, Any]:
    """A pod of a ReplicaSet."""
    made = pod(name, WORK, cpu="2", memory="2Gi", **spec)
    reference = {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": owner, "uid": owner, "controller": True}
    made["metadata"]["ownerReferences"] = [reference]
    return made


async def bind(client: KubeClient, name: str, node_name: str) -> None:
    body = {
        "apiVersion": "v1",
        "kind": "Binding",
        "metadata": {"name": name},
        "target": {"apiVersion": "v1", "kind": "Node", "name": node_name},
    }
    await client.request("POST", f"/api/v1/namespaces/{WORK}/pods/{name}/binding", body=body)


async def replace_evicted(client: KubeClient, owners: list[str]) -> None:
    """What a ReplicaSet controller does: a new pod for each that is gone."""
    generation = 0
    while True:
        raw = json.loads(await client.request("GET", f"/api/v1/namespaces/{WORK}/pods"))
        present = {
            one["metadata"]["ownerReferences"][0]["name"]
            for one in raw["items"]
            if "ownerReferences" in one["metadata"]
        }
        for owner in owners:
            if owner not in present:
                generation += 1
                await create_pods(client, [owned(f"{owner}-{generation}", owner)])
        await asyncio.sleep(0.2)


async def budgets_bound_plans_and_evictions(stack: Stack, client: KubeClient) -> None:
    """Budgets are in the committed state: a plan takes no more than they leave; a step forbidden by then ends it."""
    pods = [p for p in await list_pods(client, WORK) if p.spec.node_name]
    budget = {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": {"name": "careful"},
        "spec": {"selector": {}, "minAvailable": len(pods) - 1},
    }
    await client.request("POST", f"/apis/policy/v1/namespaces/{WORK}/poddisruptionbudgets", body=budget)
    arguments = ("--max-moves", "2", "--max-per-node", "2")
    for _ in range(40):
        code, text = await daas(stack, "rebalance", "plan", *arguments, "-o", "json")
        assert code == 0, text
        moves = json.loads(text)["moves"]
        if len(moves) == 1:
            break
        await asyncio.sleep(0.25)
    assert len(moves) == 1, moves

    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "daas.cli", "rebalance", "apply", *arguments),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env={**os.environ, "DAAS_CONTEXT": str(stack.context_path), "COLUMNS": "200"},
    )
    assert process.stdin is not None
    assert process.stdout is not None
    async with asyncio.timeout(120):
        seen = await process.stdout.readuntil(b"[y/N]")
    assert b"evict 1 pods" in seen
    # While somebody thinks about it, another eviction uses the budget up.
    other = next(p.metadata.name for p in pods if p.metadata.name not in {move["name"] for move in moves})
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": other}}
    await client.request("POST", f"/api/v1/namespaces/{WORK}/pods/{other}/eviction", body=eviction)
    output, _ = await asyncio.wait_for(process.communicate(b"y\n"), 120)
    assert process.returncode == 1, output.decode()
    assert "disruption-budget" in output.decode()
    assert "0 of 1 moves made" in output.decode()
    assert moves[0]["name"] in {p.metadata.name for p in await list_pods(client, WORK)}


async def plans_are_verified_from_the_archive(stack: Stack, directory: Path) -> None:
    """What was planned is checked long after, from the cluster's store and from a file of it, where no bus is."""
    for kind, said in (("allocation", "0 of 1 pods placed"), ("rebalance", "moves lower the potential")):
        code, text = await daas(stack, "verify", "plan", kind)
        assert code == 0, text
        assert said in text
        file = directory / f"{kind}.json"
        code, text = await daas(stack, "evidence", "plan", kind, str(file))
        assert code == 0, text
        code, text = await daas(stack, "verify", "plan", "--evidence", str(file), "--offline")
        assert code == 0, text
        assert said in text
    code, text = await daas(stack, "verify", "plan", "rebalance/999999")
    assert code == 1
    assert "no-evidence" in text
    changed = json.loads(file.read_text())
    changed["case"]["bundle"]["document"] = changed["planned"]
    file.write_text(json.dumps(changed))
    code, text = await daas(stack, "verify", "plan", str(file), "--offline")
    assert code == 1
    assert "attestation" in text


async def lopsided(client: KubeClient) -> list[str]:
    """Three nodes, six owned pods on the first, one pod of ours that is placed and one that fits nowhere."""
    await create_nodes(client, [node(f"node-{n}") for n in range(3)])
    await create_namespace(client, WORK)
    owners = [f"set-{n}" for n in range(6)]
    await create_pods(client, [owned(f"{owner}-0", owner, schedulerName="by-hand") for owner in owners])
    for owner in owners:
        await bind(client, f"{owner}-0", "node-0")
    await create_pods(client, [pod("hello", WORK), pod("huge", WORK, cpu="100")])
    await wait_for_pods(client, WORK, lambda pods: sum(bool(p.spec.node_name) for p in pods) == 7, timeout_s=120)
    return owners


async def test_what_the_cluster_decided_is_explained_planned_and_moved_with_proofs(tmp_path: Path) -> None:
    async with running(tmp_path / "state") as stack, kube_of(stack) as client:
        owners = await lopsided(client)

        # Why is it there? From evidence, which may have to be archived first.
        for _ in range(60):
            code, text = await daas(stack, "explain", "pod", f"{WORK}/hello", "-o", "json")
            if code == 0 or "no evidence" not in text:
                break
            await asyncio.sleep(0.5)
        assert code == 0, text
        seen = json.loads(text)["explanation"]
        assert (seen["nodes"], seen["feasible"]) == (3, 3)
        assert seen["best"][0]["total"] == seen["score"] > 0
        assert seen["turn"]["namespace"] == WORK
        code, text = await daas(stack, "explain", "pod", f"{WORK}/huge")
        assert code == 0, text
        for word in ("not placed", "insufficient-cpu", "0 of 3 nodes", "tenant work", "bit for bit", "simulated"):
            assert word in text, text

        # An allocation of what waits: nothing fits, and that is optimal.
        file = tmp_path / "plan.json"
        code, text = await daas(stack, "allocation", "plan", "--save", str(file))
        assert code == 0, text
        assert "0 of 1 pods placed, value 0: optimal" in text
        changed = json.loads(file.read_text())
        changed["tail"] = changed["tail"][:-1]
        broken = tmp_path / "broken.json"
        broken.write_text(json.dumps(changed))
        code, text = await daas(stack, "verify", "plan", str(broken), "--offline")
        assert code == 1
        assert "refused by: plan basis" in text

        # Moves: planned, then made one by one while somebody plays the controller.
        code, text = await daas(stack, "rebalance", "plan", "--max-moves", "2", "-o", "json")
        assert code == 0, text
        assert {move["source"] for move in json.loads(text)["moves"]} == {"node-0"}
        controller = asyncio.create_task(replace_evicted(client, owners))
        try:
            code, text = await daas(stack, "rebalance", "apply", "--max-moves", "2", "--yes")
        finally:
            controller.cancel()
        assert code == 0, text
        assert "2 of 2 moves made" in text
        left = [p for p in await list_pods(client, WORK) if p.spec.node_name == "node-0" and "set-" in p.metadata.name]
        assert len(left) < 6

        await budgets_bound_plans_and_evictions(stack, client)
        await plans_are_verified_from_the_archive(stack, tmp_path)

        # Nothing was decided against the policies.
        assert (await daas(stack, "policy", "verify"))[0] == 0
