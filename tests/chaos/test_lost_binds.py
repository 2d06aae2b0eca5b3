"""Decisions that the cluster overtakes (capacity taken, nodes and pods gone) are made again; nothing is overbooked."""

import asyncio
import os
import signal
import time
from collections import Counter
from pathlib import Path

import pytest
from support.cluster import create_namespace, create_nodes, create_pods, list_pods, node, pod, wait_for_pods
from support.facts import (
    Facts,
    assert_chain_is_whole,
    assert_every_bind_was_anchored_first,
    kube_of,
    placement_facts,
    running,
)

from daas.devstack.stack import Stack
from daas.kube import bind
from daas.kube.client import KubeClient

pytestmark = [pytest.mark.connected, pytest.mark.timeout(240)]

OURS, FOREIGN = "ours", "foreign"


async def bind_foreign(client: KubeClient, index: int, target: str) -> None:
    """What another scheduler does: it asks nobody."""
    await create_pods(client, [pod(f"foreign-{index}", FOREIGN, cpu="1", schedulerName="other")])
    (made,) = [p for p in await list_pods(client, FOREIGN) if p.metadata.name == f"foreign-{index}"]
    await bind(client, namespace=FOREIGN, name=made.metadata.name, uid=made.metadata.uid, node=target, annotations={})


async def all_decided(stack: Stack, count: int) -> Facts:
    """Waits until so many pods have been decided."""
    deadline = time.monotonic() + 60
    while True:
        facts = await placement_facts(stack)
        if len({leaf.pod_uid for decided in facts.decided for leaf in decided.leaves}) >= count:
            return facts
        assert time.monotonic() < deadline, "the pods are not decided"
        await asyncio.sleep(0.1)


async def test_lost_binds_are_decided_again_and_no_node_is_overbooked_by_us(tmp_path: Path) -> None:
    """30 pods are decided on 6 nodes of 8 cores while the relay is held; before they can be bound, others act."""
    async with running(tmp_path) as stack, kube_of(stack) as client:
        await create_nodes(client, [node(f"node-{n}", cpu="8") for n in range(6)])
        await create_namespace(client, OURS)
        await create_namespace(client, FOREIGN)
        relay = stack.processes["relay"].pid
        os.kill(relay, signal.SIGSTOP)
        try:
            await create_pods(client, [pod(f"pod-{n}", OURS, cpu="1") for n in range(30)])
            await all_decided(stack, 30)
            for index in range(8):
                await bind_foreign(client, index, "node-0")
            await client.request("DELETE", "/api/v1/nodes/node-5")
            for name in ("pod-0", "pod-1"):
                await client.request("DELETE", f"/api/v1/namespaces/{OURS}/pods/{name}")
        finally:
            os.kill(relay, signal.SIGCONT)

        final = await wait_for_pods(
            client, OURS, lambda seen: len(seen) == 28 and all(p.spec.node_name for p in seen), timeout_s=90
        )
        facts = await placement_facts(stack)
        await assert_chain_is_whole(stack, facts)

    assert_every_bind_was_anchored_first(facts)
    used = Counter(p.spec.node_name for p in final)
    assert set(used) <= {"node-1", "node-2", "node-3", "node-4"}
    assert max(used.values()) <= 8
    assert {"capacity", "node-gone"} <= {failed.reason for failed in facts.bind_failed}
    assert all(failed.simulated for failed in facts.bind_failed)


async def test_a_pod_that_fits_nowhere_is_placed_when_room_comes(tmp_path: Path) -> None:
    async with running(tmp_path) as stack, kube_of(stack) as client:
        await create_nodes(client, [node("small", cpu="1")])
        await create_namespace(client, OURS)
        await create_pods(client, [pod("large", OURS, cpu="4")])
        waiting = await wait_for_pods(client, OURS, lambda seen: bool(seen and seen[0].unschedulable), timeout_s=120)
        assert "insufficient cpu" in waiting[0].unschedulable

        await create_nodes(client, [node("big", cpu="8")])
        placed = await wait_for_pods(client, OURS, lambda seen: bool(seen[0].spec.node_name), timeout_s=120)

    assert placed[0].spec.node_name == "big"
