"""Kill -9 of any one service at any moment: every pod that fits ends bound, exactly once, and the chain has no gap."""

import asyncio
from pathlib import Path

import pytest
from support.cluster import PodView, create_namespace, create_nodes, create_pods, list_pods, node, pod, wait_for_pods
from support.facts import assert_chain_is_whole, assert_every_bind_was_anchored_first, kube_of, placement_facts, running

pytestmark = [pytest.mark.connected, pytest.mark.timeout(240)]

PODS = 1_000
GIANTS = 5
NAMESPACE = "chaos"
RESTART_AFTER_S = 1.0
SETTLE_S = 120.0


@pytest.mark.parametrize("share_bound", [0.02, 0.35, 0.75], ids=["early", "midway", "late"])
@pytest.mark.parametrize("victim", ["gateway", "enclave", "relay", "storage"])
async def test_a_service_killed_while_a_thousand_pods_arrive_loses_nothing_and_doubles_nothing(
    tmp_path: Path, victim: str, share_bound: float
) -> None:
    async with running(tmp_path) as stack, kube_of(stack) as client:
        await create_nodes(client, [node(f"node-{n}") for n in range(20)])
        await create_namespace(client, NAMESPACE)
        pods = [pod(f"pod-{n}", NAMESPACE) for n in range(PODS)]
        pods[100:100] = [pod(f"giant-{n}", NAMESPACE, cpu="500") for n in range(GIANTS)]
        creating = asyncio.create_task(create_pods(client, pods))

        await wait_for_pods(
            client,
            NAMESPACE,
            lambda seen: sum(1 for p in seen if p.spec.node_name) >= share_bound * PODS,
            timeout_s=SETTLE_S,
        )
        await stack.kill(victim)
        await asyncio.sleep(RESTART_AFTER_S)
        await stack.start_service(victim)
        await creating

        def settled(seen: list[PodView]) -> bool:
            return (
                sum(1 for p in seen if p.spec.node_name) == PODS and sum(bool(p.unschedulable) for p in seen) == GIANTS
            )

        await wait_for_pods(client, NAMESPACE, settled, timeout_s=SETTLE_S)
        final = await list_pods(client, NAMESPACE)
        facts = await placement_facts(stack, bound=PODS)
        await assert_chain_is_whole(stack, facts)

    bound_to = {p.metadata.uid: p.spec.node_name for p in final if p.spec.node_name}
    assert {b.pod_uid: b.node for b in facts.bound} == bound_to
    assert not [p for p in final if p.metadata.name.startswith("giant") and p.spec.node_name]
    assert_every_bind_was_anchored_first(facts)
    _assert_no_node_is_over_its_capacity(final)
    assert not facts.refused


def _assert_no_node_is_over_its_capacity(pods: list[PodView]) -> None:
    count: dict[str, int] = {}
    for p in pods:
        if p.spec.node_name:
            count[p.spec.node_name] = count.get(p.spec.node_name, 0) + 1
    assert max(count.values()) * 100 <= 16_000, "cpu"
